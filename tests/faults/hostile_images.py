"""Hundreds of images with something wrong in them: bombs, truncations, flipped bytes, polyglots, and files of other
kinds. They are made from small true ones."""

import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache

from PIL import Image

from tests.scripted.pictures import encoded, stripes

_KINDS = ("PNG", "JPEG", "WEBP", "GIF")
_FLIPS = 36


def corpus() -> dict[str, bytes]:
    """By a name that says what is wrong. `large …` takes seconds to decode."""
    made: dict[str, bytes] = {}
    for part in (_bombs, _truncations, _flips, _other_kinds, _polyglots, _lies):
        for name, content in part():
            assert name not in made
            made[name] = content
    return made


@cache
def _true(kind: str) -> bytes:
    return encoded(stripes("RGB").resize((96, 64)), kind)


def png(width: int, height: int, pixels: bytes, *more: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of these chunks; its pixels are already compressed."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def zeros(count: int) -> bytes:
    """So many zeros as zlib writes them, without ever having them all: a mebibyte again and again."""
    deflate = zlib.compressobj(9, wbits=-15)
    piece = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, wbits=-15)
    last = rest.compress(bytes(count & 0xFFFFF)) + rest.flush()
    return b"\x78\xda" + piece * (count >> 20) + last + struct.pack(">HH", count % 65521, 1)


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Few bytes, many pixels: within the bounds, at them and far beyond."""
    for width, height in ((5000, 5000), (12000, 2083), (2083, 12000), (4095, 4095)):
        yield f"large png {width}x{height}", png(width, height, zeros(height * (3 * width + 1)))
        yield f"large png rgba {width}x{height}", png(width, height, zeros(height * (4 * width + 1)), colour=6)
    for width, height in ((9000, 9000), (13000, 13000), (12001, 1), (1, 12001), (5001, 5000), (65535, 65535)):
        yield f"bomb png beyond {width}x{height}", png(width, height, zeros(1000))
        yield f"bomb gif beyond {width}x{height}", _sized_gif(width, height)
        yield f"bomb jpeg beyond {width}x{height}", _sized_jpeg(width, height)
        yield f"bomb webp beyond {width}x{height}", _sized_webp(width, height)
    yield "bomb png more pixels than said", png(8, 8, zeros(64 << 20))
    yield "bomb png 2^31 wide", png(0x7FFFFFFF, 1, zeros(10))
    yield "bomb png text", png(8, 8, zeros(200), (b"zTXt", b"a\0\0" + zeros(128 << 20)))
    yield "bomb png text of text", png(8, 8, zeros(200), *[(b"zTXt", b"a\0\0" + zeros(1 << 20))] * 100)
    yield "bomb png profile", png(8, 8, zeros(200), (b"iCCP", b"a\0\0" + zeros(128 << 20)))
    yield "bomb gif frame larger than image", _framed_gif(8, 8, 5000, 5000)
    yield "bomb gif frame outside", _framed_gif(8, 8, 8, 8, left=9000)
    many = [Image.new("RGB", (64, 64), (number, 0, 0)) for number in range(256)]
    for kind in ("GIF", "WEBP", "PNG"):
        yield f"bomb {kind} of many frames", encoded(many[0], kind, save_all=True, append_images=many[1:])
    yield "large jpeg of many scans", _scans(encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True))
    yield (
        "large webp 2449x2449",
        encoded(Image.new("RGBA", (2449, 2449), (1, 2, 3, 4)), "WEBP", lossless=True, method=0),
    )


def _scans(jpeg: bytes) -> bytes:
    """Its last scan again and again."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * 1500 + jpeg[-2:]


def _sized_gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + _true("GIF")[10:]


def _framed_gif(width: int, height: int, frame_width: int, frame_height: int, left: int = 0) -> bytes:
    frame = struct.pack("<BHHHHB", 0x2C, left, 0, frame_width, frame_height, 0)
    palette = bytes(range(6))
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + palette + frame + b"\x02\x02\x44\x01\x00;"


def _sized_jpeg(width: int, height: int) -> bytes:
    content = _true("JPEG")
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + content[at + 4 :]


def _sized_webp(width: int, height: int) -> bytes:
    canvas = struct.pack("<IB3x", 10, 0) + b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    body = b"WEBPVP8X" + canvas + _true("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _truncations() -> Iterator[tuple[str, bytes]]:
    for kind in _KINDS:
        content = _true(kind)
        parts = [len(content) * part // 16 for part in range(1, 16)]
        for length in sorted({*range(12), 16, 20, 24, 25, 26, 30, 33, *parts}):
            yield f"cut {kind} after {length}", content[:length]


def _flips() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(5)
    for kind in _KINDS:
        for number in range(_FLIPS):
            content = bytearray(_true(kind))
            for _ in range(1 + number // 4):
                content[chance.randrange(4, len(content))] = chance.randrange(256)
            yield f"flipped {kind} {number}", bytes(content)
        yield f"noise {kind}", _true(kind)[:32] + chance.randbytes(5000)


def _other_kinds() -> Iterator[tuple[str, bytes]]:
    picture = stripes("RGB")
    for kind in (
        "BMP",
        "TIFF",
        "ICO",
        "PPM",
        "TGA",
        "JPEG2000",
        "AVIF",
        "DDS",
        "PCX",
        "SGI",
        "EPS",
        "PDF",
        "ICNS",
        "MPO",
    ):
        if kind not in Image.SAVE:
            Image.init()
        yield f"kind {kind}", encoded(picture, kind) if kind in Image.SAVE else b""
    texts = {
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "html": b"<!doctype html><img src=x>",
        "postscript": b"%!PS-Adobe-3.0\n(/etc/passwd) run",
        "zip": b"PK\x03\x04" + bytes(60),
        "gzip": b"\x1f\x8b\x08" + bytes(60),
        "elf": b"\x7fELF" + bytes(60),
        "mp4": b"\0\0\0\x18ftypmp42" + bytes(60),
        "heic": b"\0\0\0\x18ftypheic" + bytes(60),
        "wave": b"RIFF\x24\0\0\0WAVEfmt " + bytes(60),
        "avi": b"RIFF\x24\0\0\0AVI LIST" + bytes(60),
        "jxl": b"\xff\x0a" + bytes(60),
        "jng": b"\x8bJNG\r\n\x1a\n" + bytes(60),
        "mng": b"\x8aMNG\r\n\x1a\n" + bytes(60),
        "space before": b" " + _true("PNG"),
        "mark before": b"\xef\xbb\xbf" + _true("JPEG"),
        "zeros": bytes(5000),
    }
    yield from ((f"kind {name}", content) for name, content in texts.items())


def _polyglots() -> Iterator[tuple[str, bytes]]:
    """One kind by its first bytes, another one after them."""
    magics = {"PNG": 8, "JPEG": 3, "GIF": 6, "WEBP": 12}
    others: dict[str, bytes] = {kind: _true(kind) for kind in _KINDS}
    others |= {"html": b"<script>x</script>", "zip": b"PK\x03\x04" + bytes(40), "pdf": b"%PDF-1.7\n" + bytes(40)}
    for kind, size in magics.items():
        for name, other in others.items():
            if name != kind:
                yield f"polyglot {kind} {name}", _true(kind)[:size] + other
                yield f"polyglot {kind} {name} header", _true(kind)[: size + 24] + other


def _lies() -> Iterator[tuple[str, bytes]]:
    pixels = zlib.compress(bytes(8 * 25))
    for name, more in _CHUNKS.items():
        yield f"chunk {name}", png(8, 8, pixels, *more)
    for depth, colour in ((0, 2), (16, 3), (3, 0), (8, 1), (8, 7), (255, 255), (1, 6)):
        yield f"png depth {depth} colour {colour}", png(8, 8, pixels, depth=depth, colour=colour)
    for width, height in ((0, 8), (8, 0), (0, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
        yield f"png {width}x{height}", png(width, height, pixels)
    yield "png two headers", png(8, 8, pixels, (b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)))
    yield "png stored nonsense", png(8, 8, b"\x78\x01" + bytes(range(200)))
    jpeg = _true("JPEG")
    frame = jpeg.index(b"\xff\xc0")
    for marker in (0xC1, 0xC2, 0xC3, 0xC5, 0xC7, 0xC9, 0xCA, 0xCB, 0xCF, 0xD9, 0xDA):
        yield f"jpeg frame {marker:x}", jpeg[: frame + 1] + bytes([marker]) + jpeg[frame + 2 :]
    larger = jpeg[frame : frame + 5] + struct.pack(">HH", 12000, 12000) + jpeg[frame + 9 : frame + 19]
    yield "jpeg two frames", jpeg[: frame + 19] + larger + jpeg[frame + 19 :]
    yield "jpeg markers without end", b"\xff\xd8" + b"\xff\xe0\0\x02" * 100_000
    yield "jpeg padding without end", b"\xff\xd8" + b"\xff" * 1_000_000
    for orientation in (0, 9, -1, 65535):
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">Hxx", orientation & 0xFFFF)
        yield f"orientation {orientation}", encoded(stripes("RGB"), "JPEG", exif=exif)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 500
    yield "exif that leads into itself", encoded(stripes("RGB"), "JPEG", exif=exif)


_CHUNKS: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "palette too long": ((b"PLTE", bytes(3 * 300)),),
    "transparency too long": ((b"tRNS", bytes(300)),),
    "transparency empty": ((b"tRNS", b""),),
    "profile broken": ((b"iCCP", b"a\0\0" + bytes(50)),),
    "animation of a billion": ((b"acTL", struct.pack(">II", 1_000_000_000, 0)),),
    "animation frame": (
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, 9000, 9000, 0, 0, 1, 1, 0, 0)),
    ),
    "unknown critical": ((b"ABCD", bytes(50)),),
    "exif broken": ((b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(50)),),
    "long text": ((b"tEXt", b"a\0" + b"x" * 2_000_000),),
    "density": ((b"pHYs", bytes(3)),),
    "gamma": ((b"gAMA", b""),),
}
