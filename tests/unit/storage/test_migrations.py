"""A database of an older Leadline becomes one of this one, whole or not at all."""

import random
import re
from importlib import resources
from pathlib import Path
from typing import Any

import apsw
import pytest

from leadline.chat.events import Usage
from leadline.ledger.audit import audit
from leadline.ledger.ledger import Balance, Ledger
from leadline.ledger.usage import UsageBook, UsageRecord, UsageSum
from leadline.money import Ticks
from leadline.storage.database import Database, DatabaseUnusable
from tests.proof import count

pytestmark = pytest.mark.slow

HOUR, DAY = 3_600_000_000, 86_400_000_000
BEGAN = 20_000 * DAY
FILES = sorted(
    (file for file in resources.files("leadline.storage").joinpath("migrations").iterdir() if file.name[:4].isdigit()),
    key=lambda file: file.name,
)
GRANT = (
    "INSERT INTO entries (id, organisation_id, at, kind, amount_ticks, reason) VALUES (?, ?, ?, 'grant', ?, 'welcome')"
)
CHARGE = (
    "INSERT INTO entries (id, organisation_id, at, kind, amount_ticks, reason, request_id, key_id, model, endpoint,"
    " reserved_ticks, prompt_tokens, cached_tokens, image_tokens, output_tokens, reasoning_tokens)"
    " VALUES (?1, 'org_alice', ?2, 'charge', ?3, ?4, ?1, ?5, 'mock', '/v1/messages', 100, 7, 3, 1, 5, 2)"
)


def by_hand(path: Path, migrations: int) -> Path:
    """A database as an older Leadline left it: so many migrations, Alice with charges, Charlie without, and a hold."""
    connection = apsw.Connection(str(path))
    with connection:
        connection.execute(
            "CREATE TABLE migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)"
        )
        for file in FILES[:migrations]:
            connection.execute(file.read_text("utf-8"))
            connection.execute("INSERT INTO migrations VALUES (?, ?, 1)", (int(file.name[:4]), file.name))
            if file is FILES[0]:
                _fill(connection)
    connection.close()
    return path


def _fill(connection: apsw.Connection) -> None:
    for name, balance in (("alice", 865), ("charlie", 50)):
        connection.execute("INSERT INTO organisations VALUES (?, ?, 1)", (f"org_{name}", name.title()))
        connection.execute("INSERT INTO accounts VALUES (?, ?)", (f"org_{name}", balance))
    connection.execute("INSERT INTO users VALUES ('user', 'org_alice', 'alice@example.com', 'hash', 1)")
    connection.execute("INSERT INTO api_keys VALUES ('key-1', 'org_alice', 'laptop', 'digest', 'abcd', 1, NULL, NULL)")
    # Alice's entries were written neither in the order of their time nor in that of their ids.
    connection.execute(CHARGE, ("request-2", BEGAN + DAY, -30, "interrupted", "key-1"))
    connection.execute(GRANT, ("welcome-1", "org_alice", BEGAN, 1000))
    connection.execute(CHARGE, ("request-1", BEGAN + DAY + HOUR, -5, "", "key-2"))
    connection.execute(CHARGE, ("request-3", BEGAN + HOUR, -100, "", "key-1"))
    connection.execute(GRANT, ("welcome-2", "org_charlie", BEGAN, 50))
    connection.execute("INSERT INTO holds VALUES ('request-4', 'org_alice', 'key-1', 'mock', 100, ?)", (BEGAN,))


def contents(path: Path) -> dict[str, Any]:
    """The schema, and every row but the dates of the migrations."""
    connection = apsw.Connection(str(path))
    schema = sorted(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    tables = [name for name, sql in schema if sql.startswith("CREATE TABLE") and name != "migrations"]
    rows = {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}
    applied = sorted(connection.execute("SELECT number, name FROM migrations"))
    connection.close()
    return {"schema": schema, "applied": applied, **rows}


async def migrated(path: Path) -> tuple[Database, Ledger]:
    database = Database(path)
    ledger = Ledger(database)
    await ledger.load()
    return database, ledger


async def test_a_new_database_has_every_migration(database_path: Path) -> None:
    database = Database(database_path)

    applied = await database.rows("SELECT number, name FROM migrations ORDER BY number")

    assert applied == [(int(file.name[:4]), file.name) for file in FILES]
    assert all(re.fullmatch(r"\d{4}_\w+\.sql", name) for _, name in applied)
    await database.close()


async def test_old_books_are_in_order_after_the_upgrade(database_path: Path) -> None:
    by_hand(database_path, migrations=1)

    database, ledger = await migrated(database_path)

    audited = await audit(database, ledger)
    assert (audited.checked, audited.broken) == (5, ())
    assert ledger.balance("org_alice") == Balance(Ticks(865), Ticks(0))
    assert ledger.balance("org_charlie") == Balance(Ticks(50), Ticks(0))
    await database.close()


async def test_old_entries_are_numbered_in_the_order_of_their_time_and_chained(database_path: Path) -> None:
    by_hand(database_path, migrations=1)

    database, ledger = await migrated(database_path)

    numbered = await database.rows("SELECT number, id, amount_ticks FROM entries WHERE organisation_id = 'org_alice'")
    assert [number for number, *_ in numbered] == sorted(number for number, *_ in numbered)
    assert [row[1:] for row in numbered] == [
        *(("welcome-1", 1000), ("request-3", -100), ("request-2", -30), ("request-1", -5)),
    ]
    assert [entry.id for entry in await ledger.entries("org_charlie")] == ["welcome-2"]
    digests = await database.rows("SELECT digest FROM entries ORDER BY number")
    assert len({digest for (digest,) in digests}) == 5
    await database.close()


async def test_old_accounts_know_what_there_was_after_their_last_grant(database_path: Path) -> None:
    """Also where charges came before that grant, and where there never was one."""
    by_hand(database_path, migrations=[file.name for file in FILES].index("0015_billing.sql"))
    connection = apsw.Connection(str(database_path))
    more = "INSERT INTO entries (number, id, organisation_id, at, kind, amount_ticks, reason, digest) VALUES"
    connection.execute(
        f"{more} (6, 'six', 'org_alice', 1, 'grant', 40, '', ''), (7, 'seven', 'org_alice', 1, 'charge',"
        " -5, '', ''), (8, 'eight', 'org_alice', 1, 'refund', 1, '', '')"
    )
    connection.execute("INSERT INTO organisations (id, name, created_at) VALUES ('org_bob', 'Bob', 1)")
    connection.execute("INSERT INTO accounts (organisation_id, balance_ticks) VALUES ('org_bob', 0)")
    connection.close()

    database, ledger = await migrated(database_path)

    meters = [ledger.meter(organisation) for organisation in ("org_alice", "org_charlie", "org_bob")]
    assert [(meter.of_ticks, meter.number) for meter in meters] == [(905, 6), (50, 2), (0, 0)]
    await database.close()


async def test_old_users_own_their_organisations_and_the_first_one_is_an_admin(database_path: Path) -> None:
    by_hand(database_path, migrations=[file.name for file in FILES].index("0013_people.sql"))
    connection = apsw.Connection(str(database_path))
    connection.execute(
        "INSERT INTO users VALUES ('later', 'org_charlie', 'charlie@example.com', 'other hash', 2);"
        "INSERT INTO audit_log VALUES ('aud_1', 1, 'command line', 'accounts suspend', 'org_alice', '{}', '{}'),"
        " ('aud_2', 1, 'command line', 'accounts change-email', 'later', '{}', '{}'),"
        " ('aud_3', 1, 'command line', 'models', 'mock', '{}', '{}')"
    )
    connection.close()

    database, _ = await migrated(database_path)

    people = "SELECT id, email, password_hash, verified_at, suspended_at, is_admin FROM users ORDER BY created_at"
    assert await database.rows(people) == [
        ("user", "alice@example.com", "hash", 1, None, 1),
        ("later", "charlie@example.com", "other hash", 2, None, 0),
    ]
    assert await database.rows("SELECT * FROM memberships ORDER BY created_at") == [
        ("org_alice", "user", "owner", 1),
        ("org_charlie", "later", "owner", 2),
    ]
    assert await database.rows("SELECT user_id FROM first_user") == [("user",)]
    logs = await database.rows("SELECT id, organisation_id, actor_name FROM audit_log ORDER BY id")
    assert logs == [(f"aud_{n}", of, "command line") for n, of in ((1, "org_alice"), (2, "org_charlie"), (3, ""))]
    assert await database.rows("SELECT created_by FROM api_keys") == [("",)]
    await database.close()


async def test_old_charges_get_their_records_and_sums(database_path: Path) -> None:
    by_hand(database_path, migrations=1)

    database, _ = await migrated(database_path)
    book = UsageBook(database)

    assert (await book.records("org_alice"))[1] == UsageRecord(
        *("org_alice", "request-2", BEGAN + DAY, BEGAN + DAY, "key-1", "mock", "/v1/messages"),
        status="interrupted",
        usage=Usage(7, 3, 1, 5, 2),
        cost_ticks=30,
    )
    assert [one.status for one in await book.records("org_alice")] == ["finished", "interrupted", "finished"]
    assert await book.sums("org_alice", BEGAN, BEGAN + 2 * DAY, "day") == [
        UsageSum(20_000, 1, 0, 0, 7, 3, 1, 5, 2, 100),
        UsageSum(20_001, 2, 0, 0, 14, 6, 2, 10, 4, 35),
    ]
    hours = await book.sums("org_alice", BEGAN, BEGAN + 2 * DAY, "hour")
    assert [(one.group, one.cost_ticks) for one in hours] == [(480_001, 100), (480_024, 30), (480_025, 5)]
    await database.close()


async def test_old_holds_are_given_back(database_path: Path) -> None:
    by_hand(database_path, migrations=1)

    database, ledger = await migrated(database_path)

    assert await database.rows("SELECT * FROM holds") == []
    assert ledger.balance("org_alice").held_ticks == 0
    await database.close()


async def test_answers_that_were_kept_in_a_dialects_words_are_gone(database_path: Path) -> None:
    by_hand(database_path, migrations=[file.name[:4] for file in FILES].index("0010"))
    connection = apsw.Connection(str(database_path))
    connection.execute("INSERT INTO stored_answers VALUES ('request-1', 'org_alice', 'response', 1, ?, 'x')", (BEGAN,))
    connection.close()

    database, _ = await migrated(database_path)

    assert await database.rows("SELECT * FROM stored_answers") == []
    await database.close()


async def test_kept_answers_are_still_there_when_one_may_be_kept_twice(database_path: Path) -> None:
    by_hand(database_path, migrations=[file.name[:4] for file in FILES].index("0012"))
    connection = apsw.Connection(str(database_path))
    row = ("request-1", "org_alice", "response", 1, BEGAN, b"x")
    connection.execute("INSERT INTO stored_answers VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.close()

    database, _ = await migrated(database_path)

    assert await database.rows("SELECT * FROM stored_answers") == [row]
    await database.close()


async def test_upgraded_books_go_on(database_path: Path) -> None:
    by_hand(database_path, migrations=1)
    database, ledger = await migrated(database_path)

    await ledger.grant("org_alice", Ticks(10), "afterwards")
    again = Ledger(database)
    await again.load()

    assert [entry.reason for entry in await again.entries("org_alice", limit=1)] == ["afterwards"]
    assert (await audit(database, again)).broken == ()
    await database.close()


@pytest.mark.parametrize("migrations", range(1, len(FILES)))
async def test_every_older_schema_comes_to_the_newest_one(tmp_path: Path, migrations: int) -> None:
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    await Database(new).close()
    by_hand(old, migrations)

    database, ledger = await migrated(old)
    broken = (await audit(database, ledger)).broken
    await database.close()

    assert broken == ()
    assert contents(old)["schema"] == contents(new)["schema"]
    assert contents(old)["applied"] == contents(new)["applied"]


class Killed(BaseException):
    """The process ends here."""


class Killer:
    """Ends the process before the statement `at` of the migrations, counted from 0."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.count = 0
        self._armed = False

    def watch(self, connection: apsw.Connection) -> None:
        connection.set_exec_trace(self._statement)

    def _statement(self, _: apsw.Cursor, sql: str, __: object) -> bool:
        self._armed = self._armed or sql.startswith("SELECT number FROM migrations")
        if self._armed:
            if self.count == self.at:
                raise Killed
            self.count += 1
        return True


async def test_an_upgrade_that_is_killed_at_any_statement_is_completed_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = by_hand(tmp_path / "whole.db", migrations=1)
    unharmed = Killer()
    monkeypatch.setattr(apsw, "connection_hooks", [unharmed.watch])
    await Database(whole).close()
    monkeypatch.setattr(apsw, "connection_hooks", [])
    after = {number: contents(by_hand(tmp_path / f"{number}.db", number)) for number in range(1, len(FILES) + 1)}

    # At every statement, but for the inner loop.
    some = random.Random(unharmed.count).sample(range(unharmed.count), count(unharmed.count, unharmed.count))
    for at in some:
        path = by_hand(tmp_path / f"killed at {at}.db", migrations=1)
        monkeypatch.setattr(apsw, "connection_hooks", [Killer(at).watch])
        with pytest.raises(Killed):
            Database(path)
        monkeypatch.setattr(apsw, "connection_hooks", [])
        left = contents(path)
        database, ledger = await migrated(path)
        broken = (await audit(database, ledger)).broken
        await database.close()

        assert left == after[len(left["applied"])]
        assert broken == ()
        assert contents(path)["schema"] == contents(whole)["schema"]
    assert unharmed.count > 30


async def test_the_database_before_an_upgrade_is_kept_beside_it(database_path: Path) -> None:
    by_hand(database_path, migrations=1)
    before = contents(database_path)

    await Database(database_path).close()

    [kept] = database_path.parent.glob("*before-upgrade*")
    assert contents(kept) == before
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_a_database_that_is_up_to_date_is_not_copied(database_path: Path) -> None:
    for _ in range(2):
        await Database(database_path).close()

    assert list(database_path.parent.glob("*before-upgrade*")) == []


async def test_a_database_of_a_newer_leadline_is_refused_and_left_alone(database_path: Path) -> None:
    connection = apsw.Connection(str(by_hand(database_path, migrations=len(FILES))))
    connection.execute("INSERT INTO migrations (number, name, applied_at) VALUES (9999, 'later', 1)")
    connection.close()
    before = contents(database_path)

    with pytest.raises(DatabaseUnusable, match=r"has schema 9999, this Leadline knows \d+\. Install the newer"):
        Database(database_path)

    assert contents(database_path) == before
