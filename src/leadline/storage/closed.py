"""A database file that nobody has open: what is to be known of it, and done to it, before it is opened or moved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from leadline.storage.database import DatabaseUnusable
from leadline.storage.sqlite import BUSY_TIMEOUT_MILLISECONDS

# What SQLite keeps beside a database. Left beside another one, it would be taken for that one's.
BESIDE = ("-wal", "-shm", "-journal")


def schema_of(path: Path) -> int:
    """The schema that the database has now. DatabaseUnusable where it cannot be read."""
    try:
        connection = _connect(path)
        try:
            schema: int | None = connection.execute("SELECT MAX(number) FROM migrations").get
        finally:
            connection.close()
    except apsw.Error as error:
        raise DatabaseUnusable(f"{path} is no database of Leadline, or it is damaged.") from error
    return schema or 0


def is_sound(path: Path) -> bool:
    """Whether every page of the file is what its neighbours say (`PRAGMA quick_check`)."""
    try:
        connection = _connect(path)
        try:
            verdict: str = connection.execute("PRAGMA quick_check(1)").get
        finally:
            connection.close()
    except apsw.Error:
        return False
    return verdict == "ok"


def fold(path: Path) -> bool:
    """Bring what lies beside the file into it, so that it can be moved alone. False where the file is too damaged for
    that. DatabaseUnusable where another program has it open."""
    try:
        connection = _connect(path)
        try:
            in_use, _, _ = next(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
        finally:
            connection.close()
    except apsw.BusyError:
        in_use = True
    except apsw.Error:
        return False
    # The last one to close a database removes them.
    if in_use or any(path.with_name(path.name + end).exists() for end in BESIDE):
        raise DatabaseUnusable(f"Another program has {path} open. Close it, then try again.")
    return True


@contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    """Reads one moment of it, and changes nothing."""
    connection = _connect(path)
    try:
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
    return connection
