import asyncio
from typing import Any

import pytest

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.organisations import Membership, NotMember, Organisations
from leadline.accounts.roles import PERMISSIONS, ROLES, Role, role_of
from leadline.errors import InvalidRequest, NotFound, PermissionDenied
from leadline.storage.database import Conflict, Database, Write
from tests.unit.accounts.people import NOON, People

BOB = Actor("usr_bob", "bob@example.com", "192.0.2.7")


async def test_a_new_organisation_has_an_owner_and_an_account(people: People) -> None:
    organisation = await people.create(" Alice@Example.com ", " Alice & Co ")
    await people.ledger.load()

    alice = await people.user("alice@example.com")
    assert organisation.name == "Alice & Co"
    assert await people.organisations.of_user(alice.id) == [Membership(organisation.id, "Alice & Co", "owner")]
    assert [(one.user, one.role) for one in await people.organisations.members(organisation.id)] == [(alice, "owner")]
    assert people.ledger.balance(organisation.id).balance_ticks == 0
    assert [row.action for row in await people.audit_log.rows(organisation.id)] == ["accounts create"]


async def test_the_first_user_alone_is_an_admin_of_the_instance(people: People) -> None:
    await people.create("alice@example.com")
    await people.create("bob@example.com", "Bob")

    assert [(user.email, user.is_admin) for user in await people.users.all()] == [
        ("alice@example.com", True),
        ("bob@example.com", False),
    ]


@pytest.mark.parametrize("only_first", [True, False])
async def test_of_200_who_set_up_at_once_exactly_one_is_an_admin(people: People, only_first: bool) -> None:
    new = [await people.new(f"user{number}@example.com") for number in range(200)]

    outcomes = await asyncio.gather(
        *(
            people.organisations.create(one, one.email, people.ledger.opening, COMMAND_LINE, only_first=only_first)
            for one in new
        ),
        return_exceptions=True,
    )

    users = await people.users.all()
    assert sum(user.is_admin for user in users) == 1
    assert len(users) == len(await people.organisations.all()) == (1 if only_first else 200)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 200 - len(users)


async def test_of_200_who_use_one_set_up_link_one_does(people: People) -> None:
    token = await people.links.make("setup")
    new = [await people.new(f"user{number}@example.com") for number in range(200)]

    async def set_up(number: int) -> None:
        taken = (people.links.taking("setup", token),)
        await people.organisations.create(new[number], "Org", people.ledger.opening, COMMAND_LINE, also=taken)

    outcomes = await asyncio.gather(*map(set_up, range(200)), return_exceptions=True)

    assert [type(one) for one in outcomes].count(Conflict) == 199
    assert len(await people.users.all()) == 1


async def test_an_email_is_signed_up_once_however_it_is_written(people: People) -> None:
    await people.create("alice@example.com")

    with pytest.raises(InvalidRequest, match="already signed up") as refused:
        await people.create("ALICE@example.com", "Mallory")

    assert refused.value.param == "email"
    assert [one.name for one in await people.organisations.all()] == ["Alice"]
    assert len(await people.users.all()) == 1


async def test_two_who_take_one_email_at_once_do_not_both_get_it(people: People) -> None:
    await people.create("first@example.com")

    outcomes = await asyncio.gather(*(people.create("alice@example.com") for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(one, InvalidRequest) for one in outcomes) == 4
    assert len(await people.organisations.all()) == 2


async def test_an_organisation_whose_account_cannot_be_opened_is_not_made_at_all(people: People) -> None:
    def opens_nothing(_: str) -> Write:
        return Write("UPDATE accounts SET balance_ticks = 0 WHERE organisation_id = 'nobody'")

    with pytest.raises(Conflict):
        await people.organisations.create(await people.new(), "Alice", opens_nothing, COMMAND_LINE)

    assert await people.users.all() == []
    for table in ("organisations", "memberships", "audit_log", "first_user"):
        assert await people.database.rows(f"SELECT * FROM {table}") == []


@pytest.mark.parametrize("name", ["  ", "A\x1b[31m", "A" * 201])
async def test_an_organisation_without_a_proper_name_is_refused(people: People, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await people.create(name=name)

    assert refused.value.param == "org"
    assert await people.users.all() == []


async def test_the_only_organisation_needs_no_email_and_the_second_one_makes_it_needed(people: People) -> None:
    organisations = people.organisations
    with pytest.raises(NotFound, match="leadline init"):
        await organisations.of_email(None)
    alice = await people.create("alice@example.com")
    alone = await organisations.of_email(None)
    charlie = await people.create("charlie@example.com", "Charlie")

    with pytest.raises(InvalidRequest, match="--email"):
        await organisations.of_email(None)
    with pytest.raises(NotFound, match=r"Nobody here has the e-mail bob@example\.com"):
        await organisations.of_email("bob@example.com")

    assert alone == alice
    assert await organisations.of_email(" Charlie@EXAMPLE.com") == charlie
    assert await organisations.of_email(alice.id) == alice


async def test_a_user_of_several_organisations_means_the_one_to_which_he_came_first(people: People) -> None:
    alices, bobs = await people.create("alice@example.com"), await people.create("bob@example.com", "Bob")
    people.watch.now += 1
    await people.organisations.add_member(bobs.id, await people.user(), "viewer", COMMAND_LINE)

    alice = await people.user()
    assert await people.organisations.of_email(alice.email) == alices
    assert [(one.organisation, one.role) for one in await people.organisations.of_user(alice.id)] == [
        ("Alice", "owner"),
        ("Bob", "viewer"),
    ]


async def test_a_suspended_organisation_is_refused_from_then_on_and_no_other_one(people: People) -> None:
    organisations = people.organisations
    alice, charlie = await people.create(), await people.create("charlie@example.com", "Charlie")
    await organisations.load()
    organisations.refuse_if_suspended(alice.id)

    await organisations.suspend(alice.id, COMMAND_LINE)

    with pytest.raises(PermissionDenied, match=r"is suspended\. Ask the administrator of this server\."):
        organisations.refuse_if_suspended(alice.id)
    organisations.refuse_if_suspended(charlie.id)
    assert [one.suspended_at for one in await organisations.all()] == [NOON, None]

    await organisations.resume(alice.id, COMMAND_LINE)
    organisations.refuse_if_suspended(alice.id)


async def test_a_suspension_outlives_the_server(people: People, database: Database) -> None:
    alice = await people.create()
    await people.organisations.suspend(alice.id, COMMAND_LINE)
    again = Organisations(database)

    with pytest.raises(AssertionError, match="load comes first"):
        again.refuse_if_suspended(alice.id)
    await again.load()

    with pytest.raises(PermissionDenied):
        again.refuse_if_suspended(alice.id)


async def test_suspending_again_changes_nothing_and_each_change_is_logged_once(people: People) -> None:
    alice = await people.create()
    for _ in range(2):
        await people.organisations.suspend(alice.id, COMMAND_LINE)
    for _ in range(2):
        await people.organisations.resume(alice.id, BOB)

    assert await people.logged() == [
        (NOON, "command line", "accounts suspend", alice.id, {"suspended": False}, {"suspended": True}),
        (NOON, "usr_bob", "accounts resume", alice.id, {"suspended": True}, {"suspended": False}),
    ]


async def test_a_suspension_whose_caller_has_gone_holds_all_the_same(people: People, commits: Any) -> None:
    alice = await people.create()
    await people.organisations.load()
    commits.let_wait()
    suspending = asyncio.create_task(people.organisations.suspend(alice.id, COMMAND_LINE))
    await commits.one_waits()
    suspending.cancel()
    commits.let_go()
    # One write and one read that are queued behind its own.
    await people.database.commit(Write("UPDATE facts SET value = 1 WHERE name = 'heartbeat'"))
    await people.database.rows("SELECT 1")

    with pytest.raises(PermissionDenied):
        people.organisations.refuse_if_suspended(alice.id)


async def test_an_organisation_is_renamed(people: People) -> None:
    alice = await people.create()

    await people.organisations.rename(alice.id, " Northwind ", BOB)
    with pytest.raises(InvalidRequest):
        await people.organisations.rename(alice.id, "", BOB)

    assert [one.name for one in await people.organisations.all()] == ["Northwind"]
    assert [row[2] for row in await people.logged()] == ["accounts rename"]


async def with_bob(people: People, role: Role) -> tuple[str, str, str]:
    """The ids of Alice's organisation, of Alice, its owner, and of Bob, who joined it."""
    organisation = await people.create()
    await people.organisations.join(await people.new("bob@example.com"), organisation.id, role, COMMAND_LINE)
    return organisation.id, (await people.user()).id, (await people.user("bob@example.com")).id


async def roles_in(people: People, organisation_id: str) -> list[tuple[str, str]]:
    return [(one.user.email, one.role) for one in await people.organisations.members(organisation_id)]


async def test_a_member_gets_another_role_and_goes(people: People) -> None:
    organisation, _, bob = await with_bob(people, "viewer")

    await people.organisations.change_role(organisation, bob, "developer", BOB)
    await people.organisations.change_role(organisation, bob, "developer", BOB)
    changed = await roles_in(people, organisation)
    await people.organisations.remove_member(organisation, bob, BOB)
    with pytest.raises(NotMember):
        await people.organisations.remove_member(organisation, bob, BOB)

    assert changed == [("alice@example.com", "owner"), ("bob@example.com", "developer")]
    assert await roles_in(people, organisation) == [("alice@example.com", "owner")]
    assert [(row[1], row[2], row[4], row[5]) for row in await people.logged()] == [
        ("command line", "members add", {"role": None}, {"role": "viewer", "email": "bob@example.com"}),
        ("usr_bob", "members role", {"role": "viewer"}, {"role": "developer"}),
        ("usr_bob", "members remove", {"role": "developer", "email": "bob@example.com"}, {"role": None}),
    ]


async def test_the_last_owner_neither_goes_nor_becomes_less(people: People) -> None:
    organisation, alice, bob = await with_bob(people, "admin")

    with pytest.raises(InvalidRequest, match="last owner"):
        await people.organisations.remove_member(organisation, alice, BOB)
    with pytest.raises(InvalidRequest, match="last owner"):
        await people.organisations.change_role(organisation, alice, "admin", BOB)
    await people.organisations.change_role(organisation, bob, "owner", COMMAND_LINE)
    await people.organisations.remove_member(organisation, alice, COMMAND_LINE)

    assert await roles_in(people, organisation) == [("bob@example.com", "owner")]


async def test_two_owners_who_go_at_once_do_not_both_go(people: People) -> None:
    organisation, alice, bob = await with_bob(people, "owner")

    outcomes = await asyncio.gather(
        *(people.organisations.remove_member(organisation, user, COMMAND_LINE) for user in (alice, bob)),
        return_exceptions=True,
    )

    assert [type(one) for one in outcomes] == [type(None), InvalidRequest]
    assert len(await roles_in(people, organisation)) == 1


async def test_only_an_owner_makes_or_changes_owners(people: People) -> None:
    organisation, alice, bob = await with_bob(people, "admin")
    organisations = people.organisations

    for refused in (
        organisations.change_role(organisation, bob, "owner", BOB, acting="admin"),
        organisations.change_role(organisation, alice, "viewer", BOB, acting="admin"),
        organisations.remove_member(organisation, alice, BOB, acting="admin"),
    ):
        with pytest.raises(PermissionDenied, match="Only an owner"):
            await refused

    assert await roles_in(people, organisation) == [("alice@example.com", "owner"), ("bob@example.com", "admin")]


async def test_another_organisations_member_is_no_member(people: People) -> None:
    alices, _, _ = await with_bob(people, "viewer")
    charlies = await people.create("charlie@example.com", "Charlie")
    charlie = await people.user("charlie@example.com")

    with pytest.raises(NotMember):
        await people.organisations.change_role(alices, charlie.id, "viewer", BOB)
    assert await roles_in(people, charlies.id) == [("charlie@example.com", "owner")]


async def test_a_member_joins_once(people: People) -> None:
    organisation, _, _ = await with_bob(people, "viewer")

    with pytest.raises(InvalidRequest, match="a member already"):
        await people.organisations.add_member(organisation, await people.user("bob@example.com"), "admin", BOB)
    assert await roles_in(people, organisation) == [("alice@example.com", "owner"), ("bob@example.com", "viewer")]


def test_a_role_says_what_its_members_may() -> None:
    may = {role: sorted(PERMISSIONS[role]) for role in ROLES}
    everything = ["billing", "keys", "members", "see", "settings", "use"]
    assert may == {
        "owner": everything,
        "admin": everything,
        "developer": ["keys", "see", "use"],
        "billing": ["billing", "see"],
        "viewer": ["see"],
    }
    assert role_of("viewer") == "viewer"
    with pytest.raises(InvalidRequest, match="no role 'root'"):
        role_of("root")
