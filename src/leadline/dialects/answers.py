"""An admitted generation becomes an HTTP answer: whole, or a stream of server-sent events."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from leadline.chat.collect import ChatAnswer, collect
from leadline.chat.events import ChatEvent, Started
from leadline.dialects.exchange import Exchange
from leadline.errors import LeadlineError, Unavailable
from leadline.serving.pipeline import Generation

# With nothing to send for this long, a keep-alive goes out. Until then an error still has its own status.
KEEP_ALIVE_SECONDS = 10.0
# A client that takes nothing for this long is given up.
STALLED_SECONDS = 30.0
# An engine that always has the next event ready must not keep the event loop to itself.
_BATCHES_PER_TURN = 64
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class StreamEncoder(Protocol):
    """One dialect's stream. `keep_alive` is what it sends to say nothing."""

    keep_alive: bytes

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes: ...

    def error(self, error: LeadlineError) -> bytes: ...


async def send_whole(exchange: Exchange, generation: Generation, encode: Callable[[ChatAnswer], bytes]) -> None:
    """Run the generation to its end and answer with all of it."""
    async with generation, exchange.while_connected():
        try:
            async with aclosing(generation.events()) as batches:
                answer = await collect(batches, generation.choices)
        except asyncio.CancelledError:
            raise _stopped(exchange, generation) from None
    await exchange.respond(200, encode(answer), [], b"application/json")


async def send_stream(exchange: Exchange, generation: Generation, encoder: StreamEncoder) -> None:
    """Stream the generation. What fails before the first token is raised, what fails later is sent as an event."""
    async with generation, exchange.while_connected():
        writer = _Writer(exchange, encoder.keep_alive)
        try:
            try:
                await _write_all(writer, generation, encoder)
            except asyncio.CancelledError:
                raise _stopped(exchange, generation) from None
        except Exception as error:
            if not exchange.started:
                raise
            await writer.write(encoder.error(exchange.told(error)))
        finally:
            writer.stop()
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


def _stopped(exchange: Exchange, generation: Generation) -> BaseException:
    """A cancellation is the client's hang-up, or our own stop, which then is an error like any other."""
    if exchange.gone:
        return asyncio.CancelledError()
    stopping = Unavailable("The server is stopping. Send the request again.")
    generation.fail(stopping)
    return stopping


async def _write_all(writer: "_Writer", generation: Generation, encoder: StreamEncoder) -> None:
    written = 0
    async with aclosing(generation.events()) as batches:
        async for batch in batches:
            piece = encoder.encode(batch)
            if all(isinstance(event, Started) for event in batch):
                writer.hold(piece)
            elif piece:
                await writer.write(piece)
            written += 1
            if written % _BATCHES_PER_TURN == 0:
                await asyncio.sleep(0)


class _Writer:
    """Writes the body; one timer a stream, not one an event, sees to keep-alives and to clients that do not read."""

    def __init__(self, exchange: Exchange, keep_alive: bytes) -> None:
        self._exchange = exchange
        self._keep_alive = keep_alive
        self._held = b""
        self._loop = asyncio.get_running_loop()
        self._wrote_at = self._loop.time()
        self._writing = False
        self._beat: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(KEEP_ALIVE_SECONDS, self._tick)

    def hold(self, piece: bytes) -> None:
        """Keep `piece` back until there is more to say: once it is out, an error has no status of its own."""
        self._held += piece

    async def write(self, piece: bytes) -> None:
        if not self._exchange.started:
            await self._exchange.begin(200, _STREAM_HEADERS, b"text/event-stream; charset=utf-8")
        piece, self._held = self._held + piece, b""
        self._writing, self._wrote_at = True, self._loop.time()
        await self._exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
        self._writing = False

    def stop(self) -> None:
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def _tick(self) -> None:
        silent_seconds = self._loop.time() - self._wrote_at
        if self._writing and silent_seconds > STALLED_SECONDS:
            self._exchange.drop()
            return
        if not self._writing and silent_seconds >= KEEP_ALIVE_SECONDS:
            self._beat = self._loop.create_task(self.write(self._keep_alive))
        self._timer = self._loop.call_later(max(1.0, KEEP_ALIVE_SECONDS - silent_seconds), self._tick)
