"""What goes by mail: sign-up, a new password, invitations. And the second factor."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.mail import Mail
from leadline.accounts.users import User
from leadline.money import Ticks
from tests.console.visitor import PASSWORD, Visitor, text_of
from tests.raw import post
from tests.scripted.server import EMAIL, ScriptedServer

ALICE_S = "correct horse"
NEW = "bob@northwind.example"


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[ScriptedServer]:
    """A server on which everybody may sign up."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text('[accounts]\nsign_up = "open"\n', "utf-8")
    server = ScriptedServer(tmp_path / "data")
    yield server
    server.stop()


_visitors: list[Visitor] = []


@pytest.fixture(autouse=True)
def leaving() -> Iterator[None]:
    """Nobody stays when a test ends."""
    yield
    while _visitors:
        _visitors.pop().close()


def visitors(server: ScriptedServer, count: int) -> list[Visitor]:
    new = [Visitor(server) for _ in range(count)]
    _visitors.extend(new)
    return new


def mails(server: ScriptedServer) -> list[Mail]:
    return server.run(server.instance.outbox.newest())


def link_in(mail: Mail) -> str:
    found = re.search(r"https?://[^/\s]+(/\S+)", mail.text.replace("\n", " "))
    assert found is not None, mail.text
    return found[1]


def token_of(link: str) -> str:
    return link.partition("token=")[2]


def signing_up(email: str = NEW) -> dict[str, str]:
    return {"name": "Bob", "email": email, "email_again": email, "org": "Southwind", "password": PASSWORD}


def user(server: ScriptedServer, email: str) -> User | None:
    return server.run(server.instance.users.find(email))


def test_without_being_open_nobody_signs_up(server: ScriptedServer) -> None:
    [bob] = visitors(server, 1)

    assert "Sign-up is closed" in text_of(bob.get("/signup"))
    assert bob.post("/signup", signing_up()).status_code == 404
    assert mails(server) == []


def test_who_signs_up_is_there_once_he_came_back_by_the_mail(open_server: ScriptedServer) -> None:
    bob, scanner = visitors(open_server, 2)
    sent = bob.post("/signup", signing_up())
    [mail] = mails(open_server)
    link = link_in(mail)
    before = user(open_server, NEW)
    looked = scanner.get(link)
    finished = bob.post("/verify", token=token_of(link))
    made = user(open_server, NEW)

    assert "Look at your mail" in text_of(sent)
    assert before is None
    assert NEW in text_of(looked)
    assert finished.headers["location"] == "/home"
    assert "Southwind" in text_of(bob.get("/home"))
    assert made is not None
    assert made.verified_at is not None
    assert not made.is_admin
    assert scanner.post("/verify", token=token_of(link)).status_code == 410


def test_sign_up_tells_nobody_who_is_here(open_server: ScriptedServer) -> None:
    bob, eve = visitors(open_server, 2)
    new, known = bob.post("/signup", signing_up()), eve.post("/signup", signing_up(EMAIL))

    assert new.text.replace(NEW, "…") == known.text.replace(EMAIL, "…")
    assert ["already" in mail.text for mail in mails(open_server)] == [True, False]
    [organisation] = {one.name for one in open_server.run(open_server.instance.organisations.all())}
    assert organisation == "Northwind"


def test_who_signs_up_may_have_to_wait_for_an_administrator(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text('[accounts]\nsign_up = "approval"\n', "utf-8")
    server = ScriptedServer(tmp_path / "data")
    bob, alice = visitors(server, 2)
    bob.post("/signup", signing_up())
    bob.post("/verify", token=token_of(link_in(mails(server)[0])), password=PASSWORD)
    made = bob.get(bob.post("/keys", name="early").headers["location"])
    [text] = set(re.findall(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", made.text))
    body = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}'
    waits, refused = text_of(bob.get("/home")), post(server.port, "/v1/chat/completions", text, body).status
    [told] = [mail for mail in mails(server) if mail.to == EMAIL]
    alice.sign_in(EMAIL, ALICE_S)
    let_in = alice.post(f"{link_in(told)}/resume")
    [key] = [one for one in server.instance.keys.of(link_in(told).rpartition("/")[2]) if one.name == "early"]
    server.run(server.instance.ledger.grant(key.organisation_id, Ticks(10**10), "welcome"))

    assert "waits for an administrator" in waits
    assert refused == 403
    assert let_in.status_code == 303
    assert "waits for an administrator" not in text_of(bob.get("/home"))
    assert post(server.port, "/v1/chat/completions", text, body).status == 200
    server.stop()


def test_two_sign_ups_with_one_email_are_one_user(open_server: ScriptedServer) -> None:
    bob, again = visitors(open_server, 2)
    bob.post("/signup", signing_up())
    again.post("/signup", signing_up())
    newest, oldest = (token_of(link_in(mail)) for mail in mails(open_server))

    assert bob.post("/verify", token=oldest).status_code == 303
    assert again.post("/verify", token=newest).status_code == 410


def test_whoever_has_the_mail_alone_takes_no_password_of_others(open_server: ScriptedServer) -> None:
    eve, bob = visitors(open_server, 2)
    eve.post("/signup", signing_up())
    token = token_of(link_in(mails(open_server)[0]))
    looked, clicked = bob.get(f"/verify?token={token}"), bob.post("/verify", token=token)
    guessed, nobody = bob.post("/verify", token=token, password="not this one"), user(open_server, NEW)
    known = bob.post("/verify", token=token, password=PASSWORD)

    assert "The password that you chose" in text_of(looked)
    assert (clicked.status_code, guessed.status_code, nobody) == (400, 400, None)
    assert known.headers["location"] == "/home"


def test_a_new_password_is_chosen_by_a_link_that_works_once(server: ScriptedServer) -> None:
    alice, elsewhere, eve = visitors(server, 3)
    elsewhere.sign_in(EMAIL, ALICE_S)
    asked, unknown = alice.post("/forgot", email=EMAIL), eve.post("/forgot", email=NEW)
    [mail] = mails(server)
    token = token_of(link_in(mail))
    short = alice.post("/reset", token=token, password="short")
    changed = alice.post("/reset", token=token, password=PASSWORD)

    assert asked.text.replace(EMAIL, "…") == unknown.text.replace(NEW, "…")
    assert short.status_code == 400
    assert changed.headers["location"] == "/login"
    assert "Your password was changed" in text_of(alice.get("/login"))
    assert elsewhere.get("/home").status_code == 303
    assert alice.post("/reset", token=token, password=PASSWORD + "!").status_code == 410
    assert eve.post("/login", email=EMAIL, password=ALICE_S).status_code == 401
    assert alice.sign_in(EMAIL).get("/home").status_code == 200


@pytest.mark.parametrize("page", ["setup", "verify", "reset", "invite"])
@pytest.mark.parametrize("token", ["", "nonsense", "x" * 500, "%00", "%ff"])
def test_a_link_that_never_was_is_gone(server: ScriptedServer, page: str, token: str) -> None:
    [eve] = visitors(server, 1)

    assert eve.get(f"/{page}?token={token}").status_code == 410
    assert eve.post(f"/{page}", token=token, password=PASSWORD).status_code == 410


def invited(server: ScriptedServer, email: str, role: str = "developer") -> str:
    facts = {"role": role, "invited_by": EMAIL}
    return server.run(server.instance.links.make("invite", email, facts, server.organisation_id))


def test_an_invitation_makes_a_member_with_its_email_and_its_role(server: ScriptedServer) -> None:
    [bob] = visitors(server, 1)
    token = invited(server, NEW)
    shown = bob.get(f"/invite?token={token}")
    joined = bob.post("/invite", token=token, name="Bob", password=PASSWORD, email="other@example.org", role="owner")
    members = server.run(server.instance.organisations.members(server.organisation_id))

    assert "Join Northwind" in text_of(shown)
    assert joined.headers["location"] == "/home"
    assert [(member.user.email, member.role) for member in members][1:] == [(NEW, "developer")]
    assert bob.post("/invite", token=token, password=PASSWORD).status_code == 410


def test_whoever_has_an_account_joins_once_he_is_signed_in_under_the_invited_email(
    open_server: ScriptedServer,
) -> None:
    bob, eve = visitors(open_server, 2)
    bob.post("/signup", signing_up())
    bob.post("/verify", token=token_of(link_in(mails(open_server)[0])))
    token = invited(open_server, NEW)
    eve.sign_in(EMAIL, ALICE_S)
    theirs = eve.post("/invite", token=token, password=PASSWORD)
    [stranger] = visitors(open_server, 1)
    unsigned = stranger.post("/invite", token=token, password="a guess of it all")
    mine = bob.post("/invite", token=token)

    assert theirs.status_code == 409
    assert unsigned.headers["location"].startswith("/login?next=")
    assert mine.headers["location"] == "/home"
    assert "Northwind" in text_of(bob.get("/home"))
    memberships = open_server.run(open_server.instance.organisations.of_user(_id(open_server, NEW)))
    assert [(one.organisation, one.role) for one in memberships] == [("Southwind", "owner"), ("Northwind", "developer")]


def _id(server: ScriptedServer, email: str) -> str:
    found = user(server, email)
    assert found is not None
    return found.id


def test_a_member_of_two_organisations_looks_at_one_and_changes_only_that(open_server: ScriptedServer) -> None:
    [bob] = visitors(open_server, 1)
    bob.post("/signup", signing_up())
    bob.post("/verify", token=token_of(link_in(mails(open_server)[0])))
    bob.post("/invite", token=invited(open_server, NEW, "viewer"))
    [southwind, northwind] = open_server.run(open_server.instance.organisations.of_user(_id(open_server, NEW)))
    refused = bob.post("/keys", name="not-his")
    bob.post("/organisation", organisation_id=southwind.organisation_id)
    made = bob.post("/keys", name="his-own")
    foreign = bob.post("/organisation", organisation_id="org_of_somebody_else")

    assert (refused.status_code, made.status_code, foreign.status_code) == (403, 303, 404)
    names = {
        one.organisation: [key.name for key in open_server.instance.keys.of(one.organisation_id)]
        for one in (southwind, northwind)
    }
    assert names == {"Southwind": ["his-own"], "Northwind": ["first-key"]}


def with_two_factor(server: ScriptedServer) -> tuple[Any, list[str]]:
    """Alice's phone, and her recovery codes."""

    async def turn_on() -> tuple[Any, list[str]]:
        alice = await server.instance.users.named(EMAIL)
        enrolment = await server.instance.two_factor.begin(alice)
        phone = pyotp.TOTP(enrolment.secret)
        step = server.instance.keys.clock() // 30_000_000
        codes = await server.instance.two_factor.confirm(alice, phone.generate_otp(step - 1), COMMAND_LINE)
        return phone, codes

    return server.run(turn_on())


def test_with_a_second_factor_the_password_alone_opens_nothing(server: ScriptedServer) -> None:
    phone, codes = with_two_factor(server)
    alice, eve = visitors(server, 2)
    halfway = alice.post("/login", email=EMAIL, password=ALICE_S, next="/keys")
    inside = alice.get("/home")
    wrong = alice.post("/login/code", code="000000")
    code = phone.now()
    right = alice.post("/login/code", code=code)
    eve.post("/login", email=EMAIL, password=ALICE_S)
    replayed = eve.post("/login/code", code=code)
    recovered = eve.post("/login/code", code=codes[0])

    assert halfway.headers["location"] == "/login/code"
    assert inside.status_code == 303
    assert wrong.status_code == 401
    assert right.headers["location"] == "/keys"
    assert alice.get("/home").status_code == 200
    assert replayed.status_code == 401
    assert recovered.status_code == 303
    assert eve.get("/home").status_code == 200


def test_a_code_without_the_password_opens_nothing(server: ScriptedServer) -> None:
    phone, _ = with_two_factor(server)
    [eve] = visitors(server, 1)

    assert eve.get("/login/code").headers["location"] == "/login"
    assert eve.post("/login/code", code=phone.now()).headers["location"] == "/login"
    assert eve.get("/home").status_code == 303


def test_codes_cannot_be_tried_one_after_the_other(server: ScriptedServer) -> None:
    with_two_factor(server)
    [eve] = visitors(server, 1)
    eve.post("/login", email=EMAIL, password=ALICE_S)
    statuses = [eve.post("/login/code", code=f"{number:06}").status_code for number in range(10)]

    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_where_domains_are_named_nobody_else_signs_up(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = '[accounts]\nsign_up = "open"\nemail_domains = ["northwind.example", "north.example"]\n'
    (tmp_path / "data" / "leadline.toml").write_text(text, "utf-8")
    server = ScriptedServer(tmp_path / "data")
    [bob] = visitors(server, 1)
    emails = ("bob@elsewhere.example", "bob@northwind.example.evil.example", "bob@sub.north.example", NEW)
    answers = [bob.post("/signup", signing_up(email)) for email in emails]
    sent = [mail.to for mail in mails(server)]
    bob.close()
    server.stop()

    assert [one.status_code for one in answers] == [400, 400, 400, 200]
    assert "northwind.example or north.example" in text_of(answers[0])
    assert sent == [NEW]
