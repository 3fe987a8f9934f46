"""What the ledger writes: one piece of work for all that gathered during the last commit.

An account's row changes once however many of its requests ended, a hold that began and ended meanwhile never touches
the disk, and every entry carries a digest over itself and the digest before it: a changed row breaks the chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from leadline.chat.events import Usage
from leadline.ledger.usage import Meters, UsageRecord
from leadline.money import SpendCap, Ticks
from leadline.storage.database import Conflict, Row, Snapshot, Transaction, Value, Write

_pack = msgspec.msgpack.Encoder().encode


class Hold(msgspec.Struct, eq=False):
    """Credits set aside for one request. `opened_at` is in microseconds. A `replayable` request has an
    Idempotency-Key: cut by a crash it costs nothing, since its client will send it again."""

    request_id: str
    organisation_id: str
    key_id: str
    model: str
    endpoint: str
    ticks: Ticks
    opened_at: int
    key_name: str = ""
    cap: SpendCap | None = None
    replayable: bool = False
    # Whether a checkpoint may have left a row of it.
    on_disk: bool = False
    # The newest entry's number when its charge was first tried.
    tried_after: int | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A whole answer, sealed, for whoever sends the same request again. Digests name the Idempotency-Key and body."""

    key_digest: str
    body_digest: str
    answer: bytes
    expires_at: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer, sealed, that its owner may fetch again under its request's id until its term."""

    kind: str
    content: bytes
    at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The answer to a request of a batch, sealed. Only a request that is still pending takes it."""

    content: bytes
    at: int
    cost_ticks: Ticks


Kept = Replay | Stored | BatchResult


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger. `at` is in microseconds, `amount_ticks` signed: what is given +, what is spent -."""

    id: str
    at: int
    kind: str
    amount_ticks: int
    reason: str
    request_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    reserved_ticks: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """What running streams have used so far: (ticks, usage) of each hold, which the first one makes durable."""

    progress: Sequence[tuple[Hold, int, Usage]]


class Outcome(msgspec.Struct, frozen=True):
    """How a request ended, and what is kept of its answer. A `failed` record has no charge. Of one that is to be run
    `again` no record is kept."""

    record: UsageRecord
    kept: tuple[Kept, ...] = ()
    again: bool = False


class Settled(msgspec.Struct, eq=False):
    """`dated` says that the organisation has grants with a date, which are spent first. `kept_ticks` is told where an
    earlier try was kept after all: what that one charged."""

    hold: Hold
    outcome: Outcome
    dated: bool = False
    kept_ticks: int | None = None


@dataclass(frozen=True, slots=True)
class Full:
    """What there was right after the grant with this number."""

    ticks: Ticks
    number: int


@dataclass(slots=True)
class Added:
    """An entry that is no charge; a grant may have an end, in microseconds. `also` is written with it, and with it
    alone. Where `once` finds no row to write, the entry came another time, which `came_before` tells, and nothing is
    added. `full` is told of a grant. `tried_after` is as a hold's."""

    organisation_id: str
    entry: Entry
    expires_at: int | None = None
    tried_after: int | None = None
    also: tuple[Write, ...] = ()
    once: Write | None = None
    came_before: bool = False
    full: Full | None = None


@dataclass(slots=True)
class Expired:
    """Ends the organisation's grants that were due at `at`, up to `ticks`, which are set aside. `ended_ticks` and
    `next_at` (the next grant's date) are told once it is written."""

    organisation_id: str
    at: int
    entry_id: str
    ticks: int
    ended_ticks: int = 0
    next_at: int | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """Records of requests that were refused."""

    records: Sequence[UsageRecord]


Item = Checkpointed | Settled | Added | Expired | Noted


@dataclass(slots=True)
class _Page:
    """What one transaction writes. `entries` lack their numbers and digests until they are written."""

    transaction: Transaction
    meters: Meters
    # The newest entry before this page.
    number: int
    digest: str
    changes: dict[str, int] = field(default_factory=dict)
    closed: list[tuple[Value, ...]] = field(default_factory=list)
    progress: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    entries: list[tuple[Value, ...]] = field(default_factory=list)
    records: list[UsageRecord] = field(default_factory=list)
    replays: list[tuple[Value, ...]] = field(default_factory=list)
    stored: list[tuple[Value, ...]] = field(default_factory=list)
    batch_results: list[tuple[Value, ...]] = field(default_factory=list)

    def settle(self, item: Settled) -> None:
        hold, record = item.hold, item.outcome.record
        request_id, organisation_id = hold.request_id, hold.organisation_id
        if (amount_ticks := self.kept_amount(request_id, hold)) is not None:
            item.kept_ticks = -amount_ticks
            return
        if hold.on_disk:
            self.closed.append((request_id,))
            self.progress.pop(request_id, None)
        if not item.outcome.again:
            self.records.append(record)
        if record.status in ("finished", "interrupted"):
            cost_ticks, reason = record.cost_ticks, "" if record.status == "finished" else record.status
            self.entries.append(
                (
                    *(request_id, organisation_id, record.at, "charge", -cost_ticks, reason, request_id, hold.key_id),
                    *(hold.model, hold.ticks),
                )
            )
            self.changes[organisation_id] = self.changes.get(organisation_id, 0) - cost_ticks
            if item.dated:
                self.take_from_grants(organisation_id, cost_ticks)
        for kept in item.outcome.kept:
            self.keep(organisation_id, request_id, kept)

    def kept_amount(self, entry_id: str, item: Hold | Added) -> int | None:
        """The entry's amount where an earlier try reached the disk after all: a commit that fails may have done so."""
        if item.tried_after is None:
            item.tried_after = self.number
            return None
        for (amount_ticks,) in self.transaction.rows(_FIND_ENTRY, item.tried_after, entry_id):
            return int(amount_ticks)
        return None

    def keep(self, organisation_id: str, request_id: str, kept: Kept) -> None:
        match kept:
            case Replay():
                row = organisation_id, kept.key_digest, kept.body_digest, request_id, kept.answer, kept.expires_at
                self.replays.append(row)
            case Stored():
                self.stored.append((request_id, organisation_id, kept.kind, kept.at, kept.expires_at, kept.content))
            case BatchResult():
                self.batch_results.append((kept.content, kept.at, kept.cost_ticks, request_id))

    def append(self, organisation_id: str, entry: Entry) -> None:
        self.changes[organisation_id] = self.changes.get(organisation_id, 0) + entry.amount_ticks
        self.entries.append(
            (
                *(entry.id, organisation_id, entry.at, entry.kind, entry.amount_ticks, entry.reason),
                *(entry.request_id, entry.key_id, entry.model, entry.reserved_ticks),
            )
        )

    def add(self, item: Added) -> None:
        if self.kept_amount(item.entry.id, item) is not None:
            return
        item.came_before = item.once is not None and not self._is_first(item.once)
        if item.came_before:
            return
        self.append(item.organisation_id, item.entry)
        for write in item.also:
            self.transaction.write(write)
        if item.entry.kind == "grant":
            item.full = self._fill(item.organisation_id)
        if item.entry.amount_ticks < 0:
            self._spare_grants(item.organisation_id)
        if item.expires_at is not None:
            self.transaction.write(
                Write(
                    "INSERT INTO expiring_grants (organisation_id, expires_at, entry_id, left_ticks)"
                    " VALUES ($1, $2, $3, $4)",
                    (item.organisation_id, item.expires_at, item.entry.id, item.entry.amount_ticks),
                )
            )

    def _is_first(self, once: Write) -> bool:
        try:
            self.transaction.write(once)
        except Conflict:
            return False
        return True

    def _balance(self, organisation_id: str) -> int:
        """As this page leaves it so far."""
        [(balance_ticks,)] = self.transaction.rows(
            "SELECT balance_ticks FROM accounts WHERE organisation_id = $1", organisation_id
        )
        return int(balance_ticks) + self.changes.get(organisation_id, 0)

    def _fill(self, organisation_id: str) -> Full:
        full = Full(Ticks(self._balance(organisation_id)), self.number + len(self.entries))
        self.transaction.write(
            Write(
                "UPDATE accounts SET full_ticks = $1, full_number = $2 WHERE organisation_id = $3",
                (full.ticks, full.number, organisation_id),
            )
        )
        return full

    def _spare_grants(self, organisation_id: str) -> None:
        """What was taken back came from what has no date, as far as there is any."""
        [(dated_ticks,)] = self.transaction.rows(
            "SELECT COALESCE(SUM(left_ticks), 0) FROM expiring_grants WHERE organisation_id = $1", organisation_id
        )
        self.take_from_grants(organisation_id, max(0, dated_ticks - self._balance(organisation_id)))

    def expire(self, item: Expired) -> None:
        """What is not set aside stays in its grant, for the next time."""
        item.ended_ticks = self.take_from_grants(item.organisation_id, item.ticks, due_at=item.at)
        if item.ended_ticks:
            entry = Entry(item.entry_id, item.at, "expiry", -item.ended_ticks, "grants that had a date")
            self.append(item.organisation_id, entry)
        [(item.next_at,)] = self.transaction.rows(
            "SELECT MIN(expires_at) FROM expiring_grants WHERE organisation_id = $1", item.organisation_id
        )

    def take_from_grants(self, organisation_id: str, ticks: int, due_at: int | None = None) -> int:
        """Take up to `ticks` from the grants with a date, the earliest first; only those due at `due_at`, if given.
        Returns how much it was."""
        left = ticks
        grants = self.transaction.rows(
            "SELECT expires_at, entry_id, left_ticks FROM expiring_grants WHERE organisation_id = $1"
            " ORDER BY expires_at, entry_id",
            organisation_id,
        )
        for expires_at, entry_id, left_ticks in list(grants):
            if left == 0 or (due_at is not None and expires_at > due_at):
                break
            taken = min(left, left_ticks)
            left -= taken
            where = (organisation_id, expires_at, entry_id)
            whole = taken == left_ticks
            self.transaction.write(Write(_DELETE_GRANT, where) if whole else Write(_REDUCE_GRANT, (*where, taken)))
        return ticks - left

    def write(self) -> None:
        write_many = self.transaction.write_many
        if self.progress:
            write_many(_PUT_HOLD, list(self.progress.values()))
        if self.closed:
            write_many("DELETE FROM holds WHERE request_id = $1", self.closed)
        if self.entries:
            self._write_entries()
        if self.records:
            self.meters.write(self.transaction, self.records)
        if self.replays:
            write_many(_INSERT_REPLAY, self.replays)
        if self.stored:
            write_many(INSERT_STORED, self.stored)
        if self.batch_results:
            write_many(_PUT_BATCH_RESULT, self.batch_results)
        if self.changes:
            # In one order, whoever writes: where rows are locked, two writers cannot wait for each other.
            rows = [(ticks, organisation_id) for organisation_id, ticks in sorted(self.changes.items())]
            write_many("UPDATE accounts SET balance_ticks = balance_ticks + $1 WHERE organisation_id = $2", rows)

    def _write_entries(self) -> None:
        """Number them and chain them to the newest one."""
        number, digest = self.number, self.digest
        rows: list[tuple[Value, ...]] = []
        for number, entry in enumerate(self.entries, number + 1):  # noqa: B020 it goes on where the chain ends
            row = (number, *entry)
            digest = digest_after(digest, row)
            rows.append((*row, digest))
        self.transaction.write_many(_INSERT_ENTRY, rows)


class Books:
    """The ledger's writing. `write` belongs to the writer's thread."""

    def __init__(self) -> None:
        self._meters = Meters()

    def write(self, transaction: Transaction, items: Sequence[Item]) -> None:
        """All `items`, in their order, in one transaction."""
        page = _Page(transaction, self._meters, *newest_entry(transaction))
        for item in items:
            match item:
                case Settled():
                    page.settle(item)
                case Checkpointed():
                    for hold, ticks, usage in item.progress:
                        page.progress[hold.request_id] = _progress_row(hold, ticks, usage)
                case Added():
                    page.add(item)
                case Expired():
                    page.expire(item)
                case Noted():
                    page.records.extend(item.records)
        page.write()


def newest_entry(snapshot: Snapshot) -> tuple[int, str]:
    """Its number and digest; 0 and nothing where there is none."""
    return next(snapshot.rows("SELECT number, digest FROM entries ORDER BY number DESC LIMIT 1"), (0, ""))


def index_entries(transaction: Transaction, _: Sequence[None]) -> None:
    """Note whose the entries are that were written since the last time."""
    transaction.write(
        Write(
            "INSERT INTO entries_of (organisation_id, number) SELECT organisation_id, number FROM entries"
            " WHERE number > (SELECT value FROM facts WHERE name = 'entries_indexed') ORDER BY organisation_id, number",
            rows=None,
        )
    )
    transaction.write(
        Write("UPDATE facts SET value = (SELECT COALESCE(MAX(number), 0) FROM entries) WHERE name = 'entries_indexed'")
    )


def digest_after(digest: str, row: Row) -> str:
    """The digest of an entry's columns, all but its own digest, after the entry with `digest`."""
    return blake2b(digest.encode() + _pack(row), digest_size=16).hexdigest()


def _progress_row(hold: Hold, ticks: int, usage: Usage) -> tuple[Value, ...]:
    return (
        *(hold.request_id, hold.organisation_id, hold.key_id, hold.model, hold.endpoint, hold.ticks, hold.opened_at),
        *(int(hold.replayable), ticks, usage.prompt_tokens, usage.cached_tokens, usage.image_tokens),
        *(usage.output_tokens, usage.reasoning_tokens),
    )


ENTRY_COLUMNS = "number, id, organisation_id, at, kind, amount_ticks, reason, request_id, key_id, model, reserved_ticks"
_INSERT_ENTRY = (
    f"INSERT INTO entries ({ENTRY_COLUMNS}, digest) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
)
_FIND_ENTRY = "SELECT amount_ticks FROM entries WHERE number > $1 AND id = $2"
_PUT_HOLD = (
    "INSERT INTO holds (request_id, organisation_id, key_id, model, endpoint, reserved_ticks, opened_at, replayable,"
    " used_ticks, prompt_tokens, cached_tokens, image_tokens, output_tokens, reasoning_tokens)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
    " ON CONFLICT (request_id) DO UPDATE SET used_ticks = excluded.used_ticks, prompt_tokens = excluded.prompt_tokens,"
    " cached_tokens = excluded.cached_tokens, image_tokens = excluded.image_tokens,"
    " output_tokens = excluded.output_tokens, reasoning_tokens = excluded.reasoning_tokens"
)
_INSERT_REPLAY = (
    "INSERT INTO replays (organisation_id, key_digest, body_digest, request_id, answer, expires_at)"
    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (organisation_id, key_digest) DO UPDATE SET"
    " body_digest = excluded.body_digest, request_id = excluded.request_id, answer = excluded.answer,"
    " expires_at = excluded.expires_at"
)
INSERT_STORED = (
    "INSERT INTO stored_answers (id, organisation_id, kind, at, expires_at, content) VALUES ($1, $2, $3, $4, $5, $6)"
)
_PUT_BATCH_RESULT = (
    "UPDATE batch_requests SET state = 'succeeded', result = $1, ended_at = $2, cost_ticks = $3"
    " WHERE request_id = $4 AND state = 'pending'"
)
_DELETE_GRANT = "DELETE FROM expiring_grants WHERE organisation_id = $1 AND expires_at = $2 AND entry_id = $3"
_REDUCE_GRANT = (
    "UPDATE expiring_grants SET left_ticks = left_ticks - $4"
    " WHERE organisation_id = $1 AND expires_at = $2 AND entry_id = $3"
)
