"""A chat request becomes an HTTP answer: whole, or a stream of server-sent events, or one that was given before."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from leadline.chat.collect import ChatAnswer, Collector, collect
from leadline.chat.events import ChatEvent, Finished, Started
from leadline.chat.request import ChatRequest
from leadline.clock import now_microseconds
from leadline.dialects.exchange import Exchange, Headers
from leadline.errors import LeadlineError, RateLimits, Unavailable
from leadline.serving.generation import Call, Generation
from leadline.serving.pipeline import Caller, Pipeline
from leadline.serving.replays import Recording, Replays

# With nothing to send for this long, a keep-alive goes out. Until then an error still has its own status.
KEEP_ALIVE_SECONDS = 10.0
# A client that takes nothing for this long is given up.
STALLED_SECONDS = 30.0
# An engine that always has the next event ready must not keep the event loop to itself.
_BATCHES_PER_TURN = 64
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


_JSON, _EVENTS = b"application/json", b"text/event-stream; charset=utf-8"
_STOPPING = "The server is stopping. Send the request again."


class StreamEncoder(Protocol):
    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Form:
    """How one dialect writes an answer. `keep_alive` is what its streams send to say nothing; `error` is an error in
    the middle of one."""

    stream: Callable[[Generation], StreamEncoder] | None
    whole: Callable[[Generation, ChatAnswer], bytes]
    error: Callable[[LeadlineError, str], bytes]
    limits: Callable[[RateLimits, int], Headers]
    keep_alive: bytes


async def answer_chat(pipeline: Pipeline, caller: Caller, exchange: Exchange, request: ChatRequest, form: Form) -> None:
    """Run `request` and answer it. With an Idempotency-Key it runs once."""
    key = exchange.header(b"idempotency-key")
    streams = form.stream is not None
    call = Call(exchange.request_id, exchange.path, streams, replayable=key is not None)
    if key is None:
        generation = await pipeline.start(caller, request, call)
        exchange.headers += form.limits(generation.limits, now_microseconds())
        await (_send_stream if streams else _send_whole)(exchange, generation, form)
        return
    recording, first = await pipeline.replays.find(caller, key, exchange.path, exchange.body)
    if first:
        recording.request_id, recording.content_type = str(exchange.request_id), _EVENTS if streams else _JSON
        try:
            generation = await pipeline.start(caller, request, call)
        except BaseException as error:
            pipeline.replays.drop(recording, error)
            raise
        exchange.headers += form.limits(generation.limits, now_microseconds())
        pipeline.replays.record(recording, _record(exchange, generation, form, recording, pipeline.replays))
    else:
        exchange.headers.append((b"idempotent-replayed", b"true"))
    await _send_recorded(exchange, recording, form)


async def _send_whole(exchange: Exchange, generation: Generation, form: Form) -> None:
    """Run the generation to its end and answer with all of it."""
    async with generation, exchange.while_connected():
        try:
            async with aclosing(generation.events()) as batches:
                answer = await collect(batches, generation.choices)
        except asyncio.CancelledError:
            raise _stopped(exchange, generation) from None
    await exchange.respond(200, form.whole(generation, answer), [], _JSON)


async def _send_stream(exchange: Exchange, generation: Generation, form: Form) -> None:
    """Stream the generation."""
    assert form.stream is not None
    async with generation, _writing(exchange, form) as writer:
        try:
            await _write_all(writer, generation, form.stream(generation))
        except asyncio.CancelledError:
            raise _stopped(exchange, generation) from None
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def _writing(exchange: Exchange, form: Form) -> "AsyncIterator[_Writer]":
    """Writes a stream. What fails before the first token is raised, what fails later is sent as an event."""
    async with exchange.while_connected():
        writer = _Writer(exchange, form.keep_alive)
        try:
            yield writer
        except Exception as error:
            if not exchange.started:
                raise
            await writer.write(form.error(exchange.told(error), str(exchange.request_id)))
        finally:
            writer.stop()


def _stopped(exchange: Exchange, generation: Generation) -> BaseException:
    """A cancellation is the client's hang-up; or somebody stopped the generation; or it is our own stop. The latter
    two are errors like any other."""
    if exchange.gone:
        return asyncio.CancelledError()
    if generation.stopped_by is not None:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return generation.stopped_by
    stopping = Unavailable(_STOPPING)
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


async def _send_recorded(exchange: Exchange, recording: Recording, form: Form) -> None:
    """Send what is recorded, a stream as it comes; the recording goes on without whoever hangs up."""
    exchange.request_id = uuid.UUID(recording.request_id)
    if form.stream is None:
        async with exchange.while_connected(), _read(exchange, recording) as pieces:
            body = b"".join([piece async for piece in pieces])
        await exchange.respond(200, body, [], recording.content_type)
        return
    async with _writing(exchange, form) as writer, _read(exchange, recording) as pieces:
        async for piece in pieces:
            await writer.write(piece)
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def _read(exchange: Exchange, recording: Recording) -> AsyncIterator[AsyncIterator[bytes]]:
    """The pieces of what is recorded. A cancellation is the client's hang-up, or our own stop, which is an error."""
    try:
        async with aclosing(recording.read()) as pieces:
            yield pieces
    except asyncio.CancelledError:
        if exchange.gone:
            raise
        raise Unavailable(_STOPPING) from None


async def _record(
    exchange: Exchange, generation: Generation, form: Form, recording: Recording, replays: Replays
) -> None:
    """Run the generation into `recording`. Cut short it costs nothing, since its client has a key to ask again."""
    try:
        async with generation:
            try:
                await _record_all(generation, form, recording, replays)
            except asyncio.CancelledError:
                generation.fail(Unavailable(_STOPPING))
                raise
        recording.end()
    except asyncio.CancelledError:
        recording.end(generation.stopped_by or Unavailable(_STOPPING))
        raise
    except Exception as error:
        recording.end(exchange.told(error))


async def _record_all(generation: Generation, form: Form, recording: Recording, replays: Replays) -> None:
    """The last piece is made before the commit, to be kept with the charge."""
    encode = form.stream(generation).encode if form.stream is not None else _encode_whole(generation, form)
    held, last = b"", b""

    def body_with(batch: tuple[ChatEvent, ...]) -> bytes:
        nonlocal last
        last = held + encode(batch)
        return recording.body + last

    replays.keep(generation, recording, body_with)
    recorded = 0
    async with aclosing(generation.events()) as batches:
        async for batch in batches:
            if isinstance(batch[-1], Finished):
                recording.add(last)
            elif all(isinstance(event, Started) for event in batch):
                held += encode(batch)
            else:
                recording.add(held + encode(batch))
                held = b""
            recorded += 1
            if recorded % _BATCHES_PER_TURN == 0:
                await asyncio.sleep(0)


def _encode_whole(generation: Generation, form: Form) -> Callable[[tuple[ChatEvent, ...]], bytes]:
    """Nothing until the last batch, then the whole answer."""
    collector = Collector(generation.choices)

    def encode(batch: tuple[ChatEvent, ...]) -> bytes:
        answer = collector.add(batch)
        return b"" if answer is None else form.whole(generation, answer)

    return encode


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
            await self._exchange.begin(200, _STREAM_HEADERS, _EVENTS)
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
