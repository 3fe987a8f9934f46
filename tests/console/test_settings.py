"""The settings, as browsers without scripts walk them."""

import re
from collections.abc import Iterator

import msgspec
import pyotp
import pytest

from leadline.accounts.management_keys import OPERATIONS
from leadline.console.pages.management_keys import OPERATION_GROUPS
from tests.console.organisation import OWNERS_PASSWORD, People, audit_rows, mails, user_id
from tests.console.visitor import PASSWORD, Visitor, text_of
from tests.scripted.server import EMAIL, ScriptedServer

NEW = "seven other words for tonight"
MANAGEMENT_KEY = re.compile(r"llm_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}")
LIST_KEYS = "team-token:endpoint:ListApiKeys"


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


@pytest.fixture
def alice(people: People) -> Visitor:
    """The owner, signed in."""
    return people.owner()


def turn_on(visitor: Visitor) -> tuple[str, list[str]]:
    """The secret and the recovery codes of a second factor that is on."""
    visitor.post("/settings/two-factor/begin", password=OWNERS_PASSWORD)
    secret = re.search(r'id="totp-secret">([A-Z2-7]+)<', visitor.get("/settings/two-factor").text)
    assert secret is not None
    done = visitor.post("/settings/two-factor", code=pyotp.TOTP(secret[1]).now())
    assert done.status_code == 303, text_of(done)
    codes = re.findall(r"[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}", visitor.get(done.headers["location"]).text)
    return secret[1], codes


# ---- Oneself ----


def test_a_name_is_changed_and_the_e_mail_is_not(server: ScriptedServer, alice: Visitor) -> None:
    done = alice.post("/settings/name", name=" Alice Ahlberg ", email="other@northwind.example")

    assert done.status_code == 303
    page = alice.get("/settings")
    assert "Alice Ahlberg" in page.text
    assert re.search(r'name="email"[^>]*value="alice@northwind.example"[^>]*readonly', page.text)
    assert "Only an administrator of this server can replace it" in text_of(page)
    assert user_id(server, EMAIL)
    [row] = audit_rows(server, "users change-name")
    assert row.after == {"name": "Alice Ahlberg"}


def test_a_name_that_is_too_long_is_kept_and_refused_at_the_field(alice: Visitor) -> None:
    name = "x" * 201

    answer = alice.post("/settings/name", name=name)

    assert answer.status_code == 400
    assert f'value="{name}"' in answer.text
    assert 'aria-describedby="field-name-error' in answer.text
    assert re.search(r'id="field-name"[^>]*autofocus', answer.text)


def test_a_new_password_needs_the_present_one_and_ends_all_other_sessions(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    elsewhere = people.owner()

    wrong = alice.post("/settings/password", present="not it", password=NEW)
    weak = alice.post("/settings/password", present=OWNERS_PASSWORD, password="password12")
    still = elsewhere.get("/home").status_code
    done = alice.post("/settings/password", present=OWNERS_PASSWORD, password=NEW)

    assert (wrong.status_code, weak.status_code, still, done.status_code) == (400, 400, 200, 303)
    assert "This is not your password." in text_of(wrong)
    assert "among the first that are guessed" in text_of(weak)
    assert OWNERS_PASSWORD not in wrong.text + weak.text
    assert alice.get("/home").status_code == 200
    assert elsewhere.get("/home").headers["location"] == "/login?next=/home"
    people.guest().sign_in(EMAIL, NEW)
    assert len(audit_rows(server, "users change-password")) == 1


def test_whoever_guesses_the_password_of_an_open_session_has_to_wait(alice: Visitor) -> None:
    answers = [alice.post("/settings/password", present=f"guess {n}", password=NEW).status_code for n in range(8)]

    assert answers[0] == 400
    assert answers[-1] == 429


# ---- Sessions ----


def test_sessions_are_listed_and_each_can_be_ended(server: ScriptedServer, people: People, alice: Visitor) -> None:
    phone = people.guest()
    phone.http.headers["user-agent"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604"
    phone.sign_in(EMAIL, OWNERS_PASSWORD)
    page = text_of(alice.get("/settings"))
    sessions = server.instance.sessions.of_user(user_id(server, EMAIL))
    [other] = [session for session in sessions if "iPhone" in session.agent]

    ended = alice.post(f"/settings/sessions/{other.id}/end")

    assert "Safari on iPhone" in page
    assert page.count("This one") == 1
    assert ended.status_code == 303
    assert phone.get("/home").status_code == 303
    assert alice.get("/home").status_code == 200
    assert len(audit_rows(server, "users end-session")) == 1


def test_signing_out_everywhere_ends_this_session_too(server: ScriptedServer, people: People, alice: Visitor) -> None:
    elsewhere = people.owner()

    done = alice.post("/settings/sessions/end")

    assert done.headers["location"] == "/login"
    assert "signed out everywhere" in text_of(alice.get("/login"))
    assert {alice.get("/home").status_code, elsewhere.get("/home").status_code} == {303}
    assert len(audit_rows(server, "users end-sessions")) == 1


def test_sessions_of_others_are_as_those_that_never_were(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    carol = people.stranger()
    [mine] = server.instance.sessions.of_user(user_id(server, EMAIL))

    theirs, never = (carol.post(f"/settings/sessions/{one}/end") for one in (mine.id, "ses_nobody"))

    assert (theirs.status_code, theirs.text) == (404, never.text)
    assert alice.get("/home").status_code == 200


# ---- New devices ----


def test_a_sign_in_from_a_new_device_is_mailed_and_the_second_one_from_there_is_not(
    server: ScriptedServer, people: People
) -> None:
    firefox = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}
    updated = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:151.0) Gecko/20100101 Firefox/151.0"}
    chrome = {"user-agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/150.0.0.0 Safari/537.36"}

    def sign_in(headers: dict[str, str]) -> int:
        visitor = people.guest()
        visitor.http.headers.update(headers)
        visitor.sign_in(EMAIL, OWNERS_PASSWORD).post("/logout")
        return len([mail for mail in mails(server, EMAIL) if mail.because == "sign-in"])

    assert [sign_in(one) for one in (firefox, firefox, updated, chrome, chrome, firefox)] == [0, 0, 0, 1, 1, 1]
    [mail] = mails(server, EMAIL)
    assert "Chrome on Windows" in mail.text
    assert "127.0.0.1" in mail.text
    assert len(audit_rows(server, "users sign-in")) == 6


def test_a_wrong_password_is_neither_mailed_nor_remembered(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    guess = people.guest()
    guess.http.headers["user-agent"] = "curl/8"

    assert guess.post("/login", email=EMAIL, password="not it at all").status_code == 401
    assert mails(server, EMAIL) == []
    assert len(audit_rows(server, "users sign-in")) == 1


# ---- The second factor ----


def test_the_second_factor_is_turned_on_with_a_code_and_asked_for_from_then_on(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    refused, nothing = alice.post("/settings/two-factor/begin", password="not this"), alice.get("/settings/two-factor")
    alice.post("/settings/two-factor/begin", password=OWNERS_PASSWORD)
    page, again = alice.get("/settings/two-factor"), alice.get("/settings/two-factor")
    assert (refused.status_code, nothing.status_code) == (400, 303)
    assert "<svg" in page.text
    assert "style=" not in page.text
    assert re.findall(r'totp-secret">(\w+)', page.text) == re.findall(r'totp-secret">(\w+)', again.text)
    wrong = alice.post("/settings/two-factor", code="000 000")
    assert wrong.status_code == 400
    assert "This code is not right" in text_of(wrong)

    secret, codes = turn_on(alice)

    assert len(codes) == 10
    assert alice.get("/settings/two-factor/codes").status_code == 303, "they are shown once"
    assert "10 of 10 recovery codes are left" in text_of(alice.get("/settings"))
    assert "/settings/two-factor/off" in alice.get("/settings").text
    bob = people.guest()
    asked = bob.post("/login", email=EMAIL, password=OWNERS_PASSWORD)
    assert asked.headers["location"] == "/login/code"
    assert bob.get("/home").status_code == 303
    assert bob.post("/login/code", code=codes[0]).status_code == 303
    assert bob.get("/home").status_code == 200
    assert "9 of 10 recovery codes are left" in text_of(alice.get("/settings"))
    assert secret not in alice.get("/settings").text


def test_turning_it_off_and_new_recovery_codes_need_the_password(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    _, codes = turn_on(alice)

    wrong = alice.post("/settings/two-factor/off", password="not it")
    wrong_too = alice.post("/settings/two-factor/codes", password="not it")
    renewed = alice.post("/settings/two-factor/codes", password=OWNERS_PASSWORD)
    page = alice.get(renewed.headers["location"])
    off = alice.post("/settings/two-factor/off", password=OWNERS_PASSWORD)

    assert (wrong.status_code, wrong_too.status_code, off.status_code) == (400, 400, 303)
    assert re.search(r'id="factor-password"[^>]*aria-invalid', wrong.text)
    assert codes[0] not in page.text
    assert len(re.findall(r"[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}", page.text)) == 10
    people.guest().sign_in(EMAIL, OWNERS_PASSWORD)
    assert [row.after for row in audit_rows(server, "users two-factor")] == [
        {"two_factor": False},
        {"two_factor": True},
    ]


# ---- The organisation ----


def test_an_organisation_is_renamed_by_who_may(server: ScriptedServer, people: People, alice: Visitor) -> None:
    viewer = people.member("viewer")

    done = alice.post("/settings/organisation", org="Northwind Labs")
    wrong = alice.post("/settings/organisation", org=" ")
    refused = viewer.post("/settings/organisation", org="Mine")

    assert (done.status_code, wrong.status_code, refused.status_code) == (303, 400, 403)
    assert "Northwind Labs" in text_of(viewer.get("/settings/organisation"))
    assert "Save the name" not in text_of(viewer.get("/settings/organisation"))
    [row] = audit_rows(server, "accounts rename")
    assert (row.before, row.after) == ({"name": "Northwind"}, {"name": "Northwind Labs"})


def test_admins_of_the_server_open_further_organisations_and_others_where_sign_up_is_open(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    viewer = people.member("viewer")

    empty = alice.post("/organisation/new", org="")
    made, refused = alice.post("/organisation/new", org="Harbour"), viewer.post("/organisation/new", org="Mine")

    assert (made.headers["location"], refused.status_code, empty.status_code) == ("/home", 403, 400)
    assert "Harbour is there" in text_of(alice.get("/home"))
    assert "/organisation/new" not in viewer.get("/settings/organisation").text
    config = server.instance.config
    server.instance.config = msgspec.structs.replace(
        config, accounts=msgspec.structs.replace(config.accounts, sign_up="open")
    )
    assert viewer.post("/organisation/new", org="Mine").status_code == 303
    assert "Mine" in text_of(viewer.get("/home"))


# ---- Management keys ----


def test_a_management_key_is_shown_once_and_opens_what_was_ticked(server: ScriptedServer, alice: Visitor) -> None:
    made = alice.post("/settings/management-keys", {"acls": [LIST_KEYS]}, name="ci", ip_ranges="127.0.0.0/8\n::1")
    page, again = alice.get(made.headers["location"]), alice.get(made.headers["location"])

    text = MANAGEMENT_KEY.search(page.text)
    assert text is not None
    assert (again.status_code, again.headers["location"]) == (303, "/settings/management-keys")
    assert text[0] not in alice.get("/settings/management-keys").text
    key = server.instance.management_keys.authenticate(text[0], "127.0.0.1")
    assert (key.name, key.acls, key.ip_ranges) == ("ci", {LIST_KEYS}, ("127.0.0.0/8", "::1"))
    assert key.owner_id == user_id(server, EMAIL)
    listed = text_of(alice.get("/settings/management-keys"))
    assert "API keys: List" in listed
    assert "127.0.0.0/8, ::1" in listed


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"name": "ci"}, "acls-all", "Tick what this key may do"),
        ({"name": "ci", "acls": ["team-token:endpoint:Everything"]}, "acls-all", "There is no ACL"),
        ({"name": "", "acls": [LIST_KEYS]}, "field-name", "must have 1 to 100"),
        ({"name": "ci", "acls": [LIST_KEYS], "ip_ranges": "here"}, "field-ip_ranges", "is no range of addresses"),
        ({"name": "ci", "acls": [LIST_KEYS], "expires": "soon"}, "field-expires", "is not an expiry"),
    ],
)
def test_a_wrong_management_key_keeps_what_was_typed(alice: Visitor, fields, field, said) -> None:
    answer = alice.post("/settings/management-keys", {"ip_ranges": "10.0.0.0/8", "expires": "30d"} | fields)

    assert answer.status_code == 400
    assert said in text_of(answer)
    assert f'id="{field}-error"' in answer.text
    assert fields.get("ip_ranges", "10.0.0.0/8") in answer.text
    if LIST_KEYS in fields.get("acls", ()):
        assert f'value="{LIST_KEYS}" checked' in answer.text


def test_a_management_key_is_disabled_enabled_and_revoked(server: ScriptedServer, alice: Visitor) -> None:
    alice.post("/settings/management-keys", {"acls": [LIST_KEYS]}, name="ci")
    [key] = server.instance.management_keys.of(server.organisation_id)

    states = []
    for change in ("disable", "enable", "revoke", "enable"):
        status = alice.post(f"/settings/management-keys/{key.id}/{change}").status_code
        states.append((status, server.instance.management_keys.find(server.organisation_id, key.id).state(0)))

    assert states == [(303, "disabled"), (303, "active"), (303, "revoked"), (403, "revoked")]


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_who_may_not_change_settings_has_no_management_keys(
    server: ScriptedServer, people: People, alice: Visitor, role
) -> None:
    alice.post("/settings/management-keys", {"acls": [LIST_KEYS]}, name="ci")
    [key] = server.instance.management_keys.of(server.organisation_id)
    somebody = people.member(role)

    page = somebody.get("/settings/management-keys")
    tried = [
        somebody.post("/settings/management-keys", {"acls": [LIST_KEYS]}, name="mine"),
        *(somebody.post(f"/settings/management-keys/{key.id}/{one}") for one in ("disable", "enable", "revoke")),
    ]

    assert '<button class="button small"' not in page.text
    assert "Create key" not in text_of(page)
    assert [answer.status_code for answer in tried] == [403] * 4


def test_management_keys_of_others_are_as_those_that_never_were(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    alice.post("/settings/management-keys", {"acls": [LIST_KEYS]}, name="ci")
    [key] = server.instance.management_keys.of(server.organisation_id)
    carol = people.stranger()

    theirs = [carol.post(f"/settings/management-keys/{key.id}/{one}") for one in ("disable", "enable", "revoke")]
    theirs.append(carol.get(f"/settings/management-keys/{key.id}/secret"))

    assert [answer.status_code for answer in theirs] == [404] * 4
    assert carol.get("/settings/management-keys/nothing0/secret").text == theirs[-1].text
    assert "ci" not in carol.get("/settings/management-keys").text.split("<main")[1].split()


def test_the_form_knows_every_operation_of_the_management_api() -> None:
    named = [name for _, operations in OPERATION_GROUPS for name, _ in operations]

    assert sorted(named) == sorted(OPERATIONS)


def test_a_password_of_nobody_else_counts(server: ScriptedServer, people: People, alice: Visitor) -> None:
    people.member("viewer")

    assert alice.post("/settings/password", present=PASSWORD, password=NEW).status_code == 400
