"""After a walk through all that is secret: nothing of it is in the log, in the database as it is, or in what is served
to everybody."""

import base64
import logging
import re
from collections.abc import Iterator
from urllib.parse import quote

import pyotp
import pytest

from leadline.console.static import ASSETS
from leadline.operations.logs import JsonLines
from leadline.web import access
from tests.console.organisation import OWNERS_PASSWORD, People, invitation, mails
from tests.console.visitor import PASSWORD, Visitor
from tests.scripted.server import EMAIL, ScriptedServer

NEW_PASSWORD = "seven other words for tonight"
BOB = "bob@northwind.example"
PROMPT = "a-canary-in-the-prompt-7f3"
# The client in this process; and what `leadline serve` turns off.
OF_THE_TEST = ("httpx2", "httpcore2", "uvicorn.access")
TOKEN = re.compile(r"token=([\w-]{20,})")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the log gets, as `leadline serve` writes it."""
    written: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith(OF_THE_TEST):
                written.append(self.format(record))

    handler, root = Keeping(), logging.getLogger()
    handler.setFormatter(JsonLines())
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


def walk(server: ScriptedServer, people: People) -> set[str]:
    """All secrets that somebody met on his way."""
    met = {OWNERS_PASSWORD, PASSWORD, NEW_PASSWORD, PROMPT, server.api_key}
    alice = people.owner()

    def seen(visitor: Visitor) -> None:
        met.update(value.strip('"') for value in visitor.http.cookies.values() if len(value) > 20)

    seen(alice)
    for form, pattern in (
        ("/keys", r"ll_\w{8}_\w{38}"),
        ("/settings/management-keys", r"llm_[\w]{30,}"),
    ):
        made = alice.post(form, name="web", acls="team-token:endpoint:*")
        seen(alice)
        met.update(re.findall(pattern, alice.get(made.headers["location"]).text))
    made = alice.post("/members", email=BOB, role="viewer")
    seen(alice)
    token = invitation(alice.get(made.headers["location"]).text).partition("token=")[2]
    met.add(token)
    bob = people.guest()
    bob.get(f"/invite?token={token}")
    bob.post("/invite", token=token, password=PASSWORD)
    bob.get(f"/invite?token={token}")
    seen(bob)
    alice.post("/settings/two-factor/begin", password=OWNERS_PASSWORD)
    [secret] = re.findall(r'id="totp-secret">([A-Z2-7]+)<', alice.get("/settings/two-factor").text)
    alice.post("/settings/two-factor", code=pyotp.TOTP(secret).now())
    codes = re.findall(r"[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}", alice.get("/settings/two-factor/codes").text)
    met.update({secret, *codes})
    seen(alice)
    half = people.guest()
    half.post("/login", email=EMAIL, password=OWNERS_PASSWORD)
    seen(half)
    half.post("/login/code", code=codes[0])
    half.post("/login/code", code=codes[1])
    seen(half)
    people.guest().post("/forgot", email=BOB)
    [reset] = [found for mail in mails(server, BOB) for found in TOKEN.findall(mail.text) if "reset" in mail.text][:1]
    met.add(reset)
    people.guest().get(f"/reset?token={reset}")
    people.guest().post("/reset", token=reset, password=NEW_PASSWORD)
    people.guest().post("/login", email=BOB, password=NEW_PASSWORD + "wrong")
    turns = [{"role": "user", "text": PROMPT}]
    alice.http.post("/playground/chat", json={"model": "echo", "turns": turns})
    alice.http.post("/playground/chat", json={"model": "broken-after", "turns": turns})
    return {one for one in met if len(one) >= 10}


def spellings(secret: str) -> set[bytes]:
    plain = secret.encode()
    return {plain, quote(secret, safe="").encode(), base64.b64encode(plain), base64.urlsafe_b64encode(plain)}


def test_no_secret_is_in_the_log_or_the_database(server: ScriptedServer, people: People, lines: list[str]) -> None:
    met = walk(server, people)
    access.flush()
    log = "\n".join(lines).encode()
    kept = b"".join(path.read_bytes() for path in server.data.glob("leadline.db*"))
    told = {secret for secret in met for spelling in spellings(secret) if spelling in log}
    stored = {secret for secret in met for spelling in spellings(secret) if spelling in kept}

    assert len(met) >= 25
    assert b'"page"' in log
    assert not told
    assert not stored


def test_no_page_has_a_comment_or_tells_of_its_making(server: ScriptedServer, people: People) -> None:
    alice, guest = people.owner(), people.guest()
    pages = [
        alice.get(path) for path in ("/home", "/keys", "/settings", "/members", "/audit", "/playground", "/billing")
    ]
    pages += [guest.get(path) for path in ("/", "/login", "/nothing", "/keys/nothing", "/docs/api", "/invite?token=x")]
    for page in pages:
        assert "<!--" not in page.text, str(page.url)
        assert not re.search(
            r"Traceback|/site-packages/|\.py\b.{0,20}line \d|{{|{%|jinja|uvicorn|starlette", page.text
        ), str(page.url)
        assert "server" not in page.headers or page.headers["server"] == "uvicorn"


def test_a_fault_of_ours_tells_nothing(server: ScriptedServer, people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = people.owner()

    def fail(*_: object) -> None:
        raise RuntimeError("the-inside-of-it-41")

    monkeypatch.setattr(server.instance.audit_log, "rows", fail)
    answer = alice.get("/audit")

    assert answer.status_code == 500
    assert "the-inside-of-it-41" not in answer.text
    assert "content-security-policy" in answer.headers


def test_no_file_for_everybody_holds_a_secret_or_a_path_of_this_machine(server: ScriptedServer) -> None:
    for name, asset in ASSETS._assets.items():
        assert not re.search(rb"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}|BEGIN [A-Z ]*PRIVATE|/home/\w|/root/", asset.body), (
            name
        )
    assert server.api_key
