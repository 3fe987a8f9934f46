"""The child process that decodes images: hostile bytes come in, plain pixels go out.

It is started as a file, without any environment, and imports nothing else of Leadline. Before it reads its first image
it gives up all that it will not need. Frames go both ways over standard input and output: a question is kind, form,
longest side and content; an answer is a state, width, height and content. It ends when standard input closes, and may
be killed at any time.
"""

import ctypes
import io
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

from PIL import Image, features

QUESTION = struct.Struct("<4sBII")
ANSWER = struct.Struct("<BIII")
FORMS = ("raw", "png")
# States of an answer.
READY, DECODED, DAMAGED, TOO_LARGE, TOO_MUCH_MEMORY = range(5)

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# More than the child has when it is ready. The pixels of the largest image are 96 MiB.
_MEMORY_BYTES = 160 * 1024 * 1024
_MOST_PROGRESSIVE_BYTES = 128 * 1024 * 1024
# CPU time for one image, and for all that one child decodes.
_IMAGE_SECONDS = 2.0
_ALL_SECONDS = 3600
_MOST_PIXELS = 25_000_000
# An image is flattened and shrunk in bands of about so many pixels.
_BAND_PIXELS = 1_000_000
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WARM_UP = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P"),
}


class TooLarge(Exception):
    """The image has more pixels than its header said, or a frame that is larger than the image."""


def main() -> None:
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    _warm_up()
    _give_up()
    _answer(answers, READY)
    while head := questions.read(QUESTION.size):
        kind, form, longest_side, size = QUESTION.unpack(head)
        content = questions.read(size)
        signal.setitimer(signal.ITIMER_PROF, _IMAGE_SECONDS)
        state, width, height, decoded = _decoded(content, kind.rstrip(b"\0").decode(), FORMS[form], longest_side)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _answer(answers, state, width, height, decoded)


def _decoded(content: bytes, kind: str, form: str, longest_side: int) -> tuple[int, int, int, bytes]:
    """State, width, height and pixels. What went wrong stays here but for the state."""
    try:
        image = _shrunk(content, kind, longest_side)
        return (DECODED, *image.size, _written(image, form))
    except TooLarge:
        return TOO_LARGE, 0, 0, b""
    except MemoryError:
        return TOO_MUCH_MEMORY, 0, 0, b""
    except Exception:
        return DAMAGED, 0, 0, b""


def _shrunk(content: bytes, kind: str, longest_side: int) -> Image.Image:
    """RGB on white, upright, at most `longest_side` pixels on a side. Never made larger."""
    image: Image.Image = Image.open(io.BytesIO(content), formats=[kind])
    _check_size(image)
    if kind == "JPEG":
        # The decoder itself leaves out what would be shrunk away.
        whole = image.size
        image.draft(image.mode, _fitted(whole, longest_side))
        _check_memory(image, whole)
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    canvas = _in_bands(image, _fitted(image.size, longest_side))
    return canvas if turn is None else canvas.transpose(turn)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if not 0 < width * height <= _MOST_PIXELS:
        raise TooLarge
    for tile in getattr(image, "tile", ()):
        extents = tile[1]
        if extents is not None and (extents[2] > width or extents[3] > height):
            raise TooLarge


def _check_memory(image: Any, whole: tuple[int, int]) -> None:
    """libjpeg keeps all coefficients of a progressive image, and calls it damaged where there is no room for them."""
    if not image.info.get("progressive"):
        return
    densities = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]
    coefficients = 2 * whole[0] * whole[1] * sum(densities) // max(densities)
    if coefficients + 4 * image.size[0] * image.size[1] > _MOST_PROGRESSIVE_BYTES:
        raise MemoryError


def _fitted(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    longest = max(size)
    if longest <= longest_side:
        return size
    width, height = (max(1, round(side * longest_side / longest)) for side in size)
    return width, height


def _in_bands(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at `size`, of its two passes the horizontal one band by band: a whole copy would cost too much."""
    width, height = image.size
    factor = max(1, max(width, height) // max(size))
    rows = max(1, _BAND_PIXELS // width // factor) * factor
    canvas = Image.new("RGB", (size[0], -(-height // factor)))
    for top in range(0, height, rows):
        band = _flat(image.crop((0, top, width, min(height, top + rows))))
        if factor > 1:
            band = band.reduce(factor)
        box = (0.0, 0.0, width / factor, float(band.height))
        canvas.paste(band.resize((size[0], band.height), Image.Resampling.BICUBIC, box), (0, top // factor))
    image.close()
    return canvas.resize(size, Image.Resampling.BICUBIC, (0.0, 0.0, float(size[0]), height / factor))


def _flat(band: Image.Image) -> Image.Image:
    """RGB, with what is transparent on white."""
    if band.mode.startswith("I;16"):
        # The high byte of each sample; they lie in the machine's order.
        high = 1 if (sys.byteorder == "little") != band.mode.endswith("B") else 0
        return Image.frombytes("L", band.size, band.tobytes()[high::2]).convert("RGB")
    if band.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in band.info:
        colours = band.convert("RGBA")
        white = Image.new("RGB", band.size, (255, 255, 255))
        white.paste(colours, mask=colours.getchannel("A"))
        return white
    return band.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """As EXIF tells; 1, upright, where it tells nothing or nonsense."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _written(image: Image.Image, form: str) -> bytes:
    if form == "raw":
        return image.tobytes()
    written = io.BytesIO()
    image.save(written, "PNG", compress_level=1)
    return written.getvalue()


def _warm_up() -> None:
    """Decode one of each kind and mode: afterwards no file can be opened, so no module can be loaded."""
    assert features.check("webp")
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    for kind, modes in _WARM_UP.items():
        for mode in modes:
            written = io.BytesIO()
            made = Image.new(mode, (64, 48))
            if kind == "GIF":
                made.save(written, kind, transparency=0)
            else:
                made.save(written, kind, exif=exif)
            for form in FORMS:
                state, *_ = _decoded(written.getvalue(), kind, form, 32)
                assert state == DECODED


def _give_up() -> None:
    """Die with the parent; no files, no processes, no dumps, bounded memory and CPU time."""
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_ALL_SECONDS, _ALL_SECONDS))
    if sys.platform == "linux":
        control: Any = ctypes.CDLL(None).prctl
        control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        control(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with open("/proc/self/statm", encoding="ascii") as statm:
            most = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + _MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _answer(answers: BinaryIO, state: int, width: int = 0, height: int = 0, content: bytes = b"") -> None:
    answers.write(ANSWER.pack(state, width, height, len(content)))
    answers.write(content)
    answers.flush()


if __name__ == "__main__":
    main()
