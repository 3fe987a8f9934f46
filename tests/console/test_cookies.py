"""Cookies that somebody took, kept, or put there: what they open, and for whom, and how long."""

import re
from collections.abc import Iterator

import pyotp
import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.storage.sealed import Sealer
from tests.console.organisation import OWNERS_PASSWORD, People
from tests.console.visitor import Visitor
from tests.raw import Raw
from tests.scripted.server import EMAIL, ScriptedServer

SECOND = 1_000_000
SECRET = re.compile(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}")
SESSION = "leadline_session"


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


def later(server: ScriptedServer, seconds: int) -> None:
    """From now on it is later for whoever looks at keys and cookies."""
    clock = server.instance.keys.clock
    server.instance.keys.clock = lambda: clock() + seconds * SECOND


def status_with(server: ScriptedServer, cookie: str, path: str = "/home") -> int:
    raw = Raw(server.port)
    raw.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{cookie}\r\n\r\n".encode("latin-1"))
    return int(raw.read_to_end().split(b" ", 2)[1])


def new_secret(alice: Visitor) -> tuple[str, dict[str, str]]:
    """The page that shows a new key's secret once, and the cookies with which a browser asks for it."""
    made = alice.post("/keys", name="web")
    return made.headers["location"], dict(alice.http.cookies)


def test_a_kept_secret_is_gone_after_its_time_also_for_whoever_keeps_the_cookie(
    server: ScriptedServer, people: People
) -> None:
    alice = people.owner()
    path, cookies = new_secret(alice)
    thief = people.guest()
    thief.http.cookies.update(cookies)
    within = SECRET.search(thief.get(path).text)
    thief.http.cookies.update(cookies)
    later(server, 301)
    after = SECRET.search(thief.get(path).text)

    assert within
    assert not after


def test_a_kept_secret_is_for_the_session_that_made_it(server: ScriptedServer, people: People) -> None:
    alice, admin = people.owner(), people.member("admin")
    path, cookies = new_secret(alice)
    admin.http.cookies.set("leadline_secret", cookies["leadline_secret"])
    shown = admin.get(path)

    assert shown.status_code == 200
    assert not SECRET.search(shown.text)
    assert SECRET.search(alice.get(path).text)


def test_what_another_server_sealed_or_somebody_wrote_is_nothing(server: ScriptedServer, people: People) -> None:
    alice = people.owner()
    path, cookies = new_secret(alice)
    ours = server.instance.sealer
    server.instance.sealer = Sealer(b"another secret of another instance")
    alice.http.cookies.update(cookies)
    foreign = alice.get(path)
    server.instance.sealer = ours
    statuses = []
    for name in ("secret", "notice", "recovery", "invitation", "halfway", "management-secret"):
        for value in ("", "x", "=", "AAAA", "A" * 4000, "%00", '"', "\u00e9".encode().hex()):
            eve = people.guest()
            eve.http.cookies.set(SESSION, cookies[SESSION])
            eve.http.cookies.set(f"leadline_{name}", value)
            statuses.append(eve.get("/home").status_code)
            statuses.append(eve.get(path).status_code)

    assert foreign.status_code == 200
    assert set(statuses) == {200}


def test_of_two_different_sessions_neither_is_believed(server: ScriptedServer, people: People) -> None:
    token, other = (people.owner().http.cookies[SESSION] for _ in range(2))

    assert status_with(server, f"Cookie: {SESSION}={token}") == 200
    assert status_with(server, f"Cookie: {SESSION}={token}; {SESSION}={token}") == 200
    assert status_with(server, f"Cookie: {SESSION}={token}; {SESSION}={other}") == 303
    assert status_with(server, f"Cookie: {SESSION}={token}\r\nCookie: {SESSION}={other}") == 303


@pytest.mark.parametrize("name", ["\xa0{}", "{}\xa0", "\x85{}", "{}\x85", "\x1c{}", "x{}", "{}x", '"{}"'])
def test_a_name_that_only_looks_like_a_session_is_none(server: ScriptedServer, people: People, name: str) -> None:
    token = people.owner().http.cookies[SESSION]
    server.instance.base_url = "https://api.northwind.example"
    full = "__Host-session"

    assert status_with(server, f"Cookie: {full}={token}") == 200
    assert status_with(server, f"Cookie: {name.format(full)}={token}") in (303, 400)
    assert status_with(server, f"Cookie: {SESSION}={token}") == 303


def test_a_session_that_was_planted_is_not_the_one_that_is_signed_in(server: ScriptedServer, people: People) -> None:
    eve, alice = people.member("viewer"), people.guest()
    planted = eve.http.cookies[SESSION]
    alice.http.cookies.set(SESSION, planted, domain="127.0.0.1", path="/")
    alice.sign_in(EMAIL, OWNERS_PASSWORD)
    own = [cookie.value for cookie in alice.http.cookies.jar if cookie.name == SESSION]

    assert planted not in own
    assert status_with(server, f"Cookie: {SESSION}={planted}") == 303
    assert status_with(server, f"Cookie: {SESSION}={own[0]}") == 200
    assert alice.get(f"/home?session={own[0]}&{SESSION}={own[0]}").status_code == 200
    assert people.guest().get(f"/home?{SESSION}={own[0]}").status_code == 303


def test_between_password_and_code_a_changed_password_is_asked_for_again(
    server: ScriptedServer, people: People
) -> None:
    async def turn_on() -> str:
        alice = await server.instance.users.named(EMAIL)
        enrolment = await server.instance.two_factor.begin(alice)
        step = server.instance.keys.clock() // (30 * SECOND)
        await server.instance.two_factor.confirm(
            alice, pyotp.TOTP(enrolment.secret).generate_otp(step - 1), COMMAND_LINE
        )
        return enrolment.secret

    async def change() -> None:
        alice = await server.instance.users.named(EMAIL)
        await server.instance.users.change_password(alice, "seven other words for tonight", COMMAND_LINE)

    phone = pyotp.TOTP(server.run(turn_on()))
    eve = people.guest()
    eve.post("/login", email=EMAIL, password=OWNERS_PASSWORD)
    server.run(change())
    answer = eve.post("/login/code", code=phone.now())

    assert answer.headers["location"] == "/login"
    assert eve.get("/home").status_code == 303


def test_between_password_and_code_there_are_ten_minutes(server: ScriptedServer, people: People) -> None:
    async def turn_on() -> list[str]:
        alice = await server.instance.users.named(EMAIL)
        enrolment = await server.instance.two_factor.begin(alice)
        return await server.instance.two_factor.confirm(alice, pyotp.TOTP(enrolment.secret).now(), COMMAND_LINE)

    codes = server.run(turn_on())
    eve = people.guest()
    eve.post("/login", email=EMAIL, password=OWNERS_PASSWORD)
    kept = dict(eve.http.cookies)
    later(server, 601)
    late = people.guest()
    late.http.cookies.update(kept)

    assert late.post("/login/code", code=codes[0]).headers["location"] == "/login"
