"""An organisation's ledger in pages, the newest entries first."""

from contextlib import suppress
from dataclasses import dataclass

from leadline.ledger.books import Entry, index_entries
from leadline.storage.database import Database, DatabaseUnusable

PAGE_ENTRIES = 50


@dataclass(frozen=True, slots=True)
class Line:
    """An entry and its number."""

    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Statement:
    """Some lines, and whether there are newer and older ones."""

    lines: tuple[Line, ...]
    newer: bool
    older: bool


async def statement(
    database: Database, organisation_id: str, before: int | None = None, after: int | None = None
) -> Statement:
    """The newest lines, or those next to the number `before` or `after`. While the disk takes no writes, the last ones
    may be missing."""
    with suppress(DatabaseUnusable):
        await database.together(index_entries, None)
    condition, order = ("> $2", "ASC") if after is not None else ("< $2", "DESC")
    cursor = after if after is not None else before
    rows = await database.rows(
        "SELECT o.number, e.id, e.at, e.kind, e.amount_ticks, e.reason, e.request_id, e.key_id, e.model,"
        " e.reserved_ticks FROM entries_of o JOIN entries e ON e.number = o.number"
        f" WHERE o.organisation_id = $1 AND o.number {condition} ORDER BY o.number {order} LIMIT $3",
        *(organisation_id, cursor if cursor is not None else 2**62, PAGE_ENTRIES + 1),
    )
    more, lines = len(rows) > PAGE_ENTRIES, [Line(row[0], Entry(*row[1:])) for row in rows[:PAGE_ENTRIES]]
    if after is not None:
        return Statement(tuple(reversed(lines)), newer=more, older=True)
    return Statement(tuple(lines), newer=before is not None, older=more)
