"""One HTTP request and its answer over ASGI, for every API that speaks HTTP. Sizes and waits are bounded here."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from leadline.errors import ClientGone, DeadlineExceeded, LeadlineError, NotJson, RequestTooLarge
from leadline.ids import new_uuid
from leadline.timers import Within
from leadline.web.hang_up import HangUp
from leadline.web.presented import presented_key, told

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LARGEST_BODY_BYTES = 32 * 1024 * 1024
# A body may pause this long, and take that long in all.
_BODY_PAUSE_SECONDS = 15.0
_BODY_SECONDS = 300.0
UPLOAD_SECONDS = 900.0
# Of a body that is not wanted so much is taken, as long as it keeps coming.
_UNWANTED_BYTES = 64 * 1024 * 1024
_UNWANTED_PAUSE_SECONDS, _UNWANTED_SECONDS = 0.5, 10.0


@dataclass(slots=True)
class Exchange:
    """`path` and `method` as they were sent; `request_id` is in every answer and in the ledger."""

    scope: MutableMapping[str, Any]
    receive: Receive
    send: Send
    request_id: uuid.UUID = field(default_factory=new_uuid)
    # What the path names, where it names something: a model, or the id of a stored thing.
    model: str = ""
    stored_id: str = ""
    body: bytes = b""
    # What goes into the answer's headers beside the usual.
    headers: Headers = field(default_factory=list)
    # That of the answer, once it has begun.
    status: int = 0
    gone: bool = False
    # Whether the body came to its end.
    _whole: bool = False
    # What is cancelled when the client hangs up.
    _task: "asyncio.Task[object] | None" = None
    # From the first need of it to the end of the connection's request, which `receive` tells as a disconnect.
    _watch: HangUp | None = None
    _hung_up: bool = False
    path: str = field(init=False)
    method: str = field(init=False)
    _by_name: dict[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.path, self.method = self.scope["path"], self.scope["method"]
        # Of several headers of one name the first that is not empty.
        self._by_name = {name: value for name, value in reversed(self.scope["headers"]) if value.strip()}

    @property
    def started(self) -> bool:
        """Whether the answer has begun: from then on an error has no status of its own."""
        return self.status != 0

    @property
    def lost(self) -> bool:
        """Whether the HTTP server has lost the connection: until the disconnect is received it drops what it is sent,
        without a word. `send` is a method of uvicorn's state of this request, which knows."""
        return bool(getattr(getattr(self.send, "__self__", None), "disconnected", False))

    @property
    def address(self) -> str:
        """Where the request comes from, as the HTTP server knows it."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def header(self, name: bytes) -> str | None:
        """The first header of this lower-case name; an empty one counts as absent."""
        value = self._by_name.get(name)
        return None if value is None else str(value.decode("latin-1").strip())

    def query(self) -> dict[str, str]:
        """The parameters in the URL; of several with one name the last."""
        return dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))

    def api_key(self) -> str | None:
        """The key that was presented, from either header. Two different ones are refused."""
        bearer, plain = self.header(b"authorization"), self.header(b"x-api-key")
        return presented_key([bearer or ""], [plain or ""])

    async def json_body(self, most_bytes: int | None = None) -> bytes:
        """The whole body, which must say that it is JSON."""
        content_type = (self.header(b"content-type") or "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise NotJson("Send the body as JSON, with the header `Content-Type: application/json`.")
        self.body = await self._body(LARGEST_BODY_BYTES if most_bytes is None else most_bytes)
        return self.body

    async def pieces(self, most_bytes: int, too_large: LeadlineError) -> AsyncGenerator[bytes, None]:
        """The body as it comes, for what is too large to be held. `too_large` is raised where it has more bytes."""
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length) > most_bytes:
            raise too_large
        now = asyncio.get_running_loop().time
        latest, size, more = now() + UPLOAD_SECONDS, 0, True
        while more:
            try:
                async with asyncio.timeout_at(min(latest, now() + _BODY_PAUSE_SECONDS)):
                    message = await self.receive()
            except TimeoutError:
                raise DeadlineExceeded("The body of the request did not arrive in time.") from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece, more = message.get("body", b""), message.get("more_body", False)
            size, self._whole = size + len(piece), not more
            if size > most_bytes:
                raise too_large
            yield piece

    async def pass_over_body(self) -> None:
        """Take what is still being sent where the connection ends with the answer: closed while it is, its client would
        lose the answer. Other connections are read on by the HTTP server."""
        closes = (self.header(b"connection") or "").lower() == "close"
        if self._whole or not closes or self.header(b"expect") is not None:
            return
        now = asyncio.get_running_loop().time
        latest, left = now() + _UNWANTED_SECONDS, _UNWANTED_BYTES
        with suppress(TimeoutError):
            while left > 0:
                async with asyncio.timeout_at(min(latest, now() + _UNWANTED_PAUSE_SECONDS)):
                    message = await self.receive()
                if not message.get("more_body", False):
                    return
                left -= len(message["body"])

    def told(self, error: Exception) -> LeadlineError:
        """The error as the client may hear it."""
        return told(error, str(self.request_id), self.path)

    async def respond(self, status: int, body: bytes, headers: Headers, content_type: bytes) -> None:
        """A whole answer."""
        await self.begin(status, [(b"content-length", b"%d" % len(body)), *headers], content_type)
        await self.send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def respond_json(self, value: object) -> None:
        """A whole answer of status 200."""
        await self.respond(200, msgspec.json.encode(value), [], b"application/json")

    async def begin(self, status: int, headers: Headers, content_type: bytes) -> None:
        """The status and headers of an answer whose body follows."""
        self.status = status
        request_id = str(self.request_id).encode()
        common = [(b"content-type", content_type), (b"x-request-id", request_id), (b"request-id", request_id)]
        await self.send({"type": "http.response.start", "status": status, "headers": common + self.headers + headers})

    def while_connected(self) -> "_WhileConnected":
        """`async with` it: cancels what is inside when the client hangs up, and raises ClientGone in its place."""
        return _WhileConnected(self)

    def _disconnected(self) -> None:
        self._hung_up = True
        self.drop()

    def drop(self) -> None:
        """Give the client up: it hung up, or it does not read."""
        if self._task is not None:
            self.gone = True
            self._task.cancel()
            self._task = None

    async def _body(self, most_bytes: int) -> bytes:
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length) > most_bytes:
            raise _too_large(most_bytes)
        pieces: list[bytes] = []
        size = 0
        now = asyncio.get_running_loop().time
        latest = now() + _BODY_SECONDS
        try:
            with Within(_BODY_PAUSE_SECONDS) as deadline:
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > most_bytes:
                        raise _too_large(most_bytes)
                    if not message.get("more_body", False):
                        self._whole = True
                        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    deadline.extend(min(latest - now(), _BODY_PAUSE_SECONDS))
        except TimeoutError:
            raise DeadlineExceeded("The body of the request did not arrive in time.") from None


class _WhileConnected:
    __slots__ = ("_exchange", "_task")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aenter__(self) -> None:
        exchange = self._exchange
        self._task = exchange._task = asyncio.current_task()
        if exchange._watch is None:
            exchange._watch = HangUp(exchange.receive, exchange._disconnected)
        elif exchange._hung_up:
            exchange.drop()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        exchange = self._exchange
        exchange._task = None
        if not exchange.gone or self._task is None:
            return
        if kind is None:
            try:
                await asyncio.sleep(0)  # the cancellation that is on its way lands here, not further out
            except asyncio.CancelledError:
                if not self._task.uncancel():
                    raise ClientGone from None
                raise
        elif kind is asyncio.CancelledError and not self._task.uncancel():
            raise ClientGone from None


def _too_large(most_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body of the request is larger than {most_bytes // 1024**2} MiB. Send less at once.")
