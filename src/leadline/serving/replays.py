"""Idempotency-Key: the same request sent again gets the same answer, and is charged once.

A request with a key runs to its end even where its client hangs up, since that client will ask again. Whoever asks
meanwhile reads along; whoever asks later gets what was kept, in one commit with the charge.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from leadline.accounts.api_key import ApiKey
from leadline.chat.events import ChatEvent
from leadline.clock import MICROSECONDS_PER_DAY, Clock
from leadline.errors import DeadlineExceeded, IdempotencyConflict, InvalidRequest, LeadlineError, Unavailable
from leadline.ledger.books import Replay
from leadline.serving.generation import Generation
from leadline.storage.database import Database, Write
from leadline.storage.sealed import Sealer

KEPT_MICROSECONDS = MICROSECONDS_PER_DAY
LONGEST_KEY = 255
# How long a duplicate waits for the next piece of the first one's answer.
WAIT_SECONDS = 900.0


class _Kept(msgspec.Struct, array_like=True):
    """What is sealed of an answer."""

    content_type: bytes
    body: bytes


@dataclass(slots=True, eq=False)
class Recording:
    """The answer to one request, as it comes into being. `streams` tells whether its pieces are worth sending as they
    come."""

    organisation_id: str
    key_digest: str
    body_digest: str
    request_id: str = ""
    content_type: bytes = b""
    # What goes out with the next piece; and how a stream that broke ends for those who have a part of it.
    held: bytes = b""
    farewell: bytes = b""
    _pieces: list[bytes] = field(default_factory=list)
    _ended: bool = False
    _failure: LeadlineError | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._change()

    def end(self, failure: LeadlineError | None = None) -> None:
        if not self._ended:
            self._ended, self._failure = True, failure
            self._change()

    @property
    def body(self) -> bytes:
        """All of it until now."""
        return b"".join(self._pieces)

    async def read(self) -> AsyncGenerator[bytes, None]:
        """The pieces from the first one on. Raises what ended it, if that was an error."""
        read = 0
        while True:
            while read < len(self._pieces):
                read += 1
                yield self._pieces[read - 1]
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return
            try:
                # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with a piece.
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                raise DeadlineExceeded("The first request with this Idempotency-Key did not end in time.") from None

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(slots=True)
class Replays:
    database: Database
    sealer: Sealer
    clock: Clock
    _recordings: dict[tuple[str, str], Recording] = field(default_factory=dict)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    # Held from the look at what runs to the entry of what begins, so that of two at once one is the first.
    _finding: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, caller: ApiKey, key: str, path: str, body: bytes) -> tuple[Recording, bool]:
        """The recording of this Idempotency-Key, and whether the caller is the first and must make it with `record`.
        Each API key has its own. Raises IdempotencyConflict where it came with another path or body."""
        if not 1 <= len(key) <= LONGEST_KEY:
            raise InvalidRequest(f"An Idempotency-Key must have 1 to {LONGEST_KEY} characters.")
        key_digest = _digest(f"{caller.id} {key}".encode())
        body_digest = _digest(path.encode() + b" " + body)
        place = caller.organisation_id, key_digest
        async with self._finding:
            known = self._recordings.get(place) or await self._kept(*place)
            if known is None:
                recording = self._recordings[place] = Recording(*place, body_digest)
                return recording, True
        if known.body_digest != body_digest:
            raise IdempotencyConflict
        return known, False

    def drop(self, recording: Recording, error: BaseException) -> None:
        """It comes to nothing: those who wait for it hear why, the next one is the first again."""
        self._recordings.pop((recording.organisation_id, recording.key_digest), None)
        recording.end(error if isinstance(error, LeadlineError) else Unavailable("The first request did not end."))

    def record(self, recording: Recording, work: Coroutine[Any, Any, None]) -> None:
        """Make the recording with `work`, whoever hangs up meanwhile."""

        async def make() -> None:
            try:
                await work
            finally:
                self._recordings.pop((recording.organisation_id, recording.key_digest), None)
                recording.end(Unavailable("The server is stopping. Send the request again."))

        task = asyncio.create_task(make())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(
        self, generation: Generation, recording: Recording, body_with: Callable[[tuple[ChatEvent, ...]], bytes]
    ) -> None:
        """Keep the answer of `generation`, in one commit with its charge. `body_with` gives all of it, from the last
        batch."""
        generation.keepers.append(lambda batch: self._replay(recording, body_with(batch)))

    def _replay(self, recording: Recording, body: bytes) -> Replay:
        content = msgspec.msgpack.encode(_Kept(recording.content_type, body))
        return Replay(
            recording.key_digest,
            recording.body_digest,
            self.sealer.seal(content, _place(recording)),
            self.clock() + KEPT_MICROSECONDS,
        )

    async def close(self, seconds: float) -> None:
        """Stop what still runs. It costs nothing: whoever asks again has it run anew."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def prune(self) -> None:
        """Delete the answers whose term is over."""
        await self.database.commit(Write("DELETE FROM replays WHERE expires_at <= $1", (self.clock(),), rows=None))

    async def _kept(self, organisation_id: str, key_digest: str) -> Recording | None:
        rows = await self.database.rows(
            "SELECT body_digest, request_id, answer FROM replays WHERE organisation_id = $1 AND key_digest = $2"
            " AND expires_at > $3",
            organisation_id,
            key_digest,
            self.clock(),
        )
        for body_digest, request_id, answer in rows:
            found = Recording(organisation_id, key_digest, body_digest, request_id)
            content = self.sealer.open(answer, _place(found))
            if content is None:
                return None
            kept = msgspec.msgpack.decode(content, type=_Kept)
            found.content_type = kept.content_type
            found.add(kept.body)
            found.end()
            return found
        return None


def _place(recording: Recording) -> str:
    return f"replays {recording.organisation_id} {recording.key_digest}"


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
