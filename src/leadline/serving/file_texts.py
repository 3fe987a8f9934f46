"""What a file says, for requests that read one: all of its text, or its lines one by one."""

import codecs
from collections.abc import AsyncGenerator

from leadline.errors import InvalidRequest
from leadline.serving.file_contents import Content

LARGEST_TEXT_BYTES = 4 * 1024 * 1024
LONGEST_LINE_BYTES = 4 * 1024 * 1024
# Controls that no text has; those that break and indent lines, and the bell and escape of terminals' logs, are let
# through.
_NO_TEXT = bytes([*range(0x07), *range(0x0E, 0x1B), *range(0x1C, 0x20)])
# Formats that are no plain text, though their bytes can be UTF-8.
_OTHER_FORMATS = ("%PDF-", "{\\rtf")
_READABLE = "Plain text, Markdown, CSV, JSON, XML, HTML and source code can be read, in UTF-8"


async def text_of(content: Content) -> str:
    """InvalidRequest where it is none, or too much."""
    file = content.file
    if file.size_bytes > LARGEST_TEXT_BYTES:
        raise InvalidRequest(
            f"The file {file.id} has {file.size_bytes} bytes. At most {LARGEST_TEXT_BYTES // 1024**2} MiB of text are"
            " read in a request: send a part of it.",
            "file_id",
        )
    held = b"".join([piece async for piece in content.pieces()])
    try:
        text = held.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        text = None
    if text is None or len(held.translate(None, _NO_TEXT)) < len(held) or text.startswith(_OTHER_FORMATS):
        raise InvalidRequest(
            f"The file {file.id} is not text. {_READABLE}. Of a PDF, an office document or an image, send the text.",
            "file_id",
        )
    return text


async def lines_of(content: Content) -> AsyncGenerator[bytes, None]:
    """Without their ends; what follows the last end is a line where it is not empty. InvalidRequest at a line that is
    too long."""
    left, number = bytearray(), 1
    async for piece in content.pieces():
        *whole, rest = piece.split(b"\n")
        for line in whole:
            left += line
            _refuse_long(left, number, content)
            yield bytes(left).removesuffix(b"\r")
            left.clear()
            number += 1
        left += rest
        _refuse_long(left, number, content)
    if left:
        yield bytes(left).removesuffix(b"\r")


def _refuse_long(line: bytearray, number: int, content: Content) -> None:
    if len(line) > LONGEST_LINE_BYTES:
        raise InvalidRequest(
            f"Line {number} of the file {content.file.id} is longer than {LONGEST_LINE_BYTES // 1024**2} MiB.",
            "file_id",
        )
