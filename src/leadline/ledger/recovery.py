"""What the ledger puts in order when it is opened: holds that a crash left, and entries of the time before digests."""

from collections.abc import Sequence

from leadline.chat.events import Usage
from leadline.ledger.books import ENTRY_COLUMNS, Hold, Outcome, Settled, digest_after
from leadline.ledger.usage import UsageRecord
from leadline.storage.database import Database, Row, Transaction


async def seal_entries(database: Database) -> None:
    """Give entries of the time before digests theirs, once: all of them or none, and nothing is written before, so the
    newest one tells."""
    if await database.rows(
        "SELECT number FROM entries WHERE number = (SELECT MAX(number) FROM entries) AND digest = ''"
    ):
        await database.together(_seal_entries, None)


def _seal_entries(transaction: Transaction, _: Sequence[None]) -> None:
    digest, digests = "", []
    for row in transaction.rows(f"SELECT {ENTRY_COLUMNS} FROM entries ORDER BY number"):
        digest = digest_after(digest, row)
        digests.append((digest, row[0]))
    transaction.write_many("UPDATE entries SET digest = $1 WHERE number = $2", digests)


def interrupted(row: Row, now: int) -> Settled:
    """A hold that a crash left, settled at its last checkpoint: never for more than was delivered."""
    request_id, organisation_id, key_id, model, endpoint, ticks, opened_at, replayable, used_ticks, *tokens = row
    hold = Hold(request_id, organisation_id, key_id, model, endpoint, ticks, opened_at, on_disk=True)
    charged = bool(tokens[0]) and not replayable
    return Settled(
        hold,
        Outcome(
            UsageRecord(
                *(organisation_id, request_id, opened_at, now, key_id, model, endpoint),
                status="interrupted" if charged else "failed",
                error="server_stopped",
                streamed=True,
                usage=Usage(*tokens) if charged else Usage(),
                cost_ticks=used_ticks if charged else 0,
                total_milliseconds=max(0, now - opened_at) // 1000,
            )
        ),
        dated=True,
    )
