"""What was used: a record for each request, and sums by hour and day that pages, commands and invoices read."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from leadline.chat.events import Usage
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.ledger.token_costs import COST_COLUMNS, COUNTED, FRESH
from leadline.storage.database import Database, DatabaseUnusable, Row, Transaction, Write

Status = Literal["finished", "interrupted", "failed", "refused"]
Group = Literal["model", "key", "endpoint", "day", "hour"]
LogStatus = Literal["finished", "interrupted", "failed", "refused", "rate limited", "no credits"]

# Organisation, key, model, endpoint.
_Place = tuple[str, str, str, str]

_PRUNE_ROWS = 1_000
_TOKENS = ("prompt_tokens", "cached_tokens", "image_tokens", "output_tokens", "reasoning_tokens")
_ENDED = (
    *("began_at", "at", "status", "error", "streamed", *_TOKENS, "cost_ticks", "first_token_milliseconds"),
    "total_milliseconds",
)
COUNTS = tuple(COUNTED)
# In the order of the numbers by which the index of records knows them.
LOG_STATUSES: tuple[LogStatus, ...] = get_args(LogStatus)
RATE_LIMITED = ("rate_limited", "credits_held")
NO_CREDITS = ("insufficient_credits", "key_cap_spent", "spend_limit_reached")
_GROUPED = {"model": "model", "key": "key_id", "endpoint": "endpoint", "day": "day", "hour": "hour"}


class UsageRecord(msgspec.Struct, frozen=True):
    """One request as it ended. `began_at` is its admission and `at` its end, in microseconds; `error` names the fact
    that ended it, where one did. `usage` and `cost_ticks` are what was charged."""

    organisation_id: str
    request_id: str
    began_at: int
    at: int
    key_id: str
    model: str
    endpoint: str
    status: Status
    error: str = ""
    streamed: bool = False
    usage: Usage = Usage()
    cost_ticks: int = 0
    first_token_milliseconds: int | None = None
    total_milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class UsageSum:
    """The sums of one group; `group` is the model, key id, endpoint, or the day or hour since 1970."""

    group: str | int
    requests: int
    failed: int
    refused: int
    prompt_tokens: int
    cached_tokens: int
    image_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_ticks: int


class Meters:
    """Numbers the meters: each counts what one key uses of one model at one endpoint. Lives in the writer's thread."""

    def __init__(self) -> None:
        self._ids: dict[_Place, int] = {}
        self._transaction: Transaction | None = None
        self._made: dict[_Place, int] = {}

    def write(self, transaction: Transaction, records: Sequence[UsageRecord]) -> None:
        """The records and their part in the sums, in the transaction of their charges."""
        rows = []
        sums: dict[tuple[int, int], list[int]] = {}
        for record in records:
            place = record.organisation_id, record.key_id, record.model, record.endpoint
            meter_id = self._ids.get(place) or self._id(transaction, place)
            usage, at, status, cost_ticks = record.usage, record.at, record.status, record.cost_ticks
            prompt, cached, image = usage.prompt_tokens, usage.cached_tokens, usage.image_tokens
            output, reasoning = usage.output_tokens, usage.reasoning_tokens
            rows.append(
                (
                    *(record.request_id, meter_id, record.began_at, at, status, record.error, record.streamed),
                    *(prompt, cached, image, output, reasoning, cost_ticks, record.first_token_milliseconds),
                    record.total_milliseconds,
                )
            )
            counts = sums.get((meter_id, at // MICROSECONDS_PER_HOUR))
            if counts is None:
                counts = sums[meter_id, at // MICROSECONDS_PER_HOUR] = [0] * 9
            counts[0] += 1
            counts[1] += status == "failed"
            counts[2] += status == "refused"
            counts[3] += prompt
            counts[4] += cached
            counts[5] += image
            counts[6] += output
            counts[7] += reasoning
            counts[8] += cost_ticks
        transaction.write_many(_INSERT_RECORD, rows)
        transaction.write_many(_ADD_HOURS, [(*group, *counts) for group, counts in sums.items()])
        days = [(meter_id, hour // 24, *counts) for (meter_id, hour), counts in sums.items()]
        transaction.write_many(_ADD_DAYS, days)

    def _id(self, transaction: Transaction, place: _Place) -> int:
        """Remembered for good only where an earlier transaction left it: a new one may yet be rolled back."""
        if transaction is not self._transaction:
            self._transaction, self._made = transaction, {}
        made = self._made.get(place)
        if made is not None:
            return made
        for (meter_id,) in transaction.rows(_FIND_METER, *place):
            self._ids[place] = meter_id
            return int(meter_id)
        transaction.write(Write(_INSERT_METER, place))
        [(meter_id,)] = transaction.rows(_FIND_METER, *place)
        self._made[place] = meter_id
        return int(meter_id)


def _placeholders(count: int) -> str:
    return ", ".join(f"${number}" for number in range(1, count + 1))


def _add_to(table: str, period: str) -> str:
    return (
        f"INSERT INTO {table} (meter_id, {period}, {', '.join(COUNTS)}) VALUES ({_placeholders(2 + len(COUNTS))})"
        f" ON CONFLICT (meter_id, {period}) DO UPDATE SET {_added(table, COUNTS)}"
    )


def _add_costs_to(table: str, period: str) -> str:
    added = ", ".join(f"{name} = {name} + ${number}" for number, name in enumerate(COST_COLUMNS, 3))
    return f"UPDATE {table} SET {added} WHERE meter_id = $1 AND {period} = $2"


def _add_to_sides(table: str, period: str) -> str:
    """What a meter counted, to the sums of its model, its key and its endpoint."""
    columns = (*COUNTS, *COST_COLUMNS)
    values = ", ".join(f"${number}" for number in range(2, 3 + len(columns)))
    return (
        f"INSERT INTO {table} (organisation_id, side, name, {period}, {', '.join(columns)})"
        " SELECT m.organisation_id, s.side, CASE s.side WHEN 'model' THEN m.model WHEN 'key' THEN m.key_id"
        f" ELSE m.endpoint END, {values} FROM meters m CROSS JOIN"
        " (SELECT 'model' AS side UNION ALL SELECT 'key' UNION ALL SELECT 'endpoint') s WHERE m.id = $1"
        f" ON CONFLICT (organisation_id, side, name, {period}) DO UPDATE SET {_added(table, columns)}"
    )


def _added(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in columns)


# Of `usage_records r` and `meters m`.
RECORD_COLUMNS = "m.organisation_id, r.request_id, m.key_id, m.model, m.endpoint, " + ", ".join(
    f"r.{name}" for name in _ENDED
)
_INSERT_RECORD = (
    f"INSERT INTO usage_records (request_id, meter_id, {', '.join(_ENDED)}) VALUES ({_placeholders(2 + len(_ENDED))})"
)
_ADD_HOURS = _add_to("usage_hours", "hour")
_ADD_DAYS = _add_to("usage_days", "day")
_FRESH_HOURS = (
    f"{FRESH} SELECT meter_id, at / {MICROSECONDS_PER_HOUR},"
    f" {', '.join(f'SUM({name})' for name in (*COUNTS, *COST_COLUMNS))} FROM fresh GROUP BY 1, 2"
)
_KEEP_SINCE = "UPDATE facts SET value = $1 WHERE name = 'records_kept_since' AND value < $1"
_DELETE_RECORD_OF = "DELETE FROM records_of WHERE organisation_id = $1 AND request_id = $2 AND number = $3"
# Where the newest records were deleted, their numbers are given anew.
_INDEXED_UP_TO_NEWEST = (
    "UPDATE facts SET value = (SELECT COALESCE(MAX(number), 0) FROM usage_records)"
    " WHERE name = 'records_indexed' AND value > (SELECT COALESCE(MAX(number), 0) FROM usage_records)"
)
_OUTCOME = (
    "CASE WHEN r.status = 'finished' THEN 0 WHEN r.status = 'interrupted' THEN 1 WHEN r.status = 'failed' THEN 2"
    f" WHEN r.error IN {RATE_LIMITED} THEN 4 WHEN r.error IN {NO_CREDITS} THEN 5 ELSE 3 END"
)
_FIND_METER = "SELECT id FROM meters WHERE organisation_id = $1 AND key_id = $2 AND model = $3 AND endpoint = $4"
_INSERT_METER = "INSERT INTO meters (organisation_id, key_id, model, endpoint) VALUES ($1, $2, $3, $4)"


class UsageBook:
    """Reads what was used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, organisation_id: str, since: int, until: int, by: Group) -> list[UsageSum]:
        """The sums of `by` from `since` until before `until` (microseconds), which count as whole days, for groups of
        hours as whole hours. By time: the oldest first; else the costliest first."""
        table, period, length = (
            ("usage_hours", "hour", MICROSECONDS_PER_HOUR)
            if by == "hour"
            else ("usage_days", "day", MICROSECONDS_PER_DAY)
        )
        group = _GROUPED[by]
        totals = ", ".join(f"SUM({name}) AS {name}" for name in COUNTS)
        order = group if group == period else f"cost_ticks DESC, {group}"
        rows = await self._database.rows(
            f"SELECT {group}, {totals} FROM meters JOIN {table} ON meter_id = id"
            f" WHERE organisation_id = $1 AND {period} >= $2 AND {period} < $3 GROUP BY {group} ORDER BY {order}",
            organisation_id,
            since // length,
            -(-until // length),
        )
        return [UsageSum(*row) for row in rows]

    async def records(self, organisation_id: str, before: str | None = None, limit: int = 100) -> list[UsageRecord]:
        """The newest records, or those before the request id `before`; the newest first. While the disk takes no
        writes, the last ones may be missing."""
        with suppress(DatabaseUnusable):
            await self._database.together(index_records, None)
        rows = await self._database.rows(
            f"SELECT {RECORD_COLUMNS} FROM records_of o"
            " JOIN usage_records r ON r.number = o.number JOIN meters m ON m.id = r.meter_id"
            " WHERE o.organisation_id = $1 AND o.request_id < $2 ORDER BY o.request_id DESC LIMIT $3",
            organisation_id,
            before if before is not None else "~",
            limit,
        )
        return [record_of(row) for row in rows]

    async def prune(self, before: int) -> None:
        """Delete the records of requests that ended before `before` (microseconds), some at a time. Sums and entries
        stay for ever."""
        await self._database.together(index_records, None)
        while rows := await self._database.rows(
            "SELECT r.number, m.organisation_id, r.request_id, r.at FROM usage_records r"
            " JOIN meters m ON m.id = r.meter_id ORDER BY r.number LIMIT $1",
            _PRUNE_ROWS,
        ):
            old = [row for row in rows if row[3] < before]
            if old:
                await self._database.commit(
                    Write(_KEEP_SINCE, (before,), rows=None),
                    *(Write(_DELETE_RECORD_OF, (*row[1:3], row[0]), rows=None) for row in old),
                    *(Write("DELETE FROM usage_records WHERE number = $1", row[:1]) for row in old),
                    Write(_INDEXED_UP_TO_NEWEST, rows=None),
                )
            if len(old) < len(rows):
                return


def index_records(transaction: Transaction, _: Sequence[None]) -> None:
    """Note whose records were written since the last time, how they ended, and what their tokens cost by class, and add
    them to the sums of whole models, keys and endpoints. A request that was run again, as one of a batch can be, is
    found by its newest record."""
    _add_fresh(transaction)
    transaction.write(
        Write(
            "INSERT INTO records_of (organisation_id, request_id, number, meter_id, outcome)"
            f" SELECT n.organisation_id, r.request_id, r.number, r.meter_id, {_OUTCOME} FROM"
            " (SELECT m.organisation_id, MAX(r.number) AS number FROM usage_records r"
            " JOIN meters m ON m.id = r.meter_id"
            " WHERE r.number > (SELECT value FROM facts WHERE name = 'records_indexed')"
            " GROUP BY m.organisation_id, r.request_id) n"
            " JOIN usage_records r ON r.number = n.number WHERE true ORDER BY n.organisation_id, r.request_id"
            " ON CONFLICT (organisation_id, request_id) DO UPDATE SET number = excluded.number,"
            " meter_id = excluded.meter_id, outcome = excluded.outcome",
            rows=None,
        )
    )
    transaction.write(
        Write(
            "UPDATE facts SET value = (SELECT COALESCE(MAX(number), 0) FROM usage_records)"
            " WHERE name = 'records_indexed'"
        )
    )


def _add_fresh(transaction: Transaction) -> None:
    hours = list(transaction.rows(_FRESH_HOURS))
    days = [(meter_id, hour // 24, *numbers) for meter_id, hour, *numbers in hours]
    for period, rows in (("hour", hours), ("day", days)):
        costs = [(*row[:2], *row[2 + len(COUNTS) :]) for row in rows if any(row[2 + len(COUNTS) :])]
        transaction.write_many(_add_costs_to(f"usage_{period}s", period), costs)
        transaction.write_many(_add_to_sides(f"usage_{period}s_by", period), rows)


def record_of(row: Row) -> UsageRecord:
    """From RECORD_COLUMNS."""
    organisation_id, request_id, key_id, model, endpoint, *ended = row
    facts = dict(zip(_ENDED, ended, strict=True))
    usage = Usage(**{name: facts.pop(name) for name in _TOKENS})
    place = {"organisation_id": organisation_id, "request_id": request_id, "key_id": key_id}
    return UsageRecord(
        **place, model=model, endpoint=endpoint, usage=usage, **facts | {"streamed": bool(facts["streamed"])}
    )
