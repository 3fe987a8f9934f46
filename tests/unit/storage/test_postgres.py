"""PostgreSQL that restarts, hangs, keeps its locks, or belongs to another Leadline."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from leadline.ledger.audit import audit
from leadline.ledger.ledger import Ledger
from leadline.money import Ticks
from leadline.storage import postgres
from leadline.storage.database import Database, DatabaseUnusable, Transaction, Write
from leadline.storage.postgres import DatabaseInUse, Postgres, schema_at
from leadline.storage.schema import known_migrations, newest_schema
from tests.postgres import Emptied, ask, new_database
from tests.unit.conftest import HANGS_SECONDS
from tests.unit.ledger.scenes import finished, hold

ALICE = "INSERT INTO organisations (id, name, created_at) VALUES ('org_alice', 'Alice', 1)"
TABLES = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name"
    " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
)
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


def organisation(name: str) -> Write:
    return Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (name,))


async def names(database: Database) -> list[str]:
    return [name for (name,) in await database.rows("SELECT name FROM organisations ORDER BY name")]


def end_all_connections(url: str) -> None:
    """As a restart does."""
    ask(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres._SETTINGS, "lock_timeout", 20)


@pytest.fixture
def url(emptied: Emptied) -> str:
    return emptied.empty()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url)
    yield opened
    await opened.close()


@pytest.fixture
def bare() -> Iterator[str]:
    """A database of its own."""
    with new_database() as url:
        yield url


@pytest.mark.usefixtures("impatient")
async def test_a_second_leadline_is_refused_while_the_first_one_runs(url: str) -> None:
    first = Database(url)

    with pytest.raises(DatabaseInUse, match="Another Leadline is using this database"):
        Database(url)
    await first.commit(organisation("alice"))
    await first.close()
    second = Database(url)

    assert await names(second) == ["alice"]
    await second.close()


async def test_after_its_server_restarted_a_database_is_read_and_written_again(url: str, database: Database) -> None:
    await database.commit(organisation("alice"))
    before = await names(database)
    end_all_connections(url)

    read = await names(database)
    with pytest.raises(DatabaseUnusable) as told:
        await database.commit(organisation("bob"))
    while_away = database.writable
    await database.commit(organisation("charlie"))

    assert before == read == ["alice"]
    assert "books cannot be written" in str(told.value)
    assert (while_away, database.writable) == (False, True)
    assert await names(database) == ["alice", "charlie"]


async def test_while_its_server_is_away_all_who_wait_are_refused_by_one_try(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_all_connections(url)
    tries: list[object] = []

    def away(*_: object, **__: object) -> None:
        tries.append(None)
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(postgres._Connection, "connect", away)
    refused = await asyncio.gather(
        *(database.commit(organisation(name)) for name in ("alice", "bob", "charlie")), return_exceptions=True
    )
    again = await asyncio.gather(
        *(database.commit(organisation(name)) for name in ("alice", "bob", "charlie")), return_exceptions=True
    )
    at_most = len(tries)
    monkeypatch.undo()
    await database.commit(organisation("dora"))

    assert [type(one) for one in (*refused, *again)] == [DatabaseUnusable] * 6
    assert at_most < 6
    assert await names(database) == ["dora"]


@pytest.mark.usefixtures("impatient")
async def test_a_leadline_that_was_cut_off_while_another_one_wrote_stays_out(url: str, database: Database) -> None:
    end_all_connections(url)
    other = Database(url)
    await other.commit(organisation("others"))
    with pytest.raises(DatabaseUnusable):
        await database.commit(organisation("alice"))
    await other.close()

    for _ in range(2):
        with pytest.raises(DatabaseUnusable):
            await database.commit(organisation("alice"))

    assert not database.writable
    assert await names(database) == ["others"]


class _Loses(postgres._Connection):
    """A commit reaches the disk; its answer does not reach us."""

    times = 0

    def execute(self, query: Any, *values: Any, **settings: Any) -> Any:
        answer = super().execute(query, *values, **settings)
        if query == "COMMIT" and _Loses.times:
            _Loses.times -= 1
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return answer


async def test_a_charge_whose_commit_was_not_answered_is_written_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_Connection", _Loses)
    monkeypatch.setattr("leadline.ledger.ledger.RETRY_SECONDS", 0)
    database = Database(url)
    ledger = Ledger(database)
    await database.commit(Write(ALICE), ledger.opening("org_alice"))
    await ledger.load()
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)

    _Loses.times = 2
    async with asyncio.timeout(HANGS_SECONDS):
        await ledger.settle(running, finished(running, 30))

    assert [entry.amount_ticks for entry in await ledger.entries("org_alice")] == [100, -30]
    assert ledger.balance("org_alice").balance_ticks == 70
    assert (await audit(database, ledger)).broken == ()
    await ledger.close()
    await database.close()


async def test_a_server_that_says_nothing_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await database.commit(organisation("alice"))
    database._driver._writer.seconds = 0.05

    def hang(transaction: Transaction, _: Sequence[None]) -> None:
        list(transaction.rows("SELECT pg_sleep(60)"))

    async with asyncio.timeout(HANGS_SECONDS):
        with pytest.raises(DatabaseUnusable):
            await database.together(hang, None)
        while_hung = database.writable
        # The server ends what hung once it sees that nobody waits for it.
        while True:
            try:
                await database.commit(organisation("bob"))
                break
            except DatabaseUnusable:
                end_all_connections(_url_of(database))

    assert not while_hung
    assert await names(database) == ["alice", "bob"]


def _url_of(database: Database) -> str:
    parameters = {name: database._driver._parameters[name] for name in ("host", "port", "user", "dbname")}
    return psycopg.conninfo.make_conninfo(**parameters)


@pytest.mark.usefixtures("impatient")
async def test_rows_that_another_program_locks_are_refused_until_they_are_free(url: str) -> None:
    database = Database(url)
    await database.commit(organisation("alice"))
    rename = Write("UPDATE organisations SET name = 'bob'")
    with psycopg.connect(url) as other:
        other.execute("UPDATE organisations SET name = 'others'")
        with pytest.raises(DatabaseUnusable) as told:
            await database.commit(rename)
        while_locked = database.writable
        other.rollback()

    await database.commit(rename)

    assert "lock" not in str(told.value)
    assert (while_locked, database.writable) == (False, True)
    assert await names(database) == ["bob"]
    await database.close()


async def test_work_that_passes_over_an_error_is_not_told_to_be_kept(database: Database) -> None:
    def work(transaction: Transaction, _: Sequence[None]) -> None:
        transaction.write(organisation("alice"))
        with suppress(psycopg.Error):
            transaction.write(organisation("alice"))

    with pytest.raises(DatabaseUnusable):
        await database.together(work, None)

    assert await names(database) == []


async def test_a_text_keeps_a_sign_where_it_had_a_nul(database: Database) -> None:
    await database.commit(organisation("a\x00b"))

    assert await names(database) == ["a\ufffdb"]
    assert await database.rows("SELECT 1 FROM organisations WHERE name = $1", "a\x00b") == [(1,)]


async def test_a_sum_is_a_whole_number_and_texts_are_ordered_by_their_bytes(database: Database) -> None:
    await database.commit(*(organisation(name) for name in ("b", "B", "a", "~", "é")))

    [(total,)] = await database.rows("SELECT SUM(created_at) FROM organisations")

    assert (total, type(total)) == (5, int)
    assert await names(database) == ["B", "a", "b", "~", "é"]


def test_a_database_of_a_newer_leadline_is_refused_and_left_alone(bare: str) -> None:
    Postgres(bare).close()
    ask(bare, "INSERT INTO migrations VALUES (9999, '9999_later.sql', 1)")
    before = ask(bare, TABLES), ask(bare, "SELECT * FROM facts ORDER BY name")

    with pytest.raises(DatabaseUnusable, match=f"has schema 9999, this Leadline knows {newest_schema()}"):
        Postgres(bare)

    assert (ask(bare, TABLES), ask(bare, "SELECT * FROM facts ORDER BY name")) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a statement fails", "the connection is cut"])
def test_migrations_that_are_cut_off_go_on_at_the_next_start(
    bare: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """At each file once, after its last statement."""
    break_off = {
        "a statement fails": "SELECT 1 / 0",
        "the connection is cut": "SELECT pg_terminate_backend(pg_backend_pid())",
    }[how]
    translate = postgres.postgres_sql
    for number, file in known_migrations().items():
        text = file.read_text("utf-8")

        def cut(migration: str, text: str = text) -> str:
            return translate(migration) + (f";\n{break_off};" if migration == text else "")

        monkeypatch.setattr(postgres, "postgres_sql", cut)
        with pytest.raises(DatabaseUnusable, match=f"could not be brought to schema {number}"):
            Postgres(bare)
        assert schema_at(bare) == max((one for one in known_migrations() if one < number), default=0)
    monkeypatch.undo()
    Postgres(bare).close()

    with new_database() as whole:
        Postgres(whole).close()
        assert (ask(bare, TABLES), ask(bare, INDEXES)) == (ask(whole, TABLES), ask(whole, INDEXES))
    assert schema_at(bare) == newest_schema()


def test_a_database_that_cannot_hold_every_text_is_refused() -> None:
    with new_database("LATIN1") as url, pytest.raises(DatabaseUnusable, match="encoding LATIN1"):
        Postgres(url)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("postgresql://leadline:hunter2@127.0.0.1:1/leadline", "PostgreSQL at 127.0.0.1, database leadline cannot be"),
        ("postgresql://leadline:hunter2@127.0.0.1:port/leadline", "PostgreSQL at 127.0.0.1"),
        ("postgresql://leadline:hunter2@127.0.0.1/leadline?nonsense=1", "database.url is no address of PostgreSQL"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_without_its_password(
    place: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DatabaseUnusable, match=told) as error:
        Postgres(place)

    assert "hunter2" not in str(error.value) + caplog.text + "".join(str(vars(one)) for one in caplog.records)
