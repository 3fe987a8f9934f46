"""PostgreSQL behind a Database: a connection that writes, a few that read, and one for each snapshot.

The connection that writes holds the database's lock for as long as it lives, so at most one Leadline writes. Where it
is lost, the lock is free only once the server has ended its last transaction: whoever takes it again sees what became
of that. Another Leadline that wrote meanwhile left its number in `facts`, and this one, whose memory is old, stops.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, errors
from psycopg.abc import PQGen

from leadline.clock import MICROSECONDS_PER_SECOND, now_microseconds
from leadline.errors import PermissionDenied
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
from leadline.storage.postgres_values import CONTEXT
from leadline.storage.schema import known_migrations, missing_migrations

_T = TypeVar("_T")

# What this is tested with, and what is newer.
OLDEST_MAJOR = 15
READERS = 4
CONNECT_SECONDS = 5
# A server that cannot be reached is noticed after some seconds by the system (`_alive`), one that hangs after these.
WRITE_SECONDS, READ_SECONDS, SNAPSHOT_SECONDS, MIGRATION_SECONDS = 30, 30, 600, 3_600
# Rows of a snapshot that are fetched at once.
FETCHED_ROWS = 5_000
# The lock of whoever writes: any number, the same in every Leadline.
_LOCK = 0x1EAD_11E
_ALL = Fault.REFUSES | Fault.FOR_ALL | Fault.BROKEN
_log = logging.getLogger("leadline.database")


class DatabaseInUse(DatabaseUnusable):
    """Another Leadline writes to the database."""


class _Connection(psycopg.Connection[Row]):
    """Whatever it is asked ends after `seconds`, also where the server says nothing. Then it is closed."""

    seconds: float = CONNECT_SECONDS

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        try:
            return super().wait(gen, interval, self.seconds if timeout is None else timeout)
        except errors._WaitTimeout:
            self.pgconn.finish()
            raise


class Postgres:
    """Opens the database at `url` and brings it to the newest schema. A Driver."""

    readers = READERS

    def __init__(self, url: str) -> None:
        self._parameters = _parameters(url)
        self._idle: list[_Connection] = []
        self._number = 0
        self._writer = self._connect(MIGRATION_SECONDS)
        try:
            _refuse_unfit(self._writer)
            _lock(self._writer)
            _migrate(self._writer)
            self._number = _number(self._writer)
            _limit(self._writer, WRITE_SECONDS)
        except BaseException:
            self._writer.close()
            raise

    def transact(self, work: Callable[[Transaction], None]) -> bool:
        connection = self._writer
        transaction = PostgresTransaction(connection)
        try:
            connection.execute("BEGIN")
            work(transaction)
            # Asked to commit what has failed, PostgreSQL says that it rolled back, and that is no error.
            if connection.execute("COMMIT").statusmessage != "COMMIT":
                raise psycopg.InternalError("the transaction had failed")
        except BaseException:
            _roll_back(connection)
            raise
        return transaction.wrote

    def fault(self, error: Exception) -> Fault:
        if isinstance(error, DatabaseUnusable) or self._writer.closed:
            return _ALL
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return _ALL  # a standby: the primary is found by connecting anew
        if isinstance(error, (errors.LockNotAvailable, errors.QueryCanceled)):
            return Fault.REFUSES | Fault.FOR_ALL
        # Class 53: no memory, no disk. The rest is about what was to be written.
        full = isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("53")
        return Fault.REFUSES if full else Fault.NOTHING

    def reopen(self) -> None:
        """DatabaseInUse where another Leadline wrote meanwhile, for good."""
        self._writer.close()
        writer = self._connect(WRITE_SECONDS)
        try:
            _lock(writer)
            [(number,)] = writer.execute("SELECT value FROM facts WHERE name = 'opened'").fetchall()
            if number != self._number:
                raise DatabaseInUse("Another Leadline has written to the database meanwhile. Start this one anew.")
        except BaseException:
            writer.close()
            raise
        self._writer = writer

    def read(self, sql: str, values: tuple[Value, ...]) -> list[Row]:
        # One that was lost while nobody asked is no answer: the question is asked again over a new one.
        while self._idle:
            connection = self._idle.pop()
            try:
                return self._answer(connection, sql, values)
            except psycopg.Error as error:
                if not connection.closed:
                    raise _unread() from error
        connection = self._connect(READ_SECONDS)
        try:
            return self._answer(connection, sql, values)
        except psycopg.Error as error:
            raise _unread() from error

    def _answer(self, connection: _Connection, sql: str, values: tuple[Value, ...]) -> list[Row]:
        try:
            return connection.execute(sql, values).fetchall()
        except psycopg.Error:
            _log.exception("the database refused a query")
            raise
        finally:
            if not connection.closed:
                self._idle.append(connection)

    def snapshot(self, work: Callable[[Snapshot], _T]) -> _T:
        connection = self._connect(SNAPSHOT_SECONDS)
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return work(_Reads(connection))
        except psycopg.Error as error:
            _log.exception("the database refused a query")
            raise _unread() from error
        finally:
            connection.close()

    def backup(self, path: Path) -> None:
        raise PermissionDenied(
            "The books are in PostgreSQL, whose own tool backs them up: pg_dump. Keep leadline.toml and the secret too."
        )

    def facts(self) -> DatabaseFacts:
        [(schema, size_bytes, version)] = self.read(
            "SELECT MAX(number), pg_database_size(current_database()), current_setting('server_version')"
            " FROM migrations",
            (),
        )
        return DatabaseFacts("PostgreSQL", version.split()[0], schema, size_bytes, 0)

    @contextmanager
    def exclusively(self) -> Iterator[_Connection]:
        """One transaction for as long as it takes, which is kept as a whole if nothing is raised."""
        _limit(self._writer, MIGRATION_SECONDS)
        with self._writer.transaction():
            yield self._writer

    def close(self) -> None:
        for connection in (*self._idle, self._writer):
            connection.close()

    def _connect(self, seconds: float) -> _Connection:
        try:
            connection = _Connection.connect(
                **self._parameters, autocommit=True, context=CONTEXT, cursor_factory=psycopg.RawCursor
            )
        except psycopg.Error as error:
            _log.warning("PostgreSQL cannot be reached", extra={"why": str(error)})
            place = f"{self._parameters.get('host', 'localhost')}, database {self._parameters.get('dbname', '')}"
            raise DatabaseUnusable(f"PostgreSQL at {place} cannot be used: {_told(error)}.") from error
        connection.prepare_threshold = 2
        _limit(connection, seconds)
        return connection


class _Reads:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._cursors = 0

    def rows(self, sql: str, *values: Value) -> Iterator[Row]:
        self._cursors += 1
        with psycopg.RawServerCursor(self._connection, f"rows_{self._cursors}") as cursor:
            cursor.itersize = FETCHED_ROWS
            yield from cursor.execute(sql, values)


class PostgresTransaction:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.wrote = False

    def rows(self, sql: str, *values: Value) -> Iterator[Row]:
        return iter(self._connection.execute(sql, values).fetchall())

    def write(self, write: Write) -> None:
        touched = self._connection.execute(write.sql, write.values).rowcount
        if write.rows is not None and touched != write.rows:
            raise Conflict(f"A write touched {touched} rows instead of {write.rows}.")
        self.wrote = self.wrote or touched > 0

    def write_many(self, sql: str, rows: Sequence[tuple[Value, ...]]) -> None:
        if not rows:
            return
        with self._connection.cursor() as cursor:
            if len(rows) == 1:
                cursor.execute(sql, rows[0])
            else:
                cursor.executemany(sql, rows)
            self.wrote = self.wrote or cursor.rowcount > 0


def _parameters(url: str) -> dict[str, Any]:
    try:
        parameters = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise DatabaseUnusable(
            "database.url is no address of PostgreSQL such as postgresql://leadline@localhost:5432/leadline."
        ) from None
    ours = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    options = f"{parameters.pop('options', None) or ''} {ours}".strip()
    given = {name: value for name, value in parameters.items() if value is not None}
    return {"connect_timeout": CONNECT_SECONDS, "application_name": "leadline", **given, **_alive, "options": options}


# A link that is cut is noticed within about five seconds, here and at the server, which then lets go of the lock.
_alive = {
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5_000,
    "client_encoding": "UTF8",
}
_SETTINGS = {
    "tcp_keepalives_idle": 2,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 5_000,
    "lock_timeout": 5_000,
    "jit": "off",
    "cursor_tuple_fraction": 1,
}


def _limit(connection: _Connection, seconds: float) -> None:
    """The server ends a statement by itself a moment before we give the connection up."""
    connection.execute(f"SET statement_timeout = {int(seconds * 1000)}")
    connection.seconds = seconds + 2


def _refuse_unfit(connection: _Connection) -> None:
    major = connection.info.server_version // 10_000
    if major < OLDEST_MAJOR:
        raise DatabaseUnusable(f"This is PostgreSQL {major}. Leadline needs {OLDEST_MAJOR} or newer.")
    [(encoding,)] = connection.execute("SELECT current_setting('server_encoding')").fetchall()
    if encoding != "UTF8":
        raise DatabaseUnusable(f"The database has the encoding {encoding}. Make one with ENCODING 'UTF8'.")


def _lock(connection: _Connection) -> None:
    """Waits a little for one that is just ending."""
    try:
        connection.execute("SELECT pg_advisory_lock($1)", (_LOCK,))
    except (errors.LockNotAvailable, errors.QueryCanceled):
        raise DatabaseInUse(
            "Another Leadline is using this database. Stop it first, or name another one in database.url."
        ) from None
    except psycopg.Error as error:
        raise DatabaseUnusable("The database does not answer. Try again in a moment.") from error
    # A commit that is not on the disk is not durable, whatever the server was told to do by default.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )


def _number(connection: _Connection) -> int:
    """How often the database was opened for writing. Whoever opens it is the last."""
    [(number,)] = connection.execute(
        "INSERT INTO facts (name, value) VALUES ('opened', 1)"
        " ON CONFLICT (name) DO UPDATE SET value = facts.value + 1 RETURNING value"
    ).fetchall()
    return int(number)


def _migrate(connection: _Connection) -> None:
    """Each file in a transaction of its own; the lock is held, so nobody else does."""
    connection.execute(
        postgres_sql(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (number BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)"
        )
    )
    applied = {number for (number,) in connection.execute("SELECT number FROM migrations")}
    known = known_migrations()
    for number in missing_migrations(applied):
        row = (number, known[number].name, now_microseconds() // MICROSECONDS_PER_SECOND)
        try:
            with connection.transaction():
                connection.execute(postgres_sql(known[number].read_text("utf-8")))
                connection.execute("INSERT INTO migrations (number, name, applied_at) VALUES ($1, $2, $3)", row)
        except psycopg.Error as error:
            _log.exception("a migration failed")
            raise DatabaseUnusable(
                f"The database could not be brought to schema {number}. It is as it was before: {_told(error)}."
            ) from error


def schema_at(url: str) -> int:
    """The schema of the database as it is; 0 where it has none. DatabaseUnusable where it cannot be asked."""
    parameters = _parameters(url)
    try:
        with psycopg.connect(**parameters, autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('migrations')").fetchone() == (None,):
                return 0
            [(schema,)] = connection.execute("SELECT COALESCE(MAX(number), 0) FROM migrations").fetchall()
            return int(schema)
    except psycopg.Error as error:
        raise DatabaseUnusable(f"PostgreSQL cannot be used: {_told(error)}.") from error


def postgres_sql(migration: str) -> str:
    """A migration in PostgreSQL's words: texts are compared by their bytes, as SQLite does, and numbers that it gives
    by itself are an identity."""
    migration = re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', migration)
    migration = re.sub(r"\bINTEGER PRIMARY KEY\b", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", migration)
    return migration.replace(" WITHOUT ROWID", "")


def _roll_back(connection: _Connection) -> None:
    if connection.closed:
        return
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()  # the server ends what was begun


def _unread() -> DatabaseUnusable:
    return DatabaseUnusable("The books cannot be read now. Try again in a moment.")


def _told(error: psycopg.Error) -> str:
    """The last line that means something of what PostgreSQL says; it names no password."""
    text = str(error).strip().splitlines()
    return text[0].rpartition("FATAL: ")[2].strip().rstrip(".") if text else "no reason was given"
