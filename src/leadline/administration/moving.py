"""The books of a closed instance move from its folder to PostgreSQL, checked before and after."""

import asyncio
from pathlib import Path

from leadline.administration.configuration_file import edit, setting
from leadline.administration.instance import DATABASE, lock_folder
from leadline.config import load
from leadline.errors import LeadlineError, NotFound, PermissionDenied
from leadline.ledger.audit import Audit, audit
from leadline.ledger.ledger import Ledger
from leadline.storage.database import Database
from leadline.storage.moving import Tell, move


class BooksBroken(LeadlineError):
    """The books do not add up, so they stay where they are."""


async def move_to_postgres(data: Path, url: str, tell: Tell) -> dict[str, object]:
    """Copy the folder's books to the database at `url`, and name it in leadline.toml once its rows are those of the
    file and its books add up. The file stays as it was. PermissionDenied where a Leadline has the folder open, where
    its books are in PostgreSQL already, or where that database has rows."""
    if not load(data / "leadline.toml").database.in_folder:
        raise PermissionDenied("The books of this instance are in PostgreSQL already (database.url).")
    path = data / DATABASE
    if not path.exists():
        raise NotFound(f"There is no database in {data}. Name the instance's folder with --data.")
    lock = lock_folder(data)
    try:
        before = await _audited(path)
        rows = await asyncio.to_thread(move, path, url, tell)
        after = await _audited(url)
        if after.checked != before.checked:
            raise BooksBroken(f"There were {before.checked} entries, and PostgreSQL has {after.checked}.")
        edit(data, setting("database.url", url))
    finally:
        lock.close()
    return {"rows": rows, "checked": after.checked, "kept": str(path)}


async def _audited(place: Path | str) -> Audit:
    """Opening the ledger settles what a crash left, so that the books are at rest."""
    database = Database(place)
    try:
        ledger = Ledger(database)
        await ledger.load()
        audited = await audit(database, ledger)
    finally:
        await database.close()
    if audited.broken:
        where = place if isinstance(place, Path) else "PostgreSQL"
        raise BooksBroken(f"The books in {where} do not add up, so nothing was moved: {audited.broken[0]}.")
    return audited
