"""The child process: OpenVINO GenAI on a Unix socket (`wire.py`). Run as `python -m leadline.engines.openvino.child`.

One thread does everything, since the library lets no other one run while it computes: it reads what came, takes one
step of the pipeline, writes what that brought, and begins again. Who asks for a sign of life hears of a step's end.
"""

import hmac
import os
import selectors
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from leadline.engines.embedded.child import die_with_parent, take_standard_streams, tell
from leadline.engines.openvino import wire
from leadline.engines.openvino.pipeline import Pipeline, version

_MOST_CONNECTIONS = 8
_MOST_WAITING = 1024
_READ_BYTES = 256 * 1024
# A parent that reads nothing is none.
_MOST_UNREAD_BYTES = 64 * 1024 * 1024
# So long one scope alone has to use the model before prompts are used again.
_ALONE_SECONDS = 900.0
_SEND_AGAIN_SECONDS = 0.01


def main() -> None:
    report, settings = take_standard_streams()
    die_with_parent()
    try:
        pipeline = Pipeline(settings, reuses=settings["reuses"])
        pipeline.warm()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(settings["socket"])
        listener.listen(_MOST_CONNECTIONS)
    except Exception as error:
        tell(report, {"error": type(error).__name__})
        os._exit(1)
    tell(report, {"ready": True, "version": version()})
    Server(settings, pipeline, listener).serve()


@dataclass(slots=True, eq=False)
class Connection:
    """The parent, once it said its key. `numbers` are the pipeline's, by its own."""

    socket: socket.socket
    known: bool = False
    frames: wire.Frames = field(default_factory=wire.Frames)
    unsent: bytearray = field(default_factory=bytearray)
    numbers: dict[int, int] = field(default_factory=dict)

    def say(self, message: wire.Message) -> None:
        self.unsent += wire.encoded(message)
        if isinstance(message, wire.Ended | wire.Failed):
            self.numbers.pop(message.number, None)


@dataclass(slots=True)
class Server:
    """Steps the pipeline for all connections. Prompts are used again while one scope alone uses the model: the pipeline
    would use any other's too. So it is made anew without that when another scope comes, and with it once one has been
    alone for long."""

    settings: dict[str, Any]
    pipeline: Pipeline
    listener: socket.socket
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _connections: set[Connection] = field(default_factory=set)
    _waiting: deque[tuple[Connection, wire.Generate]] = field(default_factory=deque)
    # Whose the last request was, None before the first one, and since when all were.
    _scope: str | None = None
    _alone_since: float = 0.0

    def serve(self) -> None:
        self.listener.settimeout(0)
        self._selector.register(self.listener, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is self.listener:
                    self._accept()
                else:
                    self._read(key.data)
            self._begin()
            if self.pipeline.works:
                self.pipeline.step()
            elif self._may_reuse():
                self._make_anew(reuses=True)
            for connection in tuple(self._connections):
                self._send(connection)

    def _patience(self) -> float | None:
        """How long there is nothing to do but to listen."""
        if self.pipeline.works or self._waiting:
            return 0
        if any(connection.unsent for connection in self._connections):
            return _SEND_AGAIN_SECONDS
        return _ALONE_SECONDS if self.settings["reuses"] and not self.pipeline.reuses else None

    def _accept(self) -> None:
        accepted, _ = self.listener.accept()
        if len(self._connections) >= _MOST_CONNECTIONS:
            accepted.close()
            return
        accepted.settimeout(0)
        connection = Connection(accepted)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        try:
            piece = connection.socket.recv(_READ_BYTES)
            if not piece:
                raise wire.Broken
            for frame in connection.frames.feed(piece):
                self._hear(connection, wire.decode_from_parent(frame))
        except BlockingIOError:
            return
        except (OSError, wire.Broken, msgspec.DecodeError):
            self._drop(connection)

    def _hear(self, connection: Connection, message: wire.FromParent) -> None:
        if not connection.known:
            if not isinstance(message, wire.Hello) or not hmac.compare_digest(message.key, self.settings["key"]):
                raise wire.Broken
            connection.known = True
            return
        match message:
            case wire.Generate(number) if len(self._waiting) >= _MOST_WAITING:
                connection.say(wire.Failed(number, "failed"))
            case wire.Generate():
                self._waiting.append((connection, message))
            case wire.Cancel(number):
                self._cancel(connection, number)
            case wire.Count(number, prompt):
                connection.say(wire.Counted(number, len(self.pipeline.vocabulary.tokens(prompt))))
            case wire.Tokenize(number, prompt):
                connection.say(wire.Tokens(number, self.pipeline.vocabulary.told(prompt)))
            case wire.Ask(number):
                connection.say(wire.Alive(number, self.pipeline.running + len(self._waiting)))
            case _:
                raise wire.Broken

    def _cancel(self, connection: Connection, number: int) -> None:
        self._waiting = deque(one for one in self._waiting if one[0] is not connection or one[1].number != number)
        if (begun := connection.numbers.pop(number, None)) is not None:
            self.pipeline.cancel(begun)

    def _begin(self) -> None:
        """Give the pipeline those that wait. One of another scope waits for the end of those that run."""
        while self._waiting:
            connection, asked = self._waiting[0]
            if asked.scope != self._scope:
                if self.pipeline.reuses and self._scope is not None:
                    if self.pipeline.works:
                        return
                    self._make_anew(reuses=False)
                self._scope, self._alone_since = asked.scope, time.monotonic()
            self._waiting.popleft()
            number = self.pipeline.add(asked, connection.say)
            if number is not None:
                connection.numbers[asked.number] = number

    def _may_reuse(self) -> bool:
        if self.pipeline.reuses or not self.settings["reuses"] or self._scope is None:
            return False
        return time.monotonic() - self._alone_since >= _ALONE_SECONDS

    def _make_anew(self, *, reuses: bool) -> None:
        self._tell_all(wire.Pauses(ends=False))
        del self.pipeline
        self.pipeline = Pipeline(self.settings, reuses=reuses)
        self.pipeline.warm()
        self._tell_all(wire.Pauses(ends=True))

    def _tell_all(self, message: wire.Message) -> None:
        for connection in tuple(self._connections):
            if connection.known:
                connection.say(message)
                self._send(connection)

    def _send(self, connection: Connection) -> None:
        """All that a step brought, at once."""
        if not connection.unsent:
            return
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        del connection.unsent[:sent]
        if len(connection.unsent) > _MOST_UNREAD_BYTES:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """It has gone, and wants nothing more."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._waiting = deque(one for one in self._waiting if one[0] is not connection)
        for number in connection.numbers.values():
            self.pipeline.cancel(number)


if __name__ == "__main__":
    main()
