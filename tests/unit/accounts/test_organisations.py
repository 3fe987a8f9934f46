import asyncio
import json
from typing import Any

import pytest
from argon2 import PasswordHasher

from leadline.accounts.organisations import Organisations, User
from leadline.errors import InvalidRequest, NotFound, PermissionDenied
from leadline.ledger.ledger import Ledger
from leadline.storage.database import Conflict, Database, Write

PASSWORD = "correct horse"
NOON = 1_800_014_400_000_000  # 15 January 2027, 12:00 UTC


@pytest.fixture
def organisations(database: Database) -> Organisations:
    return Organisations(database, lambda: NOON)


@pytest.fixture
async def alice(organisations: Organisations, database: Database) -> User:
    return await organisations.create("alice@example.com", "Alice", PASSWORD, Ledger(database).opening)


async def logged(database: Database) -> list[tuple[Any, ...]]:
    """The audit log, without its ids."""
    rows = await database.rows("SELECT at, actor, action, subject, before, after FROM audit_log ORDER BY rowid")
    return [(*row, json.loads(before), json.loads(after)) for *row, before, after in rows]


async def test_a_new_organisation_has_a_user_and_an_account(organisations: Organisations, database: Database) -> None:
    ledger = Ledger(database)

    user = await organisations.create(" Alice@Example.com ", " Alice & Co ", PASSWORD, ledger.opening)
    await ledger.load()

    assert (user.email, user.organisation) == ("alice@example.com", "Alice & Co")
    assert await organisations.users() == [user]
    assert ledger.balance(user.organisation_id).balance_ticks == 0


async def test_a_password_is_stored_as_a_hash_that_proves_it(organisations: Organisations, database: Database) -> None:
    await organisations.create("alice@example.com", "Alice", PASSWORD, Ledger(database).opening)

    [(stored,)] = await database.rows("SELECT password_hash FROM users")

    assert stored.startswith("$argon2id$")
    assert PasswordHasher().verify(stored, PASSWORD)


async def test_an_email_is_signed_up_once_however_it_is_written(
    organisations: Organisations, database: Database
) -> None:
    alice = await organisations.create("alice@example.com", "Alice", PASSWORD, Ledger(database).opening)

    with pytest.raises(InvalidRequest, match="already signed up") as refused:
        await organisations.create("ALICE@example.com", "Mallory", PASSWORD, Ledger(database).opening)

    assert refused.value.param == "email"
    assert await organisations.users() == [alice]
    assert await organisations.user(" Alice@EXAMPLE.com") == alice


async def test_an_organisation_whose_account_cannot_be_opened_is_not_made_at_all(
    organisations: Organisations, database: Database
) -> None:
    def opens_nothing(_: str) -> Write:
        return Write("UPDATE accounts SET balance_ticks = 0 WHERE organisation_id = 'nobody'")

    with pytest.raises(Conflict):
        await organisations.create("alice@example.com", "Alice", PASSWORD, opens_nothing)

    assert await organisations.users() == []
    assert await database.rows("SELECT * FROM organisations") == []


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("email", "alice"),
        ("email", "alice@"),
        ("email", "alice@example.com\nbcc: bob@example.com"),
        ("org", "  "),
        ("org", "A\x1b[31m"),
        ("org", "A" * 201),
        ("password", "1234567"),
        ("password", "p" * 1025),
    ],
)
async def test_what_cannot_be_signed_up_is_refused_by_its_field(
    organisations: Organisations, database: Database, field: str, wrong: str
) -> None:
    fields = {"email": "alice@example.com", "org": "Alice", "password": PASSWORD} | {field: wrong}

    with pytest.raises(InvalidRequest) as refused:
        await organisations.create(*fields.values(), Ledger(database).opening)

    assert refused.value.param == field
    assert await organisations.users() == []


async def test_the_only_organisation_needs_no_email_and_the_second_one_makes_it_needed(
    organisations: Organisations, database: Database
) -> None:
    with pytest.raises(NotFound, match="leadline init"):
        await organisations.user(None)
    alice = await organisations.create("alice@example.com", "Alice", PASSWORD, Ledger(database).opening)
    alone = await organisations.user(None)
    charlie = await organisations.create("charlie@example.com", "Charlie", PASSWORD, Ledger(database).opening)

    with pytest.raises(InvalidRequest, match="--email"):
        await organisations.user(None)

    assert alone == alice
    assert await organisations.user("charlie@example.com") == charlie


async def test_nobody_is_found_by_an_email_that_nobody_has(organisations: Organisations) -> None:
    with pytest.raises(NotFound, match=r"Nobody here has the e-mail bob@example\.com"):
        await organisations.user("bob@example.com")


async def test_a_suspended_organisation_is_refused_from_then_on_and_no_other_one(
    organisations: Organisations, database: Database, alice: User
) -> None:
    charlie = await organisations.create("charlie@example.com", "Charlie", PASSWORD, Ledger(database).opening)
    await organisations.load()
    organisations.refuse_if_suspended(alice.organisation_id)

    await organisations.suspend(alice.organisation_id, "command line")

    with pytest.raises(PermissionDenied, match=r"is suspended\. Ask the administrator of this server\."):
        organisations.refuse_if_suspended(alice.organisation_id)
    organisations.refuse_if_suspended(charlie.organisation_id)
    assert [user.suspended_at for user in await organisations.users()] == [NOON, None]

    await organisations.resume(alice.organisation_id, "command line")
    organisations.refuse_if_suspended(alice.organisation_id)


async def test_a_suspension_outlives_the_server(organisations: Organisations, database: Database, alice: User) -> None:
    await organisations.suspend(alice.organisation_id, "command line")
    again = Organisations(database)

    with pytest.raises(AssertionError, match="load comes first"):
        again.refuse_if_suspended(alice.organisation_id)
    await again.load()

    with pytest.raises(PermissionDenied):
        again.refuse_if_suspended(alice.organisation_id)


async def test_suspending_again_changes_nothing_and_each_change_is_logged_once(
    organisations: Organisations, database: Database, alice: User
) -> None:
    for _ in range(2):
        await organisations.suspend(alice.organisation_id, "command line")
    for _ in range(2):
        await organisations.resume(alice.organisation_id, "bob@example.com")

    assert await logged(database) == [
        (NOON, "command line", "accounts suspend", alice.organisation_id, {"suspended": False}, {"suspended": True}),
        (NOON, "bob@example.com", "accounts resume", alice.organisation_id, {"suspended": True}, {"suspended": False}),
    ]


async def test_a_suspension_whose_caller_has_gone_holds_all_the_same(
    organisations: Organisations, database: Database, alice: User, commits: Any
) -> None:
    await organisations.load()
    commits.let_wait()
    suspending = asyncio.create_task(organisations.suspend(alice.organisation_id, "command line"))
    await commits.one_waits()
    suspending.cancel()
    commits.let_go()
    # One write and one read that are queued behind its own.
    await database.commit(Write("UPDATE facts SET value = 1 WHERE name = 'heartbeat'"))
    await database.rows("SELECT 1")

    with pytest.raises(PermissionDenied):
        organisations.refuse_if_suspended(alice.organisation_id)


async def test_an_email_is_changed_for_good_and_logged(
    organisations: Organisations, database: Database, alice: User
) -> None:
    changed = await organisations.change_email(alice, " Alice@Northwind.example ", "command line")

    assert changed.email == "alice@northwind.example"
    assert await organisations.users() == [changed]
    assert await logged(database) == [
        (
            *(NOON, "command line", "accounts change-email", alice.id),
            *({"email": "alice@example.com"}, {"email": "alice@northwind.example"}),
        )
    ]


@pytest.mark.parametrize(
    ("email", "words"),
    [
        ("CHARLIE@example.com", "already signed up"),
        ("alice@example.com", "already signed up"),
        ("alice", "not an e-mail"),
    ],
)
async def test_an_email_that_is_somebodys_or_none_changes_nothing(
    organisations: Organisations, database: Database, alice: User, email: str, words: str
) -> None:
    charlie = await organisations.create("charlie@example.com", "Charlie", PASSWORD, Ledger(database).opening)

    with pytest.raises(InvalidRequest, match=words) as refused:
        await organisations.change_email(alice, email, "command line")

    assert refused.value.param == "email"
    assert {user.email for user in await organisations.users()} == {alice.email, charlie.email}
    assert await logged(database) == []


async def test_two_users_who_take_one_email_at_once_do_not_both_get_it(
    organisations: Organisations, database: Database, alice: User
) -> None:
    charlie = await organisations.create("charlie@example.com", "Charlie", PASSWORD, Ledger(database).opening)

    outcomes = await asyncio.gather(
        *(organisations.change_email(user, "new@example.com", "command line") for user in (alice, charlie)),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [User, InvalidRequest]
    assert len(await logged(database)) == 1
