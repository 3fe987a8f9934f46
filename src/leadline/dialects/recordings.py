"""An answer to a request with an Idempotency-Key: made once, and recorded for all who ask; whatever the protocol."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from leadline.chat.collect import ChatAnswer, Collector
from leadline.chat.events import ChatEvent, Finished, Started
from leadline.errors import LeadlineError, Unavailable
from leadline.serving.generation import Generation
from leadline.serving.pipeline import Caller
from leadline.serving.replays import Recording, Replays

# An engine that always has the next event ready must not keep the event loop to itself.
BATCHES_PER_TURN = 64
STOPPING = "The server is stopping. Send the request again."


class Encoder(Protocol):
    """What goes out for each batch; of a whole answer nothing until the last one."""

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with an Idempotency-Key, as it came in. `path` is that of its endpoint or method."""

    caller: Caller
    key: str
    path: str
    body: bytes
    request_id: uuid.UUID


# Gives the work that makes a recording, or refuses it.
Begin = Callable[[Recording], Awaitable[Coroutine[Any, Any, None]]]


async def record_once(replays: Replays, asked: Asked, begin: Begin) -> tuple[Recording, bool]:
    """The recording of the answer, and whether it is that of an earlier request. Where it is the first, `begin` begins
    it. Raises IdempotencyConflict where the key came with something else."""
    recording, first = await replays.find(asked.caller, asked.key, asked.path, asked.body)
    if not first:
        return recording, True
    recording.request_id = str(asked.request_id)
    try:
        work = await begin(recording)
    except BaseException as error:
        replays.drop(recording, error)
        raise
    replays.record(recording, work)
    return recording, False


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes one recording. `told` is an error as a client may hear it. `farewell` is how a stream tells one, where that
    is among its bytes."""

    replays: Replays
    recording: Recording
    told: Callable[[Exception], LeadlineError]
    farewell: Callable[[LeadlineError, str], bytes] | None = None

    async def record(self, generation: Generation, encoder_of: Callable[[Generation], Encoder]) -> None:
        """Run the generation to its end. Cut short it costs nothing, since its client has a key to ask again."""
        try:
            async with generation:
                try:
                    await self._record_all(generation, encoder_of(generation))
                except asyncio.CancelledError:
                    generation.fail(Unavailable(STOPPING))
                    raise
            self.recording.end()
        except asyncio.CancelledError:
            self.break_off(generation.stopped_by or Unavailable(STOPPING))
            raise
        except Exception as error:
            self.break_off(self.told(error))

    def announce(self, generation: Generation, body: bytes) -> None:
        """The answer is `body`, at once. What comes of the generation is told elsewhere."""
        self.recording.add(body)
        self.recording.end()
        self.replays.keep(generation, self.recording, lambda _: body)

    def break_off(self, error: LeadlineError) -> None:
        """It ends with an error, for all who read it."""
        recording = self.recording
        if self.farewell is not None:
            recording.farewell = recording.held + self.farewell(error, recording.request_id)
        recording.end(error)

    async def _record_all(self, generation: Generation, encoder: Encoder) -> None:
        """The last piece is made before the commit, to be kept with the charge."""
        recording, encode = self.recording, encoder.encode
        last = b""

        def body_with(batch: tuple[ChatEvent, ...]) -> bytes:
            nonlocal last
            last = recording.held + encode(batch)
            return recording.body + last

        self.replays.keep(generation, recording, body_with)
        recorded = 0
        async with aclosing(generation.events()) as batches:
            async for batch in batches:
                if isinstance(batch[-1], Finished):
                    recording.add(last)
                elif all(isinstance(event, Started) for event in batch):
                    recording.held += encode(batch)
                else:
                    recording.add(recording.held + encode(batch))
                    recording.held = b""
                recorded += 1
                if recorded % BATCHES_PER_TURN == 0:
                    await asyncio.sleep(0)


def collected(encode: Callable[[Generation, ChatAnswer], bytes]) -> Callable[[Generation], Encoder]:
    """Folds an answer and encodes all of it at its end."""
    return lambda generation: _Collected(generation, encode, Collector(generation.choices))


@dataclass(frozen=True, slots=True)
class _Collected:
    generation: Generation
    encode_answer: Callable[[Generation, ChatAnswer], bytes]
    collector: Collector

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        answer = self.collector.add(batch)
        return b"" if answer is None else self.encode_answer(self.generation, answer)
