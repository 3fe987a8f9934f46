"""The log of single requests, the newest first, by whatever it is filtered.

Each look at it does a bounded piece of work, however many requests there are. Without filters the index of records is
read in its order. By status, model, key and endpoint, each meter's requests with one status are in their order: of the
meters only those whose newest request is among the newest can be on the page. A part of an id, and meters beyond count,
are looked for in the newest requests only, and the page says how far it looked.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from leadline.ids import first_uuid_at
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.usage import LOG_STATUSES, RECORD_COLUMNS, LogStatus, UsageRecord, index_records, record_of
from leadline.storage.database import Database, DatabaseUnusable, Row, Value

# So many requests are looked at for one page, and on one page are no more than MOST_ON_PAGE.
LOOKED_AT = 8_000
MOST_ON_PAGE = 100
# More meters and statuses than this are not gone through one by one.
MOST_METERS = 4_000
_LAST_ID = "~"


@dataclass(frozen=True, slots=True)
class LogQuestion:
    """Requests that began from `since` until before `until` (microseconds). `text` is a part of the id. Without
    `statuses`: all."""

    meters: MeterFilter
    statuses: frozenset[LogStatus] = frozenset()
    text: str = ""
    since: int = 0
    until: int | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """`before` goes on where this page ends; None: there are no more. `searched_back_to` is when the oldest request
    began that was looked at, where the search stopped before the page was full."""

    records: tuple[UsageRecord, ...]
    before: str | None = None
    searched_back_to: int | None = None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The ids of the next newer and the next older request."""

    newer: str | None
    older: str | None


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Request ids from `first` on and before `end`."""

    first: str
    end: str


class RequestLog:
    """Reads single requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, question: LogQuestion, before: str | None = None, limit: int = MOST_ON_PAGE) -> LogPage:
        """The newest requests, or those before the request id `before`. While the disk takes no writes, the last
        ones may be missing."""
        assert 1 <= limit <= MOST_ON_PAGE
        await self._index()
        bounds = _bounds(question, before)
        if not question.text and not question.statuses and not question.meters.narrows:
            return await self._newest(question, bounds, limit)
        by_meters = not question.text and await self._pairs(question) <= MOST_METERS
        # What fits often is among the newest, which costs less than to ask every meter.
        page = await self._looked_for(question, bounds, limit, LOOKED_AT // 4)
        if page.searched_back_to is not None and (not by_meters or 4 * len(page.records) > limit):
            page = await self._looked_for(question, bounds, limit, LOOKED_AT)
        if page.searched_back_to is None or not by_meters:
            return page
        return await self._merged(question, bounds, limit)

    async def find(self, organisation_id: str, request_id: str) -> UsageRecord | None:
        await self._index()
        rows = await self._database.rows(
            "SELECT number FROM records_of WHERE organisation_id = $1 AND request_id = $2", organisation_id, request_id
        )
        found = await self._records([number for (number,) in rows])
        return found[0] if found else None

    async def neighbours(self, organisation_id: str, request_id: str) -> Neighbours:
        [(newer, older)] = await self._database.rows(
            "SELECT (SELECT MIN(request_id) FROM records_of WHERE organisation_id = $1 AND request_id > $2),"
            " (SELECT MAX(request_id) FROM records_of WHERE organisation_id = $1 AND request_id < $2)",
            organisation_id,
            request_id,
        )
        return Neighbours(newer, older)

    async def _index(self) -> None:
        with suppress(DatabaseUnusable):
            await self._database.together(index_records, None)

    async def _newest(self, question: LogQuestion, bounds: _Bounds, limit: int) -> LogPage:
        rows = await self._database.rows(
            "SELECT request_id, number FROM records_of WHERE organisation_id = $1 AND request_id >= $2"
            " AND request_id < $3 ORDER BY request_id DESC LIMIT $4",
            *(question.meters.organisation_id, bounds.first, bounds.end, limit + 1),
        )
        return await self._full_page(rows, limit)

    async def _full_page(self, rows: Sequence[Row], limit: int) -> LogPage:
        records = await self._records([row[1] for row in rows[:limit]])
        return LogPage(tuple(records), records[-1].request_id if len(rows) > limit else None)

    async def _pairs(self, question: LogQuestion) -> int:
        condition, values = question.meters.condition(1)
        [(meters,)] = await self._database.rows(f"SELECT COUNT(*) FROM meters WHERE {condition}", *values)
        return int(meters) * (len(question.statuses) or len(LOG_STATUSES))

    async def _merged(self, question: LogQuestion, bounds: _Bounds, limit: int) -> LogPage:
        """The newest of each meter and status, then those that can be on the page."""
        heads = await self._heads(question, bounds, limit + 1)
        # Where there are as many heads as the page has room for, nothing older than the oldest of them is on it.
        first = heads[-1][2] if len(heads) > limit else bounds.first
        values: list[Value] = [first, bounds.end, limit + 1]
        parts = []
        for meter_id, outcome, _ in heads:
            values += [meter_id, outcome]
            parts.append(
                "SELECT * FROM (SELECT request_id, number FROM records_of"
                f" WHERE meter_id = ${len(values) - 1} AND outcome = ${len(values)}"
                " AND request_id >= $1 AND request_id < $2 ORDER BY request_id DESC LIMIT $3) newest"
            )
        if not parts:
            return LogPage(())
        query = f"{' UNION ALL '.join(parts)} ORDER BY request_id DESC LIMIT $3"
        return await self._full_page(await self._database.rows(query, *values), limit)

    async def _heads(self, question: LogQuestion, bounds: _Bounds, most: int) -> list[Row]:
        """Meter, status and newest request id, the newest first."""
        wanted = [number for number, name in enumerate(LOG_STATUSES) if name in (question.statuses or LOG_STATUSES)]
        statuses = " UNION ALL ".join(f"SELECT {number} AS outcome" for number in wanted)
        condition, values = question.meters.condition(4)
        return await self._database.rows(
            "SELECT id, outcome, newest FROM (SELECT m.id, s.outcome, (SELECT MAX(r.request_id) FROM records_of r"
            " WHERE r.meter_id = m.id AND r.outcome = s.outcome AND r.request_id >= $1 AND r.request_id < $2)"
            f" AS newest FROM meters m CROSS JOIN ({statuses}) s WHERE {condition}) heads"
            " WHERE newest IS NOT NULL ORDER BY newest DESC LIMIT $3",
            *(bounds.first, bounds.end, most, *values),
        )

    async def _looked_for(self, question: LogQuestion, bounds: _Bounds, limit: int, most: int) -> LogPage:
        """Among the newest, as many as `most`."""
        condition, values = question.meters.condition(1)
        rows = await self._database.rows(f"SELECT id FROM meters WHERE {condition}", *values)
        meters = {meter_id for (meter_id,) in rows}
        statuses = {LOG_STATUSES.index(name) for name in question.statuses or LOG_STATUSES}
        rows = await self._database.rows(
            "SELECT request_id, number, meter_id, outcome FROM records_of WHERE organisation_id = $1"
            " AND request_id >= $2 AND request_id < $3 ORDER BY request_id DESC LIMIT $4",
            *(question.meters.organisation_id, bounds.first, bounds.end, most),
        )
        found = [row for row in rows if row[2] in meters and row[3] in statuses and question.text in row[0]]
        if len(found) > limit or len(rows) < most:
            return await self._full_page(found, limit)
        records = await self._records([row[1] for row in found])
        [oldest] = await self._records([rows[-1][1]])
        return LogPage(tuple(records), oldest.request_id, oldest.began_at)

    async def _records(self, numbers: Sequence[int]) -> list[UsageRecord]:
        """The newest first."""
        if not numbers:
            return []
        places = ", ".join(f"${number}" for number in range(1, len(numbers) + 1))
        rows = await self._database.rows(
            f"SELECT {RECORD_COLUMNS} FROM usage_records r JOIN meters m ON m.id = r.meter_id"
            f" WHERE r.number IN ({places}) ORDER BY r.request_id DESC",
            *numbers,
        )
        return [record_of(row) for row in rows]


def _bounds(question: LogQuestion, before: str | None) -> _Bounds:
    first = str(first_uuid_at(question.since)) if question.since > 0 else ""
    end = _LAST_ID if question.until is None else str(first_uuid_at(question.until))
    return _Bounds(first, end if before is None else min(end, before))
