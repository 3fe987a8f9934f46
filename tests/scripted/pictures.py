"""Small images whose pixels are known."""

import io
from typing import Any

from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
SIDE = 16
# A tall picture of two columns and three rows, all different, as it is seen upright.
UPRIGHT = ((RED, GREEN), (BLUE, WHITE), (BLACK, (255, 255, 0)))


def stripes(mode: str) -> Image.Image:
    """`UPRIGHT` in squares of 16 pixels."""
    made = Image.new("RGB", (2 * SIDE, 3 * SIDE))
    for row, colours in enumerate(UPRIGHT):
        for column, colour in enumerate(colours):
            made.paste(colour, (column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE))
    return made if mode == "RGB" else made.convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def squares(width: int, height: int, content: bytes) -> list[list[tuple[int, int, int]]]:
    """The middle of each square of raw RGB pixels."""
    assert len(content) == 3 * width * height
    middles = [range(SIDE // 2, side, SIDE) for side in (height, width)]
    return [[pixel(width, content, column, row) for column in middles[1]] for row in middles[0]]


def pixel(width: int, content: bytes, column: int, row: int) -> tuple[int, int, int]:
    red, green, blue = content[3 * (row * width + column) :][:3]
    return red, green, blue
