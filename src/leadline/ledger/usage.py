"""What was used: a record for each request, and sums by hour and day that pages, commands and invoices read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from leadline.chat.events import Usage
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.ids import first_uuid_at
from leadline.storage.database import Database, Row, Transaction, Write

Status = Literal["finished", "interrupted", "failed", "refused"]
Group = Literal["model", "key", "endpoint", "day", "hour"]

_PRUNE_ROWS = 1_000
_RECORD = (
    "organisation_id, request_id, began_at, at, key_id, model, endpoint, status, error, streamed, prompt_tokens,"
    " cached_tokens, image_tokens, output_tokens, reasoning_tokens, cost_ticks, first_token_milliseconds,"
    " total_milliseconds"
)
_TOKENS = ("prompt_tokens", "cached_tokens", "image_tokens", "output_tokens", "reasoning_tokens")
COUNTS = ("requests", "failed", "refused", *_TOKENS, "cost_ticks")
_GROUPED = {"model": "model", "key": "key_id", "endpoint": "endpoint", "day": "day", "hour": "hour"}


@dataclass(frozen=True, slots=True)
class UsageRecord:
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
    usage: Usage = field(default_factory=Usage)
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


def write_records(transaction: Transaction, records: Sequence[UsageRecord]) -> None:
    """The records and their part in the sums, in the transaction of their charges."""
    if not records:
        return
    rows = []
    hours: dict[tuple[str, int, str, str, str], list[int]] = {}
    days: dict[tuple[str, int, str, str, str], list[int]] = {}
    for record in records:
        usage, organisation_id, at = record.usage, record.organisation_id, record.at
        key_id, model, endpoint, cost_ticks = record.key_id, record.model, record.endpoint, record.cost_ticks
        tokens = (
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.image_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        )
        rows.append(
            (
                *(organisation_id, record.request_id, record.began_at, at, key_id, model, endpoint, record.status),
                *(record.error, int(record.streamed), *tokens, cost_ticks),
                *(record.first_token_milliseconds, record.total_milliseconds),
            )
        )
        counts = (1, int(record.status == "failed"), int(record.status == "refused"), *tokens, cost_ticks)
        for sums, period in ((hours, at // MICROSECONDS_PER_HOUR), (days, at // MICROSECONDS_PER_DAY)):
            key = (organisation_id, period, key_id, model, endpoint)
            known = sums.get(key)
            sums[key] = list(counts) if known is None else [a + b for a, b in zip(known, counts, strict=True)]
    transaction.write_many(_INSERT_RECORD, rows)
    transaction.write_many(_ADD_HOURS, [(*key, *counts) for key, counts in hours.items()])
    transaction.write_many(_ADD_DAYS, [(*key, *counts) for key, counts in days.items()])


def _placeholders(count: int) -> str:
    return ", ".join(f"${number}" for number in range(1, count + 1))


def _add_to(table: str, period: str) -> str:
    keys = f"organisation_id, {period}, key_id, model, endpoint"
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in COUNTS)
    return (
        f"INSERT INTO {table} ({keys}, {', '.join(COUNTS)}) VALUES ({_placeholders(5 + len(COUNTS))})"
        f" ON CONFLICT ({keys}) DO UPDATE SET {added}"
    )


_INSERT_RECORD = f"INSERT INTO usage_records ({_RECORD}) VALUES ({_placeholders(18)})"
_ADD_HOURS = _add_to("usage_hours", "hour")
_ADD_DAYS = _add_to("usage_days", "day")
_KEEP_SINCE = "UPDATE facts SET value = $1 WHERE name = 'records_kept_since' AND value < $1"
_DELETE_RECORD = "DELETE FROM usage_records WHERE organisation_id = $1 AND request_id = $2"


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
            f"SELECT {group}, {totals} FROM {table} WHERE organisation_id = $1 AND {period} >= $2 AND {period} < $3"
            f" GROUP BY {group} ORDER BY {order}",
            organisation_id,
            since // length,
            -(-until // length),
        )
        return [UsageSum(*row) for row in rows]

    async def records(self, organisation_id: str, before: str | None = None, limit: int = 100) -> list[UsageRecord]:
        """The newest records, or those before the request id `before`; the newest first."""
        rows = await self._database.rows(
            f"SELECT {_RECORD} FROM usage_records WHERE organisation_id = $1 AND request_id < $2"
            " ORDER BY request_id DESC LIMIT $3",
            organisation_id,
            before if before is not None else "~",
            limit,
        )
        return [_record_of(row) for row in rows]

    async def prune(self, before: int) -> None:
        """Delete the records of requests that began before `before` (microseconds), some at a time. Sums and entries
        stay for ever."""
        oldest_kept = str(first_uuid_at(before))
        for (organisation_id,) in await self._database.rows("SELECT organisation_id FROM accounts"):
            while rows := await self._database.rows(
                "SELECT organisation_id, request_id FROM usage_records WHERE organisation_id = $1 AND request_id < $2"
                " LIMIT $3",
                organisation_id,
                oldest_kept,
                _PRUNE_ROWS,
            ):
                await self._database.commit(
                    Write(_KEEP_SINCE, (before,), rows=None),
                    *(Write(_DELETE_RECORD, row) for row in rows),
                )


def _record_of(row: Row) -> UsageRecord:
    facts = dict(zip(_RECORD.split(", "), row, strict=True))
    usage = Usage(**{name: facts.pop(name) for name in _TOKENS})
    return UsageRecord(**facts | {"streamed": bool(facts["streamed"])}, usage=usage)
