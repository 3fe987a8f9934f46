"""Credits that end: until when, and how much of them is left."""

from dataclasses import dataclass

from leadline.clock import MICROSECONDS_PER_DAY, day_of
from leadline.money import Ticks
from leadline.storage.database import Database


@dataclass(frozen=True, slots=True)
class Expiring:
    """What is left of the grants that end at `at`, in microseconds."""

    at: int
    ticks: Ticks


def end_after(days: int, now: int) -> int | None:
    """The last microsecond (UTC) of the day that is so many days from now; None where `days` is 0: never."""
    return (day_of(now) + days + 1) * MICROSECONDS_PER_DAY - 1 if days else None


async def expiring(database: Database, organisation_id: str, limit: int) -> list[Expiring]:
    """The next dates, the earliest first. Charges take from what ends first."""
    rows = await database.rows(
        "SELECT expires_at, SUM(left_ticks) FROM expiring_grants WHERE organisation_id = $1"
        " GROUP BY expires_at ORDER BY expires_at LIMIT $2",
        *(organisation_id, limit),
    )
    return [Expiring(at, Ticks(ticks)) for at, ticks in rows]
