"""Do the books add up? The invariants I1 to I9, each looked for by the rows that break it.

| | |
|---|---|
| I1 | an organisation's entries sum to its balance |
| I2 | what is held is the sum of the open reservations |
| I3 | 0 <= held <= balance |
| I4 | a request is charged at most once, and not while it is held |
| I5 | a request that was used has a charge of exactly its cost |
| I6 | a charge is at most its reservation |
| I7 | no hold without a request that runs, for longer than a minute |
| I8 | hours, days, records and the sums of whole models, keys and endpoints sum to the charges |
| I9 | the chain of entries is whole |
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_SECOND, Clock, now_microseconds
from leadline.ledger.books import ENTRY_COLUMNS, digest_after
from leadline.ledger.ledger import Ledger
from leadline.ledger.token_costs import COST_COLUMNS, FRESH
from leadline.ledger.usage import COUNTS
from leadline.storage.database import Database, Row, Snapshot

ORPHAN_MICROSECONDS = 60 * MICROSECONDS_PER_SECOND
# How many rows are named that break one rule.
_NAMED = 20
_Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Audit:
    """`checked` counts the entries that were read; `broken` names what breaks a rule, the first rule first."""

    checked: int
    broken: tuple[str, ...]


_CHECKS = (
    (
        "I1: the entries of {0} sum to {2} ticks, its balance is {1}",
        "SELECT a.organisation_id, a.balance_ticks, COALESCE(SUM(e.amount_ticks), 0) AS sum FROM accounts a"
        " LEFT JOIN entries e ON e.organisation_id = a.organisation_id GROUP BY a.organisation_id, a.balance_ticks"
        " HAVING a.balance_ticks <> COALESCE(SUM(e.amount_ticks), 0)",
    ),
    (
        "I1: there are entries of {0}, which has no account",
        "SELECT DISTINCT organisation_id FROM entries"
        " WHERE organisation_id NOT IN (SELECT organisation_id FROM accounts)",
    ),
    (
        "I1: an entry of kind {1} has the wrong sign: {0}",
        "SELECT id, kind FROM entries WHERE (kind IN ('grant', 'refund') AND amount_ticks <= 0)"
        " OR (kind IN ('charge', 'expiry') AND amount_ticks > 0)",
    ),
    (
        "I3: {0} has a balance of {1} ticks and {2} held",
        "SELECT a.organisation_id, a.balance_ticks, COALESCE(SUM(h.reserved_ticks), 0) FROM accounts a"
        " LEFT JOIN holds h ON h.organisation_id = a.organisation_id GROUP BY a.organisation_id, a.balance_ticks"
        " HAVING a.balance_ticks < COALESCE(SUM(h.reserved_ticks), 0) OR a.balance_ticks < 0",
    ),
    (
        "I3: {0} has {2} ticks left in grants that expire, its balance is {1}",
        "SELECT a.organisation_id, a.balance_ticks, SUM(g.left_ticks) FROM accounts a"
        " JOIN expiring_grants g ON g.organisation_id = a.organisation_id GROUP BY a.organisation_id, a.balance_ticks"
        " HAVING a.balance_ticks < SUM(g.left_ticks)",
    ),
    (
        "I4: request {0} is charged and still held",
        "SELECT e.id FROM entries e JOIN holds h ON h.request_id = e.id",
    ),
    (
        "I4: request {0} is charged {1} times",
        "SELECT request_id, COUNT(*) FROM entries WHERE kind = 'charge' GROUP BY request_id HAVING COUNT(*) > 1",
    ),
    (
        "I5: request {0} cost {1} ticks and was charged {2}",
        "SELECT u.request_id, u.cost_ticks, -e.amount_ticks FROM usage_records u JOIN meters m ON m.id = u.meter_id"
        " LEFT JOIN entries e ON e.id = u.request_id AND e.kind = 'charge' AND e.organisation_id = m.organisation_id"
        " AND e.key_id = m.key_id AND e.model = m.model"
        " WHERE (u.status IN ('finished', 'interrupted') AND (e.id IS NULL OR u.cost_ticks <> -e.amount_ticks))"
        " OR (u.status IN ('failed', 'refused') AND (e.id IS NOT NULL OR u.cost_ticks <> 0))",
    ),
    (
        "I6: request {0} was charged {1} ticks of {2} reserved",
        "SELECT id, -amount_ticks, reserved_ticks FROM entries WHERE kind = 'charge' AND (reserved_ticks IS NULL"
        " OR -amount_ticks > reserved_ticks OR request_id IS NULL OR request_id <> id)",
    ),
    (
        "I8: the days of {0} sum to {1} ticks, its charges to {2}",
        "SELECT a.organisation_id, COALESCE(d.cost, 0), COALESCE(e.cost, 0) FROM accounts a"
        " LEFT JOIN (SELECT organisation_id, SUM(cost_ticks) AS cost FROM meters JOIN usage_days ON meter_id = id"
        " GROUP BY organisation_id) d"
        " ON d.organisation_id = a.organisation_id"
        " LEFT JOIN (SELECT organisation_id, -SUM(amount_ticks) AS cost FROM entries WHERE kind = 'charge'"
        " GROUP BY organisation_id) e ON e.organisation_id = a.organisation_id"
        " WHERE COALESCE(d.cost, 0) <> COALESCE(e.cost, 0)",
    ),
)
_DAYS = f"SELECT meter_id, day, {', '.join(COUNTS)} FROM usage_days WHERE day >= $1"
_DAYS_BY_HOURS = (
    f"SELECT meter_id, hour / 24, {', '.join(f'SUM({name})' for name in COUNTS)} FROM usage_hours"
    " GROUP BY meter_id, hour / 24"
)
_DAYS_BY_RECORDS = (
    "SELECT meter_id, at / 86400000000, COUNT(*), SUM(CASE status WHEN 'failed' THEN 1 ELSE 0 END),"
    " SUM(CASE status WHEN 'refused' THEN 1 ELSE 0 END), SUM(prompt_tokens), SUM(cached_tokens), SUM(image_tokens),"
    " SUM(output_tokens), SUM(reasoning_tokens), SUM(cost_ticks) FROM usage_records WHERE at >= $1 * 86400000000"
    " GROUP BY meter_id, at / 86400000000"
)

_ALL = (*COUNTS, *COST_COLUMNS)
_SUM_OF_ALL = ", ".join(f"SUM({name})" for name in _ALL)
# Of records that are not indexed yet the sums of sides know nothing, those of meters all but the cost by class.
_SIDES_BY_METERS = (
    f"{FRESH}, indexed AS (SELECT meter_id, day, {', '.join(_ALL)} FROM usage_days"
    f" UNION ALL SELECT meter_id, at / 86400000000, {', '.join(f'-{name}' for name in COUNTS)},"
    f" {', '.join('0' for _ in COST_COLUMNS)} FROM fresh)"
    " SELECT m.organisation_id, s.side, CASE s.side WHEN 'model' THEN m.model WHEN 'key' THEN m.key_id"
    f" ELSE m.endpoint END AS name, day, {_SUM_OF_ALL} FROM indexed JOIN meters m ON m.id = meter_id CROSS JOIN"
    " (SELECT 'model' AS side UNION ALL SELECT 'key' UNION ALL SELECT 'endpoint') s"
    " GROUP BY 1, 2, 3, 4 HAVING SUM(requests) <> 0"
)
_SIDES_BY_HOURS = (
    f"SELECT organisation_id, side, name, hour / 24, {_SUM_OF_ALL} FROM usage_hours_by"
    " GROUP BY organisation_id, side, name, hour / 24"
)
_SIDES = f"SELECT organisation_id, side, name, day, {', '.join(_ALL)} FROM usage_days_by"


async def audit(
    database: Database, ledger: Ledger, clock: Clock = now_microseconds, tell: _Tell = lambda _: None
) -> Audit:
    """Check every rule over one moment of the whole ledger. `tell` hears now and then how many entries were read."""
    in_memory = ledger.discrepancies()
    running = ledger.running()
    return await database.snapshot(lambda snapshot: _audit(snapshot, in_memory, running, clock(), tell))


def _audit(snapshot: Snapshot, in_memory: list[str], running: frozenset[str], now: int, tell: _Tell) -> Audit:
    broken = list(in_memory)
    for sentence, query in _CHECKS:
        broken += [sentence.format(*row) for row in snapshot.rows(f"{query} LIMIT {_NAMED}")]
    broken += _orphans(snapshot, running, now)
    broken += _sums(snapshot)
    checked, breaks = _chain(snapshot, tell)
    return Audit(checked, tuple(sorted(broken, key=lambda sentence: sentence[:2]) + breaks))


def _orphans(snapshot: Snapshot, running: frozenset[str], now: int) -> Iterator[str]:
    rows = snapshot.rows("SELECT request_id FROM holds WHERE opened_at < $1", now - ORPHAN_MICROSECONDS)
    return (
        f"I7: request {request_id} is held, but does not run" for (request_id,) in rows if request_id not in running
    )


def _sums(snapshot: Snapshot) -> Iterator[str]:
    """Hours against days in full; records against days from the first day on of which all records are kept."""
    yield from _differences(snapshot, "hours", snapshot.rows(_DAYS_BY_HOURS), snapshot.rows(_DAYS, 0))
    [(kept_since,)] = snapshot.rows("SELECT value FROM facts WHERE name = 'records_kept_since'")
    first_day = -(-kept_since // MICROSECONDS_PER_DAY)
    records, days = snapshot.rows(_DAYS_BY_RECORDS, first_day), snapshot.rows(_DAYS, first_day)
    yield from _differences(snapshot, "records", records, days)
    for name, query in (("meters", _SIDES_BY_METERS), ("hours", _SIDES_BY_HOURS)):
        for organisation_id, side, which, day in _different(snapshot.rows(query), snapshot.rows(_SIDES), 4):
            yield f"I8: {name} and days differ for {side} {which} of {organisation_id}, day {day}"


def _different(rows: Iterator[Row], days: Iterator[Row], width: int) -> list[Row]:
    """The groups, so many columns wide, whose sums differ."""
    ours, theirs = {row[:width]: row[width:] for row in rows}, {row[:width]: row[width:] for row in days}
    return sorted(group for group in ours.keys() | theirs.keys() if ours.get(group) != theirs.get(group))[:_NAMED]


def _differences(snapshot: Snapshot, name: str, rows: Iterator[Row], days: Iterator[Row]) -> Iterator[str]:
    for meter_id, day in _different(rows, days, 2):
        meter = snapshot.rows("SELECT organisation_id, key_id, model, endpoint FROM meters WHERE id = $1", meter_id)
        where = ", ".join(next(meter, ("no meter",)))
        yield f"I8: {name} and days differ for {where}, day {day}"


def _chain(snapshot: Snapshot, tell: _Tell) -> tuple[int, list[str]]:
    """Follow the entries from the first to the last, which is not before the last one that was indexed."""
    number, digest = 0, ""
    for *row, stored in snapshot.rows(f"SELECT {ENTRY_COLUMNS}, digest FROM entries ORDER BY number"):
        number += 1
        digest = digest_after(digest, tuple(row))
        if number % 10_000 == 0:
            tell(number)
        if row[0] != number or digest != stored:
            return number, [f"I9: the chain of entries breaks at entry {row[0]}"]
    [(seen,)] = snapshot.rows("SELECT value FROM facts WHERE name = 'entries_indexed'")
    if number < seen:
        return number, [f"I9: the chain of entries ends at entry {number}, but there were {seen}"]
    return number, []
