"""What images say of themselves, before anything decodes them."""

import struct

import pytest
from PIL import Image

from leadline.errors import InvalidRequest
from leadline.images.sniff import Header, sniff
from tests.faults.hostile_images import png, zeros
from tests.scripted.pictures import encoded

FLAT = Image.new("RGB", (300, 20))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("PNG", {}), ("GIF", {}), ("JPEG", {}), ("JPEG", {"progressive": True, "comment": "x" * 70})),
        *(("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"Exif\0\0"})),
        ("WEBP", {"save_all": True, "append_images": [Image.new("RGB", (300, 20), "red")]}),
    ],
)
def test_kind_and_size_are_read(kind, options):
    assert sniff(encoded(FLAT, kind, **options)) == Header(kind, 300, 20)


def test_jpeg_markers_may_be_padded():
    content = encoded(FLAT, "JPEG")
    assert sniff(content[:2] + b"\xff" * 100 + content[2:]) == Header("JPEG", 300, 20)


@pytest.mark.parametrize(("width", "height", "fits"), [
    (5000, 5000, True), (5001, 5000, False), (12000, 2083, True), (12001, 1, False), (1, 12001, False), (0, 1, False),
])  # fmt: skip
def test_the_bounds_are_where_they_are(width, height, fits):
    content = png(width, height, zeros(10))
    if fits:
        assert sniff(content) == Header("PNG", width, height)
    else:
        with pytest.raises(InvalidRequest):
            sniff(content)


def test_webp_has_a_bound_of_its_own():
    def canvas(width: int, height: int) -> bytes:
        sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
        return b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<IB3x", 10, 0) + sides

    assert sniff(canvas(3000, 2000)) == Header("WEBP", 3000, 2000)
    with pytest.raises(InvalidRequest, match="A WebP image must not have more than 6 million pixels"):
        sniff(canvas(3001, 2000))


def test_padding_without_end_is_given_up():
    """It would keep everybody waiting: 20 MiB of it, byte by byte."""
    content = encoded(FLAT, "JPEG")
    for padding in (b"\xff" * 5000, b"\xff\x01" * 5000, b"\xff\xe0\0\x02" * 5000):
        with pytest.raises(InvalidRequest, match="header is damaged"):
            sniff(content[:2] + padding + content[2:])
