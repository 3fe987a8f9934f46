"""Whatever a form of the console changes is in the audit log: each route that takes a form is walked."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest

from leadline.accounts.users import NewUser
from leadline.config import parse
from leadline.console.app import PAGES
from tests.console.organisation import OWNERS_PASSWORD, People, audit_rows, invitation, user_id
from tests.console.visitor import PASSWORD, Visitor, text_of
from tests.scripted.engine import ScriptedEngine
from tests.scripted.gguf import SMALL, gguf
from tests.scripted.server import EMAIL, ScriptedServer

NEW_PASSWORD = "seven other words for tonight"
BOB = "bob@northwind.example"
# Forms that change nothing by which anybody could be surprised, and why.
CHANGE_NOTHING = {
    "/signup": "a mail goes out; the user is there when he comes back by its link",
    "/forgot": "a mail goes out; the password stays until its link is used",
    "/organisation": "at which organisation one browser looks",
    "/settings/two-factor/begin": "a secret that asks for nothing until it is confirmed",
    "/playground/chat": "a request, which is in the usage",
    "/playground/code": "a text",
    "/playground/text": "a text",
    "/billing/add": "leads to the payment page; a payment is in the ledger",
    "/admin/system/check": "the books are read",
    "/stripe/webhook": "is no form; what it credits is in the ledger",
}


class Loadable(ScriptedEngine):
    """One whose model comes and goes when it is told."""

    name = "here"

    def load(self) -> None:
        pass

    def unload(self) -> None:
        pass


async def never(_data: Path, _wanted: str, _watch: Any) -> dict[str, Any]:
    """A pull that does not end by itself."""
    await asyncio.Event().wait()
    return {}


class Scene:
    """What the forms are about, as far as the walk has come."""

    def __init__(self, server: ScriptedServer, people: People) -> None:
        self.server, self.people = server, people
        self.alice = people.owner()
        self.codes: list[str] = []
        server.instance.engines = {"here": Loadable(server.engine.scripts)}
        server.instance.pulls.bring = never
        (server.data / "models").mkdir()
        (server.data / "models" / "tiny.gguf").write_bytes(gguf(SMALL, (64, 100)))

    def key(self) -> str:
        return self.server.instance.keys.of(self.server.organisation_id)[0].id

    def management_key(self) -> str:
        return self.server.instance.management_keys.of(self.server.organisation_id)[0].id

    def invited(self, email: str) -> str:
        """The id of a waiting invitation."""
        links = self.server.run(self.server.instance.links.open("invite", self.server.organisation_id))
        return next(link.id for link in links if link.subject == email)

    def link(self, kind: Any, subject: str, facts: dict[str, str] | None = None) -> str:
        return self.server.run(self.server.instance.links.make(kind, subject, facts))

    def invite(self, email: str) -> Any:
        return self.alice.post("/members", email=email, role="viewer")

    def join(self) -> Any:
        made = self.invite(BOB)
        path = invitation(self.alice.get(made.headers["location"]).text)
        return self.people.guest().post("/invite", token=path.partition("token=")[2], password=PASSWORD)

    def verify(self) -> Any:
        person = self.server.run(NewUser.of(self.server.instance.passwords, "vera@harbour.example", PASSWORD))
        facts = {"id": person.id, "name": "", "password_hash": person.password_hash, "org": "Harbour"}
        token = self.link("verify", person.email, facts)
        return self.people.guest().post("/verify", token=token, password=PASSWORD)

    def reset(self) -> Any:
        token = self.link("reset", user_id(self.server, BOB))
        return self.people.guest().post("/reset", token=token, password=NEW_PASSWORD)

    def bob(self) -> Visitor:
        return self.people.guest().sign_in(BOB, NEW_PASSWORD)

    def turn_on(self) -> Any:
        self.alice.post("/settings/two-factor/begin", password=OWNERS_PASSWORD)
        secret = re.search(r'id="totp-secret">([A-Z2-7]+)<', self.alice.get("/settings/two-factor").text)
        assert secret is not None
        return self.alice.post("/settings/two-factor", code=pyotp.TOTP(secret[1]).now())

    def renew_codes(self) -> Any:
        answer = self.alice.post("/settings/two-factor/codes", password=OWNERS_PASSWORD)
        page = self.alice.get("/settings/two-factor/codes").text
        self.codes = re.findall(r"[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}", page)
        return answer

    def second_step(self) -> Any:
        guest = self.people.guest()
        guest.post("/login", email=EMAIL, password=OWNERS_PASSWORD)
        return guest.post("/login/code", code=self.codes[0])

    def end_another(self) -> Any:
        other = self.people.guest().sign_in(BOB, NEW_PASSWORD)
        [session, *_] = self.server.instance.sessions.of_user(user_id(self.server, BOB))
        answer = self.bob().post(f"/settings/sessions/{session.id}/end")
        assert other.get("/home").status_code == 303
        return answer

    def user(self, change: str, **fields: str) -> Any:
        """What the server's administrator does with Bob."""
        return self.alice.post(f"/admin/users/{user_id(self.server, BOB)}/{change}", **fields)

    def administered(self, change: str) -> Any:
        return self.alice.post(f"/admin/organisations/{self.server.organisation_id}/{change}")

    def cancel_pull(self) -> Any:
        [pull] = self.server.instance.pulls.all()
        return self.alice.post(f"/admin/engines/pulls/{pull.id}/cancel")

    def add_worker(self) -> Any:
        """The file names an engine of two workers by now."""
        path = self.server.data / "leadline.toml"
        text = f'{path.read_text()}\n[[engines]]\nname = "gpus"\nkind = "vllm"\nurls = ["http://a/v1", "http://b/v1"]\n'
        path.write_text(text)
        self.server.instance.config = parse(text, "leadline.toml", {})
        return self.alice.post("/admin/engines/gpus/workers", url="http://c/v1")

    def delete_backup(self) -> Any:
        found = re.search(r"/admin/system/backups/([^/\"]+)/delete", self.alice.get("/admin/system").text)
        assert found is not None
        return self.alice.post(f"/admin/system/backups/{found[1]}/delete")

    def lose_the_phone(self) -> Any:
        return self.alice.post(f"/admin/users/{user_id(self.server, EMAIL)}/two-factor-off")

    def turn_off(self) -> Any:
        self.turn_on()
        return self.alice.post("/settings/two-factor/off", password=OWNERS_PASSWORD)

    def management(self, change: str) -> Any:
        return self.alice.post(f"/settings/management-keys/{self.management_key()}/{change}")

    def set_up(self) -> Any:
        async def forget() -> None:
            for table in ("first_user", "sessions", "memberships", "users"):
                await self.server.instance.database.together(
                    lambda transaction, tables: [transaction.write_many(f"DELETE FROM {one}", [()]) for one in tables],
                    table,
                )

        self.server.run(forget())
        first = {"email": "mara@harbour.example", "email_again": "mara@harbour.example", "org": "Harbour"}
        return self.people.guest().post("/setup", first, token=self.link("setup", ""), password=PASSWORD)


# In the order in which they can follow each other.
CHANGES: dict[str, Callable[[Scene], Any]] = {
    "/login": lambda scene: scene.people.guest().post("/login", email=EMAIL, password=OWNERS_PASSWORD),
    "/logout": lambda scene: scene.people.owner().post("/logout"),
    "/verify": Scene.verify,
    "/keys": lambda scene: scene.alice.post("/keys", name="web"),
    "/keys/{key}": lambda scene: scene.alice.post(f"/keys/{scene.key()}", name="renamed", expires="keep"),
    "/keys/{key}/rotate": lambda scene: scene.alice.post(f"/keys/{scene.key()}/rotate", overlap="0s"),
    "/keys/{key}/disable": lambda scene: scene.alice.post(f"/keys/{scene.key()}/disable"),
    "/keys/{key}/enable": lambda scene: scene.alice.post(f"/keys/{scene.key()}/enable"),
    "/keys/{key}/revoke": lambda scene: scene.alice.post(f"/keys/{scene.key()}/revoke"),
    "/billing/alerts": lambda scene: scene.alice.post("/billing/alerts", thresholds="50, 10"),
    "/billing/limits": lambda scene: scene.alice.post("/billing/limits", soft_usd="10", hard_usd="20"),
    "/billing/details": lambda scene: scene.alice.post("/billing/details", name="Northwind GmbH"),
    "/members": lambda scene: scene.invite("dora@northwind.example"),
    "/members/invitations/{link}/renew": lambda scene: scene.alice.post(
        f"/members/invitations/{scene.invited('dora@northwind.example')}/renew"
    ),
    "/members/invitations/{link}/withdraw": lambda scene: scene.alice.post(
        f"/members/invitations/{scene.invited('dora@northwind.example')}/withdraw"
    ),
    "/invite": Scene.join,
    "/reset": Scene.reset,
    "/members/{user}": lambda scene: scene.alice.post(f"/members/{user_id(scene.server, BOB)}", role="admin"),
    "/admin/users/{user}/suspend": lambda scene: scene.user("suspend"),
    "/admin/users/{user}/resume": lambda scene: scene.user("resume"),
    "/admin/users/{user}/admin": lambda scene: scene.user("admin", admin="yes"),
    "/admin/users/{user}/reset": lambda scene: scene.user("reset"),
    "/admin/organisations/{organisation}/suspend": lambda scene: scene.administered("suspend"),
    "/admin/organisations/{organisation}/resume": lambda scene: scene.administered("resume"),
    "/admin/grants": lambda scene: scene.alice.post("/admin/grants", organisation=EMAIL, amount="5", reason="thanks"),
    "/admin/prices/{model:path}": lambda scene: scene.alice.post("/admin/prices/echo", input="3", do="save"),
    "/admin/mail/test": lambda scene: scene.alice.post("/admin/mail/test"),
    "/admin/system/backups": lambda scene: scene.alice.post("/admin/system/backups"),
    "/admin/system/backups/{backup}/delete": Scene.delete_backup,
    "/admin/engines/{engine:path}/load": lambda scene: scene.alice.post("/admin/engines/here/load"),
    "/admin/engines/{engine:path}/unload": lambda scene: scene.alice.post("/admin/engines/here/unload"),
    "/admin/engines": lambda scene: scene.alice.post("/admin/engines", wanted="hf:somebody/something/file.gguf"),
    "/admin/engines/pulls/{name}/cancel": Scene.cancel_pull,
    "/admin/weights/{weights}": lambda scene: scene.alice.post("/admin/weights/tiny", name="small", input="0.10"),
    "/admin/weights/withdraw": lambda scene: scene.alice.post("/admin/weights/withdraw", model="small"),
    "/admin/weights/{weights}/delete": lambda scene: scene.alice.post("/admin/weights/tiny/delete"),
    "/admin/engines/{engine:path}/workers": Scene.add_worker,
    "/admin/engines/{engine:path}/workers/remove": lambda scene: scene.alice.post(
        "/admin/engines/gpus/workers/remove", url="http://a/v1"
    ),
    "/settings/name": lambda scene: scene.bob().post("/settings/name", name="Bob"),
    "/settings/sessions/{session}/end": Scene.end_another,
    "/settings/sessions/end": lambda scene: scene.bob().post("/settings/sessions/end"),
    "/members/leave": lambda scene: scene.bob().post("/members/leave"),
    "/members/{user}/remove": lambda scene: (
        scene.people.member("viewer"),
        scene.alice.post(f"/members/{user_id(scene.server, 'viewer@northwind.example')}/remove"),
    )[1],
    "/organisation/new": lambda scene: scene.people.owner().post("/organisation/new", org="Second"),
    "/settings/organisation": lambda scene: scene.alice.post("/settings/organisation", org="Northwind Labs"),
    "/settings/management-keys": lambda scene: scene.alice.post(
        "/settings/management-keys", name="ci", acls="team-token:endpoint:*"
    ),
    "/settings/management-keys/{key}/disable": lambda scene: scene.management("disable"),
    "/settings/management-keys/{key}/enable": lambda scene: scene.management("enable"),
    "/settings/management-keys/{key}/revoke": lambda scene: scene.management("revoke"),
    "/settings/two-factor": Scene.turn_on,
    "/settings/two-factor/codes": Scene.renew_codes,
    "/login/code": Scene.second_step,
    "/admin/users/{user}/two-factor-off": Scene.lose_the_phone,
    "/settings/two-factor/off": Scene.turn_off,
    "/settings/password": lambda scene: scene.alice.post(
        "/settings/password", present=OWNERS_PASSWORD, password=NEW_PASSWORD
    ),
    "/setup": Scene.set_up,
}

# What each leaves there.
ACTIONS = {
    "/login": "users sign-in",
    "/logout": "users sign-out",
    "/verify": "accounts create",
    "/keys": "keys create",
    "/keys/{key}": "keys change",
    "/keys/{key}/rotate": "keys rotate",
    "/keys/{key}/disable": "keys disable",
    "/keys/{key}/enable": "keys enable",
    "/keys/{key}/revoke": "keys revoke",
    "/billing/alerts": "billing alerts",
    "/billing/limits": "billing limits",
    "/billing/details": "billing details",
    "/members": "members invite",
    "/members/invitations/{link}/renew": "members invite",
    "/members/invitations/{link}/withdraw": "members withdraw",
    "/invite": "members add",
    "/reset": "users change-password",
    "/members/{user}": "members role",
    "/admin/users/{user}/suspend": "users suspend",
    "/admin/users/{user}/resume": "users resume",
    "/admin/users/{user}/admin": "users admin",
    "/admin/users/{user}/reset": "users reset-link",
    "/admin/organisations/{organisation}/suspend": "accounts suspend",
    "/admin/organisations/{organisation}/resume": "accounts resume",
    "/admin/grants": "credits grant",
    "/admin/prices/{model:path}": "prices change",
    "/admin/mail/test": "mails test",
    "/admin/system/backups": "backups create",
    "/admin/system/backups/{backup}/delete": "backups delete",
    "/admin/engines/{engine:path}/load": "engines load",
    "/admin/engines/{engine:path}/unload": "engines unload",
    "/admin/engines": "models pull",
    "/admin/engines/pulls/{name}/cancel": "models pull-cancel",
    "/admin/weights/{weights}": "models serve",
    "/admin/weights/withdraw": "models withdraw",
    "/admin/weights/{weights}/delete": "models rm",
    "/admin/engines/{engine:path}/workers": "workers add",
    "/admin/engines/{engine:path}/workers/remove": "workers remove",
    "/admin/users/{user}/two-factor-off": "users two-factor",
    "/settings/name": "users change-name",
    "/settings/sessions/{session}/end": "users end-session",
    "/settings/sessions/end": "users end-sessions",
    "/members/leave": "members remove",
    "/members/{user}/remove": "members remove",
    "/organisation/new": "accounts create",
    "/settings/organisation": "accounts rename",
    "/settings/management-keys": "management-keys create",
    "/settings/management-keys/{key}/disable": "management-keys disable",
    "/settings/management-keys/{key}/enable": "management-keys enable",
    "/settings/management-keys/{key}/revoke": "management-keys revoke",
    "/settings/two-factor": "users two-factor",
    "/settings/two-factor/codes": "users recovery-codes",
    "/login/code": "users sign-in",
    "/settings/two-factor/off": "users two-factor",
    "/settings/password": "users change-password",
    "/setup": "accounts create",
}


@pytest.fixture
def scene(server: ScriptedServer) -> Iterator[Scene]:
    people = People(server)
    yield Scene(server, people)
    people.leave()


def test_every_form_that_changes_something_leaves_a_row_in_the_audit_log(scene: Scene) -> None:
    for path, change in CHANGES.items():
        before = {row.id for row in audit_rows(scene.server)}

        answer = change(scene)

        assert answer.status_code == 303, f"{path}: {text_of(answer)[-300:]}"
        rows = [row for row in audit_rows(scene.server) if row.id not in before]
        assert ACTIONS[path] in {row.action for row in rows}, f"{path} changed something, and no row says so: {rows}"
        assert all(row.actor and row.actor_name and row.action for row in rows), path


def test_every_form_is_walked_or_said_to_change_nothing() -> None:
    forms = {page.path for page in PAGES if page.post is not None}

    assert forms - set(CHANGES) - set(CHANGE_NOTHING) == set(), "add these above, with what they leave in the audit log"
    assert set(CHANGES) <= forms
    assert set(CHANGES) == set(ACTIONS)
