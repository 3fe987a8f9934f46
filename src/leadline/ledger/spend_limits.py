"""What organisations may spend in a month (UTC): at the soft limit they are told, the hard one stops them."""

from dataclasses import dataclass

from leadline.errors import InvalidRequest
from leadline.ledger.ledger import Ledger
from leadline.money import Ticks
from leadline.storage.database import Database, Write

NO_MONTH = 0


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """None: there is none."""

    soft_ticks: Ticks | None = None
    hard_ticks: Ticks | None = None


async def spend_limits(database: Database, organisation_id: str) -> SpendLimits:
    rows = await database.rows(
        "SELECT soft_ticks, hard_ticks FROM spend_limits WHERE organisation_id = $1", organisation_id
    )
    return SpendLimits(*rows[0]) if rows else SpendLimits()


async def soft_limits(database: Database) -> dict[str, tuple[Ticks, int]]:
    """Of all organisations that have one, with the month (since 1970) in which they were told last."""
    rows = await database.rows(
        "SELECT organisation_id, soft_ticks, warned_month FROM spend_limits WHERE soft_ticks IS NOT NULL"
    )
    return {organisation_id: (ticks, month) for organisation_id, ticks, month in rows}


async def change_spend_limits(ledger: Ledger, organisation_id: str, limits: SpendLimits, *also: Write) -> None:
    """From the next request on, in one commit with `also`. Of a new soft limit people are told in this month again."""
    soft, hard = limits.soft_ticks, limits.hard_ticks
    if soft is not None and soft <= 0:
        raise InvalidRequest("A limit must be above zero. Leave it empty for none.", "soft_usd")
    if hard is not None and hard <= 0:
        raise InvalidRequest("A limit must be above zero. Leave it empty for none.", "hard_usd")
    if soft is not None and hard is not None and soft > hard:
        raise InvalidRequest("The limit for the mail must not be above the one that stops requests.", "soft_usd")
    write = Write(
        "INSERT INTO spend_limits (organisation_id, soft_ticks, hard_ticks, warned_month) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (organisation_id) DO UPDATE SET soft_ticks = excluded.soft_ticks,"
        " hard_ticks = excluded.hard_ticks, warned_month = CASE WHEN spend_limits.soft_ticks = excluded.soft_ticks"
        " THEN spend_limits.warned_month ELSE excluded.warned_month END",
        (organisation_id, soft, hard, NO_MONTH),
    )
    await ledger.change_limit(organisation_id, hard, write, *also)


def told_of_soft_limit(organisation_id: str, month: int) -> Write:
    return Write(
        "UPDATE spend_limits SET warned_month = $1 WHERE organisation_id = $2",
        (month, organisation_id),
        rows=None,
    )
