"""The ways in and out, as a browser without scripts walks them."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from leadline.accounts.users import Users
from tests.console.visitor import PASSWORD, Visitor, new_name, set_up_link, text_of
from tests.scripted.server import EMAIL, ScriptedServer

ALICE_S = "correct horse"


@pytest.fixture
def visitor(server: ScriptedServer) -> Iterator[Visitor]:
    visitor = Visitor(server)
    yield visitor
    visitor.close()


def set_up_fields(token: str, **changed: str) -> dict[str, str]:
    email = new_name()
    fields = {"token": token, "name": "Mara", "email": email, "email_again": email, "org": "Harbour"}
    return fields | {"password": PASSWORD} | changed


@pytest.fixture
def empty(server: ScriptedServer) -> ScriptedServer:
    """A server as it is before anybody was set up."""

    async def forget() -> None:
        for table in ("first_user", "sessions", "memberships", "users"):
            await server.instance.database.together(
                lambda transaction, tables: [transaction.write_many(f"DELETE FROM {one}", [()]) for one in tables],
                table,
            )

    server.run(forget())
    return server


def test_a_stranger_sees_a_start_page_and_is_led_to_sign_in(visitor: Visitor) -> None:
    start, home = visitor.get("/"), visitor.get("/keys")

    assert start.status_code == 200
    assert "OpenAI" in text_of(start)
    assert (home.status_code, home.headers["location"]) == (303, "/login?next=/keys")


def test_whoever_signs_in_goes_where_he_wanted_to_go(visitor: Visitor) -> None:
    answer = visitor.post("/login", email=EMAIL, password=ALICE_S, next="/keys")

    assert (answer.status_code, answer.headers["location"]) == (303, "/keys")
    assert "API keys" in text_of(visitor.get("/keys"))


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nx: y"]
)
def test_sign_in_leads_to_no_other_host(visitor: Visitor, elsewhere: str) -> None:
    answer = visitor.post("/login", email=EMAIL, password=ALICE_S, next=elsewhere)

    assert answer.headers["location"] == "/home"


def test_a_wrong_password_and_an_unknown_email_are_answered_alike(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = visitor.post("/login", email=EMAIL, password="not this one")
    unknown = visitor.post("/login", email="nobody@northwind.example", password="not this one")

    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert wrong.text.replace(EMAIL, "…") == unknown.text.replace("nobody@northwind.example", "…")
    assert "leadline_session" not in {*wrong.cookies, *unknown.cookies}


def test_whoever_guesses_waits(visitor: Visitor) -> None:
    answers = [visitor.post("/login", email=EMAIL, password=f"guess {number}") for number in range(8)]

    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "Try again in" in text_of(answers[-1])


def test_signing_out_ends_the_session_and_not_only_the_cookie(server: ScriptedServer, visitor: Visitor) -> None:
    visitor.sign_in(EMAIL, ALICE_S)
    stolen = visitor.http.cookies["leadline_session"]
    visitor.post("/logout")
    thief = Visitor(server)
    thief.http.cookies.set("leadline_session", stolen)

    assert visitor.get("/home").status_code == 303
    assert thief.get("/home").status_code == 303
    thief.close()


def test_cookies_are_for_http_alone_and_for_this_site(visitor: Visitor) -> None:
    answer = visitor.post("/login", email=EMAIL, password=ALICE_S)

    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=lax", "path=/"))


def test_under_https_cookies_are_bound_to_the_host(server: ScriptedServer, visitor: Visitor) -> None:
    server.instance.base_url = "https://api.northwind.example"
    answer = visitor.post("/login", email=EMAIL, password=ALICE_S)

    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-session=")
    assert "secure" in cookie.lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
        {"sec-fetch-site": "", "origin": "null"},
        {"sec-fetch-site": ""},
    ],
)
def test_forms_of_other_sites_do_nothing(server: ScriptedServer, visitor: Visitor, headers: dict[str, str]) -> None:
    visitor.sign_in(EMAIL, ALICE_S)
    before = server.command("keys list", email=EMAIL)
    if not headers["sec-fetch-site"]:
        del visitor.http.headers["sec-fetch-site"]
    sent = {name: value for name, value in headers.items() if value}
    answer = visitor.http.post("/keys", data={"name": "theirs"}, headers=sent)

    assert answer.status_code == 403
    assert server.command("keys list", email=EMAIL) == before


def test_an_old_browser_is_known_by_its_origin(visitor: Visitor) -> None:
    visitor.sign_in(EMAIL, ALICE_S)
    del visitor.http.headers["sec-fetch-site"]
    answer = visitor.http.post("/keys", data={"name": "mine"}, headers={"origin": visitor.server.base_url})

    assert answer.status_code == 303


def test_every_page_says_what_browsers_may_do_with_it(visitor: Visitor) -> None:
    pages = [visitor.get(path) for path in ("/", "/login", "/docs/quickstart", "/nothing-here", "/setup?token=x")]
    visitor.sign_in(EMAIL, ALICE_S)
    pages += [visitor.get(path) for path in ("/home", "/keys", "/keys/nope")]
    pages = [page for page in pages if page.headers["content-type"].startswith("text/html")]

    assert len(pages) == 7
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"


def test_the_set_up_link_makes_the_first_administrator_once(empty: ScriptedServer) -> None:
    link, visitor = set_up_link(empty), Visitor(empty)
    token = link.partition("token=")[2]
    shown = visitor.get(link)
    fields = set_up_fields(token)
    made = visitor.post("/setup", fields)
    again = visitor.get(link)
    stranger = Visitor(empty)
    second = stranger.post("/setup", set_up_fields(token))

    assert "cannot be changed later" in text_of(shown)
    assert (made.status_code, made.headers["location"]) == (303, "/keys/new?name=first-key")
    assert "Create key" in text_of(visitor.get("/keys/new?name=first-key"))
    assert "$5.00" in text_of(visitor.get("/home"))
    assert (again.status_code, second.status_code) == (410, 410)
    assert [user.is_admin for user in empty.run(empty.instance.users.all())] == [True]
    visitor.close()
    stranger.close()


def test_of_many_first_administrators_at_once_there_is_one(empty: ScriptedServer) -> None:
    links = [set_up_link(empty).partition("token=")[2]]
    visitors = [Visitor(empty) for _ in range(24)]

    def set_up(visitor: Visitor) -> int:
        return visitor.post("/setup", set_up_fields(links[0])).status_code

    with ThreadPoolExecutor(24) as threads:
        statuses = list(threads.map(set_up, visitors))

    assert sorted(set(statuses)) == [303, 410]
    assert statuses.count(303) == 1
    assert len(empty.run(empty.instance.users.all())) == 1
    for visitor in visitors:
        visitor.close()


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("email", "not an address", "is not an e-mail address"),
        ("email_again", "other@example.org", "type it twice"),
        ("password", "short", "10 to 1024 characters"),
        ("org", "", "1 to 200 printable characters"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_nothing_is_lost(
    empty: ScriptedServer, field: str, text: str, says: str
) -> None:
    link, visitor = set_up_link(empty), Visitor(empty)
    changed = {field: text} | ({"email_again": text} if field == "email" else {})
    answer = visitor.post("/setup", set_up_fields(link.partition("token=")[2], **changed))

    assert answer.status_code == 400
    assert re.search(rf'id="field-{field}-error">.*?{re.escape(says)}', answer.text, re.DOTALL)
    assert 'value="Mara"' in answer.text
    assert PASSWORD not in answer.text
    assert empty.run(empty.instance.users.all()) == []
    assert visitor.get(link).status_code == 200
    visitor.close()


def test_a_suspended_user_is_out_at_once_and_does_not_come_in(server: ScriptedServer, visitor: Visitor) -> None:
    visitor.sign_in(EMAIL, ALICE_S)
    users: Users = server.instance.users

    async def suspend() -> None:
        from leadline.accounts.actor import COMMAND_LINE
        from leadline.accounts.users import NewUser

        other = await NewUser.of(server.instance.passwords, "root@northwind.example", PASSWORD)
        await server.instance.organisations.join(other, server.organisation_id, "owner", COMMAND_LINE)
        await users.set_admin(await users.named("root@northwind.example"), COMMAND_LINE, is_admin=True)
        await users.suspend(await users.named(EMAIL), COMMAND_LINE)

    server.run(suspend())

    assert visitor.get("/home").status_code == 303
    assert visitor.post("/login", email=EMAIL, password=ALICE_S).status_code == 401


def test_a_form_that_is_none_or_too_large_is_refused(visitor: Visitor) -> None:
    as_json = visitor.http.post("/login", json={"email": EMAIL})
    large = visitor.post("/login", email="x" * 70_000)
    many = visitor.http.post(
        "/login", content="a=1&" * 300, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    broken = visitor.http.post(
        "/login", content=b"email=%ff%fe\xff", headers={"content-type": "application/x-www-form-urlencoded"}
    )

    assert [one.status_code for one in (as_json, large, many, broken)] == [400, 413, 400, 400]
