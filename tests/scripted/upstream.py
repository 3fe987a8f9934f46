"""A remote OpenAI-compatible server that replays scripts over real HTTP: bytes, pauses, and broken connections."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

DEADLINE_SECONDS = 30


@dataclass(frozen=True)
class Reply:
    """`pieces` go out one write each, after a `head` of its own or a common one. `ends`: properly, by a broken
    connection, or never."""

    status: int = 200
    pieces: tuple[bytes, ...] = ()
    ends: str = "properly"
    content_type: str = "text/event-stream"
    head: bytes = b""


@dataclass
class ScriptedUpstream:
    """`reply` answers every chat request, and `models` whoever asks for the list. What came in and how many callers
    went away is on record. `halt` is what a killed process leaves."""

    reply: Reply = field(default_factory=Reply)
    models: Reply = field(default_factory=lambda: _json_reply({"data": [{"id": "tiny", "max_model_len": 500}]}))
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    connections: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: set["asyncio.Task[None]"] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _open: asyncio.StreamWriter | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["ScriptedUpstream"]:
        self._loop = asyncio.get_running_loop()
        self._server = server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            await self.halt()

    def go_on(self, piece: bytes) -> None:
        """Send more of the answer that was not to end, of one that listens aside."""
        assert self._loop is not None
        assert self._open is not None
        self._loop.call_soon_threadsafe(self._open.write, b"%x\r\n%b\r\n" % (len(piece), piece))

    def kill(self) -> None:
        """Halt one that listens aside."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.halt(), self._loop).result(DEADLINE_SECONDS)

    async def halt(self) -> None:
        """Listen no more, and break all connections."""
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @contextmanager
    def aside(self) -> Iterator["ScriptedUpstream"]:
        """Listening in a thread of its own. `reply` may be changed between two requests."""
        up, loop = threading.Event(), asyncio.new_event_loop()
        stop = asyncio.Event()

        async def listen() -> None:
            async with self.listening():
                up.set()
                await stop.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(listen(),), daemon=True)
        thread.start()
        assert up.wait(DEADLINE_SECONDS), "the upstream did not come up"
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive(), "the upstream did not stop"
            loop.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0].partition(":")[2])) if lengths else b""
            if "/models" in head:
                await self._write(writer, self.models)
                if self.models.ends == "never":
                    await reader.read()
                continue
            self.headers.append(head)
            self.bodies.append(json.loads(body))
            self.asked.set()
            await self._write(writer, self.reply)
            if self.reply.ends == "never":
                self._open = writer
                await reader.read()
                self.hung_up.set()
            if self.reply.ends != "properly":
                break

    async def _write(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        lines = f"HTTP/1.1 {reply.status} X", f"Content-Type: {reply.content_type}", "Transfer-Encoding: chunked"
        writer.write(reply.head or "\r\n".join(lines).encode() + b"\r\n\r\n")
        for piece in reply.pieces:
            writer.write(piece if reply.head else b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if reply.ends == "properly" and not reply.head:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


def _json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(status, (json.dumps(value).encode(),), content_type="application/json")


def refusal(status: int, value: Any) -> Reply:
    return _json_reply(value, status)


def sse(*chunks: dict[str, Any], done: bool = True) -> bytes:
    """Chunks as server-sent events."""
    lines = [b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def finish(reason: str, **usage: Any) -> dict[str, Any]:
    chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return chunk | ({"usage": usage} if usage else {})
