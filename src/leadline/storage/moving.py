"""A database that nobody has open moves from SQLite's file to PostgreSQL: every row, or none."""

from collections.abc import Callable, Iterator, Sequence
from graphlib import TopologicalSorter
from hashlib import blake2b
from pathlib import Path

import apsw
import msgspec
import psycopg

from leadline.errors import PermissionDenied
from leadline.storage.closed import opened
from leadline.storage.database import DatabaseUnusable, Row
from leadline.storage.postgres import Postgres

# Hears which table's rows are being written, and how many are.
Tell = Callable[[str, int], None]

_TOLD_EVERY = 50_000
# Both have their own.
_NOT_MOVED = ("migrations",)
_KEYS = (
    "SELECT c.relname, array_agg(a.attname ORDER BY k.place) FROM pg_constraint p JOIN pg_class c ON c.oid = p.conrelid"
    " CROSS JOIN LATERAL unnest(p.conkey) WITH ORDINALITY k (number, place)"
    " JOIN pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = k.number"
    " WHERE p.contype = 'p' AND p.connamespace = current_schema()::regnamespace GROUP BY c.relname"
)
_REFERENCES = (
    "SELECT c.relname, r.relname FROM pg_constraint p JOIN pg_class c ON c.oid = p.conrelid"
    " JOIN pg_class r ON r.oid = p.confrelid WHERE p.contype = 'f' AND p.connamespace = current_schema()::regnamespace"
)
_IDENTITIES = (
    "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " WHERE a.attidentity <> '' AND c.relnamespace = current_schema()::regnamespace"
)
_pack = msgspec.msgpack.Encoder().encode


def move(path: Path, url: str, tell: Tell) -> int:
    """Write all rows of the file into the database at `url`, which gets the newest schema, as the file must have. Then
    read them again and hold them against the file's. Returns how many they are. PermissionDenied where the database has
    rows already; whatever goes wrong, it has none afterwards."""
    target = Postgres(url)
    try:
        with opened(path) as source, target.exclusively() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            tables = _tables(connection)
            _refuse_filled(connection, tables)
            moved = sum(_copy(source, connection, table, tell) for table in tables)
            for table, key in tables.items():
                _compare(source, connection, table, key, tell)
        return moved
    except apsw.Error as error:
        raise DatabaseUnusable(f"{path} cannot be read to its end; PostgreSQL has nothing of it.") from error
    except psycopg.Error as error:
        raise DatabaseUnusable("PostgreSQL did not take all rows, and kept none of them. Try again.") from error
    finally:
        target.close()


def _tables(connection: psycopg.Connection[Row]) -> dict[str, Sequence[str]]:
    """Each with its primary key; whatever refers to another comes after it."""
    keys: dict[str, Sequence[str]] = dict(connection.execute(_KEYS))
    order = TopologicalSorter({table: set[str]() for table in keys})
    for table, other in connection.execute(_REFERENCES):
        order.add(table, other)
    return {table: keys[table] for table in order.static_order() if table not in _NOT_MOVED}


def _refuse_filled(connection: psycopg.Connection[Row], tables: dict[str, Sequence[str]]) -> None:
    for table in tables:
        if table != "facts" and connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            raise PermissionDenied(
                f"That database has rows in {table}. Name an empty one: nothing is ever overwritten."
            )
    connection.execute("DELETE FROM facts WHERE name <> 'opened'")


def _copy(source: apsw.Connection, connection: psycopg.Connection[Row], table: str, tell: Tell) -> int:
    columns = ", ".join(_columns(source, table))
    number = 0
    with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for number, row in enumerate(source.execute(f"SELECT {columns} FROM {table}{_but_ours(table)}"), 1):
            copy.write_row(row)
            if number % _TOLD_EVERY == 0:
                tell(table, number)
    for _, identity in (one for one in connection.execute(_IDENTITIES).fetchall() if one[0] == table):
        connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{identity}'), MAX({identity}))"
            f" FROM {table} HAVING MAX({identity}) IS NOT NULL"
        )
    return number


def _compare(
    source: apsw.Connection, connection: psycopg.Connection[Row], table: str, key: Sequence[str], tell: Tell
) -> None:
    query = f"SELECT {', '.join(_columns(source, table))} FROM {table}{_but_ours(table)} ORDER BY {', '.join(key)}"
    with psycopg.RawServerCursor(connection, f"compare_{table}") as cursor:
        cursor.itersize = 5_000
        if _digest(source.execute(query)) != _digest(cursor.execute(query)):
            raise DatabaseUnusable(
                f"PostgreSQL gives other rows of {table} back than it got. It has kept none of them."
            )
    tell(f"{table}, compared", 0)


def _columns(source: apsw.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in source.execute(f"PRAGMA table_info({table})")]


def _but_ours(table: str) -> str:
    """How often PostgreSQL was opened is its own fact."""
    return " WHERE name <> 'opened'" if table == "facts" else ""


def _digest(rows: Iterator[Row]) -> bytes:
    digest = blake2b()
    for row in rows:
        digest.update(_pack(row))
    return digest.digest()
