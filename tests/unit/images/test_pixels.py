"""Which colours images of each kind have once they are decoded."""

import io
import struct
import zlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from PIL import Image, ImageChops

from leadline.images.decode import ImageDecoder
from tests.faults.hostile_images import png
from tests.scripted.pictures import BLACK, BLUE, GREEN, RED, SIDE, UPRIGHT, WHITE, encoded, pixel, squares, stripes

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOLERANCE = 12
GREY = (128, 128, 128)
EXIF_SIDES = {  # what the first row and the first column of the file are, as seen upright
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def decoder() -> AsyncIterator[ImageDecoder]:
    made = ImageDecoder()
    yield made
    await made.close()


async def seen(decoder: ImageDecoder, content: bytes) -> list[list[tuple[int, int, int]]]:
    picture = await decoder.decode(content, 3 * SIDE, "raw")
    return squares(picture.width, picture.height, picture.content)


def near(found: list[list[tuple[int, int, int]]], wanted: tuple[tuple[tuple[int, int, int], ...], ...]) -> bool:
    return all(
        abs(mine - theirs) <= TOLERANCE
        for row, wanted_row in zip(found, wanted, strict=True)
        for colour, wanted_colour in zip(row, wanted_row, strict=True)
        for mine, theirs in zip(colour, wanted_colour, strict=True)
    )


def stored(orientation: int) -> Image.Image:
    """`UPRIGHT` as a camera that was held otherwise writes it."""
    first_row, first_column = EXIF_SIDES[orientation]
    rows, columns = (2, 3) if first_row in ("left", "right") else (3, 2)
    made = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for row in range(rows):
        for column in range(columns):
            down = row if first_row in ("top", "left") else rows - 1 - row
            across = column if first_column in ("top", "left") else columns - 1 - column
            colour = UPRIGHT[across][down] if first_row in ("left", "right") else UPRIGHT[down][across]
            made.paste(colour, (column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE))
    return made


async def test_each_kind_has_its_colours(decoder: ImageDecoder):
    picture = stripes("RGB")
    exact = {"PNG": {}, "GIF": {}, "WEBP": {"lossless": True}}
    for kind, options in exact.items():
        assert await seen(decoder, encoded(picture, kind, **options)) == [list(row) for row in UPRIGHT], kind
    for kind, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})):
        assert near(await seen(decoder, encoded(picture, kind, quality=95, **options)), UPRIGHT), kind


async def test_cmyk_palettes_and_greyscale_are_right(decoder: ImageDecoder):
    assert near(await seen(decoder, encoded(stripes("CMYK"), "JPEG", quality=95)), UPRIGHT)
    assert await seen(decoder, encoded(stripes("RGB").quantize(8), "PNG", bits=4)) == [list(row) for row in UPRIGHT]
    luma = tuple(tuple((round(0.299 * r + 0.587 * g + 0.114 * b),) * 3 for r, g, b in row) for row in UPRIGHT)
    for kind in ("PNG", "JPEG", "GIF"):
        assert near(await seen(decoder, encoded(stripes("L"), kind)), luma), kind
    assert await seen(decoder, encoded(Image.new("1", (16, 16), 1), "PNG")) == [[WHITE]]


async def colour(decoder: ImageDecoder, content: bytes, column: int = 0) -> tuple[int, int, int]:
    """A pixel of the first row."""
    picture = await decoder.decode(content, 100, "raw")
    return pixel(picture.width, picture.content, column, 0)


async def test_sixteen_bits_keep_their_upper_eight(decoder: ImageDecoder):
    def deep(colour: int, *samples: int) -> bytes:
        row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * 4
        return png(4, 4, zlib.compress(row * 4), depth=16, colour=colour)

    assert await colour(decoder, deep(0, 0x80FF)) == GREY
    assert await colour(decoder, deep(0, 0xFFFF)) == WHITE
    assert await colour(decoder, deep(2, 0xFFFF, 0x80FF, 0)) == (255, 128, 0)
    assert await colour(decoder, deep(4, 0, 0xFFFF)) == BLACK
    assert await colour(decoder, deep(6, 0, 0, 0, 0)) == WHITE


async def test_what_is_transparent_is_white(decoder: ImageDecoder):
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 127))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        assert await colour(decoder, encoded(half, kind, **options)) == GREY, kind
        assert await colour(decoder, encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), kind, **options)) == WHITE, kind
    assert await colour(decoder, encoded(Image.new("LA", (8, 8), (0, 127)), "PNG")) == GREY
    by_index = Image.new("P", (8, 8), 0)
    by_index.putpalette([255, 0, 0, 0, 0, 255])
    by_index.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        content = encoded(by_index, kind, transparency=0)
        assert [await colour(decoder, content, column) for column in (0, 1)] == [WHITE, BLUE], kind
    several = encoded(by_index, "PNG", transparency=bytes([0, 127]))
    assert [await colour(decoder, several, column) for column in (0, 1)] == [WHITE, (128, 128, 255)]
    by_colour = encoded(Image.new("RGB", (8, 8), RED), "PNG", transparency=RED)
    assert await colour(decoder, by_colour) == WHITE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_an_image_is_turned_as_its_camera_says(decoder: ImageDecoder, kind: str):
    for orientation in EXIF_SIDES:
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encoded(stored(orientation), kind, exif=exif, quality=95)
        assert near(await seen(decoder, content), UPRIGHT), orientation


async def test_the_first_frame_counts(decoder: ImageDecoder):
    frames = [Image.new("RGB", (8, 8), shade) for shade in (RED, GREEN, BLUE)]
    for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert await colour(decoder, content) == RED, kind


async def test_images_are_shrunk_and_never_grow(decoder: ImageDecoder):
    for factor in (2, 3, 8):
        larger = stripes("RGB").resize((2 * SIDE * factor, 3 * SIDE * factor), Image.Resampling.NEAREST)
        assert await seen(decoder, encoded(larger, "PNG")) == [list(row) for row in UPRIGHT]
        assert near(await seen(decoder, encoded(larger, "JPEG", quality=95)), UPRIGHT)
    for size, longest, wanted in (
        ((32, 48), 2048, (32, 48)),
        ((3000, 2), 100, (100, 1)),
        ((2, 3000), 100, (1, 100)),
        ((1001, 999), 1000, (1000, 998)),
        ((1, 1), 1, (1, 1)),
    ):
        picture = await decoder.decode(encoded(Image.new("RGB", size), "PNG"), longest)
        assert (picture.width, picture.height) == wanted


async def test_bands_leave_no_seams(decoder: ImageDecoder):
    """An image of several bands looks as if it had been shrunk at once."""
    smooth = Image.linear_gradient("L").resize((1200, 1800)).convert("RGB")
    for longest in (700, 1799):
        picture = await decoder.decode(encoded(smooth, "PNG", compress_level=1), longest, "raw")
        size = picture.width, picture.height
        wanted = smooth.resize(size, Image.Resampling.BICUBIC)
        differences = ImageChops.difference(Image.frombytes("RGB", size, picture.content), wanted)
        assert max(most for _, most in differences.getextrema()) <= 2, longest


async def test_png_is_what_raw_is(decoder: ImageDecoder):
    content = encoded(stripes("RGB"), "GIF")
    made, raw = await decoder.decode(content, 48, "png"), await decoder.decode(content, 48, "raw")
    with Image.open(io.BytesIO(made.content), formats=["PNG"]) as read:
        assert (read.mode, read.size, read.tobytes()) == ("RGB", (raw.width, raw.height), raw.content)
