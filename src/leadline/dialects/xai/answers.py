"""A call that costs becomes an answer: whole, or a stream of messages, or one that was given before."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from leadline.chat.events import ChatEvent
from leadline.chat.request import ChatRequest
from leadline.dialects.recordings import Asked, Encoder, Recorder, record_once
from leadline.dialects.xai.rpc import Rpc
from leadline.errors import InvalidRequest
from leadline.serving.generation import Call, Generation
from leadline.serving.replays import Recording

_KEY = "idempotency-key"
# The bytes before each message of a recorded stream, which tell its length.
_LENGTH_BYTES = 4

EncoderOf = Callable[[Generation], Encoder]
# What becomes of an admitted request whose answer is recorded.
Run = Callable[[Generation, Recorder], Coroutine[Any, Any, None]]


async def answer(rpc: Rpc, wire: Any, request: ChatRequest, call: Call, encoder_of: EncoderOf) -> bytes | None:
    """Run `request`, which is `wire` in our own words, and answer it; None where that was written as a stream, of which
    the encoder gives the messages. With an Idempotency-Key it runs once."""
    asked = asked_once(rpc, wire)
    if asked is not None:
        run = partial(_run, framed(encoder_of) if call.stream else encoder_of)
        return await read(rpc, await record(rpc, asked, request, call, run), streams=call.stream)
    async with await start(rpc, request, call) as generation:
        encode, message = encoder_of(generation).encode, b""
        try:
            async with aclosing(generation.events()) as batches:
                async for batch in batches:
                    message = encode(batch)
                    if message and call.stream:
                        await rpc.write(message)
        except asyncio.CancelledError:
            raise rpc.why_cancelled(generation) from None
    if call.stream:
        return None
    assert message, "an engine must end with Finished or raise"
    return message


async def start(rpc: Rpc, request: ChatRequest, call: Call) -> Generation:
    """Admit `request`, or refuse it. What the limits leave is told at the call's end."""
    generation = await rpc.pipeline.start(rpc.caller, request, call)
    rpc.tell_limits(generation.limits)
    return generation


def asked_once(rpc: Rpc, wire: Any) -> Asked | None:
    """None where the call has no Idempotency-Key, or an empty one. Several are refused: InvalidRequest."""
    keys = [key for value in rpc.metadata(_KEY) if (key := value.strip())]
    if not keys:
        return None
    if len(keys) > 1:
        raise InvalidRequest(f"The metadata hold {len(keys)} values of {_KEY}. Send one of them.")
    # Now, since files take the places of their ids later on.
    return Asked(rpc.caller, keys[0], rpc.path, wire.SerializeToString(deterministic=True), rpc.request_id)


async def record(rpc: Rpc, asked: Asked, request: ChatRequest, call: Call, run: Run) -> Recording:
    """The recording of the answer. Of the first call with its key the request is admitted, and `run`, whether the
    client stays or not; every other one waits for what comes of that."""

    async def begin(recording: Recording) -> Coroutine[Any, Any, None]:
        recorder = Recorder(rpc.pipeline.replays, recording, rpc.told)
        return _admit(rpc, request, replace(call, replayable=True), run, recorder)

    recording, replayed = await record_once(rpc.pipeline.replays, asked, begin)
    if replayed:
        rpc.request_id = uuid.UUID(recording.request_id)
        rpc.trailing.append(("idempotent-replayed", "true"))
    return recording


async def read(rpc: Rpc, recording: Recording, *, streams: bool) -> bytes | None:
    """Answer with what is recorded, a stream as it comes; the recording goes on without whoever cancels."""
    async with aclosing(recording.read()) as pieces:
        if not streams:
            return b"".join([piece async for piece in pieces])
        async for piece in pieces:
            for message in unframed(piece):
                await rpc.write(message)
    return None


async def _admit(rpc: Rpc, request: ChatRequest, call: Call, run: Run, recorder: Recorder) -> None:
    try:
        generation = await start(rpc, request, call)
    except Exception as error:
        recorder.break_off(recorder.told(error))
    else:
        await run(generation, recorder)


async def _run(encoder_of: EncoderOf, generation: Generation, recorder: Recorder) -> None:
    await recorder.record(generation, encoder_of)


def framed(encoder_of: EncoderOf) -> EncoderOf:
    """Puts its length before each message, so that those of a whole stream can be told apart."""
    return lambda generation: _Framed(encoder_of(generation))


def unframed(frames: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(frames):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(frames[at:begin])
        yield frames[begin:at]


@dataclass(frozen=True, slots=True)
class _Framed:
    encoder: Encoder

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        message = self.encoder.encode(batch)
        return len(message).to_bytes(_LENGTH_BYTES) + message if message else b""
