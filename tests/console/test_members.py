"""The pages of members and invitations, as browsers without scripts walk them."""

from collections.abc import Iterator

import msgspec
import pytest

from leadline.clock import MICROSECONDS_PER_DAY
from leadline.storage.database import Write
from tests.console.organisation import People, audit_rows, invitation, mails, members, user_id
from tests.console.visitor import PASSWORD, Visitor, text_of
from tests.scripted.server import EMAIL, ScriptedServer

BOB = "bob@northwind.example"


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


@pytest.fixture
def alice(people: People) -> Visitor:
    """The owner, signed in."""
    return people.owner()


def invite(visitor: Visitor, email: str = BOB, role: str = "developer") -> str:
    """The path of the invitation's link."""
    made = visitor.post("/members", email=email, role=role)
    assert made.status_code == 303, text_of(made)
    return invitation(visitor.get(made.headers["location"]).text)


def token_of(path: str) -> str:
    return path.partition("token=")[2]


def test_an_invitation_is_shown_once_mailed_and_listed(server: ScriptedServer, alice: Visitor) -> None:
    made = alice.post("/members", email="  Bob@Northwind.example ", role="billing")
    first, again = alice.get("/members/invited"), alice.get("/members/invited")

    assert made.headers["location"] == "/members/invited"
    path = invitation(first.text)
    assert (again.status_code, again.headers["location"]) == (303, "/members")
    [mail] = mails(server, BOB)
    assert path in mail.text
    assert "alice@northwind.example invites you to join Northwind" in mail.text
    listed = text_of(alice.get("/members"))
    assert "Invitations" in listed
    assert BOB in listed
    assert token_of(path) not in alice.get("/members").text
    [row] = audit_rows(server, "members invite")
    assert (row.subject, row.after["role"], row.organisation_id) == (BOB, "billing", server.organisation_id)


def test_whoever_is_new_joins_with_a_name_and_a_password(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    path, bob = invite(alice), people.guest()

    page = bob.get(path)
    joined = bob.post("/invite", token=token_of(path), name="Bob", password=PASSWORD, email="evil@evil.example")

    assert BOB in text_of(page)
    assert (joined.status_code, joined.headers["location"]) == (303, "/home")
    assert members(server)[BOB].role == "developer"
    assert members(server)[BOB].user.name == "Bob"
    assert "evil@evil.example" not in members(server)
    assert "Northwind" in text_of(bob.get("/home"))
    assert bob.get(path).status_code == 410
    assert bob.post("/invite", token=token_of(path), password=PASSWORD).status_code == 410


def test_whoever_has_an_account_joins_when_he_is_signed_in_with_that_e_mail(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    carol = people.stranger()
    path = invite(alice, "carol@harbour.example", "viewer")
    known, guest = carol.get(path), people.guest().get(path)

    joined = carol.post("/invite", token=token_of(path))

    assert "Join Northwind" in text_of(known)
    assert "Sign in and join" in text_of(guest)
    assert joined.headers["location"] == "/home"
    assert members(server)["carol@harbour.example"].role == "viewer"
    assert "You are a member of Northwind now." in text_of(carol.get("/home"))


def test_somebody_else_who_is_signed_in_is_told_so_and_joins_nothing(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    carol, path = people.stranger(), invite(alice)

    page = carol.get(path)
    tried = carol.post("/invite", token=token_of(path), password=PASSWORD)

    assert "You are signed in as carol@harbour.example" in text_of(page)
    assert tried.status_code == 409
    assert set(members(server)) == {EMAIL}
    assert people.guest().get(path).status_code == 200


def test_where_no_new_users_are_taken_only_known_people_join(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    closed = server.instance.config.accounts
    server.instance.config = msgspec.structs.replace(
        server.instance.config, accounts=msgspec.structs.replace(closed, sign_up="off")
    )
    path, bob = invite(alice), people.guest()

    assert "takes no new users" in text_of(bob.get(path))
    assert bob.post("/invite", token=token_of(path), name="", password=PASSWORD).status_code == 400
    assert set(members(server)) == {EMAIL}


def test_an_invitation_ends_after_seven_days(server: ScriptedServer, people: People, alice: Visitor) -> None:
    path = invite(alice)
    [link] = server.run(server.instance.links.open("invite", server.organisation_id))
    assert link.expires_at - link.created_at == 7 * MICROSECONDS_PER_DAY
    over = Write("UPDATE links SET expires_at = $1 WHERE id = $2", (server.instance.keys.clock() - 1, link.id))
    server.run(server.instance.database.commit(over))

    assert people.guest().get(path).status_code == 410
    assert "over" in text_of(alice.get("/members"))


def test_a_withdrawn_invitation_works_no_more(server: ScriptedServer, people: People, alice: Visitor) -> None:
    path = invite(alice)
    [link] = server.run(server.instance.links.open("invite", server.organisation_id))

    done = alice.post(f"/members/invitations/{link.id}/withdraw")

    assert done.status_code == 303
    assert people.guest().get(path).status_code == 410
    assert alice.post(f"/members/invitations/{link.id}/withdraw").status_code == 404
    [row] = audit_rows(server, "members withdraw")
    assert row.subject == BOB


def test_a_new_link_ends_the_one_before(server: ScriptedServer, people: People, alice: Visitor) -> None:
    path = invite(alice, role="viewer")
    [link] = server.run(server.instance.links.open("invite", server.organisation_id))

    renewed = alice.post(f"/members/invitations/{link.id}/renew")
    fresh = invitation(alice.get(renewed.headers["location"]).text)

    assert people.guest().get(path).status_code == 410
    assert "as viewer" in text_of(people.guest().get(fresh))


@pytest.mark.parametrize(
    ("email", "role", "said"),
    [
        ("nobody", "viewer", "is not an e-mail address"),
        ("ALICE@northwind.example", "viewer", "is a member already"),
        ("bob@northwind.example", "king", "There is no role"),
    ],
)
def test_a_wrong_invitation_keeps_what_was_typed_and_says_what_is_wrong_at_the_field(
    alice: Visitor, email: str, role: str, said: str
) -> None:
    answer = alice.post("/members", email=email, role=role)

    assert answer.status_code == 400
    assert said in text_of(answer)
    assert f'value="{email}"' in answer.text
    assert "aria-describedby" in answer.text
    assert "<dialog" in answer.text
    assert " open>" in answer.text


def test_no_organisation_invites_without_end(server: ScriptedServer, alice: Visitor, monkeypatch) -> None:
    monkeypatch.setattr("leadline.administration.invitations.MOST_WAITING", 1)
    invite(alice)

    answer = alice.post("/members", email="carol@northwind.example", role="viewer")

    assert answer.status_code == 400
    assert "Withdraw some of them first" in text_of(answer)
    # The same e-mail again takes no further place.
    invite(alice)


def test_nobody_is_mailed_invitations_all_day(server: ScriptedServer, alice: Visitor, monkeypatch) -> None:
    for _ in range(5):
        invite(alice)

    again = alice.post("/members", email=BOB, role="viewer")
    monkeypatch.setattr("leadline.administration.invitations.MOST_A_DAY", 6)
    sixth, seventh = (alice.post("/members", email=f"{n}@northwind.example", role="viewer") for n in range(2))

    assert (again.status_code, sixth.status_code, seventh.status_code) == (400, 303, 400)
    assert "was invited 5 times in the last 24 hours" in text_of(again)
    assert "Go on tomorrow" in text_of(seventh)
    assert len(mails(server, BOB)) == 5


def test_a_role_is_changed_and_holds_from_the_next_page_on(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    bob = people.member("viewer", BOB)
    assert bob.get("/members/invite").status_code == 403

    done = alice.post(f"/members/{user_id(server, BOB)}", role="admin")

    assert done.status_code == 303
    assert bob.get("/members/invite").status_code == 200
    [row] = audit_rows(server, "members role")
    assert (row.before, row.after) == ({"role": "viewer"}, {"role": "admin"})


def test_a_member_who_is_removed_sees_nothing_any_more_and_can_come_back(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    bob = people.member("developer", BOB)

    page = alice.get(f"/members/{user_id(server, BOB)}")
    done = alice.post(f"/members/{user_id(server, BOB)}/remove")

    assert "Remove bob@northwind.example?" in text_of(page)
    assert "API keys made by bob@northwind.example go on working" in text_of(page)
    assert done.status_code == 303
    assert (bob.get("/keys").status_code, bob.get("/keys").headers["location"]) == (303, "/organisation")
    assert "You belong to no organisation" in text_of(bob.get("/organisation"))
    path = invite(alice)
    assert bob.post("/invite", token=token_of(path)).status_code == 303
    assert bob.get("/keys").status_code == 200


def test_the_last_owner_neither_leaves_nor_becomes_less(server: ScriptedServer, alice: Visitor) -> None:
    me = user_id(server, EMAIL)

    left = alice.post("/members/leave")
    told = text_of(alice.get(left.headers["location"]))
    less, removed = alice.post(f"/members/{me}", role="viewer"), alice.post(f"/members/{me}/remove")

    assert "You are the last owner" in told
    assert (less.status_code, removed.status_code) == (400, 400)
    assert "last owner" in text_of(less)
    assert members(server)[EMAIL].role == "owner"
    assert "Save the role" not in text_of(alice.get(f"/members/{me}"))


def test_with_another_owner_the_first_can_leave(server: ScriptedServer, people: People, alice: Visitor) -> None:
    bob = people.member("viewer", BOB)
    alice.post(f"/members/{user_id(server, BOB)}", role="owner")

    left = alice.post("/members/leave")

    assert left.status_code == 303
    assert set(members(server)) == {BOB}
    assert alice.get("/home").headers["location"] == "/organisation"
    assert "You left Northwind." in text_of(alice.get("/organisation"))
    assert bob.get("/members").status_code == 200


def test_only_owners_make_and_touch_owners(server: ScriptedServer, people: People, alice: Visitor) -> None:
    admin, bob = people.member("admin"), people.member("viewer", BOB)
    bob.close()
    invite(alice, "dora@northwind.example", "owner")
    [link] = server.run(server.instance.links.open("invite", server.organisation_id))

    tried = [
        admin.post("/members", email="evil@northwind.example", role="owner"),
        admin.post(f"/members/{user_id(server, BOB)}", role="owner"),
        admin.post(f"/members/{user_id(server, EMAIL)}", role="viewer"),
        admin.post(f"/members/{user_id(server, EMAIL)}/remove"),
        admin.post(f"/members/invitations/{link.id}/renew"),
    ]

    assert [answer.status_code for answer in tried] == [403] * 5
    assert members(server)[EMAIL].role == "owner"
    assert 'value="owner"' not in admin.get("/members/invite").text
    assert "Only an owner changes an owner" in text_of(admin.get(f"/members/{user_id(server, EMAIL)}"))


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_who_may_not_change_members_sees_no_buttons_and_is_refused(
    server: ScriptedServer, people: People, alice: Visitor, role
) -> None:
    invite(alice, "dora@northwind.example")
    somebody = people.member(role)

    page = somebody.get("/members")
    tried = [
        somebody.get("/members/invite"),
        somebody.get(f"/members/{user_id(server, EMAIL)}"),
        somebody.post("/members", email=BOB, role="viewer"),
        somebody.post(f"/members/{user_id(server, EMAIL)}", role="viewer"),
        somebody.post(f"/members/{user_id(server, EMAIL)}/remove"),
    ]

    assert [answer.status_code for answer in tried] == [403] * 5
    assert "alice@northwind.example" in text_of(page)
    assert "dora@northwind.example" not in page.text
    assert "/members/invite" not in page.text
    assert "Actions for" not in page.text
    left = somebody.post("/members/leave")
    assert left.status_code == 303
    assert set(members(server)) == {EMAIL}


def test_members_and_invitations_of_others_are_as_those_that_never_were(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    carol = people.stranger()
    invite(alice)
    [link] = server.run(server.instance.links.open("invite", server.organisation_id))
    me = user_id(server, EMAIL)

    theirs = [
        carol.get(f"/members/{me}"),
        carol.post(f"/members/{me}", role="viewer"),
        carol.post(f"/members/{me}/remove"),
        carol.post(f"/members/invitations/{link.id}/withdraw"),
        carol.post(f"/members/invitations/{link.id}/renew"),
    ]
    never = carol.get("/members/usr_nobody")

    assert [answer.status_code for answer in theirs] == [404] * 5
    assert theirs[0].text == never.text
    assert len(server.run(server.instance.links.open("invite", server.organisation_id))) == 1


def test_names_cannot_break_out_of_the_page(server: ScriptedServer, people: People, alice: Visitor) -> None:
    people.member("viewer", BOB, name="<script>alert(1)</script>").close()

    page = alice.get("/members")

    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
