"""The parent's end of a child's socket: requests go out with numbers, and what comes back finds who asked."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec

from leadline.engines.openvino import wire
from leadline.engines.upstream.client import FIRST_BYTE_SECONDS, NEXT_BYTE_SECONDS
from leadline.engines.upstream.http import ConnectionBroken, Unreachable
from leadline.errors import DeadlineExceeded

_READ_BYTES = 256 * 1024
_CONNECT_SECONDS = 5.0


@dataclass(slots=True)
class _Inbox:
    """What has come for one request and was not taken."""

    messages: list[wire.FromChild] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, most_seconds: float) -> tuple[wire.FromChild, ...]:
        """All that has come, at least one. DeadlineExceeded."""
        if not self.messages:
            self.came.clear()
            try:
                async with asyncio.timeout(most_seconds):
                    await self.came.wait()
            except TimeoutError:
                raise DeadlineExceeded("The engine did not answer in time.") from None
        taken, self.messages = tuple(self.messages), []
        return taken


@dataclass(slots=True)
class Link:
    """`name` is the engine's. `pauses` while the child makes its pipeline anew: it is silent then."""

    name: str
    pauses: bool = False
    _writer: asyncio.StreamWriter | None = None
    _reading: "asyncio.Task[None] | None" = None
    _inboxes: dict[int, _Inbox] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _broken: bool = False

    @classmethod
    async def open(cls, name: str, socket: Path, key: str) -> "Link":
        """Unreachable where nobody listens."""
        link = cls(name)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, link._writer = await asyncio.open_unix_connection(str(socket))
        except OSError as error:
            raise Unreachable(f"The engine {name} cannot be reached. Try again in a moment.") from error
        link._writer.write(wire.encoded(wire.Hello(key)))
        link._reading = asyncio.create_task(link._read(reader))
        return link

    def close(self) -> None:
        """Whoever still waits is told that the connection broke."""
        if self._reading is not None:
            self._reading.cancel()
        self._break()

    def number(self) -> int:
        """For the next message."""
        return next(self._numbers)

    async def ask(self, message: wire.Count | wire.Tokenize | wire.Ask, most_seconds: float) -> wire.FromChild:
        """The one answer. ConnectionBroken or DeadlineExceeded."""
        inbox = self._send(message)
        try:
            return (await self._next(inbox, most_seconds))[0]
        finally:
            self._inboxes.pop(message.number, None)

    async def generate(self, message: wire.Generate) -> AsyncGenerator[tuple[wire.FromChild, ...], None]:
        """All that comes for it, as it comes, to the message that ends it. Closing the generator cancels the work."""
        inbox, patience, ended = self._send(message), FIRST_BYTE_SECONDS, False
        try:
            while not ended:
                batch = await self._next(inbox, patience)
                patience = NEXT_BYTE_SECONDS
                ended = isinstance(batch[-1], wire.Ended | wire.Failed)
                yield batch
        finally:
            self._inboxes.pop(message.number, None)
            if not ended and not self._broken and self._writer is not None:
                self._writer.write(wire.encoded(wire.Cancel(message.number)))

    def _send(self, message: wire.Generate | wire.Count | wire.Tokenize | wire.Ask) -> _Inbox:
        if self._broken or self._writer is None:
            raise self._error()
        inbox = self._inboxes[message.number] = _Inbox()
        self._writer.write(wire.encoded(message))
        return inbox

    async def _next(self, inbox: _Inbox, most_seconds: float) -> tuple[wire.FromChild, ...]:
        if not inbox.messages and self._broken:
            raise self._error()
        batch = await inbox.take(most_seconds)
        if not batch:
            raise self._error()
        return batch

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = wire.Frames()
        try:
            while piece := await reader.read(_READ_BYTES):
                for frame in frames.feed(piece):
                    self._deliver(wire.decode_from_child(frame))
        except (OSError, wire.Broken, msgspec.DecodeError):
            pass
        finally:
            self._break()

    def _deliver(self, message: wire.FromChild) -> None:
        if isinstance(message, wire.Pauses):
            self.pauses = not message.ends
        elif (inbox := self._inboxes.get(message.number)) is not None:
            inbox.messages.append(message)
            inbox.came.set()

    def _break(self) -> None:
        self._broken = True
        if self._writer is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._writer.close()
        for inbox in self._inboxes.values():
            inbox.came.set()

    def _error(self) -> ConnectionBroken:
        return ConnectionBroken(f"The engine {self.name} broke off in the middle of its answer.")
