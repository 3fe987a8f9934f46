"""The API keys page, as a browser without scripts walks it."""

import json
import re
from collections.abc import Iterator

import pytest
from xai_sdk import Client

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.api_key import ApiKey
from leadline.accounts.roles import Role
from leadline.accounts.users import NewUser
from tests.console.visitor import PASSWORD, Visitor, text_of
from tests.raw import post
from tests.scripted.server import EMAIL, ScriptedServer

SECRET = re.compile(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}")


@pytest.fixture
def alice(server: ScriptedServer) -> Iterator[Visitor]:
    """The owner, signed in."""
    visitor = Visitor(server).sign_in(EMAIL, "correct horse")
    yield visitor
    visitor.close()


def member(server: ScriptedServer, role: Role) -> Visitor:
    """Somebody of Alice's organisation in this role, signed in."""
    email = f"{role}@northwind.example"

    async def join() -> None:
        person = await NewUser.of(server.instance.passwords, email, PASSWORD)
        await server.instance.organisations.join(person, server.organisation_id, role, COMMAND_LINE)

    server.run(join())
    return Visitor(server).sign_in(email)


def keys(server: ScriptedServer) -> dict[str, ApiKey]:
    return {key.name: key for key in server.instance.keys.of(server.organisation_id)}


def create(visitor: Visitor, name: str, **fields: str) -> str:
    """The new key's text."""
    made = visitor.post("/keys", name=name, **fields)
    assert made.status_code == 303, text_of(made)
    found = SECRET.search(visitor.get(made.headers["location"]).text)
    assert found is not None
    return found[0]


def answer(server: ScriptedServer, api_key: str, model: str = "echo") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    encoded = json.dumps(body).encode()
    return post(server.port, "/v1/chat/completions", api_key, encoded, content_type="application/json").status


def test_a_new_key_is_shown_once_and_works(server: ScriptedServer, alice: Visitor) -> None:
    made = alice.post("/keys", name="web")
    first, second = (alice.get(made.headers["location"]) for _ in range(2))
    [text] = set(SECRET.findall(first.text))

    assert answer(server, text) == 200
    assert not SECRET.search(second.text)
    assert "shown once" in text_of(second)
    assert text not in alice.get(f"/keys/{keys(server)['web'].id}").text
    assert text[-4:] in alice.get("/keys").text


def test_a_new_secret_is_in_nothing_that_others_can_read(server: ScriptedServer, alice: Visitor) -> None:
    made = alice.post("/keys", name="web")
    cookie, page = made.headers["set-cookie"], made.headers["location"]
    eve = Visitor(server)
    eve.http.cookies.update(alice.http.cookies)
    eve.http.cookies.delete("leadline_session")
    unsigned = eve.get(page)
    [text] = set(SECRET.findall(alice.get(page).text))
    eve.close()

    assert text not in cookie
    assert unsigned.status_code == 303
    assert page.endswith("/secret")


def test_the_form_decides_what_a_key_may_do(server: ScriptedServer, alice: Visitor) -> None:
    text = create(
        alice,
        "narrow",
        endpoints="chat",
        models="echo",
        cap="$20.50",
        period="week",
        expires="30d",
        requests_per_minute="60",
    )
    key = keys(server)["narrow"]

    assert (key.endpoints, key.models) == ({"chat"}, {"echo"})
    assert key.cap is not None
    assert (key.cap.ticks, key.cap.period) == (205_000_000_000, "week")
    assert key.limit is not None
    assert key.limit.requests_per_minute == 60
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at) // 86_400_000_000 in (29, 30)
    assert (answer(server, text), answer(server, text, "slow")) == (200, 403)


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("name", "", "1 to 100 printable characters"),
        ("cap", "much", "is not a cap"),
        ("cap", "0", "is not a cap"),
        ("expires", "yesterday", "is not an expiry"),
        ("requests_per_minute", "-1", "is not a number"),
        ("tokens_per_minute", "1e9", "is not a number"),
        ("endpoints", "telepathy", "There is no endpoint"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_the_rest_stays_typed(
    server: ScriptedServer, alice: Visitor, field: str, text: str, says: str
) -> None:
    fields = {"name": "typed by hand", "cap": "12.34", "period": "day", field: text}
    refused = alice.post("/keys", fields)

    assert refused.status_code == 400
    assert re.search(rf'id="field-{field}-error">.*?{says}', refused.text, re.DOTALL)
    assert "<dialog" in refused.text
    assert ('value="typed by hand"' in refused.text) == (field != "name")
    assert set(keys(server)) == {"first-key"}


def test_changes_hold_from_the_next_request_on(server: ScriptedServer, alice: Visitor) -> None:
    text = create(alice, "web")
    path = f"/keys/{keys(server)['web'].id}"
    statuses = [answer(server, text)]
    for action in ("disable", "enable"):
        alice.post(f"{path}/{action}")
        statuses.append(answer(server, text))
    alice.post(path, name="web", models="slow")
    statuses.append(answer(server, text))
    alice.post(path, name="renamed")
    statuses.append(answer(server, text))

    assert statuses == [200, 401, 200, 403, 200]
    assert "renamed" in text_of(alice.get("/keys"))


def test_a_rotated_key_has_a_new_secret_and_the_old_one_for_a_while(server: ScriptedServer, alice: Visitor) -> None:
    old = create(alice, "web")
    path = f"/keys/{keys(server)['web'].id}"
    rotated = alice.post(f"{path}/rotate", overlap="1h")
    [new] = set(SECRET.findall(alice.get(rotated.headers["location"]).text))
    both = answer(server, old), answer(server, new)
    again = alice.post(f"{path}/rotate", overlap="0s")
    [newest] = set(SECRET.findall(alice.get(again.headers["location"]).text))

    assert both == (200, 200)
    assert [answer(server, one) for one in (old, new, newest)] == [401, 401, 200]


def test_a_key_in_use_is_revoked_by_typing_its_name(server: ScriptedServer, alice: Visitor) -> None:
    text = create(alice, "web")
    path = f"/keys/{keys(server)['web'].id}"
    answer(server, text)
    refused = alice.post(f"{path}/revoke")
    mistyped = alice.post(f"{path}/revoke", confirmation="wob")
    works = answer(server, text)
    revoked = alice.post(f"{path}/revoke", confirmation="web")

    assert (refused.status_code, mistyped.status_code, works) == (400, 400, 200)
    assert "it was used in the last 24 hours" in text_of(refused)
    assert revoked.status_code == 303
    assert answer(server, text) == 401
    assert alice.post(f"{path}/enable").status_code == 400
    assert alice.post(path, name="undead").status_code == 400


def test_the_page_of_a_new_key_hears_of_its_first_request(server: ScriptedServer, alice: Visitor) -> None:
    text = create(alice, "web")
    key = keys(server)["web"]
    path = f"/keys/{key.id}/first-request?since={key.created_at}"
    before = alice.get(path).json()
    answer(server, server.api_key)
    others = alice.get(path).json()
    answer(server, text)
    after = alice.get(path).json()["request"]
    [charge] = [one for one in server.charges() if one.key_id == key.id]

    assert before == others == {"request": None}
    assert after["status"] == "finished"
    assert after["tokens"] > 0
    assert after["id"] == charge.request_id
    assert int(float(after["cost"].removeprefix("$")) * 10**10 + 0.5) == -charge.amount_ticks


def test_a_refused_first_request_says_why(server: ScriptedServer, alice: Visitor) -> None:
    text = create(alice, "narrow", models="slow")
    key = keys(server)["narrow"]
    answer(server, text)
    server.run(server.instance.ledger.write_noted())

    heard = alice.get(f"/keys/{key.id}/first-request?since={key.created_at}").json()["request"]
    assert (heard["status"], heard["error"]) == ("refused", "permission_denied")


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_only_roles_with_the_right_change_keys(server: ScriptedServer, role: Role) -> None:
    visitor, key = member(server, role), keys(server)["first-key"]
    may = role == "developer"
    listed, one = visitor.get("/keys"), visitor.get(f"/keys/{key.id}")
    posts = [
        visitor.post(path, fields).status_code
        for path, fields in (
            ("/keys", {"name": "theirs"}),
            (f"/keys/{key.id}", {"name": "theirs too"}),
            (f"/keys/{key.id}/disable", {}),
            (f"/keys/{key.id}/enable", {}),
            (f"/keys/{key.id}/rotate", {}),
            (f"/keys/{key.id}/revoke", {}),
        )
    ]
    visitor.close()

    assert (listed.status_code, one.status_code) == (200, 200)
    assert ("Create key" in text_of(listed)) == may
    assert ("Revoke" in text_of(one)) == may
    assert posts == ([303] * 6 if may else [403] * 6)
    assert (keys(server) == {"first-key": key}) == (not may)


def test_keys_of_another_organisation_are_not_there(server: ScriptedServer, alice: Visitor) -> None:
    async def other() -> str:
        from leadline.administration.commands.accounts import open_organisation

        person = await NewUser.of(server.instance.passwords, "charlie@southwind.example", PASSWORD)
        organisation = await open_organisation(server.instance, COMMAND_LINE, person, "Southwind")
        key, _ = await server.instance.keys.create(organisation.id, "secret project", COMMAND_LINE)
        return key.id

    key_id = server.run(other())
    gets = [alice.get(f"/keys/{key_id}{rest}") for rest in ("", "/secret", "/first-request")]
    posts = [
        alice.post(f"/keys/{key_id}{rest}", name="mine", confirmation="secret project")
        for rest in ("", "/rotate", "/disable", "/enable", "/revoke")
    ]
    never = alice.get("/keys/00000000")

    assert {one.status_code for one in gets + posts} == {404}
    assert gets[0].text == never.text
    assert all("secret project" not in one.text for one in [*gets, *posts, alice.get("/keys?show=all")])
    found = server.instance.keys.find_by_id(key_id)
    assert found is not None
    assert (found.name, found.state(found.created_at), found.previous_expires_at) == ("secret project", "active", None)


def test_the_list_is_searched_and_told_apart_by_state(server: ScriptedServer, alice: Visitor) -> None:
    for name in ("alpha", "beta", "gamma"):
        create(alice, name)
    known = keys(server)
    alice.post(f"/keys/{known['beta'].id}/disable")
    alice.post(f"/keys/{known['gamma'].id}/revoke")

    def named(path: str) -> set[str]:
        return {name for name in known if f">{name}</a>" in alice.get(path).text}

    assert named("/keys") == {"first-key", "alpha"}
    assert named("/keys?show=disabled") == {"beta"}
    assert named("/keys?show=revoked") == {"gamma"}
    assert named("/keys?show=all") == {"first-key", "alpha", "beta", "gamma"}
    assert named("/keys?show=all&q=ALPH") == {"alpha"}
    assert named(f"/keys?q={known['alpha'].id}") == {"alpha"}
    assert named("/keys?show=<script>") == {"first-key", "alpha"}


def test_when_and_from_where_a_key_was_used_is_shown(server: ScriptedServer, alice: Visitor) -> None:
    over_http, over_grpc = create(alice, "web"), create(alice, "rpc")
    unused = text_of(alice.get(f"/keys/{keys(server)['web'].id}"))
    answer(server, over_http)
    with Client(api_key=over_grpc, api_host=server.grpc_address) as client:
        client.models.list_language_models()
    pages = [text_of(alice.get(f"/keys/{keys(server)[name].id}")) for name in ("web", "rpc")]

    assert "Last used Never" in unused
    for page in pages:
        assert re.search(r"Last used (just now|\d+ seconds? ago) (127\.0\.0\.1|::1)", page), page


def test_every_change_is_in_the_audit_log(server: ScriptedServer, alice: Visitor) -> None:
    create(alice, "web")
    path = f"/keys/{keys(server)['web'].id}"
    alice.post(path, name="web", cap="5")
    alice.post(f"{path}/rotate")
    alice.post(f"{path}/disable")
    alice.post(f"{path}/enable")
    alice.post(f"{path}/revoke")
    rows = server.run(server.instance.database.rows("SELECT action, actor_name, address FROM audit_log ORDER BY id"))

    mine = [row for row in rows if row[1] == EMAIL and row[0].startswith("keys ")]
    assert [action for action, *_ in mine] == [
        f"keys {what}" for what in ("create", "change", "rotate", "disable", "enable", "revoke")
    ]
    assert {address for *_, address in mine} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "scopes",
    [
        {"endpoints": ["none"], "models": ["none"]},
        {"endpoints": ["chat"], "models": ["claude-x", "not-there-yet"]},
        {"endpoints": [], "models": []},
    ],
)
def test_a_form_that_is_sent_as_it_came_changes_no_scope(
    server: ScriptedServer, alice: Visitor, scopes: dict[str, list[str]]
) -> None:
    server.command("keys create", name="scoped", email=None, options=scopes)
    before = keys(server)["scoped"]
    assert alice.get("/keys").status_code == 200
    page = alice.get(f"/keys/{before.id}")
    ticked = {
        name: re.findall(rf'<input type="checkbox"[^>]*name="{name}"[^>]*value="([^"]*)"[^>]* checked', page.text)
        for name in ("endpoints", "models")
    }
    assert ticked == scopes
    saved = alice.post(f"/keys/{before.id}", {"name": "scoped", **ticked})
    assert saved.status_code == 303
    after = keys(server)["scoped"]
    assert (after.endpoints, after.models) == (before.endpoints, before.models)
    # What is nothing cannot be something beside it.
    if "none" in scopes["endpoints"]:
        mixed = alice.post(f"/keys/{before.id}", {"name": "scoped", "endpoints": ["none", "chat"]})
        assert (mixed.status_code, "stands alone" in mixed.text) == (400, True)


def test_the_form_offers_ninety_days_and_the_list_shows_two_weeks(server: ScriptedServer, alice: Visitor) -> None:
    form = alice.get("/keys/new").text
    for _ in range(3):
        answer(server, server.api_key)

    assert '<option value="90d" selected>' in form
    assert 'aria-label="3 requests in 14 days"' in alice.get("/keys").text


def test_keys_that_are_wider_than_they_need_to_be_are_told_with_the_reason(
    server: ScriptedServer, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(alice, "bounded", cap="5", expires="365d")
    create(alice, "endless", cap="5", expires="")
    today = server.instance.keys.clock
    said = text_of(alice.get("/keys?show=attention"))
    monkeypatch.setattr(server.instance.keys, "clock", lambda: today() + 31 * 86_400_000_000)
    alice = Visitor(server).sign_in(EMAIL, "correct horse")
    later = text_of(alice.get("/keys?show=attention"))
    alice.close()

    assert "bounded" not in said
    assert re.search(r"endless ll_\S+ Never expires", said)
    assert re.search(r"first-key ll_\S+ No spend cap Never expires", said)
    assert re.search(r"bounded ll_\S+ Unused for 30 days", later)
