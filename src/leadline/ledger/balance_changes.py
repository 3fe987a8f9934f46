"""How a balance came to be: each grant, refund and expiry, and what was spent in each month. It all adds up to it."""

from collections import defaultdict
from dataclasses import dataclass

from leadline.clock import date_of, first_day
from leadline.ledger.books import ENTRY_COLUMNS, Entry
from leadline.storage.database import Database, Row, Snapshot


@dataclass(frozen=True, slots=True)
class MonthSpent:
    """What requests cost that ended in a month (UTC)."""

    year: int
    month: int
    ticks: int


@dataclass(frozen=True, slots=True)
class BalanceChanges:
    """All entries that are no charge, the oldest first, and the months in which something was charged."""

    given: tuple[Entry, ...]
    spent: tuple[MonthSpent, ...]

    @property
    def balance_ticks(self) -> int:
        return sum(entry.amount_ticks for entry in self.given) - sum(month.ticks for month in self.spent)


async def balance_changes(database: Database, organisation_id: str) -> BalanceChanges:
    """Of one moment."""
    return await database.snapshot(lambda snapshot: _changes(snapshot, organisation_id))


def _changes(snapshot: Snapshot, organisation_id: str) -> BalanceChanges:
    entries = snapshot.rows(
        f"SELECT {ENTRY_COLUMNS} FROM entries WHERE organisation_id = $1 AND kind <> 'charge' ORDER BY number",
        organisation_id,
    )
    days = snapshot.rows(
        "SELECT day, SUM(cost_ticks) FROM meters JOIN usage_days ON meter_id = id WHERE organisation_id = $1"
        " GROUP BY day ORDER BY day",
        organisation_id,
    )
    months: dict[int, int] = defaultdict(int)
    for day, ticks in days:
        months[first_day("month", day)] += ticks
    dates = {first: date_of(first) for first in months}
    spent = [MonthSpent(dates[first].year, dates[first].month, ticks) for first, ticks in months.items() if ticks]
    return BalanceChanges(tuple(_entry(row) for row in entries), tuple(spent))


def _entry(row: Row) -> Entry:
    _, entry_id, _, at, kind, amount_ticks, reason, *request = row
    return Entry(entry_id, at, kind, amount_ticks, reason, *request)
