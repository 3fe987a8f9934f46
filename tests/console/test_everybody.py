"""Every page and every form of the console, for every kind of visitor: who lacks the right reads nothing and writes
nothing, and what belongs to another organisation is not there for him."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import apsw
import httpx2
import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.roles import PERMISSIONS, Permission, Role
from leadline.accounts.users import NewUser
from leadline.console.app import PAGES
from leadline.console.page import Page, Whom
from tests.console.organisation import People
from tests.console.visitor import PASSWORD, text_of
from tests.raw import post
from tests.scripted.server import EMAIL, ScriptedServer

ROLES: tuple[Role, ...] = get_args(Role)
GETS = [page for page in PAGES if page.get is not None]
POSTS = [page for page in PAGES if page.post is not None and not page.signed]
# What no visitor has, in the place of whatever a path names.
NEVER = "never0was"
# These change what the whole server says, or end with the visitor outside: they are walked in tests of their own.
LEAVES = {"/logout"}
# What some pages want in their URL.
QUERIES = {"/playground/standing": "?model=echo", "/billing/return": f"?top_up={NEVER}"}
# Where nobody may make an organisation by himself.
CLOSED = {"/organisation/new"}


def of_an_organisation(page: Page) -> bool:
    """Whether its path names something that an organisation has."""
    return "{" in page.path and "{model" not in page.path and page.whom != "everybody"


class Everybody:
    """One server, with whoever can come to it. Alice's organisation has one of everything that a path can name."""

    def __init__(self, data: Path) -> None:
        self.server = ScriptedServer(data)
        server = self.server
        people = self.people = People(server)
        self.roles = {role: people.member(role) for role in ROLES}
        # Alice is the first one here, so she looks after the server too.
        self.admin, self.stranger, self.guest = people.owner(), people.stranger(), people.guest()
        self.ids = self._ids()

    def _ids(self) -> dict[str, str]:
        """Of Alice's organisation, by the names that paths have for them."""
        server, instance = self.server, self.server.instance
        body = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}'
        request_id = post(server.port, "/v1/chat/completions", server.api_key, body).headers["x-request-id"]

        async def made() -> dict[str, str]:
            alice = await instance.users.named(EMAIL)
            await instance.links.make("invite", "bob@northwind.example", {"role": "viewer"}, server.organisation_id)
            [invited] = await instance.links.open("invite", server.organisation_id)
            [key] = instance.keys.of(server.organisation_id)[:1]
            return {
                "key": key.id,
                "link": invited.id,
                "user": alice.id,
                "session": instance.sessions.of_user(alice.id)[0].id,
                "request": request_id,
                "organisation": server.organisation_id,
                **dict.fromkeys(("top_up", "number", "management_key", "mail", "engine", "backup", "name"), NEVER),
                "weights": NEVER,
                "model": "echo",
                "path": "nothing",
            }

        return server.run(made())

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody outside may read of Alice's organisation."""
        return EMAIL, "Northwind", self.server.organisation_id, self.ids["key"], self.ids["request"]

    def path(self, page: Page, *, never: bool = False) -> str:
        """With what it names in Alice's organisation, or what never was."""
        never = never or page.path.startswith("/settings/management-keys/")
        path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: NEVER if never else self.ids[found[1]], page.path)
        return path + QUERIES.get(page.path, "")

    def dump(self) -> dict[str, list[Any]]:
        """All that the database says, but when people were seen."""
        asyncio.run_coroutine_threadsafe(self.server.instance.ledger.write_noted(), self.server.loop).result(30)
        database = apsw.Connection(str(self.server.data / "leadline.db"), flags=apsw.SQLITE_OPEN_READONLY)
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        left_out = {"sessions", "facts", "entries_of", "records_of"}
        rows = {name: list(database.execute(f"SELECT * FROM {name}")) for name in tables if name not in left_out}
        database.close()
        return rows

    def close(self) -> None:
        self.people.leave()
        self.server.stop()


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everybody]:
    everybody = Everybody(tmp_path_factory.mktemp("everybody") / "data")
    yield everybody
    everybody.close()


def of_roles(whom: Whom) -> bool:
    return whom in get_args(Permission)


def named(page: Page) -> str:
    return page.path


def refuses(answer: httpx2.Response) -> bool:
    return answer.status_code in (403, 404)


@pytest.mark.parametrize("page", GETS, ids=named)
def test_a_guest_reads_only_what_is_for_everybody(everybody: Everybody, page: Page) -> None:
    answer = everybody.guest.get(everybody.path(page))

    if page.whom == "everybody":
        assert answer.status_code in (200, 303, 404, 410)
    else:
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")
    assert not any(secret in answer.text for secret in everybody.secrets)


@pytest.mark.parametrize("page", GETS, ids=named)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_what_it_may_and_nothing_else(everybody: Everybody, page: Page, role: Role) -> None:
    answer = everybody.roles[role].get(everybody.path(page))

    if page.whom == "admin":
        assert answer.status_code == 404
    elif of_roles(page.whom) and page.whom not in PERMISSIONS[role]:
        assert answer.status_code == 403
    elif page.path in CLOSED:
        assert refuses(answer)
    elif page.whom == "everybody":
        assert answer.status_code in (200, 303, 404, 410)
    else:
        assert answer.status_code in (200, 303) or (NEVER in str(answer.url) and answer.status_code == 404), text_of(
            answer
        )


@pytest.mark.parametrize("page", [page for page in GETS if page.whom == "admin"], ids=named)
def test_administrators_of_the_server_read_its_pages(everybody: Everybody, page: Page) -> None:
    answer = everybody.admin.get(everybody.path(page))

    assert answer.status_code in (200, 303) or (NEVER in str(answer.url) and answer.status_code == 404)


@pytest.mark.parametrize("page", [page for page in GETS if of_an_organisation(page)], ids=named)
def test_what_another_organisation_has_is_as_what_never_was(everybody: Everybody, page: Page) -> None:
    theirs, never = (everybody.stranger.get(everybody.path(page, never=never)) for never in (False, True))

    assert (theirs.status_code, theirs.text) == (never.status_code, never.text)
    assert theirs.status_code == 404 or theirs.headers["content-type"] == "application/json"


@pytest.mark.parametrize("page", [page for page in GETS if "{" not in page.path], ids=named)
def test_nothing_of_another_organisation_is_on_ones_own_pages(everybody: Everybody, page: Page) -> None:
    answer = everybody.stranger.get(page.path)

    assert not any(secret in answer.text for secret in everybody.secrets), page.path


@pytest.mark.parametrize("page", [page for page in POSTS if page.path not in LEAVES], ids=named)
def test_who_lacks_the_right_writes_nothing(everybody: Everybody, page: Page) -> None:
    path, before = everybody.path(page), everybody.dump()
    fields = {"name": "theirs", "confirmation": "first-key", "role": "owner", "organisation_id": "org_other"}
    statuses: dict[str, int] = {}
    if page.who_posts != "everybody":
        answer = everybody.guest.post(path, fields)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")
    if page.who_posts == "admin":
        statuses = {role: everybody.roles[role].post(path, fields).status_code for role in ROLES}
        assert set(statuses.values()) == {404}
    elif of_roles(page.who_posts):
        lacking = [role for role in ROLES if page.who_posts not in PERMISSIONS[role]]
        statuses = {role: everybody.roles[role].post(path, fields).status_code for role in lacking}
        assert set(statuses.values()) <= {403}
    if "{" in page.path and page.who_posts != "everybody":
        foreign = everybody.stranger.post(path, fields)
        never = everybody.stranger.post(everybody.path(page, never=True), fields)
        assert (foreign.status_code, foreign.text) == (404, never.text), text_of(foreign)

    assert everybody.dump() == before


def test_a_member_who_was_removed_is_out_with_his_next_click(everybody: Everybody) -> None:
    server = everybody.server
    bob = everybody.people.member("admin", "bob.out@northwind.example")

    async def remove() -> None:
        user = await server.instance.users.named("bob.out@northwind.example")
        await server.instance.organisations.remove_member(server.organisation_id, user.id, COMMAND_LINE)

    before = bob.get("/keys")
    server.run(remove())
    after, posted = bob.get("/keys"), bob.post("/keys", name="too late")

    assert before.status_code == 200
    assert "first-key" not in after.text
    assert posted.status_code in (303, 403, 404)
    assert "too late" not in {key.name for key in server.instance.keys.of(server.organisation_id)}


def test_a_role_that_changes_holds_with_the_next_click(everybody: Everybody) -> None:
    server = everybody.server
    vera = everybody.people.member("developer", "vera@northwind.example")

    async def change() -> None:
        user = await server.instance.users.named("vera@northwind.example")
        await server.instance.organisations.change_role(server.organisation_id, user.id, "viewer", COMMAND_LINE)

    before = vera.get("/keys/new").status_code
    server.run(change())
    after = vera.get("/keys/new").status_code

    assert (before, after) == (200, 403)


def test_names_that_are_programs_are_text_on_every_page(everybody: Everybody) -> None:
    payload = "\"><img src=x onerror=alert(1)><script>alert(2)</script>'{{7*7}}"
    server = everybody.server

    async def name() -> None:
        instance = server.instance
        alice = await instance.users.named(EMAIL)
        await instance.users.change_name(alice, payload, COMMAND_LINE)
        await instance.organisations.rename(server.organisation_id, payload, COMMAND_LINE)
        await instance.keys.create(server.organisation_id, payload[:100], COMMAND_LINE)
        other = await NewUser.of(instance.passwords, "xss@northwind.example", PASSWORD, payload)
        await instance.organisations.join(other, server.organisation_id, "viewer", COMMAND_LINE)

    server.run(name())
    shown = 0
    for page in GETS:
        answer = everybody.admin.get(everybody.path(page))
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        assert "<img src=x" not in answer.text, page.path
        assert "<script>alert" not in answer.text, page.path
        assert "49" not in re.findall(r"'(\d+)", answer.text), page.path
        shown += "&lt;img src=x" in answer.text
    assert shown >= 10
