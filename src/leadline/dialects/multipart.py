"""Forms with files (multipart/form-data, RFC 7578), read as they come: of a part never more is held than one piece."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from urllib.parse import unquote

from leadline.errors import InvalidRequest

MOST_PARTS = 32
LARGEST_HEAD_BYTES = 8 * 1024
# What may stand before the first part.
_LARGEST_PREAMBLE_BYTES = 1024
_BOUNDARY = re.compile(r";\s*boundary=(?:\"([^\"\r\n]{1,200})\"|([^\s\";]{1,200}))(?:\s*;|\s*$)", re.IGNORECASE)
_PARAMETER = re.compile(r";\s*(name|filename\*?)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";]*))", re.IGNORECASE)
_FORM = "Send the file as multipart/form-data, in a part named file, with its name"
_CUT = "The form ends before its last boundary. Send it again, whole."
# As HTML forms write what would end a name.
_ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}


@dataclass(frozen=True, slots=True)
class Part:
    """`filename` is None where it is no file."""

    name: str
    filename: str | None


def boundary_of(content_type: str) -> bytes:
    """What separates the parts, or InvalidRequest."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise InvalidRequest(f"{_FORM}.", "file")
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidRequest("The header Content-Type lacks the boundary of multipart/form-data.", "file")
    return (found[1] or found[2]).encode("latin-1")


class Multipart:
    """Give it the pieces of the body. Then, as often as there is one: `next_part`, and `read` until nothing comes."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], boundary: bytes) -> None:
        self._pieces, self._delimiter = pieces, b"\r\n--" + boundary
        # A delimiter begins with the end of a line; before the first one there may be none.
        self._buffer = bytearray(b"\r\n")
        self._parts = 0
        self._in_part = True  # the preamble

    async def next_part(self) -> Part | None:
        """The next part, whatever was not read of the one before. None at the end."""
        preamble = 0
        while skipped := await self.read():
            preamble += len(skipped)
            if not self._parts and preamble > _LARGEST_PREAMBLE_BYTES:
                raise InvalidRequest("The form does not begin with its boundary.", "file")
        self._parts += 1
        if self._parts > MOST_PARTS + 1:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.", "file")
        while len(self._buffer) < 2:
            await self._fill()
        if self._buffer.startswith(b"--"):
            return None
        if (await self._line()).strip(b" \t"):
            raise InvalidRequest("A boundary of the form is followed by something else.", "file")
        part = _part(await self._head())
        self._in_part = True
        return part

    async def read(self) -> bytes:
        """Some more of this part's content; nothing at its end."""
        while self._in_part:
            place = self._buffer.find(self._delimiter)
            if place >= 0:
                self._in_part = False
                content = self._take(place)
                self._take(len(self._delimiter))
                return content
            # Its last bytes may be the beginning of a delimiter.
            if (sure := len(self._buffer) - len(self._delimiter) + 1) > 0:
                return self._take(sure)
            await self._fill()
        return b""

    async def value(self, name: str, most_bytes: int) -> str:
        """All of a part that is no file, as text."""
        held = bytearray()
        while piece := await self.read():
            held += piece
            if len(held) > most_bytes:
                raise InvalidRequest(f"{name} is longer than {most_bytes} bytes.", name)
        try:
            return held.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"{name} is not UTF-8.", name) from None

    async def _head(self) -> bytes:
        """The headers of a part, each with its end."""
        head = bytearray()
        while line := await self._line():
            head += line + b"\r\n"
            if len(head) > LARGEST_HEAD_BYTES:
                raise InvalidRequest("A part of the form has headers that are too long.", "file")
        return bytes(head)

    async def _line(self) -> bytes:
        """Up to the next end of a line."""
        while (place := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > LARGEST_HEAD_BYTES:
                raise InvalidRequest("A part of the form has headers that are too long.", "file")
            await self._fill()
        line = self._take(place)
        self._take(2)
        return line

    async def _fill(self) -> None:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise InvalidRequest(_CUT, "file")
        self._buffer += piece

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _part(head: bytes) -> Part:
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        raise InvalidRequest("The headers of a part of the form are not UTF-8.", "file") from None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    disposition = headers.get("content-disposition", "")
    found = {name.lower(): _unquoted(quoted, plain) for name, quoted, plain in _PARAMETER.findall(disposition)}
    if disposition.partition(";")[0].strip().lower() != "form-data" or not found.get("name"):
        raise InvalidRequest("A part of the form has no name: Content-Disposition: form-data; name=…", "file")
    if headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
        raise InvalidRequest("A part of the form is encoded. Send the file's bytes as they are.", "file")
    extended = found.get("filename*")
    return Part(found["name"], found.get("filename") if extended is None else _extended(extended))


def _unquoted(quoted: str, plain: str) -> str:
    text = re.sub(r"\\([\"\\])", r"\1", quoted) or plain
    return re.sub("%(?:22|0[DdAa])", lambda found: _ESCAPED[found[0]], text)


def _extended(text: str) -> str:
    """A name in the form of RFC 8187, `UTF-8''…`."""
    charset, _, rest = text.partition("'")
    try:
        if charset.lower() == "utf-8":
            return unquote(rest.partition("'")[2], errors="strict")
    except UnicodeDecodeError:
        pass
    raise InvalidRequest("The name of the file is not UTF-8.", "file")
