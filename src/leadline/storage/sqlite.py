"""SQLite behind a Database: one file, durable with each commit (WAL, `synchronous=FULL`)."""

import filecmp
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TypeVar

import apsw

from leadline.storage.database import (
    Conflict,
    DatabaseFacts,
    DatabaseUnusable,
    Fault,
    Row,
    Snapshot,
    Transaction,
    Value,
    Write,
)
from leadline.storage.schema import known_migrations, missing_migrations

_Result = TypeVar("_Result")

# Below it, SQLite can lose a WAL in a race between a reset and a reader on another connection.
OLDEST_SQLITE = (3, 51, 3)
BUSY_TIMEOUT_MILLISECONDS = 5_000
# After these the connection is not to be trusted.
_BROKEN = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError)
# These are the disk's fault, or another process's, and not that of what was to be written.
_DISK = (*_BROKEN, apsw.FullError, apsw.BusyError, apsw.ReadOnlyError, DatabaseUnusable)
_log = logging.getLogger("leadline.database")


class Sqlite:
    """Opens the file at `path`, making it where it is missing, and brings it to the newest schema. A Driver."""

    readers = 1

    def __init__(self, path: Path) -> None:
        _refuse_old_sqlite()
        self._path = path
        self._writer = _connect(path)
        _migrate(self._writer)
        self._reader: apsw.Connection | None = None

    def transact(self, work: Callable[[Transaction], None]) -> bool:
        changes = self._writer.total_changes()
        with _transaction(self._writer) as transaction:
            work(transaction)
        return self._writer.total_changes() > changes

    def fault(self, error: Exception) -> Fault:
        fault = Fault.REFUSES if isinstance(error, _DISK) else Fault.NOTHING
        if isinstance(error, apsw.BusyError):
            fault |= Fault.FOR_ALL
        if isinstance(error, _BROKEN):
            fault |= Fault.BROKEN
        return fault

    def reopen(self) -> None:
        """Drop the writer's connection for a new one, which is opened first: with its last connection SQLite forgets
        that a commit failed, and what the disk has of that commit would count."""
        broken, self._writer = self._writer, _connect(self._path)
        _drop(broken)

    def read(self, sql: str, values: tuple[Value, ...]) -> list[Row]:
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

    def snapshot(self, work: Callable[[Snapshot], _Result]) -> _Result:
        connection = _connect(self._path)
        try:
            connection.execute("BEGIN")
            return work(_Reads(connection))
        except apsw.Error as error:
            raise DatabaseUnusable("The books cannot be read now. Try again in a moment.") from error
        finally:
            connection.close()

    def backup(self, path: Path) -> None:
        connection = _connect(self._path)
        try:
            connection.execute("VACUUM INTO ?", (str(path),))
        except apsw.Error as error:
            raise DatabaseUnusable("The backup could not be written. Check the disk and its free space.") from error
        finally:
            connection.close()

    def facts(self) -> DatabaseFacts:
        [(schema,)] = self.read("SELECT MAX(number) FROM migrations", ())
        size_bytes, log_bytes = (_size(self._path.with_name(self._path.name + end)) for end in ("", "-wal"))
        return DatabaseFacts("SQLite", apsw.sqlite_lib_version(), schema, size_bytes, log_bytes)

    def close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()


class _Reads:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Value) -> Iterator[Row]:
        return iter(self._connection.execute(_sqlite_sql(sql), values))


class SqliteTransaction(_Reads):
    def write(self, write: Write) -> None:
        self._connection.execute(_sqlite_sql(write.sql), write.values)
        if write.rows is not None and self._connection.changes() != write.rows:
            raise Conflict(f"A write touched {self._connection.changes()} rows instead of {write.rows}.")

    def write_many(self, sql: str, rows: Sequence[tuple[Value, ...]]) -> None:
        if len(rows) == 1:
            self._connection.execute(_sqlite_sql(sql), rows[0])
        else:
            self._connection.executemany(_sqlite_sql(sql), rows)


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[SqliteTransaction]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield SqliteTransaction(connection)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself when the disk is full or broken; a second ROLLBACK would hide the cause.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


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
    known, missing = known_migrations(), missing_migrations(applied)
    if applied and missing:
        _keep_copy(connection, max(applied))
    for number in missing:
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
