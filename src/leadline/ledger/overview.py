"""What was used, at a glance: the last day, how long the credits last, and what each key did in two weeks."""

from bisect import bisect_right
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, day_of
from leadline.ids import first_uuid_at
from leadline.ledger.usage import LOG_STATUSES, index_records
from leadline.storage.database import Database, DatabaseUnusable

SPARK_DAYS = 14
_BURN_DAYS = 7
# Limited requests are counted one by one, and no further than this.
MOST_LIMITED = 10_000
# The same, of one hour.
MOST_LIMITED_AN_HOUR = 1_000
HOURS = 24


@dataclass(frozen=True, slots=True)
class LastDay:
    """The last 24 hours, the present one included. `limited` is MOST_LIMITED + 1 where it is more than that."""

    requests: int
    tokens: int
    cost_ticks: int
    failed: int
    refused: int
    limited: int


@dataclass(frozen=True, slots=True)
class Burn:
    """What is spent: `ticks_per_day` over the last seven days with today, or since the first of them that has a charge.
    `days_left` is None where nothing was spent."""

    ticks_per_day: int
    days_left: int | None


@dataclass(frozen=True, slots=True)
class KeySpark:
    """A key's last SPARK_DAYS days, today last."""

    requests: tuple[int, ...]
    cost_ticks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LimitedHours:
    """Rate limited requests in each of the last HOURS hours, the present one last. Where there were more than
    MOST_LIMITED, not `all` are counted: of an hour no more than MOST_LIMITED_AN_HOUR + 1."""

    counts: tuple[int, ...]
    all: bool = True


async def last_day(database: Database, organisation_id: str, now: int) -> LastDay:
    hour = now // MICROSECONDS_PER_HOUR
    [sums] = await database.rows(
        "SELECT COALESCE(SUM(requests), 0), COALESCE(SUM(prompt_tokens + output_tokens + reasoning_tokens), 0),"
        " COALESCE(SUM(cost_ticks), 0), COALESCE(SUM(failed), 0), COALESCE(SUM(refused), 0)"
        " FROM meters JOIN usage_hours ON meter_id = id WHERE organisation_id = $1 AND hour > $2 AND hour <= $3",
        *(organisation_id, hour - 24, hour),
    )
    [(limited,)] = await database.rows(
        "SELECT COUNT(*) FROM (SELECT 1 FROM meters m JOIN records_of r ON r.meter_id = m.id"
        " WHERE m.organisation_id = $1 AND r.outcome = $2 AND r.request_id >= $3 LIMIT $4) counted",
        organisation_id,
        LOG_STATUSES.index("rate limited"),
        str(first_uuid_at((hour - 23) * MICROSECONDS_PER_HOUR)),
        MOST_LIMITED + 1,
    )
    requests, tokens, cost_ticks, failed, refused = sums
    return LastDay(requests, tokens, cost_ticks, failed, refused, limited)


async def limited_by_hour(database: Database, organisation_id: str, now: int) -> LimitedHours:
    with suppress(DatabaseUnusable):
        await database.together(index_records, None)
    last = now // MICROSECONDS_PER_HOUR
    bounds = [str(first_uuid_at(hour * MICROSECONDS_PER_HOUR)) for hour in range(last - HOURS + 1, last + 2)]
    limited = (
        "SELECT r.request_id FROM meters m JOIN records_of r ON r.meter_id = m.id WHERE m.organisation_id = $1"
        " AND r.outcome = $2 AND r.request_id >= $4 AND r.request_id < ${} LIMIT $3"
    )
    place = (organisation_id, LOG_STATUSES.index("rate limited"))
    rows = await database.rows(limited.format(5), *place, MOST_LIMITED + 1, bounds[0], bounds[-1])
    if len(rows) <= MOST_LIMITED:
        hours = Counter(bisect_right(bounds, request_id) - 1 for (request_id,) in rows)
        return LimitedHours(tuple(hours[hour] for hour in range(HOURS)))
    counted = " UNION ALL ".join(
        f"SELECT {hour} AS hour, COUNT(*) AS limited FROM"
        f" ({limited.replace('$4', f'${hour + 4}').format(hour + 5)}) of_{hour}"
        for hour in range(HOURS)
    )
    rows = await database.rows(
        f"SELECT hour, limited FROM ({counted}) hours ORDER BY hour", *place, MOST_LIMITED_AN_HOUR + 1, *bounds
    )
    return LimitedHours(tuple(count for _, count in rows), all=False)


async def burn(database: Database, organisation_id: str, available_ticks: int, now: int) -> Burn:
    today = day_of(now)
    [(spent, began)] = await database.rows(
        "SELECT COALESCE(SUM(cost_ticks), 0), MIN(day) FROM meters JOIN usage_days ON meter_id = id"
        " WHERE organisation_id = $1 AND day > $2 AND day <= $3 AND cost_ticks > 0",
        *(organisation_id, today - _BURN_DAYS, today),
    )
    if not spent:
        return Burn(0, None)
    microseconds = max(MICROSECONDS_PER_DAY, now - began * MICROSECONDS_PER_DAY)
    return Burn(
        spent * MICROSECONDS_PER_DAY // microseconds, available_ticks * microseconds // (spent * MICROSECONDS_PER_DAY)
    )


async def sparks(database: Database, organisation_id: str, now: int) -> dict[str, KeySpark]:
    """By key id; keys that did nothing are left out."""
    first = day_of(now) - SPARK_DAYS + 1
    days: dict[str, tuple[list[int], list[int]]] = {}
    for key_id, day, requests, ticks in await database.rows(
        "SELECT key_id, day, SUM(requests), SUM(cost_ticks) FROM meters JOIN usage_days ON meter_id = id"
        " WHERE organisation_id = $1 AND day >= $2 AND day < $3 GROUP BY key_id, day",
        *(organisation_id, first, first + SPARK_DAYS),
    ):
        of_key = days.setdefault(key_id, ([0] * SPARK_DAYS, [0] * SPARK_DAYS))
        of_key[0][day - first], of_key[1][day - first] = requests, ticks
    return {key_id: KeySpark(tuple(requests), tuple(ticks)) for key_id, (requests, ticks) in days.items()}
