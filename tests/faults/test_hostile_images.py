"""Whatever an image is, the server goes on: each is decoded or refused in our own words, by a child whose memory stays
within its bound."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from leadline.errors import InvalidRequest
from leadline.images.decode import ImageDecoder
from tests.faults.hostile_images import corpus
from tests.proof import keep
from tests.scripted.pictures import encoded, stripes

# Of the corpus, every so many in the inner loop.
_INNER_LOOP = 4
_MOST_MORE_KIBIBYTES = 128 * 1024
_OUR_WORDS = (
    "decoded",
    "The image is not a PNG, JPEG, WebP or GIF.",
    "The image's header is damaged or cut short.",
    "The image is damaged or cut short.",
    "The image is larger than its header says.",
    "The image is larger than 12000 pixels on a side.",
    "The image must not have more than 25 million pixels.",
    "A WebP image must not have more than 6 million pixels.",
    "The image is a JPEG of a kind that is not supported: lossless or hierarchical.",
    "The image takes too much memory to decode. Send it smaller.",
    "The image takes too long to decode. Send it smaller.",
)
_GOOD = encoded(stripes("RGB"), "PNG")


async def outcomes(images: dict[str, bytes]) -> tuple[Counter[str], int]:
    """How often each ended how, and the most memory that a child had more than before an image, in KiB."""
    ended: Counter[str] = Counter()
    most_more = 0
    decoder = ImageDecoder()
    try:
        for name, content in images.items():
            before = await _peak_kibibytes(decoder)
            words = await _words(decoder, content)
            assert words in _OUR_WORDS, (name, words)
            ended[words] += 1
            with suppress(OSError):  # it was killed
                most_more = max(most_more, _peak_of(_pid(decoder)) - before)
        assert (await decoder.decode(_GOOD, 1024)).width == 32
    finally:
        await decoder.close()
    return ended, most_more


async def _words(decoder: ImageDecoder, content: bytes) -> str:
    try:
        picture = await decoder.decode(content, 1024)
    except InvalidRequest as error:
        return str(error)
    return "decoded" if max(picture.width, picture.height) <= 1024 else "too large"


async def _peak_kibibytes(decoder: ImageDecoder) -> int:
    """Of a child that has just begun, once there is one."""
    await decoder.decode(_GOOD, 1024)
    Path(f"/proc/{_pid(decoder)}/clear_refs").write_text("5")  # the peak is now what it has
    return _peak_of(_pid(decoder))


def _pid(decoder: ImageDecoder) -> int:
    return decoder._process.pid if decoder._process is not None else 0


def _peak_of(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


async def test_hostile_images_of_some_are_refused_or_harmless():
    images = {name: content for name, content in corpus().items() if not name.startswith("large")}
    ended, most_more = await outcomes(dict(list(images.items())[::_INNER_LOOP]))
    assert most_more <= _MOST_MORE_KIBIBYTES
    assert ended["The image takes too long to decode. Send it smaller."] == 0


@pytest.mark.slow
async def test_hostile_images_are_refused_or_harmless():
    images = corpus()
    assert len(images) >= 300
    ended, most_more = await outcomes(images)
    keep("hostile_images", images=len(images), decoded=ended["decoded"], most_more_kibibytes=most_more)
    assert most_more <= _MOST_MORE_KIBIBYTES
    assert ended["The image takes too long to decode. Send it smaller."] >= 1
