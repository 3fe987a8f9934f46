"""What an invitation is worth when much happens at once, or its inviter is no longer who he was."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.roles import Role
from tests.console.organisation import People, audit_rows, invitation, members, user_id
from tests.console.visitor import PASSWORD, Visitor
from tests.scripted.server import ScriptedServer

BOB, ADMIN = "bob@northwind.example", "admin@northwind.example"


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


def invite(visitor: Visitor, role: Role = "admin", email: str = BOB) -> str:
    """The link's token."""
    made = visitor.post("/members", email=email, role=role)
    return invitation(visitor.get(made.headers["location"]).text).partition("token=")[2]


def change(server: ScriptedServer, email: str, role: Role | None) -> None:
    """Another role, or none."""
    organisations, organisation_id = server.instance.organisations, server.organisation_id
    of = user_id(server, email)
    server.run(
        organisations.remove_member(organisation_id, of, COMMAND_LINE)
        if role is None
        else organisations.change_role(organisation_id, of, role, COMMAND_LINE)
    )


def joins(people: People, token: str) -> tuple[int, int]:
    """The statuses of the page and of its form."""
    bob = people.guest()
    return bob.get(f"/invite?token={token}").status_code, bob.post(
        "/invite", token=token, password=PASSWORD
    ).status_code


@pytest.mark.parametrize("became", [None, "developer", "viewer", "billing"])
def test_who_may_invite_no_longer_has_not_invited(server: ScriptedServer, people: People, became: Role | None) -> None:
    token = invite(people.member("admin"))
    change(server, ADMIN, became)

    assert joins(people, token) == (410, 410)
    assert BOB not in members(server)


def test_an_owner_who_became_less_makes_no_owners(server: ScriptedServer, people: People) -> None:
    second = people.member("owner", "second@northwind.example")
    owner, admin = invite(second, "owner"), invite(second, "admin", "dora@northwind.example")
    change(server, "second@northwind.example", "admin")

    assert joins(people, owner) == (410, 410)
    assert joins(people, admin) == (200, 303)


def test_a_suspended_user_has_not_invited(server: ScriptedServer, people: People) -> None:
    token = invite(people.member("admin"))

    async def suspend() -> None:
        await server.instance.users.suspend(await server.instance.users.named(ADMIN), COMMAND_LINE)

    server.run(suspend())

    assert joins(people, token) == (410, 410)


def test_what_the_command_line_invited_stays(server: ScriptedServer, people: People) -> None:
    made = server.command("users invite", email=BOB, role="owner")

    assert joins(people, made["link"].partition("token=")[2]) == (200, 303)
    assert members(server)[BOB].role == "owner"


def test_fifty_who_accept_at_once_are_one_member(server: ScriptedServer, people: People) -> None:
    token = invite(people.owner(), "viewer")
    guests = [people.guest() for _ in range(50)]
    with ThreadPoolExecutor(25) as pool:
        statuses = list(
            pool.map(lambda guest: guest.post("/invite", token=token, password=PASSWORD).status_code, guests)
        )

    inside = [guest.get("/home").status_code for guest in guests]

    assert inside.count(200) == 1
    assert set(statuses) <= {303, 400, 410, 503}
    assert len(audit_rows(server, "members add")) == 1
    assert [email for email in members(server) if email == BOB] == [BOB]


def test_one_who_joins_from_many_windows_at_once_is_one_member(server: ScriptedServer, people: People) -> None:
    token, bob = invite(people.owner(), "viewer"), people.stranger(BOB)
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda _: bob.post("/invite", token=token).status_code, range(20)))

    assert statuses.count(303) == 1
    assert set(statuses) <= {303, 400, 410}
    assert len(audit_rows(server, "members add")) == 1


def test_who_leaves_twice_at_once_leaves_once(server: ScriptedServer, people: People) -> None:
    leaver = people.member("admin")
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda _: leaver.post("/members/leave").status_code, range(10)))

    assert set(statuses) <= {303, 400, 404}
    assert len(audit_rows(server, "members remove")) == 1


def test_owners_who_demote_each_other_at_once_leave_one(server: ScriptedServer, people: People) -> None:
    alice, second = people.owner(), people.member("owner", "second@northwind.example")
    ids = {email: member.user.id for email, member in members(server).items()}
    tries = [
        lambda: alice.post(f"/members/{ids['second@northwind.example']}", role="viewer"),
        lambda: second.post(f"/members/{ids['alice@northwind.example']}", role="viewer"),
        lambda: alice.post("/members/leave"),
        lambda: second.post("/members/leave"),
    ] * 3
    with ThreadPoolExecutor(12) as pool:
        statuses = {answer.status_code for answer in pool.map(lambda one: one(), tries)}

    assert statuses <= {303, 400, 403, 404}
    assert [member.role for member in members(server).values()].count("owner") >= 1


def test_nobody_gives_himself_more(server: ScriptedServer, people: People) -> None:
    admin, developer = people.member("admin"), people.member("developer")
    own = {email: member.user.id for email, member in members(server).items()}
    statuses = [
        admin.post(f"/members/{own[ADMIN]}", role="owner").status_code,
        admin.post("/members", email=BOB, role="owner").status_code,
        admin.post(f"/members/{own['alice@northwind.example']}/remove").status_code,
        developer.post(f"/members/{own['developer@northwind.example']}", role="admin").status_code,
        developer.post("/members", email=BOB, role="viewer").status_code,
    ]

    assert statuses == [403] * 5
    assert {email: member.role for email, member in members(server).items()} == {
        **{ADMIN: "admin", "alice@northwind.example": "owner", "developer@northwind.example": "developer"}
    }
    assert server.run(server.instance.links.open("invite", server.organisation_id)) == []


def test_a_renewed_invitation_is_by_who_renews_it(server: ScriptedServer, people: People) -> None:
    invite(people.member("admin"))
    [link] = server.run(server.instance.links.open("invite", server.organisation_id))
    alice = people.owner()
    made = alice.post(f"/members/invitations/{link.id}/renew")
    token = invitation(alice.get(made.headers["location"]).text).partition("token=")[2]
    change(server, ADMIN, None)

    assert joins(people, token) == (200, 303)
