"""What several organisations used lately, each in one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from leadline.clock import day_of
from leadline.storage.database import Database, Value


@dataclass(frozen=True, slots=True)
class Used:
    """What an organisation used in some days."""

    requests: int = 0
    tokens: int = 0
    cost_ticks: int = 0


async def used(database: Database, organisation_ids: Sequence[str], days: int, now: int) -> dict[str, Used]:
    """By organisation, in the last `days` with today; those that used nothing are left out."""
    if not organisation_ids:
        return {}
    places = ", ".join(f"${number}" for number in range(2, len(organisation_ids) + 2))
    values: tuple[Value, ...] = (day_of(now) - days, *organisation_ids)
    rows = await database.rows(
        "SELECT organisation_id, SUM(requests), SUM(prompt_tokens + output_tokens + reasoning_tokens), SUM(cost_ticks)"
        f" FROM meters JOIN usage_days ON meter_id = id WHERE day > $1 AND organisation_id IN ({places})"
        " GROUP BY organisation_id",
        *values,
    )
    return {organisation_id: Used(*sums) for organisation_id, *sums in rows}
