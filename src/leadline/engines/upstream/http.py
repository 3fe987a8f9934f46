"""An HTTP/1.1 client for engines: over TCP, TLS or a Unix socket, with everything bounded.

All that one read of the socket brought is handed over in one piece, and a reader that falls behind stops the socket,
so that a slow client slows its own engine stream and nothing else. One timer per connection watches every wait.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools

from leadline.errors import DeadlineExceeded, EngineFailed, Unavailable

CONNECT_SECONDS = 5.0
# Unread bytes of a response after which its socket is not read any further.
_MOST_UNREAD_BYTES = 256 * 1024
_MOST_IDLE_CONNECTIONS = 64
_LONGEST_HEADERS_BYTES = 64 * 1024


class Unreachable(Unavailable):
    """Nobody listens at the engine's address."""


class ConnectionBroken(EngineFailed):
    """The engine's connection broke: the engine is gone, or it fell over this request."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. With `socket`, the rest only fills in headers; with `ip`, which is one of the host's
    addresses, that is connected to."""

    host: str
    port: int
    tls: bool = False
    path: str = ""
    socket: Path | None = None
    ip: str | None = None

    @classmethod
    def of(cls, url: str) -> "Address":
        """The address of a URL such as `https://host:8000/v1`."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return cls(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))


class _Connection(asyncio.Protocol):
    """One connection and the response that it carries now."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._header_bytes = self._head_bytes = 0
        self._sized = False
        self.content_type = b""
        self._waiter: asyncio.Future[None] | None = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self.status: int | None = None
        self.complete = False
        self.lost = False
        self.reusable = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
        if self.status is None:
            # The parser keeps a header until it ends.
            self._head_bytes += len(data)
            if self._head_bytes > _LONGEST_HEADERS_BYTES:
                self.close()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        # A body without a length ends with its connection (RFC 9112, section 6.3).
        self.complete = self.complete or (error is None and self.status is not None and not self._sized)
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        match name.lower():
            case b"content-length" | b"transfer-encoding":
                self._sized = True
            case b"content-type":
                self.content_type = value
        if self._header_bytes > _LONGEST_HEADERS_BYTES:
            self.close()

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._unread += len(body)
        if self._unread > _MOST_UNREAD_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status is not None:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()

    # What a request calls.

    def send(self, data: bytes) -> None:
        """Begin the next request."""
        self._parser = httptools.HttpResponseParser(self)
        self._header_bytes, self._head_bytes, self._sized, self.content_type = 0, 0, False, b""
        self.status, self.complete, self.reusable = None, False, False
        assert self._transport is not None
        self._transport.write(data)

    async def headers(self, seconds: float) -> int:
        """The response's status."""
        while self.status is None:
            if self.lost:
                raise ConnectionResetError
            await self._wait(seconds)
        return self.status

    async def piece(self, seconds: float) -> bytes:
        """All that has arrived of the body, or b"" at its end. ConnectionResetError where it breaks off."""
        while not self._pieces:
            if self.complete:
                return b""
            if self.lost:
                raise ConnectionResetError
            await self._wait(seconds)
        whole = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unread = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return whole

    def close(self) -> None:
        """Drop the connection at once, whatever is under way."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, seconds: float) -> None:
        self._waiter = self._loop.create_future()
        self._due = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._due, self._watch)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _watch(self) -> None:
        """The timer of all waits: it looks whether the current one is overdue, and comes back later where not."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._watch)
        else:
            self._waiter.set_exception(DeadlineExceeded("The engine did not answer in time."))


@dataclass(slots=True)
class Response:
    """An answer whose headers are here. Leave it with `close`: read to its end, its connection is used again."""

    status: int
    _client: "HttpClient"
    _connection: _Connection

    @property
    def is_json(self) -> bool:
        return self._connection.content_type.lower().startswith(b"application/json")

    async def piece(self, seconds: float) -> bytes:
        """All that has arrived of the body, or b"" at its end; no wait longer than `seconds`. ConnectionBroken where it
        breaks off."""
        try:
            return await self._connection.piece(seconds)
        except ConnectionResetError:
            raise ConnectionBroken(f"The engine {self._client.name} broke off in the middle of its answer.") from None

    async def read(self, seconds: float, limit_bytes: int = 16 * 1024 * 1024) -> bytes:
        """The whole body."""
        pieces, size = [], 0
        while piece := await self.piece(seconds):
            pieces.append(piece)
            size += len(piece)
            if size > limit_bytes:
                raise EngineFailed(f"The engine {self._client.name} sent an answer that is too long.")
        return b"".join(pieces)

    def close(self) -> None:
        self._client.take_back(self._connection)


@dataclass(slots=True)
class HttpClient:
    """Sends requests to one server. `name` is the engine's, for errors; `headers` go with every request."""

    name: str
    address: Address
    headers: Mapping[str, str] = field(default_factory=dict)
    _idle: list[_Connection] = field(default_factory=list)
    # What heads of requests have in common, by method and path.
    _heads: dict[tuple[str, str], bytes] = field(default_factory=dict)

    async def send(self, method: str, path: str, body: bytes | None, seconds: float) -> Response:
        """Send a request and wait for the answer's headers.

        Unreachable where nobody listens, ConnectionBroken where the connection breaks, DeadlineExceeded after
        `seconds`.
        """
        data, broke = self._head(method, path, body) + (body or b""), False
        while (connection := self._reusable()) is not None:
            try:
                return await self._exchange(connection, data, seconds)
            except ConnectionResetError:
                broke = True  # most likely the server closed it while it was idle
        try:
            return await self._exchange(await self._connect(), data, seconds)
        except ConnectionResetError as error:
            raise self._broken() from error
        except Unreachable as error:
            # It has the request, and is gone.
            raise (self._broken() if broke else error) from None

    async def reach(self) -> None:
        """See that there is a connection for the next request; Unreachable where nobody listens."""
        connection = self._reusable() or await self._connect()
        self._idle.append(connection)

    def _broken(self) -> ConnectionBroken:
        return ConnectionBroken(f"The engine {self.name} closed the connection before it answered.")

    def take_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer was read to its end; drop any other."""
        reusable = connection.complete and connection.reusable and not connection.lost
        if reusable and self.address.socket is None and len(self._idle) < _MOST_IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _reusable(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                return connection
        return None

    async def _exchange(self, connection: _Connection, data: bytes, seconds: float) -> Response:
        try:
            connection.send(data)
            return Response(await connection.headers(seconds), self, connection)
        except BaseException:
            connection.close()
            raise

    async def _connect(self) -> _Connection:
        loop, address = asyncio.get_running_loop(), self.address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if address.socket is not None:
                    _, connection = await loop.create_unix_connection(_Connection, str(address.socket))
                else:
                    context = ssl.create_default_context() if address.tls else None
                    _, connection = await loop.create_connection(
                        *(_Connection, address.ip or address.host, address.port),
                        ssl=context,
                        server_hostname=address.host if address.tls else None,
                    )
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"The engine {self.name} cannot be reached. Try again in a moment.") from error
        return connection

    def _head(self, method: str, path: str, body: bytes | None) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            head = self._heads[method, path] = self._common_head(method, path)
        if body is None:
            return head + b"\r\n"
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (head, len(body))

    def _common_head(self, method: str, path: str) -> bytes:
        address = self.address
        host = address.host if address.port in (80, 443) else f"{address.host}:{address.port}"
        lines = [f"{method} {address.path}{path} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
