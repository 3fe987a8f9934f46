"""One GET over a socket that is already connected, with every part of its answer bounded.

The deadline is the caller's. Nothing of an answer but its status, its Location and its body leaves this module.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass

import httptools

from leadline import __version__
from leadline.errors import InvalidRequest
from leadline.images.url import Url

LARGEST_IMAGE_BYTES = 20 * 1024 * 1024
_LARGEST_HEAD_BYTES = 64 * 1024
# What the framing of chunks may add to a body.
_LARGEST_ANSWER_BYTES = 2 * LARGEST_IMAGE_BYTES
_READ_BYTES = 256 * 1024
_KINDS = "image/png, image/jpeg, image/webp, image/gif"


class Broken(Exception):
    """The connection ended before the answer did, or what came is no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`location` is what the server wrote; the body of a redirect or an error is not read."""

    status: int
    location: str | None
    body: bytes


async def get(connected: socket.socket, url: Url, tls: ssl.SSLContext | None) -> Answer:
    """Ask for `url` and read its answer. The socket is closed in any case. Broken, InvalidRequest or OSError."""
    name = str(url.host) if tls is not None else None
    try:
        reader, writer = await asyncio.open_connection(sock=connected, ssl=tls, server_hostname=name)
    except BaseException:
        connected.close()
        raise
    try:
        writer.write(_head(url))
        return await _answer(reader)
    finally:
        # Not `close`, which would wait for what the other side still has to say.
        writer.transport.abort()


def _head(url: Url) -> bytes:
    """No cookies, no referrer, and no Accept-Encoding: what comes is the image itself."""
    lines = (
        f"GET {url.target} HTTP/1.1",
        f"Host: {url.authority}",
        f"User-Agent: Leadline/{__version__}",
        f"Accept: {_KINDS}",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _answer(reader: asyncio.StreamReader) -> Answer:
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    reading.parser = parser
    received_bytes = 0
    while not reading.ended:
        data = await reader.read(_READ_BYTES)
        if not data:
            if reading.sized or not reading.begun:
                raise Broken
            break  # a body without a length ends with its connection
        received_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not reading.ended:
                raise reading.refusal or Broken from None
        if received_bytes > (_LARGEST_ANSWER_BYTES if reading.begun else _LARGEST_HEAD_BYTES):
            raise too_large() if reading.begun else Broken
    return Answer(reading.status, reading.location, b"".join(reading.pieces))


def too_large() -> InvalidRequest:
    return InvalidRequest(f"The image is larger than {LARGEST_IMAGE_BYTES // 1024 // 1024} MiB.")


class _Reading:
    """What the parser calls. `begun`: the head is here. `ended`: nothing more is needed."""

    parser: httptools.HttpResponseParser

    def __init__(self) -> None:
        self.status = 0
        self.location: str | None = None
        self.pieces: list[bytes] = []
        self.begun = self.ended = self.sized = False
        self.refusal: InvalidRequest | None = None
        self._head_bytes = self._body_bytes = 0
        self._length_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _LARGEST_HEAD_BYTES:
            raise Broken
        match name.lower():
            case b"location" if not self.begun:
                self.location = value.decode("utf-8", "replace")
            case b"content-length" if value.isdigit():
                self.sized, self._length_bytes = True, int(value[:20])
            case b"transfer-encoding":
                self.sized = True

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            self.location, self.sized, self._length_bytes = None, False, 0
            return
        self.status, self.begun = status, True
        if status != 200:
            self.ended = True
        elif self._length_bytes > LARGEST_IMAGE_BYTES:
            self._refuse()

    def on_body(self, body: bytes) -> None:
        if self.ended:
            return
        self._body_bytes += len(body)
        if self._body_bytes > LARGEST_IMAGE_BYTES:
            self._refuse()
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.ended = self.begun

    def _refuse(self) -> None:
        """The parser wraps what its callbacks raise, so it is kept."""
        self.refusal = too_large()
        raise self.refusal
