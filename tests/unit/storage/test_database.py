import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import apsw
import pytest

from leadline.storage.database import Conflict, Database, DatabaseUnusable, Write

HANGS_SECONDS = 30


def organisation(name: str) -> Write:
    return Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (name,))


async def names(database: Database) -> list[str]:
    return [name for (name,) in await database.rows("SELECT name FROM organisations ORDER BY name")]


async def at_once(*commits: Awaitable[None]) -> list[BaseException | None]:
    async with asyncio.timeout(HANGS_SECONDS):
        return await asyncio.gather(*commits, return_exceptions=True)


async def queued(*commits: Awaitable[None]) -> "list[asyncio.Future[None]]":
    """The commits, once all of them wait in the writer's queue."""
    tasks = [asyncio.ensure_future(commit) for commit in commits]
    await asyncio.sleep(0)
    return tasks


async def test_what_was_committed_is_there_after_opening_again(database: Database, database_path: Path) -> None:
    await database.commit(organisation("alice"), organisation("bob"))
    await database.close()

    again = Database(database_path)

    assert await names(again) == ["alice", "bob"]
    await again.close()


async def test_a_conflict_undoes_all_of_its_unit(database: Database) -> None:
    await database.commit(organisation("alice"))

    with pytest.raises(Conflict):
        await database.commit(
            organisation("bob"),
            Write("UPDATE organisations SET name = 'charlie'", rows=None),
            Write("UPDATE organisations SET name = 'nobody' WHERE id = 'nobody'"),
        )

    assert await names(database) == ["alice"]


async def test_units_that_wait_for_the_disk_share_one_commit(database: Database, commits: Any) -> None:
    commits.let_wait()
    waiting = await queued(*(database.commit(organisation(f"{number:02}")) for number in range(20)))
    before = commits.count
    commits.let_go()
    await at_once(*waiting)

    assert len(await names(database)) == 20
    # The first commit may already be on its way when the others arrive.
    assert commits.count - before <= 2


@pytest.mark.parametrize(
    "broken",
    [
        organisation("alice"),
        Write("UPDATE organisations SET name = 'x' WHERE id = 'nobody'"),
        Write("INSERT INTO nowhere VALUES (1)"),
        Write("INSERT INTO organisations (id, name, created_at) VALUES ('big', 'big', $1)", (2**64,)),
        Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, 'surrogate', 1)", ("\ud800",)),
    ],
    ids=["duplicate", "conflict", "no such table", "number beyond 64 bits", "text that is no Unicode"],
)
async def test_a_failing_unit_fails_alone(database: Database, commits: Any, broken: Write) -> None:
    await database.commit(organisation("alice"))
    commits.let_wait()
    waiting = await queued(
        database.commit(organisation("bob")),
        database.commit(organisation("never"), broken),
        database.commit(organisation("charlie")),
    )
    commits.let_go()
    first, failed, last = await at_once(*waiting)

    assert (first, last) == (None, None)
    assert isinstance(failed, (Conflict, DatabaseUnusable))
    assert await names(database) == ["alice", "bob", "charlie"]


async def test_a_full_disk_refuses_what_does_not_fit_and_takes_what_does(tmp_path: Path, monkeypatch: Any) -> None:
    def shrink(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 50")

    monkeypatch.setattr(apsw, "connection_hooks", [shrink])
    database = Database(tmp_path / "small.db")
    too_much = Write("INSERT INTO organisations (id, name, created_at) VALUES ('big', $1, 1)", ("x" * 1_000_000,))

    outcomes = await at_once(
        database.commit(organisation("alice")), database.commit(too_much), database.commit(organisation("bob"))
    )
    await database.commit(organisation("charlie"))

    assert [type(outcome) for outcome in outcomes] == [type(None), DatabaseUnusable, type(None)]
    assert await names(database) == ["alice", "bob", "charlie"]
    await database.close()


async def test_a_disk_that_refuses_a_commit_leaves_nothing_and_takes_the_next(database: Database, commits: Any) -> None:
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await database.commit(organisation("alice"))

    await database.commit(organisation("bob"))

    assert await names(database) == ["bob"]


async def test_a_commit_whose_caller_has_gone_does_no_harm(database: Database, commits: Any) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    commits.let_wait()
    gone, gone_and_failing, stays = await queued(
        database.commit(organisation("alice"), organisation("bob")),
        database.commit(organisation("alice")),
        database.commit(organisation("charlie")),
    )
    gone.cancel()
    gone_and_failing.cancel()
    commits.let_go()
    await at_once(stays)

    assert await names(database) == ["alice", "bob", "charlie"]
    assert complaints == []


async def test_closing_finishes_what_is_queued(database: Database, commits: Any, database_path: Path) -> None:
    commits.let_wait()
    waiting = await queued(*(database.commit(organisation(name)) for name in ("alice", "bob")))
    closing = asyncio.ensure_future(database.close())
    commits.let_go()

    assert await at_once(*waiting, closing) == [None, None, None]
    again = Database(database_path)
    assert await names(again) == ["alice", "bob"]
    await again.close()


async def test_a_commit_after_closing_is_refused_instead_of_waiting_forever(database: Database) -> None:
    await database.close()

    async with asyncio.timeout(HANGS_SECONDS):
        with pytest.raises(DatabaseUnusable, match="closed"):
            await database.commit(organisation("alice"))


async def test_a_commit_is_synced_to_the_disk(database: Database, database_path: Path) -> None:
    pragmas = [await database.rows(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert pragmas == [[("wal",)], [(2,)], [(1,)]]


async def test_a_database_of_a_newer_leadline_is_refused_and_left_alone(
    database: Database, database_path: Path
) -> None:
    await database.commit(organisation("alice"))
    await database.commit(Write("INSERT INTO migrations (number, name, applied_at) VALUES (9999, 'later', 1)"))
    await database.close()

    with pytest.raises(DatabaseUnusable, match=r"has schema 9999, this Leadline knows \d+\. Install the newer"):
        Database(database_path)

    assert apsw.Connection(str(database_path)).execute("SELECT name FROM organisations").get == "alice"


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are notes, " * 100, "utf-8")

    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        Database(path)


async def test_an_sqlite_that_can_lose_commits_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")

    with pytest.raises(DatabaseUnusable, match=r"SQLite 3\.51\.2 can lose committed data"):
        Database(tmp_path / "leadline.db")
