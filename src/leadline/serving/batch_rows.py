"""The rows of batches and of their requests. Each piece of work is one transaction: all of it, or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from leadline.errors import InvalidRequest, LeadlineError, NotFound, RateLimited
from leadline.storage.database import Row, Transaction, Value, Write

State = Literal["pending", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)

# So many are kept of an organisation, and so many bytes of their requests.
MOST_BATCHES = 200
MOST_ORGANISATION_BYTES = 1024 * 1024 * 1024
MOST_REQUESTS = 10_000
MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests of a batch are in each state, and what those that succeeded cost. All of one moment."""

    pending: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    cost_ticks: int = 0

    @property
    def requests(self) -> int:
        return self.pending + self.succeeded + self.failed + self.cancelled

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Counts":
        """From rows of state, count and ticks."""
        counts = {state: number for state, number, _ in rows}
        pending, succeeded, failed, cancelled = (counts.get(state, 0) for state in STATES)
        return cls(pending, succeeded, failed, cancelled, sum(ticks for _, _, ticks in rows))


@dataclass(frozen=True, slots=True)
class Batch:
    """Times are in microseconds. After `expires_at` nothing of it begins. `cancelled_because` is empty where its owner
    cancelled it; `input_file_id` is the file that its requests came from: then no more are added."""

    id: str
    organisation_id: str
    key_id: str
    name: str
    created_at: int
    expires_at: int
    cancelled_at: int | None = None
    cancelled_because: str = ""
    input_file_id: str | None = None
    counts: Counts = field(default_factory=Counts)


@dataclass(slots=True)
class Creation:
    """A batch to be created. `refusal` says why it was not."""

    batch: Batch
    is_open: bool = True
    refusal: LeadlineError | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A request to be added, sealed. `at` is the field in which it came."""

    request_id: str
    name: str
    model: str
    content: bytes
    at: str


@dataclass(slots=True)
class Addition:
    """Requests to be added at `now`, all or none. `refusal` says why none was."""

    organisation_id: str
    batch_id: str
    expires_at: int
    key_id: str
    requests: Sequence[Sealed]
    now: int
    refusal: LeadlineError | None = None

    @property
    def bytes(self) -> int:
        return sum(len(request.content) for request in self.requests)


@dataclass(frozen=True, slots=True)
class Ending:
    """What has not begun of a batch is cancelled; `running` are the requests of all batches that have."""

    batch_id: str
    now: int
    because: str
    running: frozenset[str]


def no_batch() -> NotFound:
    return NotFound("There is no batch with this id: its 30 days are over, or it never was.")


def create(transaction: Transaction, creations: Sequence[Creation]) -> None:
    for creation in creations:
        batch = creation.batch
        [(number,)] = transaction.rows("SELECT COUNT(*) FROM batches WHERE organisation_id = $1", batch.organisation_id)
        if number >= MOST_BATCHES:
            creation.refusal = RateLimited(
                f"An organisation has at most {MOST_BATCHES} batches, each for 30 days. Add the requests to one that "
                "is there.",
                None,
            )
            continue
        creation.refusal = None
        transaction.write(
            Write(
                "INSERT INTO batches (id, organisation_id, key_id, name, created_at, expires_at, cancelled_because,"
                " input_file_id, open, requests, bytes) VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, 0, 0)",
                (
                    *(batch.id, batch.organisation_id, batch.key_id, batch.name, batch.created_at, batch.expires_at),
                    *(batch.input_file_id, int(creation.is_open)),
                ),
            )
        )


def add(transaction: Transaction, additions: Sequence[Addition]) -> None:
    for addition in additions:
        addition.refusal = _why_not(transaction, addition)
        if addition.refusal is None:
            _add(transaction, addition)


def open_batch(transaction: Transaction, batch_ids: Sequence[str]) -> None:
    for batch_id in batch_ids:
        transaction.write(Write("UPDATE batches SET open = 1 WHERE id = $1", (batch_id,)))


def end(transaction: Transaction, endings: Sequence[Ending]) -> None:
    for ending in endings:
        transaction.write(
            Write(
                "UPDATE batches SET cancelled_at = $1, cancelled_because = $2 WHERE id = $3 AND cancelled_at IS NULL",
                (ending.now, ending.because, ending.batch_id),
                rows=None,
            )
        )
        transaction.write(
            Write(
                "UPDATE batch_requests SET state = 'cancelled', ended_at = $1"
                " WHERE batch_id = $2 AND state = 'pending'",
                (ending.now, ending.batch_id),
                rows=None,
            )
        )
        # Those that run are few: they were not meant.
        running = [(request_id, ending.batch_id) for request_id in ending.running]
        if running:
            transaction.write_many(
                "UPDATE batch_requests SET state = 'pending', ended_at = NULL"
                " WHERE request_id = $1 AND batch_id = $2 AND state = 'cancelled'",
                running,
            )


def _why_not(transaction: Transaction, addition: Addition) -> LeadlineError | None:
    rows = transaction.rows(
        "SELECT cancelled_at, requests, bytes FROM batches WHERE id = $1 AND organisation_id = $2",
        *(addition.batch_id, addition.organisation_id),
    )
    batch = next(rows, None)
    if batch is None:
        return no_batch()
    cancelled_at, requests, size_bytes = batch
    if cancelled_at is not None or addition.expires_at <= addition.now:
        why = "was cancelled" if cancelled_at is not None else "has expired"
        return InvalidRequest(f"The batch {why}, so it takes no requests. Create another one.", "batch_id")
    [(organisation_bytes,)] = transaction.rows(
        "SELECT SUM(bytes) FROM batches WHERE organisation_id = $1", addition.organisation_id
    )
    if requests + len(addition.requests) > MOST_REQUESTS:
        return InvalidRequest(f"A batch has at most {MOST_REQUESTS} requests. Create another one.", "batch_requests")
    if size_bytes + addition.bytes > MOST_BYTES:
        most = f"{MOST_BYTES // 1024**2} MiB"
        return InvalidRequest(f"The requests of a batch have at most {most}. Create another one.", "batch_requests")
    if organisation_bytes + addition.bytes > MOST_ORGANISATION_BYTES:
        most = f"{MOST_ORGANISATION_BYTES // 1024**2} MiB"
        return RateLimited(f"The requests of all batches have at most {most}, each kept for 30 days.", None)
    return _repeated(transaction, addition)


def _repeated(transaction: Transaction, addition: Addition) -> LeadlineError | None:
    """Why not, where a request is called what another one of the batch is."""
    names = set[str]()
    for request in addition.requests:
        known = transaction.rows(
            "SELECT 1 FROM batch_requests WHERE batch_id = $1 AND name = $2", addition.batch_id, request.name
        )
        if request.name in names or next(known, None) is not None:
            param = f"{request.at}.batch_request_id"
            return InvalidRequest(f"{param} is that of another request of this batch. Each has its own.", param)
        names.add(request.name)
    return None


def _add(transaction: Transaction, addition: Addition) -> None:
    [(number,)] = transaction.rows(
        "SELECT COALESCE(MAX(number), 0) FROM batch_requests WHERE batch_id = $1", addition.batch_id
    )
    rows: list[tuple[Value, ...]] = [
        (
            *(request.request_id, addition.batch_id, number + place, request.name, addition.key_id, request.model),
            *(addition.now, request.content),
        )
        for place, request in enumerate(addition.requests, 1)
    ]
    if rows:
        transaction.write_many(
            "INSERT INTO batch_requests (request_id, batch_id, number, name, key_id, model, created_at, request, state,"
            " cost_ticks) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', 0)",
            rows,
        )
    transaction.write(
        Write(
            "UPDATE batches SET requests = requests + $1, bytes = bytes + $2 WHERE id = $3",
            (len(rows), addition.bytes, addition.batch_id),
        )
    )
