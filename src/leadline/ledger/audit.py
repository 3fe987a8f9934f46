"""Do the books add up? Each check is one query that finds the rows which break a rule."""

from dataclasses import dataclass

from leadline.storage.database import Database


@dataclass(frozen=True, slots=True)
class Audit:
    """`checked` counts the entries that were read; `broken` names each broken rule, the first one first."""

    checked: int
    broken: tuple[str, ...]


_CHECKS = (
    (
        "I1: the entries of {0} sum to {2} ticks, its balance is {1}",
        "SELECT a.organisation_id, a.balance_ticks, COALESCE(SUM(e.amount_ticks), 0) FROM accounts a"
        " LEFT JOIN entries e ON e.organisation_id = a.organisation_id GROUP BY a.organisation_id, a.balance_ticks"
        " HAVING a.balance_ticks <> COALESCE(SUM(e.amount_ticks), 0)",
    ),
    (
        "I3: {0} has a balance of {1} ticks and {2} held",
        "SELECT a.organisation_id, a.balance_ticks, COALESCE(SUM(h.reserved_ticks), 0) FROM accounts a"
        " LEFT JOIN holds h ON h.organisation_id = a.organisation_id GROUP BY a.organisation_id, a.balance_ticks"
        " HAVING a.balance_ticks < COALESCE(SUM(h.reserved_ticks), 0) OR a.balance_ticks < 0",
    ),
    (
        "I4: request {0} is charged and still held",
        "SELECT e.request_id FROM entries e JOIN holds h ON h.request_id = e.request_id",
    ),
    (
        "I6: request {0} was charged {1} ticks of {2} reserved",
        "SELECT id, -amount_ticks, reserved_ticks FROM entries WHERE kind = 'charge' AND (amount_ticks > 0"
        " OR reserved_ticks IS NULL OR -amount_ticks > reserved_ticks OR request_id IS NULL OR request_id <> id)",
    ),
    (
        "an entry of kind {1} has the wrong sign: {0}",
        "SELECT id, kind FROM entries WHERE kind IN ('grant', 'refund') AND amount_ticks <= 0",
    ),
)


async def audit(database: Database) -> Audit:
    """Check every rule over the whole ledger."""
    [(checked,)] = await database.rows("SELECT COUNT(*) FROM entries")
    broken = [sentence.format(*row) for sentence, query in _CHECKS for row in await database.rows(f"{query} LIMIT 20")]
    return Audit(checked, tuple(broken))
