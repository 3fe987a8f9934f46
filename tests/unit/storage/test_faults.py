"""Disks that are full, broken, or taken by another process."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import apsw
import pytest

from leadline.storage.database import Database, DatabaseUnusable, Transaction, Write
from tests.unit.conftest import HANGS_SECONDS
from tests.unit.storage.conftest import Disk


def organisation(name: str) -> Write:
    return Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (name,))


async def names(database: Database) -> list[str]:
    return [name for (name,) in await database.rows("SELECT name FROM organisations ORDER BY name")]


async def outcomes(*commits: "asyncio.Future[None]") -> list[type[BaseException]]:
    async with asyncio.timeout(HANGS_SECONDS):
        return [type(outcome) for outcome in await asyncio.gather(*commits, return_exceptions=True)]


@pytest.fixture
async def on_disk(disk: Disk, database_path: Path) -> AsyncIterator[Database]:
    database = Database(database_path)
    yield database
    disk.fails = ""
    await database.close()


async def test_a_full_disk_is_told_apart_from_a_bad_write(on_disk: Database, disk: Disk) -> None:
    await on_disk.commit(organisation("alice"))
    disk.fails, disk.error = "xWrite", apsw.FullError("database or disk is full")
    with pytest.raises(DatabaseUnusable):
        await on_disk.commit(organisation("bob"))
    while_full = on_disk.writable

    disk.fails = ""
    with pytest.raises(DatabaseUnusable):
        await on_disk.commit(organisation("alice"))

    assert (while_full, on_disk.writable) == (False, True)


async def test_a_disk_that_has_room_again_is_writable_after_the_next_good_write(on_disk: Database, disk: Disk) -> None:
    disk.fails, disk.error = "xWrite", apsw.FullError("database or disk is full")
    for name in ("alice", "bob"):
        with pytest.raises(DatabaseUnusable) as told:
            await on_disk.commit(organisation(name))
    while_full = on_disk.writable, await names(on_disk)

    disk.fails = ""
    before_a_write = on_disk.writable
    await on_disk.commit(organisation("charlie"))

    assert while_full == (False, [])
    assert (before_a_write, on_disk.writable) == (False, True)
    assert await names(on_disk) == ["charlie"]
    assert told.value.retry_after_seconds == 1


@pytest.mark.parametrize("operation", ["xWrite", "xSync"])
@pytest.mark.parametrize("somebody_reads", [False, True])
async def test_after_a_disk_error_the_database_is_opened_anew_and_works(
    on_disk: Database, disk: Disk, operation: str, somebody_reads: bool
) -> None:
    await on_disk.commit(organisation("alice"))
    if somebody_reads:
        await names(on_disk)
    disk.fails = operation
    with pytest.raises(DatabaseUnusable):
        await on_disk.commit(organisation("bob"))
    while_broken, opened = on_disk.writable, disk.opened

    disk.fails = ""
    await on_disk.commit(organisation("charlie"))
    await on_disk.commit(organisation("dora"))

    assert (while_broken, on_disk.writable) == (False, True)
    assert disk.opened - opened == 1
    assert await names(on_disk) == ["alice", "charlie", "dora"]


async def test_a_commit_whose_sync_failed_does_not_come_back(
    on_disk: Database, disk: Disk, database_path: Path
) -> None:
    disk.fails = "xSync"
    for _ in range(3):
        with pytest.raises(DatabaseUnusable):
            await on_disk.commit(organisation("alice"))
    disk.fails = ""

    after_the_fault = await names(on_disk)
    await on_disk.commit(organisation("alice"))
    disk.fails = "xSync"
    with pytest.raises(DatabaseUnusable):
        await on_disk.commit(organisation("bob"))
    disk.fails = ""
    await on_disk.close()
    again = Database(database_path)

    assert after_the_fault == []
    assert await names(again) == ["alice"]
    await again.close()


async def test_after_a_disk_error_a_reader_is_opened_anew_and_works(on_disk: Database, disk: Disk) -> None:
    before_anything = await names(on_disk)
    await on_disk.commit(organisation("alice"))
    disk.fails = "xRead"
    with pytest.raises(DatabaseUnusable):
        await names(on_disk)
    opened = disk.opened

    disk.fails = ""

    assert [before_anything, await names(on_disk), await names(on_disk)] == [[], ["alice"], ["alice"]]
    assert disk.opened - opened == 1


async def test_a_disk_that_cannot_be_read_from_the_start_is_an_error_until_it_can(
    on_disk: Database, disk: Disk
) -> None:
    disk.fails = "xRead"
    with pytest.raises(DatabaseUnusable):
        await names(on_disk)

    disk.fails = ""

    assert await names(on_disk) == []


async def test_a_damaged_page_is_an_error_and_not_an_answer(on_disk: Database, database_path: Path) -> None:
    await on_disk.commit(*(organisation(f"{number:05}") for number in range(100)))
    [(root, size)] = await on_disk.rows(
        "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'organisations'"
    )
    await on_disk.close()
    with database_path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)

    again = Database(database_path)
    with pytest.raises(DatabaseUnusable):
        await names(again)
    with pytest.raises(DatabaseUnusable):
        await again.commit(organisation("alice"))

    assert not again.writable
    await again.close()


LOCK = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("free", flush=True)
"""


async def test_a_database_that_another_process_keeps_is_refused_until_it_is_free(
    database_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.storage.sqlite.BUSY_TIMEOUT_MILLISECONDS", 1)
    database = Database(database_path)
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOCK, str(database_path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert await other.stdout.readline() == b"locked\n"
    with pytest.raises(DatabaseUnusable) as told:
        await database.commit(organisation("alice"))
    while_locked = database.writable, await names(database)

    other.stdin.write(b"\n")
    assert await other.stdout.readline() == b"free\n"
    await database.commit(organisation("bob"))

    assert while_locked == (False, [])
    assert "locked" not in str(told.value)
    assert database.writable
    assert await names(database) == ["bob"]
    await other.communicate()
    await database.close()


async def test_a_lock_is_waited_for_once_and_not_by_each_of_those_who_wait(
    database_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    all_wait = threading.Event()

    def begin(_: apsw.Cursor, sql: str, __: object) -> bool:
        if sql == "BEGIN IMMEDIATE":
            begun.append(sql)
            all_wait.wait(HANGS_SECONDS)
        return True

    monkeypatch.setattr(apsw, "connection_hooks", [lambda connection: connection.set_exec_trace(begin)])
    monkeypatch.setattr("leadline.storage.sqlite.BUSY_TIMEOUT_MILLISECONDS", 1)
    database = Database(database_path)
    other = apsw.Connection(str(database_path))
    other.set_exec_trace(None)
    other.execute("BEGIN IMMEDIATE")

    first = database.together(insert, organisation("alice"))
    await until(lambda: begun)
    several = [database.together(insert, organisation(name)) for name in ("bob", "charlie", "dora")]
    all_wait.set()

    assert await outcomes(first, *several) == [DatabaseUnusable] * 4
    assert len(begun) == 2
    other.close()
    await database.close()


def insert(transaction: Transaction, organisations: Sequence[Write]) -> None:
    for one in organisations:
        transaction.write(one)


async def until(state: Callable[[], object]) -> None:
    async with asyncio.timeout(HANGS_SECONDS):
        while not state():
            await asyncio.sleep(0)
