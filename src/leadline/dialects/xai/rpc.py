"""One gRPC call, for every method and all arities: its key, its size, its deadline, its errors and its log line.

A method is in a table of its service's module, under its path, and is a coroutine function:

- unary: `(rpc, message) -> answer`
- server stream: `(rpc, message) -> None`; it writes with `rpc.write`
- client stream: `(rpc, messages) -> answer`
- both: `(rpc, messages) -> None`; it writes with `rpc.write`

What it takes is known from the protos; what it gives is a message, or the bytes of one.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError, Message

from leadline.clock import now_microseconds
from leadline.dialects.limits import encode_limits
from leadline.dialects.recordings import STOPPING
from leadline.dialects.xai.wire import refuse_crowds
from leadline.errors import (
    ClientGone,
    DeadlineExceeded,
    InvalidRequest,
    LeadlineError,
    RateLimited,
    RateLimits,
    RequestTooLarge,
    Unavailable,
)
from leadline.ids import new_uuid
from leadline.serving.generation import Call, Generation, LookUp, nothing_more
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.exchange import LARGEST_BODY_BYTES
from leadline.web.presented import presented_key, told

# A client that takes nothing for this long is given up; one that sends a stream may pause for so long.
STALLED_SECONDS = 30.0
PAUSE_SECONDS = 15.0
# For all of a message that comes alone.
MESSAGE_SECONDS = 300.0

Answer = Message | bytes
Handler = Callable[["Rpc", Any], Awaitable[Any]]
Handlers = Mapping[str, Handler]


@dataclass(slots=True, eq=False)
class Rpc:
    """A call under way. `request_id` is in its trailing metadata and in the ledger, `path` is its method's."""

    pipeline: Pipeline
    path: str
    context: Any
    task: "asyncio.Task[Any]"
    # Set when the server takes no more calls.
    draining: asyncio.Event
    request_id: uuid.UUID = field(default_factory=new_uuid)
    # Whether it is this server that ends the call.
    stopping: bool = False
    trailing: list[tuple[str, str]] = field(default_factory=list)
    _caller: Caller | None = None
    _stall: asyncio.TimerHandle | None = None
    _has_written: bool = False
    _stalled: bool = False
    _writes_since: float | None = None

    def authenticate(self) -> None:
        """Unauthenticated, or PermissionDenied where the organisation is suspended."""
        self._caller = self.pipeline.authenticate(self.api_key(), self.address)

    @property
    def caller(self) -> Caller:
        assert self._caller is not None, "a method that takes any key has no caller"
        return self._caller

    @property
    def address(self) -> str:
        """Where the call comes from, without the port (gRPC naming: `ipv4:…:port`, `ipv6:%5B…%5D:port`)."""
        address = str(self.context.peer()).partition(":")[2].rpartition(":")[0]
        return address.replace("%5B", "").replace("%5D", "").strip("[]")

    @property
    def endpoint(self) -> str:
        """As usage records have it: `xai_api.Chat/GetCompletion`."""
        return self.path.removeprefix("/")

    def api_key(self) -> str | None:
        return presented_key(self.metadata("authorization"), self.metadata("x-api-key"))

    def metadata(self, name: str) -> list[str]:
        """The values that the client sent under this lower-case name."""
        pairs = self.context.invocation_metadata() or ()
        return [value if isinstance(value, str) else value.decode("latin-1") for key, value in pairs if key == name]

    def as_call(self, *, stream: bool, scope: str = "chat", look_up: LookUp = nothing_more) -> Call:
        """This call, as the money path wants it. `scope` is what its key must permit."""
        return Call(self.request_id, self.endpoint, stream, scope, look_up=look_up)

    def told(self, error: Exception) -> LeadlineError:
        """The error as the client may hear it."""
        return told(error, str(self.request_id), self.path)

    def tell_limits(self, limits: RateLimits) -> None:
        """In the trailing metadata, under the names that they have as headers."""
        self.trailing += [(name.decode(), value.decode()) for name, value in encode_limits(limits, now_microseconds())]

    def tell_error(self, error: LeadlineError) -> None:
        """What of it is no status and no sentence."""
        if isinstance(error, RateLimited) and error.limits is not None:
            self.tell_limits(error.limits)
        if error.should_retry is not None:
            self.trailing.append(("x-should-retry", "true" if error.should_retry else "false"))
        if error.retry_after_seconds is not None:
            self.trailing.append(("retry-after", str(error.retry_after_seconds)))

    @property
    def can_be_told(self) -> bool:
        """Whether the library can end the call with an error: it cannot behind a first message that is under way."""
        return self._has_written or self._writes_since is None

    async def write(self, answer: Answer) -> None:
        """Send a message of a stream; returns once the transport has taken it, or raises ClientGone."""
        loop = asyncio.get_running_loop()
        self._writes_since = loop.time()
        if self._stall is None:
            self._stall = loop.call_later(STALLED_SECONDS, self._look)
        try:
            await self.context.write(serialized(answer))
        except asyncio.CancelledError:
            if self._stalled:
                self.task.uncancel()
                raise ClientGone from None
            raise
        self._writes_since, self._has_written = None, True

    def _look(self) -> None:
        """One timer a stream, not one a message, sees to clients that do not read."""
        loop = asyncio.get_running_loop()
        seconds = 0.0 if self._writes_since is None else loop.time() - self._writes_since
        if seconds >= STALLED_SECONDS:
            self._stalled = True
            self.task.cancel()
        else:
            self._stall = loop.call_later(max(1.0, STALLED_SECONDS - seconds), self._look)

    async def received(self, messages: AsyncIterator[bytes], kind: Any) -> AsyncIterator[Any]:
        """The messages that the client sends, each parsed. It may pause, but not for long."""
        pieces = aiter(messages)
        while True:
            try:
                async with asyncio.timeout(PAUSE_SECONDS):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineExceeded("The next message of the request did not arrive in time.") from None
            yield parsed(piece, kind)

    def why_cancelled(self, generation: Generation) -> BaseException:
        """A cancellation is the client's; or somebody stopped the generation; or it is our own stop. The latter two are
        errors like any other."""
        error = generation.stopped_by
        if error is None and self.stopping:
            error = Unavailable(STOPPING)
            generation.fail(error)
        if error is None:
            return asyncio.CancelledError()
        self.task.uncancel()
        return error

    def close(self) -> None:
        if self._stall is not None:
            self._stall.cancel()


async def only_message(messages: AsyncIterator[bytes]) -> bytes:
    """The message of a method that takes one. Whatever a client sends after it is not looked at."""
    try:
        async with asyncio.timeout(MESSAGE_SECONDS):
            return await anext(aiter(messages))
    except StopAsyncIteration:
        raise InvalidRequest("The call ended without a message. Send the request's message.") from None
    except TimeoutError:
        raise DeadlineExceeded("The request's message did not arrive in time.") from None


def parsed(content: bytes, kind: Any) -> Any:
    """A message of this kind, or InvalidRequest."""
    if len(content) > LARGEST_BODY_BYTES:
        raise RequestTooLarge(f"The message is larger than {LARGEST_BODY_BYTES // 1024**2} MiB. Send less at once.")
    refuse_crowds(content, kind.DESCRIPTOR)
    try:
        return kind.FromString(content)
    except DecodeError:
        raise InvalidRequest(f"The message is not a valid {kind.DESCRIPTOR.full_name}.") from None


def serialized(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()
