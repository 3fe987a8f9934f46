"""A chat request becomes an HTTP answer: whole, or a stream of server-sent events, or one that was given before."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

from leadline.chat.events import Started
from leadline.chat.request import ChatRequest
from leadline.clock import now_microseconds
from leadline.dialects.recordings import BATCHES_PER_TURN, STOPPING, Asked, Begin, Encoder, Recorder, record_once
from leadline.errors import ClientGone, LeadlineError, RateLimits, Unavailable
from leadline.serving.generation import Call, Generation, LookUp, nothing_more
from leadline.serving.pipeline import Caller, Pipeline
from leadline.serving.replays import Recording
from leadline.web.exchange import Exchange, Headers

# With nothing to send for this long, a keep-alive goes out. Until then an error still has its own status.
KEEP_ALIVE_SECONDS = 10.0
# A client that takes nothing for this long is given up.
STALLED_SECONDS = 30.0
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_JSON, _EVENTS = b"application/json", b"text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Form:
    """How one dialect writes an answer. `keep_alive` is what its streams send to say nothing; `error` is an error in
    the middle of one, `scope` what a key must permit, `look_up` what its request still lacks."""

    stream: Callable[[Generation], Encoder] | None
    whole: Callable[[Generation], Encoder]
    error: Callable[[LeadlineError, str], bytes]
    limits: Callable[[RateLimits, int], Headers]
    keep_alive: bytes
    scope: str = "chat"
    look_up: LookUp = nothing_more


async def answer_chat(pipeline: Pipeline, caller: Caller, exchange: Exchange, request: ChatRequest, form: Form) -> None:
    """Run `request` and answer it. With an Idempotency-Key it runs once."""
    key = exchange.header(b"idempotency-key")
    if key is None:
        generation = await start(pipeline, caller, exchange, request, form)
        await (_send_whole if form.stream is None else _send_stream)(exchange, generation, form)
        return

    async def begin(recording: Recording) -> Coroutine[Any, Any, None]:
        generation = await start(pipeline, caller, exchange, request, form)
        recording.content_type = _JSON if form.stream is None else _EVENTS
        farewell = None if form.stream is None else form.error
        recorder = Recorder(pipeline.replays, recording, exchange.told, farewell)
        return recorder.record(generation, form.stream or form.whole)

    await send_recorded(exchange, await record_exchange(pipeline, caller, exchange, key, begin), form)


async def start(pipeline: Pipeline, caller: Caller, exchange: Exchange, request: ChatRequest, form: Form) -> Generation:
    """Admit `request`, which may wait for its model to load; the answer will tell its limits. With an Idempotency-Key
    it goes on without whoever hangs up."""
    replayable = exchange.header(b"idempotency-key") is not None
    call = Call(
        *(exchange.request_id, exchange.path, form.stream is not None, form.scope),
        replayable=replayable,
        look_up=form.look_up,
    )
    generation: Generation | None = None
    try:
        async with nullcontext() if replayable else exchange.while_connected():
            generation = await pipeline.start(caller, request, call)
    except ClientGone:
        if generation is not None:
            await generation.close()
        raise
    exchange.headers += form.limits(generation.limits, now_microseconds())
    return generation


async def record_exchange(pipeline: Pipeline, caller: Caller, exchange: Exchange, key: str, begin: Begin) -> Recording:
    """The recording of the answer to a request with an Idempotency-Key, which `begin` begins where it is the first."""
    asked = Asked(caller, key, exchange.path, exchange.body, exchange.request_id)
    recording, replayed = await record_once(pipeline.replays, asked, begin)
    if replayed:
        exchange.headers.append((b"idempotent-replayed", b"true"))
    return recording


async def _send_whole(exchange: Exchange, generation: Generation, form: Form) -> None:
    """Run the generation to its end and answer with all of it."""
    async with generation, exchange.while_connected():
        try:
            encoder = form.whole(generation)
            async with aclosing(generation.events()) as batches:
                body = b"".join([encoder.encode(batch) async for batch in batches])
            assert body, "an engine must end with Finished or raise"
        except asyncio.CancelledError:
            raise generation.why_cancelled(Unavailable(STOPPING), gone=exchange.gone) from None
    await exchange.respond(200, body, [], _JSON)


async def _send_stream(exchange: Exchange, generation: Generation, form: Form) -> None:
    """Stream the generation."""
    assert form.stream is not None
    async with generation, _writing(exchange, form) as writer:
        try:
            await _write_all(writer, generation, form.stream(generation))
        except asyncio.CancelledError:
            raise generation.why_cancelled(Unavailable(STOPPING), gone=exchange.gone) from None
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def _writing(exchange: Exchange, form: Form) -> "AsyncIterator[_Writer]":
    """Writes a stream. What fails before the first token is raised, what fails later is sent as an event."""
    async with exchange.while_connected():
        writer = _Writer(exchange, form.keep_alive)
        try:
            yield writer
        except ClientGone:
            raise
        except Exception as error:
            if not exchange.started:
                raise
            await writer.write(form.error(exchange.told(error), str(exchange.request_id)))
        finally:
            writer.stop()


async def _write_all(writer: "_Writer", generation: Generation, encoder: Encoder) -> None:
    written = 0
    async with aclosing(generation.events()) as batches:
        async for batch in batches:
            # Before the write: whoever hangs up meanwhile has not been given this batch, and does not pay for it.
            if written and written % BATCHES_PER_TURN == 0:
                await asyncio.sleep(0)
            piece = encoder.encode(batch)
            if isinstance(batch[0], Started) and all(isinstance(event, Started) for event in batch):
                writer.hold(piece)
            elif piece:
                await writer.write(piece)
            written += 1


async def send_recorded(exchange: Exchange, recording: Recording, form: Form) -> None:
    """Send what is recorded, a stream as it comes; the recording goes on without whoever hangs up."""
    exchange.request_id = uuid.UUID(recording.request_id)
    if form.stream is None:
        async with exchange.while_connected(), _read(exchange, recording) as pieces:
            body = b"".join([piece async for piece in pieces])
        await exchange.respond(200, body, [], recording.content_type)
        return

    def farewell(error: LeadlineError, request_id: str) -> bytes:
        return recording.farewell or form.error(error, request_id)

    parting = replace(form, error=farewell)
    async with _writing(exchange, parting) as writer, _read(exchange, recording) as pieces:
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
        raise Unavailable(STOPPING) from None


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
        if self._exchange.lost:
            raise ClientGone

    async def _say_nothing(self) -> None:
        with suppress(ClientGone):
            await self.write(self._keep_alive)

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
            self._beat = self._loop.create_task(self._say_nothing())
        self._timer = self._loop.call_later(max(1.0, KEEP_ALIVE_SECONDS - silent_seconds), self._tick)
