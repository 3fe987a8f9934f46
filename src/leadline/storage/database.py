"""One database. The only module that knows that it is SQLite; what it offers, PostgreSQL can offer too.

SQL is written once, with `$1` placeholders and in the words that both databases share. Writes are durable when
`commit` returns (WAL, `synchronous=FULL`) and share their fsync: the writer thread takes all units that gathered
during the previous commit and commits them as one transaction.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import apsw

from leadline.errors import LeadlineError, Unavailable

Value = str | int | None
Row = tuple[Any, ...]

# Below it, SQLite can lose a WAL in a race between a reset and a reader on another connection.
OLDEST_SQLITE = (3, 51, 3)
BUSY_TIMEOUT_MILLISECONDS = 5_000
_log = logging.getLogger("leadline.database")


class DatabaseUnusable(Unavailable):
    """The database cannot be used."""


class Conflict(LeadlineError):
    """A write did not find the row that it expected. Nothing of its unit was kept."""


@dataclass(frozen=True, slots=True)
class Write:
    """One statement. `rows` is how many rows it must touch; None: any number."""

    sql: str
    values: tuple[Value, ...] = ()
    rows: int | None = 1


@dataclass(frozen=True, slots=True)
class _Unit:
    writes: tuple[Write, ...]
    done: Callable[[BaseException | None], None]


class Database:
    """Opens the file at `path`, brings it to the newest schema, and owns its two threads: one writes, one reads."""

    def __init__(self, path: Path) -> None:
        _refuse_old_sqlite()
        self._loop = asyncio.get_running_loop()
        self._writer = _connect(path)
        _migrate(self._writer)
        self._reader = _connect(path)
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._closed = False
        self._reads = ThreadPoolExecutor(1, "database-reader")
        self._thread = threading.Thread(target=self._write_all, name="database-writer", daemon=True)
        self._thread.start()

    async def commit(self, *writes: Write) -> None:
        """Make `writes` durable, all or none. Raises Conflict where one touched another number of rows."""
        if self._closed:
            raise DatabaseUnusable("The database is closed.")
        future: asyncio.Future[None] = self._loop.create_future()

        def done(error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._units.put(_Unit(writes, done))
        await future

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        """The rows of a query, as the last commit left them."""
        return await self._loop.run_in_executor(
            self._reads, lambda: list(self._reader.execute(_sqlite_sql(sql), values))
        )

    async def close(self) -> None:
        """Finish what is queued, then close."""
        self._closed = True
        self._units.put(None)
        await asyncio.to_thread(self._thread.join)
        self._reads.shutdown()
        self._reader.close()
        self._writer.close()

    def _write_all(self) -> None:
        open_for_writes = True
        while open_for_writes:
            gathered = [self._units.get()]
            while not self._units.empty():
                gathered.append(self._units.get())
            open_for_writes = None not in gathered
            self._commit_together([unit for unit in gathered if unit is not None])

    def _commit_together(self, units: list[_Unit]) -> None:
        """One transaction for all; where one unit fails, each alone, so that it fails alone."""
        if not units:
            return
        error = _transact(self._writer, units)
        outcomes = [(unit, error) for unit in units]
        if error is not None and len(units) > 1:
            outcomes = [(unit, _transact(self._writer, [unit])) for unit in units]
        self._loop.call_soon_threadsafe(_tell, outcomes)


def _tell(outcomes: list[tuple[_Unit, BaseException | None]]) -> None:
    for unit, error in outcomes:
        unit.done(error)


def _transact(connection: apsw.Connection, units: list[_Unit]) -> BaseException | None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        for unit in units:
            for write in unit.writes:
                connection.execute(_sqlite_sql(write.sql), write.values)
                if write.rows is not None and connection.changes() != write.rows:
                    raise Conflict(f"A write touched {connection.changes()} rows instead of {write.rows}.")
        connection.execute("COMMIT")
    except Exception as error:  # whatever it is belongs to the unit; the writer must outlive it
        # SQLite rolls back by itself when the disk is full or broken; a second ROLLBACK would hide the cause.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, Conflict):
            return error
        _log.error("the database refused a write", extra={"why": str(error)})
        return DatabaseUnusable("The books cannot be written now, so nothing can be run. Try again in a moment.")
    return None


@lru_cache(maxsize=512)
def _sqlite_sql(sql: str) -> str:
    return sql.replace("$", "?")


def _connect(path: Path) -> apsw.Connection:
    try:
        # Its owner's alone from the start; SQLite gives the files beside it the same mode.
        path.touch(mode=0o600, exist_ok=True)
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
    except (apsw.Error, OSError) as error:
        raise DatabaseUnusable(f"The database {path} cannot be opened: {error}") from error
    return connection


def _migrate(connection: apsw.Connection) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations"
        " (number BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)"
    )
    applied = {number for (number,) in connection.execute("SELECT number FROM migrations")}
    files = sorted(resources.files("leadline.storage").joinpath("migrations").iterdir(), key=lambda file: file.name)
    known = {int(file.name[:4]): file for file in files if file.name.endswith(".sql")}
    if applied - known.keys():
        raise DatabaseUnusable(
            f"The database has schema {max(applied)}, this Leadline knows {max(known)}. Install the newer Leadline."
        )
    for number in sorted(known.keys() - applied):
        with connection:
            connection.execute(known[number].read_text("utf-8"))
            connection.execute(
                "INSERT INTO migrations (number, name, applied_at) VALUES (?, ?, CAST(strftime('%s') AS INTEGER))",
                (number, known[number].name),
            )


def _refuse_old_sqlite() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        raise DatabaseUnusable(
            f"SQLite {apsw.sqlite_lib_version()} can lose committed data. Install apsw with SQLite "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or newer."
        )
