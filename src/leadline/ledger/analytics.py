"""What was used, as cells: of each hour or day, model, key and endpoint, or of single requests. Whoever asks puts them
together. Reads are bounded, and run beside the others."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.ids import first_uuid_at
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.token_costs import COST_COLUMNS
from leadline.ledger.usage import COUNTS, index_records
from leadline.storage.database import Database, DatabaseUnusable, Row, Snapshot

Grain = Literal["day", "hour", "request"]

MOST_CELLS = 50_000
MOST_RECORDS = 50_000
# A request ended in the range that is asked for; it began up to so long before: batches wait a day for their turn.
_LONGEST_REQUEST = 2 * MICROSECONDS_PER_DAY
_LENGTHS = {"day": MICROSECONDS_PER_DAY, "hour": MICROSECONDS_PER_HOUR}


@dataclass(frozen=True, slots=True)
class Cell:
    """`at` is when the hour or day began, or the request ended, in microseconds. `counts` are in the order of COUNTS,
    `class_ticks` in that of COST_COLUMNS; of single requests no cost by class is known."""

    at: int
    model: str
    key_id: str
    endpoint: str
    counts: tuple[int, ...]
    class_ticks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cells:
    """`cut` says that there are more, which were left out: the later ones."""

    cells: Sequence[Cell]
    cut: bool


class Analytics:
    """Reads cells."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cells(self, meters: MeterFilter, since: int, until: int, grain: Grain) -> Cells:
        """What ended from `since` until before `until` (microseconds); by hours and days both must begin one."""
        with suppress(DatabaseUnusable):
            await self._database.together(index_records, None)
        if grain == "request":
            return await self._database.snapshot(lambda snapshot: _records(snapshot, meters, since, until))
        length = _LENGTHS[grain]
        return await self._database.snapshot(
            lambda snapshot: _sums(snapshot, meters, (since // length, -(-until // length)), grain)
        )


def _sums(snapshot: Snapshot, meters: MeterFilter, periods: tuple[int, int], grain: Literal["day", "hour"]) -> Cells:
    condition, values = meters.condition(4)
    rows = snapshot.rows(
        f"SELECT {grain}, model, key_id, endpoint, {', '.join((*COUNTS, *COST_COLUMNS))} FROM meters"
        f" JOIN usage_{grain}s ON meter_id = id WHERE {grain} >= $1 AND {grain} < $2 AND {condition}"
        f" ORDER BY {grain} LIMIT $3",
        *(*periods, MOST_CELLS + 1, *values),
    )
    cells = [_cell(row, _LENGTHS[grain]) for row in rows]
    return Cells(cells[:MOST_CELLS], len(cells) > MOST_CELLS)


def _cell(row: Row, length: int) -> Cell:
    period, model, key_id, endpoint, *numbers = row
    return Cell(
        *(period * length, model, key_id, endpoint, tuple(numbers[: len(COUNTS)]), tuple(numbers[len(COUNTS) :]))
    )


def _records(snapshot: Snapshot, meters: MeterFilter, since: int, until: int) -> Cells:
    """The index holds an organisation's requests in the order in which they began: so many of them are looked at,
    whatever comes of it."""
    begun = str(first_uuid_at(max(0, since - _LONGEST_REQUEST))), str(first_uuid_at(until))
    looked_at = (
        "SELECT number FROM records_of WHERE organisation_id = $1 AND request_id >= $2 AND request_id < $3"
        " ORDER BY request_id LIMIT $4"
    )
    [(found,)] = snapshot.rows(
        f"SELECT COUNT(*) FROM ({looked_at}) o", meters.organisation_id, *begun, MOST_RECORDS + 1
    )
    condition, values = meters.condition(7)
    rows = snapshot.rows(
        "SELECT r.at, m.model, m.key_id, m.endpoint, r.status, r.prompt_tokens, r.cached_tokens, r.image_tokens,"
        f" r.output_tokens, r.reasoning_tokens, r.cost_ticks FROM ({looked_at}) o"
        " JOIN usage_records r ON r.number = o.number JOIN meters m ON m.id = r.meter_id"
        f" WHERE r.at >= $5 AND r.at < $6 AND {condition}",
        *(meters.organisation_id, *begun, MOST_RECORDS, since, until, *values),
    )
    return Cells(list(_of_records(rows)), found > MOST_RECORDS)


def _of_records(rows: Iterator[Row]) -> Iterator[Cell]:
    for at, model, key_id, endpoint, status, *numbers in rows:
        counts = (1, int(status == "failed"), int(status == "refused"), *numbers)
        yield Cell(at, model, key_id, endpoint, counts, (0,) * len(COST_COLUMNS))
