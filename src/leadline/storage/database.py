"""One database. The only module that knows that it is SQLite; what it offers, PostgreSQL can offer too.

SQL is written once, with `$1` placeholders and in the words that both databases share. Writes are durable when their
await returns (WAL, `synchronous=FULL`) and share their fsync: the writer thread takes all work that gathered during the
previous commit and commits it as one transaction.
"""

import asyncio
import filecmp
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import count, groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw

from leadline.errors import LeadlineError, Unavailable

Value = str | int | bytes | None
Row = tuple[Any, ...]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Below it, SQLite can lose a WAL in a race between a reset and a reader on another connection.
OLDEST_SQLITE = (3, 51, 3)
BUSY_TIMEOUT_MILLISECONDS = 5_000
# More work than this that waits for the disk means that the disk is too slow for what is asked.
MOST_WAITING = 20_000
# After these the connection is not to be trusted: what it has in memory may not be what is on the disk.
_BROKEN = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError)
# These are the disk's fault, or another process's, and not that of what was to be written.
_DISK = (*_BROKEN, apsw.FullError, apsw.BusyError, apsw.ReadOnlyError)
_log = logging.getLogger("leadline.database")


class DatabaseUnusable(Unavailable):
    """The database cannot be used."""

    retry_after_seconds = 1


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """`log_bytes` is what lies beside the file until it is folded in; `version` is SQLite's."""

    schema: int
    size_bytes: int
    log_bytes: int
    version: str


class Conflict(LeadlineError):
    """A write did not find the row that it expected. Nothing of its unit was kept."""


@dataclass(frozen=True, slots=True)
class Write:
    """One statement. `rows` is how many rows it must touch; None: any number."""

    sql: str
    values: tuple[Value, ...] = ()
    rows: int | None = 1


class Snapshot:
    """Reads that all see one moment."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Value) -> Iterator[Row]:
        """The rows of a query, fetched as they are asked for."""
        return iter(self._connection.execute(_sqlite_sql(sql), values))


class Transaction(Snapshot):
    """What a piece of work may do, in the writer's thread. All of it is kept, or nothing."""

    def write(self, write: Write) -> None:
        """Raises Conflict where it touches another number of rows than it must."""
        self._connection.execute(_sqlite_sql(write.sql), write.values)
        if write.rows is not None and self._connection.changes() != write.rows:
            raise Conflict(f"A write touched {self._connection.changes()} rows instead of {write.rows}.")

    def write_many(self, sql: str, rows: Sequence[tuple[Value, ...]]) -> None:
        """One statement for many rows of values."""
        if len(rows) == 1:
            self._connection.execute(_sqlite_sql(sql), rows[0])
        else:
            self._connection.executemany(_sqlite_sql(sql), rows)


# Does to a transaction what `items` ask for: all that waited for the same work at once.
Work = Callable[[Transaction, Sequence[_Item]], None]


# Hears in the event loop's thread how a piece of work ended: None where it is durable.
Told = Callable[[Exception | None], None]


class _Unit(NamedTuple):
    work: Work[Any]
    item: Any
    told: Told


class Database:
    """Opens the file at `path`, brings it to the newest schema, and owns its two threads: one writes, one reads."""

    def __init__(self, path: Path) -> None:
        _refuse_old_sqlite()
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._writer = _connect(path)
        _migrate(self._writer)
        self._reader: apsw.Connection | None = None
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._closed = False
        # Set by the writer: whether the disk took the last write, and whether another process kept it from us.
        self._disk_fails = self._locked = False
        self._broken = False
        self._reads = ThreadPoolExecutor(1, "database-reader")
        self._thread = threading.Thread(target=self._write_all, name="database-writer", daemon=True)
        self._thread.start()

    @property
    def writable(self) -> bool:
        """Whether the last write reached the disk. Until one does, nothing that costs money should be begun."""
        return not self._disk_fails

    @property
    def waiting(self) -> int:
        """How much work waits for the disk."""
        return self._units.qsize()

    async def facts(self) -> DatabaseFacts:
        """What the file is now."""
        [(schema,)] = await self.rows("SELECT MAX(number) FROM migrations")
        size_bytes, log_bytes = (_size(self._path.with_name(self._path.name + end)) for end in ("", "-wal"))
        return DatabaseFacts(schema, size_bytes, log_bytes, apsw.sqlite_lib_version())

    async def commit(self, *writes: Write) -> None:
        """Make `writes` durable, all or none. Raises Conflict where one touched another number of rows."""
        await self.together(_write_each, writes)

    def together(self, work: Work[_Item], item: _Item) -> "asyncio.Future[None]":
        """Queue `item` for `work`, which gets it with all others that wait for the same work; done when durable."""
        future: asyncio.Future[None] = self._loop.create_future()

        def told(error: Exception | None) -> None:
            if future.done():
                return  # nobody waits any more
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.submit(work, item, told)
        return future

    def submit(self, work: Work[_Item], item: _Item, told: Told) -> None:
        """As `together`, for who needs no future: `told` hears how it ended, later."""
        if self._closed:
            self._loop.call_soon(told, DatabaseUnusable("The database is closed."))
        elif self._units.qsize() >= MOST_WAITING:
            slow = DatabaseUnusable("The disk is too slow for what is asked. Try again in a moment.")
            self._loop.call_soon(told, slow)
        else:
            self._units.put(_Unit(work, item, told))

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        """The rows of a query, as the last commit left them."""
        if self._closed:
            raise DatabaseUnusable("The database is closed.")
        return await self._loop.run_in_executor(self._reads, self._read, sql, values)

    async def snapshot(self, work: Callable[[Snapshot], _Result]) -> _Result:
        """Run `work` in a thread of its own on one moment of the database, however long it takes."""
        return await asyncio.to_thread(self._in_snapshot, work)

    async def backup(self, path: Path) -> None:
        """A copy of one moment of the database at `path`, which must not exist. Nobody waits for it."""

        def copy() -> None:
            connection = _connect(self._path)
            try:
                connection.execute("VACUUM INTO ?", (str(path),))
            except apsw.Error as error:
                raise DatabaseUnusable("The backup could not be written. Check the disk and its free space.") from error
            finally:
                connection.close()

        await asyncio.to_thread(copy)

    async def close(self) -> None:
        """Finish what is queued, then close."""
        self._closed = True
        self._units.put(None)
        await asyncio.to_thread(self._thread.join)
        self._reads.shutdown()
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()

    def _read(self, sql: str, values: tuple[Value, ...]) -> list[Row]:
        if self._reader is None:
            self._reader = _connect(self._path)
        try:
            return list(self._reader.execute(_sqlite_sql(sql), values))
        except apsw.Error as error:
            if isinstance(error, _BROKEN):
                _drop(self._reader)
                self._reader = None
            _log.exception("the database refused a query")
            raise DatabaseUnusable("The books cannot be read now. Try again in a moment.") from error

    def _in_snapshot(self, work: Callable[[Snapshot], _Result]) -> _Result:
        connection = _connect(self._path)
        try:
            connection.execute("BEGIN")
            return work(Snapshot(connection))
        except apsw.Error as error:
            raise DatabaseUnusable("The books cannot be read now. Try again in a moment.") from error
        finally:
            connection.close()

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
        error = self._transact(units)
        outcomes = [(unit, error) for unit in units]
        if error is not None and not self._locked and len(units) > 1:
            outcomes = [(unit, self._transact([unit])) for unit in units]
        self._loop.call_soon_threadsafe(_tell, outcomes)

    def _transact(self, units: list[_Unit]) -> Exception | None:
        try:
            if self._broken:
                self._reopen()
            changes = self._writer.total_changes()
            with _transaction(self._writer) as transaction:
                for work, group in groupby(units, key=lambda unit: unit.work):
                    work(transaction, [unit.item for unit in group])
        except Exception as error:  # whatever it is belongs to the units; the writer must outlive it
            return self._refused(error)
        self._locked = False
        # A transaction that wrote nothing did not ask the disk.
        if self._writer.total_changes() > changes:
            self._disk_fails = False
        return None

    def _refused(self, error: Exception) -> Exception:
        if isinstance(error, Conflict):
            return error
        self._disk_fails = isinstance(error, (*_DISK, DatabaseUnusable))
        self._locked = isinstance(error, apsw.BusyError)
        self._broken = self._broken or isinstance(error, _BROKEN)
        _log.error("the database refused a write", exc_info=error)
        return DatabaseUnusable("The books cannot be written now, so nothing can be run. Try again in a moment.")

    def _reopen(self) -> None:
        """Drop the writer's connection for a new one, which is opened first: with its last connection SQLite forgets
        that a commit failed, and what the disk has of that commit would count."""
        broken, self._writer = self._writer, _connect(self._path)
        self._broken = False
        _drop(broken)


def _tell(outcomes: list[tuple[_Unit, Exception | None]]) -> None:
    for unit, error in outcomes:
        try:
            unit.told(error)
        except Exception:  # one who cannot hear it must not keep it from the others
            _log.exception("nobody heard how a write ended")


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[Transaction]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield Transaction(connection)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself when the disk is full or broken; a second ROLLBACK would hide the cause.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_each(transaction: Transaction, units: Sequence[Sequence[Write]]) -> None:
    for writes in units:
        for write in writes:
            transaction.write(write)


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


def _drop(connection: apsw.Connection) -> None:
    """The connection is given up, as far as it lets itself; the next one begins with what is on the disk."""
    try:
        connection.close(True)  # noqa: FBT003 apsw's own signature: force
    except apsw.Error as error:
        _log.warning("a broken database connection did not close", extra={"why": str(error)})


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
    if applied and known.keys() - applied:
        _keep_copy(connection, max(applied))
    for number in sorted(known.keys() - applied):
        try:
            with connection:
                connection.execute(known[number].read_text("utf-8"))
                connection.execute(
                    "INSERT INTO migrations (number, name, applied_at) VALUES (?, ?, CAST(strftime('%s') AS INTEGER))",
                    (number, known[number].name),
                )
        except apsw.Error as error:
            _log.exception("a migration failed")
            raise DatabaseUnusable(
                f"The database could not be brought to schema {number}. It is as it was before; check the disk."
            ) from error


def _keep_copy(connection: apsw.Connection, schema: int) -> None:
    """Keep the database as it is before its schema changes, beside it. A copy that is there already stays."""
    path = Path(connection.filename)
    fresh = path.with_name(f"{path.name}.before-upgrade")
    try:
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        connection.execute("VACUUM INTO ?", (str(fresh),))
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        for number in count(1):
            kept = path.with_name(f"{fresh.name}-{schema}{f'-{number}' if number > 1 else ''}")
            if not kept.exists():
                fresh.rename(kept)
                return
            # An upgrade that fails again and again must not fill the disk with one and the same copy.
            if filecmp.cmp(fresh, kept, shallow=False):
                fresh.unlink()
                return
    except (apsw.Error, OSError) as error:
        _log.exception("the copy before an upgrade failed")
        raise DatabaseUnusable(
            f"{path} needs a newer schema, and the copy that is kept of it before could not be made. Check the disk:"
            " as much must be free as the database is large."
        ) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _refuse_old_sqlite() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        raise DatabaseUnusable(
            f"SQLite {apsw.sqlite_lib_version()} can lose committed data. Install apsw with SQLite "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or newer."
        )
