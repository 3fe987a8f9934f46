"""How long requests took: medians and 95th percentiles of the newest ones of a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from leadline.ids import first_uuid_at
from leadline.ledger.meter_filter import MeterFilter
from leadline.storage.database import Database

# So many of the newest requests are looked at.
LOOKED_AT = 10_000


@dataclass(frozen=True, slots=True)
class Percentiles:
    p50: int | None
    p95: int | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Of `requests` that finished, in milliseconds. `newest_only` says that there were more than were looked at."""

    requests: int
    newest_only: bool
    first_token: Percentiles
    total: Percentiles


async def latency(database: Database, meters: MeterFilter, since: int, until: int) -> Latency:
    """Of requests that began from `since` until before `until`, in microseconds."""
    condition, values = meters.condition(5)
    [(looked_at,)] = await database.rows(
        "SELECT COUNT(*) FROM (SELECT 1 FROM records_of WHERE organisation_id = $1 AND request_id >= $2"
        " AND request_id < $3 LIMIT $4) looked",
        *(meters.organisation_id, str(first_uuid_at(since)), str(first_uuid_at(until)), LOOKED_AT + 1),
    )
    rows = await database.rows(
        "SELECT r.first_token_milliseconds, r.total_milliseconds FROM (SELECT number, meter_id, outcome"
        " FROM records_of WHERE organisation_id = $1 AND request_id >= $2 AND request_id < $3"
        " ORDER BY request_id DESC LIMIT $4) o JOIN usage_records r ON r.number = o.number"
        f" WHERE o.outcome = 0 AND o.meter_id IN (SELECT id FROM meters WHERE {condition})",
        *(meters.organisation_id, str(first_uuid_at(since)), str(first_uuid_at(until)), LOOKED_AT, *values),
    )
    first_tokens = [first for first, _ in rows if first is not None]
    return Latency(
        len(rows), looked_at > LOOKED_AT, _percentiles(first_tokens), _percentiles([total for _, total in rows])
    )


def _percentiles(milliseconds: Sequence[int]) -> Percentiles:
    """By the nearest rank: half of them took no longer than `p50`."""
    if not milliseconds:
        return Percentiles(None, None)
    ranked = sorted(milliseconds)
    return Percentiles(*(ranked[-(-len(ranked) * percent // 100) - 1] for percent in (50, 95)))
