import asyncio
import threading
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from leadline.storage.database import Conflict, Database, DatabaseUnusable, Snapshot, Transaction, Write
from tests.unit.conftest import HANGS_SECONDS, Commits


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


async def test_what_was_committed_is_there_after_opening_again(database: Database, database_place: Path | str) -> None:
    await database.commit(organisation("alice"), organisation("bob"))
    await database.close()

    again = Database(database_place)

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


async def test_units_that_wait_for_the_disk_share_one_commit(database: Database, commits: Commits) -> None:
    commits.let_wait()
    first = await queued(database.commit(organisation("first")))
    await commits.one_waits()
    waiting = await queued(*(database.commit(organisation(f"{number:02}")) for number in range(20)))
    before = commits.count
    commits.let_go()
    await at_once(*first, *waiting)

    assert len(await names(database)) == 21
    assert commits.count - before == 2


class Works:
    """Two kinds of work that remember what they were called with; an item "bug" raises what no database raises."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    def one(self, transaction: Transaction, items: Sequence[str]) -> None:
        self._work("one", transaction, items)

    def other(self, transaction: Transaction, items: Sequence[str]) -> None:
        self._work("other", transaction, items)

    def _work(self, name: str, transaction: Transaction, items: Sequence[str]) -> None:
        self.calls.append((name, list(items)))
        for item in items:
            if item == "bug":
                raise KeyError(item)
            transaction.write(organisation(item))


async def gathered(database: Database, commits: Commits, *items: tuple[Any, str]) -> list[BaseException | None]:
    """What comes of the items when all of them wait for the disk."""
    commits.let_wait()
    first = database.together(lambda _, __: None, None)
    await commits.one_waits()
    futures = [database.together(work, item) for work, item in items]
    commits.let_go()
    return (await at_once(first, *futures))[1:]


async def test_items_of_one_work_come_in_one_call_in_their_order(database: Database, commits: Commits) -> None:
    works = Works()

    await gathered(database, commits, *((works.one, name) for name in "abc"))

    assert works.calls == [("one", ["a", "b", "c"])]
    assert await names(database) == ["a", "b", "c"]


async def test_works_that_alternate_keep_the_order_in_which_they_came(database: Database, commits: Commits) -> None:
    works = Works()
    before = commits.count

    await gathered(
        database, commits, (works.one, "a"), (works.one, "b"), (works.other, "c"), (works.one, "d"), (works.other, "e")
    )

    assert works.calls == [("one", ["a", "b"]), ("other", ["c"]), ("one", ["d"]), ("other", ["e"])]
    assert commits.count - before == 2  # the one that they waited for, and theirs


@pytest.mark.parametrize("bad", ["bug", "alice"], ids=["a bug of the work", "a row that is there"])
async def test_a_failing_item_fails_alone_and_the_others_keep_their_order(
    database: Database, commits: Commits, bad: str
) -> None:
    await database.commit(organisation("alice"))
    works = Works()

    outcomes = await gathered(
        database, commits, (works.one, "b"), (works.one, bad), (works.other, "c"), (works.one, "d")
    )

    assert [type(outcome) for outcome in outcomes] == [type(None), DatabaseUnusable, type(None), type(None)]
    assert works.calls[-4:] == [("one", ["b"]), ("one", [bad]), ("other", ["c"]), ("one", ["d"])]
    assert await names(database) == ["alice", "b", "c", "d"]
    assert database.writable


async def test_what_a_work_wrote_before_it_failed_is_undone(database: Database) -> None:
    def work(transaction: Transaction, items: Sequence[str]) -> None:
        for item in items:
            transaction.write(organisation(item))
        raise KeyError

    with pytest.raises(DatabaseUnusable):
        await database.together(work, "alice")

    assert await names(database) == []


async def test_a_transaction_reads_what_it_wrote(database: Database) -> None:
    seen: list[list[Any]] = []

    def work(transaction: Transaction, items: Sequence[str]) -> None:
        transaction.write_many(
            "INSERT INTO organisations (id, name, created_at) VALUES ($1, $2, 1)",
            [(item, item.upper()) for item in items],
        )
        seen.append(list(transaction.rows("SELECT name FROM organisations WHERE id = $1", items[0])))

    await database.together(work, "alice")

    assert seen == [[("ALICE",)]]


async def test_more_work_than_the_disk_can_take_is_refused_at_once(
    database: Database, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.storage.database.MOST_WAITING", 3)
    commits.let_wait()
    writing = await queued(database.commit(organisation("writing")))
    await commits.one_waits()
    waiting = await queued(*(database.commit(organisation(f"waiting {number}")) for number in range(3)))

    with pytest.raises(DatabaseUnusable, match="too slow"):
        await database.commit(organisation("one too many"))
    commits.let_go()
    await at_once(*writing, *waiting)
    await database.commit(organisation("later"))

    assert len(await names(database)) == 5


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
async def test_a_failing_unit_fails_alone(database: Database, commits: Commits, broken: Write) -> None:
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
        connection.execute("PRAGMA max_page_count = 160")

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


async def test_a_disk_that_refuses_a_commit_leaves_nothing_and_takes_the_next(
    database: Database, commits: Commits
) -> None:
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await database.commit(organisation("alice"))

    await database.commit(organisation("bob"))

    assert await names(database) == ["bob"]


async def test_a_transaction_that_writes_nothing_tells_nothing_about_the_disk(
    database: Database, commits: Commits
) -> None:
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await database.commit(organisation("alice"))

    await database.together(lambda _, __: None, None)
    after_nothing = database.writable
    await database.commit(organisation("bob"))

    assert (after_nothing, database.writable) == (False, True)


async def test_a_commit_whose_caller_has_gone_does_no_harm(database: Database, commits: Commits) -> None:
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


async def test_a_snapshot_sees_one_moment_while_writes_go_on(database: Database) -> None:
    await database.commit(organisation("alice"))
    looked, written = threading.Event(), threading.Event()

    def look_twice(snapshot: Snapshot) -> list[list[Any]]:
        def look() -> list[Any]:
            return list(snapshot.rows("SELECT name FROM organisations WHERE name <> $1", "nobody"))

        first = look()
        looked.set()
        assert written.wait(HANGS_SECONDS)
        return [first, look()]

    looking = asyncio.ensure_future(database.snapshot(look_twice))
    assert await asyncio.to_thread(looked.wait, HANGS_SECONDS)
    await database.commit(organisation("bob"))
    written.set()

    assert await looking == [[("alice",)], [("alice",)]]
    assert await names(database) == ["alice", "bob"]


async def test_a_snapshot_whose_query_fails_is_an_error_of_the_database(database: Database) -> None:
    with pytest.raises(DatabaseUnusable):
        await database.snapshot(lambda snapshot: list(snapshot.rows("SELECT * FROM nowhere")))


@pytest.mark.usefixtures("database_path")
async def test_a_backup_is_one_moment_of_the_database_and_opens(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "copy.db"

    async def write_pairs() -> None:
        for number in range(50):
            await database.commit(organisation(f"{number:02} left"), organisation(f"{number:02} right"))

    writing = asyncio.create_task(write_pairs())
    await database.backup(path)
    await writing
    copy = Database(path)

    copied = await names(copy)
    assert copied == (await names(database))[: len(copied)]
    assert len(copied) % 2 == 0
    await copy.commit(organisation("new"))
    assert len(await names(database)) == 100
    await copy.close()


@pytest.mark.usefixtures("database_path")
async def test_a_backup_never_overwrites_a_file(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "precious.db"
    path.write_text("precious", "utf-8")

    with pytest.raises(DatabaseUnusable, match="backup could not be written"):
        await database.backup(path)

    assert path.read_text("utf-8") == "precious"


async def test_closing_finishes_what_is_queued(
    database: Database, commits: Commits, database_place: Path | str
) -> None:
    commits.let_wait()
    waiting = await queued(*(database.commit(organisation(name)) for name in ("alice", "bob")))
    closing = asyncio.ensure_future(database.close())
    commits.let_go()

    assert await at_once(*waiting, closing) == [None, None, None]
    again = Database(database_place)
    assert await names(again) == ["alice", "bob"]
    await again.close()


async def test_a_commit_after_closing_is_refused_instead_of_waiting_forever(database: Database) -> None:
    await database.close()

    async with asyncio.timeout(HANGS_SECONDS):
        with pytest.raises(DatabaseUnusable, match="closed"):
            await database.commit(organisation("alice"))


async def test_a_query_after_closing_is_refused(database: Database) -> None:
    await database.close()

    with pytest.raises(DatabaseUnusable, match="closed"):
        await names(database)


async def test_closing_twice_is_harmless(database: Database) -> None:
    await database.close()

    await database.close()


async def test_a_commit_is_synced_to_the_disk(database: Database, database_path: Path) -> None:
    pragmas = [await database.rows(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert pragmas == [[("wal",)], [(2,)], [(1,)]]


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are notes, " * 100, "utf-8")

    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        Database(path)


async def test_an_sqlite_that_can_lose_commits_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")

    with pytest.raises(DatabaseUnusable, match=r"SQLite 3\.51\.2 can lose committed data"):
        Database(tmp_path / "leadline.db")
