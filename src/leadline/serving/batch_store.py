"""The requests of batches as they are kept: sealed, under the ids that they have in the ledger.

Here they wait for their turn, and here what came of them is kept: an answer in one commit with its charge.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, Clock
from leadline.errors import BatchDamaged, InvalidRequest, LeadlineError
from leadline.ledger.books import BatchResult
from leadline.money import Ticks
from leadline.serving import batch_rows
from leadline.serving.batch_rows import Addition, Batch, Creation, Ending
from leadline.serving.codec import KeptAnswer, KeptError, decode, encode
from leadline.storage.database import Database, Write
from leadline.storage.sealed import Sealer

LIFE_MICROSECONDS = MICROSECONDS_PER_DAY
KEPT_MICROSECONDS = 30 * MICROSECONDS_PER_DAY
# What is not filled by then, its server was stopped meanwhile.
FILLING_MICROSECONDS = MICROSECONDS_PER_HOUR
LARGEST_RESULT_BYTES = 16 * 1024 * 1024
# So many rows are deleted at once, so that a commit stays short.
_PRUNED_AT_ONCE = 200
_EXPIRED = "The 24 hours of this batch were over before all of its requests had begun."
_log = logging.getLogger("leadline.serving")


class Asked(msgspec.Struct, array_like=True, frozen=True):
    """What is sealed of a request: itself, encoded, and what dialects keep."""

    request: bytes
    notes: dict[str, bytes]
    spellings: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that may begin, unless its batch was `cancelled`. `asked` None: what is kept of it is damaged."""

    request_id: str
    batch_id: str
    organisation_id: str
    number: int
    key_id: str
    cancelled: bool
    asked: Asked | None


@dataclass(slots=True)
class BatchStore:
    """`running` are the ids of the requests that run now. `changed` is set when there is something new to run."""

    database: Database
    sealer: Sealer
    clock: Clock
    running: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    # Batches and models that got requests since somebody asked, and when they expire.
    _filled: dict[tuple[str, str, int], None] = field(default_factory=dict)
    # How many batches are being cancelled now, and a number that changes with each that begins or ends to be.
    _endings: int = 0
    _moment: int = 0

    def seal(self, organisation_id: str, request_id: str, asked: Asked) -> bytes:
        return self.sealer.seal(msgspec.msgpack.encode(asked), _place(organisation_id, request_id, "request"))

    def open(self, organisation_id: str, request_id: str, content: bytes) -> Asked:
        """BatchDamaged where the disk has something else than was written."""
        opened = self.sealer.open(content, _place(organisation_id, request_id, "request"))
        if opened is None:
            raise BatchDamaged
        return msgspec.msgpack.decode(opened, type=Asked)

    def open_result(self, organisation_id: str, request_id: str, content: bytes) -> KeptAnswer | KeptError:
        opened = self.sealer.open(content, _place(organisation_id, request_id, "result"))
        if opened is None:
            raise BatchDamaged
        return decode(opened, KeptAnswer, KeptError)

    def _seal_result(self, pending: Pending, content: bytes) -> bytes:
        return self.sealer.seal(content, _place(pending.organisation_id, pending.request_id, "result"))

    async def create(self, creation: Creation) -> None:
        """Raises why not."""
        await self.database.together(batch_rows.create, creation)
        if creation.refusal is not None:
            raise creation.refusal

    async def add(self, addition: Addition, *, is_open: bool = True) -> None:
        """All requests or none; then it raises why. They may begin, unless their batch is not open yet. Whoever goes
        away meanwhile has still added them."""
        adding = self.database.together(batch_rows.add, addition)
        models = {request.model for request in addition.requests} if is_open else ()
        filled = [(addition.batch_id, model, addition.expires_at) for model in models]
        adding.add_done_callback(lambda adding: self._filled_by(adding, filled if addition.refusal is None else []))
        await asyncio.shield(adding)
        if addition.refusal is not None:
            raise addition.refusal

    async def open_batch(self, batch: Batch, models: Iterable[str]) -> None:
        """Let its requests, which are for these models, begin."""
        opening = self.database.together(batch_rows.open_batch, batch.id)
        filled = [(batch.id, model, batch.expires_at) for model in models]
        opening.add_done_callback(lambda opening: self._filled_by(opening, filled))
        await asyncio.shield(opening)

    def _filled_by(self, written: "asyncio.Future[None]", filled: list[tuple[str, str, int]]) -> None:
        if written.exception() is None:
            self._filled |= dict.fromkeys(filled)
            self.changed.set()

    async def end(self, batch_id: str, because: str) -> None:
        """Cancel what has not begun of a batch."""
        self._endings += 1
        self._moment += 1
        ending = Ending(batch_id, self.clock(), because, frozenset(self.running))
        written = self.database.together(batch_rows.end, ending)
        written.add_done_callback(self._ended)
        await asyncio.shield(written)

    def _ended(self, written: "asyncio.Future[None]") -> None:
        written.exception()  # told to whoever waits, if anybody does
        self._endings -= 1
        self._moment += 1
        self.changed.set()

    @property
    def moment(self) -> int | None:
        """What was read at one moment may begin at the same one. None: nothing may begin, since it may be cancelled."""
        return self._moment if self._endings == 0 else None

    async def expire(self, batch_id: str) -> None:
        await self.end(batch_id, _EXPIRED)

    async def to_run(self) -> list[tuple[str, str, int]]:
        """The batches with requests that have not ended, each with a model of theirs and when it expires."""
        self._filled.clear()
        rows = await self.database.rows(
            "SELECT b.id, r.model, b.expires_at FROM batches b JOIN"
            " (SELECT DISTINCT batch_id, model FROM batch_requests WHERE state = 'pending') r"
            " ON r.batch_id = b.id AND b.open = 1 ORDER BY b.id, r.model"
        )
        return [(batch_id, model, expires_at) for batch_id, model, expires_at in rows]

    def take_filled(self) -> list[tuple[str, str, int]]:
        """The batches that got requests since the last time, in the same form."""
        filled, self._filled = list(self._filled), {}
        return filled

    async def next(self, batch_id: str, model: str, after: int) -> Pending | None:
        """The first request behind number `after` that has neither ended nor begun. Those that run when it is asked for
        do not count, even where one of them ends before it is read: it would be read as it was."""
        running = frozenset(self.running)
        candidates = await self.database.rows(
            "SELECT r.request_id, r.number, r.key_id, b.organisation_id, b.cancelled_at FROM batch_requests r"
            " JOIN batches b ON b.id = r.batch_id WHERE r.batch_id = $1 AND r.model = $2 AND r.number > $3"
            " AND r.state = 'pending' ORDER BY r.number LIMIT $4",
            *(batch_id, model, after, len(running) + 1),
        )
        for request_id, number, key_id, organisation_id, cancelled_at in candidates:
            if request_id not in running:
                [(content,)] = await self.database.rows(
                    "SELECT request FROM batch_requests WHERE request_id = $1", request_id
                )
                try:
                    asked = self.open(organisation_id, request_id, content)
                except BatchDamaged:
                    _log.exception("a request of a batch is damaged", extra={"request_id": request_id})
                    asked = None
                place = request_id, batch_id, organisation_id, number, key_id
                return Pending(*place, cancelled=cancelled_at is not None, asked=asked)
        return None

    def result_of(self, pending: Pending, answer: KeptAnswer) -> BatchResult:
        """The answer, to be kept with its charge. InvalidRequest where it is too large for that."""
        content = encode(answer)
        if len(content) > LARGEST_RESULT_BYTES:
            raise InvalidRequest(
                f"The answer is larger than the {LARGEST_RESULT_BYTES // 1024**2} MiB that are kept of a request of a "
                "batch. Ask for fewer choices or log probabilities."
            )
        return BatchResult(self._seal_result(pending, content), self.clock(), Ticks(answer.cost_ticks))

    async def fail(self, pending: Pending, error: LeadlineError) -> None:
        """The request ends with `error`."""
        content = self._seal_result(pending, encode(KeptError.of(error)))
        await self.database.commit(
            Write(
                "UPDATE batch_requests SET state = 'failed', result = $1, ended_at = $2"
                " WHERE request_id = $3 AND state = 'pending'",
                (content, self.clock(), pending.request_id),
                rows=None,
            )
        )

    async def prune(self) -> None:
        """Delete the batches that were created 30 days ago, and those whose filling was cut short."""
        now = self.clock()
        old = await self.database.rows(
            "SELECT id FROM batches WHERE created_at <= $1 OR (open = 0 AND created_at <= $2)",
            *(now - KEPT_MICROSECONDS, now - FILLING_MICROSECONDS),
        )
        for (batch_id,) in old:
            await self.delete(batch_id)

    async def delete(self, batch_id: str) -> None:
        """Delete a batch of which nothing runs. Cut short, it is deleted the next time."""
        while rows := await self.database.rows(
            "SELECT request_id FROM batch_requests WHERE batch_id = $1 LIMIT $2", batch_id, _PRUNED_AT_ONCE
        ):
            sql = "DELETE FROM batch_requests WHERE request_id = $1"
            await self.database.commit(*(Write(sql, row, rows=None) for row in rows))
        await self.database.commit(Write("DELETE FROM batches WHERE id = $1", (batch_id,), rows=None))


def _place(organisation_id: str, request_id: str, part: str) -> str:
    return f"batch_requests {organisation_id} {request_id} {part}"
