import asyncio
from typing import Any

import pytest
from argon2 import PasswordHasher

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.links import LinkGone
from leadline.accounts.passwords import Passwords, PasswordsBusy, is_common, refuse_password
from leadline.accounts.sessions import SessionRefused
from leadline.errors import InvalidRequest, NotFound
from tests.unit.accounts.people import NOON, PASSWORD, People

ALICE = "alice@example.com"
BOB = Actor("usr_bob", "bob@example.com", "192.0.2.7")


async def test_a_password_is_stored_as_a_hash_that_proves_it(people: People) -> None:
    await people.create()

    [(stored,)] = await people.database.rows("SELECT password_hash FROM users")

    assert stored.startswith("$argon2id$")
    assert PasswordHasher().verify(stored, PASSWORD)


async def test_who_has_the_password_is_known_and_nobody_else(people: People) -> None:
    await people.create()
    alice = await people.user()

    assert await people.users.check_password(" Alice@EXAMPLE.com", PASSWORD) == alice
    assert await people.users.check_password(ALICE, PASSWORD.upper()) is None
    assert await people.users.check_password("bob@example.com", PASSWORD) is None
    assert await people.users.check_password(ALICE, "") is None


async def test_a_password_is_the_same_work_for_who_is_there_and_who_is_not(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people.create()
    await people.create("bob@example.com", "Bob")
    await people.users.suspend(await people.user("bob@example.com"), COMMAND_LINE)
    hasher, work = people.passwords._hasher, []

    class Counting:
        def hash(self, password: str) -> str:
            work.append("hash")
            return hasher.hash(password)

        def verify(self, password_hash: str, password: str) -> bool:
            parameters = password_hash.rpartition("$")[0].rpartition("$")[0]
            work.append(f"verify {parameters}")
            return hasher.verify(password_hash, password)

    monkeypatch.setattr(people.passwords, "_hasher", Counting())
    await people.users.check_password("first@example.com", "x")  # makes nobody's hash, once
    done = []
    for email, password in (
        (ALICE, PASSWORD),
        (ALICE, "wrong"),
        ("bob@example.com", PASSWORD),
        ("nobody@example.com", PASSWORD),
    ):
        work.clear()
        await people.users.check_password(email, password)
        done.append(tuple(work))

    assert len(done[0]) == 1
    assert set(done) == {done[0]}


async def test_so_many_passwords_are_checked_at_once_and_no_more() -> None:
    passwords = Passwords()
    outcomes = await asyncio.gather(*(passwords.hash("x") for _ in range(60)), return_exceptions=True)
    afterwards = await passwords.hash("x")
    passwords.close()

    assert [type(one) for one in outcomes].count(PasswordsBusy) == 60 - 4 - 32
    assert afterwards.startswith("$argon2id$")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("email", "alice"),
        ("email", "alice@"),
        ("email", "alice@example.com\nbcc: bob@example.com"),
        ("password", "1234567"),
        ("password", "p" * 1025),
    ],
)
async def test_what_cannot_be_signed_up_is_refused_by_its_field(people: People, field: str, wrong: str) -> None:
    fields = {"email": ALICE, "password": PASSWORD} | {field: wrong}

    with pytest.raises(InvalidRequest) as refused:
        await people.new(**fields)

    assert refused.value.param == field


@pytest.mark.parametrize(
    "password",
    [
        *("password123", "Passw0rd!!", "qwertzuiop1", "1234567890", "9876543210", "abcabcabcabc", "aaaaaaaaaaaa"),
        *("alice@example.com", "alice123456", "northwind2026", "Liebe!" * 2, "abcdefghijk"),
    ],
)
def test_what_is_guessed_first_is_no_password(password: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        refuse_password(password, "alice.jones@northwind.example" if password != ALICE else ALICE)

    assert refused.value.param == "password"


@pytest.mark.parametrize(
    "password", ["correct horse", "battery staple", "tulips-and-rain", "Zürich 1848 Kaffee", "9f3kQ-2xv7W"]
)
def test_words_that_do_not_belong_together_are_a_password(password: str) -> None:
    refuse_password(password, "alice.jones@northwind.example")
    assert not is_common(password)


async def test_a_changed_password_ends_all_sessions_but_the_one_that_changed_it(people: People) -> None:
    await people.create()
    alice = await people.user()
    here, there = [await people.sessions.open(alice.id, "192.0.2.1", "a browser") for _ in range(2)]
    link = await people.links.make("reset", alice.id)

    await people.users.change_password(alice, "tulips and rain", BOB, keep=here)

    assert people.sessions.find(here) is not None
    assert people.sessions.find(there) is None
    assert await people.users.check_password(ALICE, PASSWORD) is None
    assert await people.users.check_password(ALICE, "tulips and rain") == alice
    with pytest.raises(LinkGone):
        await people.links.peek("reset", link)
    assert await people.logged() == [(NOON, "usr_bob", "users change-password", alice.id, {}, {})]


async def test_a_suspended_user_is_out_at_once_and_comes_back(people: People) -> None:
    await people.create()
    await people.create("bob@example.com", "Bob")
    bob = await people.user("bob@example.com")
    token = await people.sessions.open(bob.id, "192.0.2.1", "a browser")

    await people.users.suspend(bob, COMMAND_LINE)

    assert people.sessions.find(token) is None
    assert await people.users.check_password("bob@example.com", PASSWORD) is None
    with pytest.raises(SessionRefused):
        await people.sessions.open(bob.id, "192.0.2.1", "a browser")

    await people.users.resume(await people.user("bob@example.com"), COMMAND_LINE)
    assert await people.users.check_password("bob@example.com", PASSWORD) == bob
    assert [row[2] for row in await people.logged()] == ["users suspend", "users resume"]


async def test_the_last_admin_stays(people: People) -> None:
    await people.create()
    await people.create("bob@example.com", "Bob")
    alice, bob = await people.user(), await people.user("bob@example.com")

    for refused in (people.users.suspend(alice, BOB), people.users.set_admin(alice, BOB, is_admin=False)):
        with pytest.raises(InvalidRequest, match="last admin"):
            await refused
    await people.users.set_admin(bob, COMMAND_LINE, is_admin=True)
    both = await asyncio.gather(
        people.users.suspend(await people.user(), COMMAND_LINE),
        people.users.set_admin(await people.user("bob@example.com"), COMMAND_LINE, is_admin=False),
        return_exceptions=True,
    )

    assert sorted(type(one).__name__ for one in both) == ["InvalidRequest", "NoneType"]
    assert sum(one.is_admin and one.suspended_at is None for one in await people.users.all()) == 1


async def test_an_email_is_changed_for_good_and_logged(people: People) -> None:
    await people.create()
    alice = await people.user()
    changed = await people.users.change_email(alice, " Alice@Northwind.example ", COMMAND_LINE)

    assert changed.email == "alice@northwind.example"
    assert await people.users.all() == [changed]
    assert await people.users.find(ALICE) is None
    with pytest.raises(NotFound, match="Nobody here has the e-mail"):
        await people.users.named(ALICE)
    assert await people.logged() == [
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
async def test_an_email_that_is_somebodys_or_none_changes_nothing(people: People, email: str, words: str) -> None:
    await people.create()
    await people.create("charlie@example.com", "Charlie")

    with pytest.raises(InvalidRequest, match=words) as refused:
        await people.users.change_email(await people.user(), email, COMMAND_LINE)

    assert refused.value.param == "email"
    assert {user.email for user in await people.users.all()} == {"alice@example.com", "charlie@example.com"}
    assert await people.logged() == []


async def test_two_users_who_take_one_email_at_once_do_not_both_get_it(people: People) -> None:
    await people.create()
    await people.create("charlie@example.com", "Charlie")

    outcomes: list[Any] = await asyncio.gather(
        *(people.users.change_email(user, "new@example.com", COMMAND_LINE) for user in await people.users.all()),
        return_exceptions=True,
    )

    assert [isinstance(one, InvalidRequest) for one in outcomes].count(True) == 1
    assert len(await people.logged()) == 1


async def test_an_email_is_verified_only_while_it_is_the_users(people: People) -> None:
    await people.create(verified=False)
    alice = await people.user()
    await people.users.verify(alice.id, "other@example.com")
    still = await people.user()
    await people.users.verify(alice.id, ALICE)

    assert (alice.verified_at, still.verified_at) == (None, None)
    assert (await people.user()).verified_at == NOON


async def test_a_name_is_changed(people: People) -> None:
    await people.create()
    await people.users.change_name(await people.user(), " Alice Jones ", BOB)

    assert (await people.user()).name == "Alice Jones"
    with pytest.raises(InvalidRequest):
        await people.users.change_name(await people.user(), "A\x00", BOB)
