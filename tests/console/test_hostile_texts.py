"""Whatever people, models and programs wrote is text on every page: in a browser nothing of it runs, and nothing is
made of it, whether it is kept here or comes with a URL."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import Page as Window

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.api_key import KeyOptions
from leadline.accounts.audit_log import audited
from leadline.accounts.guard import Guard
from leadline.accounts.users import NewUser
from leadline.administration.billing import change_details
from leadline.administration.commands.accounts import open_organisation
from leadline.administration.commands.management_keys import create_management_key
from leadline.billing.receipts import BillingDetails, written_receipt
from leadline.console.app import PAGES
from tests.console.browser import Eyes
from tests.console.organisation import People
from tests.console.payloads import PAYLOADS
from tests.console.visitor import PASSWORD
from tests.raw import Raw, post
from tests.scripted.server import EMAIL, ScriptedServer

pytestmark = pytest.mark.slow
# As names take them.
NAMES = [one for one in PAYLOADS if one.isprintable() and len(one) <= 100]
PARAMETERS = (
    *("q", "name", "show", "model", "next", "token", "since", "before", "after", "text", "actor", "action", "until"),
    *(
        "key",
        "range",
        "from",
        "to",
        "by",
        "measure",
        "status",
        "user",
        "filter",
        "top_up",
        "organisation",
        "page",
        "sort",
    ),
    *("type", "endpoint", "request", "id", "limit", "shows", "group", "cursor", "kind", "role"),
)
MARKUP = re.compile(r"<[a-zA-Z/!?]")
GETS = [page for page in PAGES if page.get is not None]
# What a page may hold none of: no template writes them, and of styles only those that charts.js gives to its own.
MADE = """
() => {
  const wrong = [];
  const banned = "iframe, object, embed, base, meta[http-equiv], style, marquee, portal, math, applet, keygen, "
    + "frame, template:not([id$=-template]), link[rel=preload]:not([as=font]), isindex, body body, x, mglyph, "
    + "[style]:not(canvas, span[hidden]), [srcdoc], [srcset], [ping], [formaction]";
  for (const one of document.querySelectorAll(banned)) wrong.push(one.outerHTML.slice(0, 200));
  for (const one of document.querySelectorAll("script:not([src]):not([type='application/json'])")) {
    wrong.push(one.outerHTML.slice(0, 200));
  }
  for (const one of document.querySelectorAll("*")) {
    for (const { name, value } of one.attributes) {
      if (name.startsWith("on")) wrong.push(`${one.tagName} ${name}`);
      const leads = ["href", "src", "action", "xlink:href", "data", "poster"].includes(name);
      const elsewhere = /^\\s*((javascript|vbscript|data:text|data:image\\/svg)|(https?:)?[\\\\/]{2}evil)/i;
      if (leads && elsewhere.test(value)) {
        wrong.push(`${one.tagName} ${name}=${value.slice(0, 100)}`);
      }
    }
  }
  if (window.pwned !== undefined) wrong.push(`something ran: ${window.pwned}`);
  return wrong;
}
"""


def hostile(server: ScriptedServer) -> dict[str, str]:
    """Everything that can be named is named by a payload; what paths need."""
    instance, organisation_id = server.instance, server.organisation_id

    async def name() -> dict[str, str]:
        alice = await instance.users.named(EMAIL)
        actor = Actor(alice.id, alice.email, "<b>192.0.2.1</b>")
        for text in NAMES:
            await instance.keys.create(organisation_id, KeyOptions(text), actor)
        for number, text in enumerate(NAMES[:120]):
            person = await NewUser.of(instance.passwords, f"u{number}@northwind.example", PASSWORD, text)
            await instance.organisations.join(person, organisation_id, "viewer", actor)
            if number % 4 == 0:
                await open_organisation(instance, COMMAND_LINE, await instance.users.named(person.email), text)
        for text in NAMES[120:180]:
            await create_management_key(
                instance, actor, text[:60], organisation_id, ["team-token:endpoint:*"], [], None
            )
            before, after = {"name": text}, {"name": text[::-1], text: text}
            row = audited(instance.keys.clock(), actor, f"keys {text}", text, (before, after), organisation_id)
            await instance.database.commit(row)
            await instance.outbox.put(f"u@{len(text)}.example", text, text, text[:20])
            await instance.sessions.open(alice.id, "<i>203.0.113.9</i>", text)
        for text in NAMES[180:230]:
            await instance.links.make(
                "invite", f"{text[:40]}@a.example", {"role": "viewer", "invited_by": text}, organisation_id
            )
        await instance.users.change_name(alice, NAMES[0], actor)
        await instance.organisations.rename(organisation_id, NAMES[1], actor)
        details = BillingDetails(NAMES[2], tuple(text[:80] for text in NAMES[3:6]), NAMES[6][:30])
        await change_details(instance, actor, organisation_id, details)
        await instance.database.commit(written_receipt(organisation_id, instance.keys.clock(), 500, "pi_<b>1</b>"))
        [receipt] = await instance.billing.receipts.newest(organisation_id, 1)
        [key, *_] = instance.keys.of(organisation_id)
        [link, *_] = await instance.links.open("invite", organisation_id)
        [mail, *_] = await instance.outbox.newest()
        return {
            **{"key": key.id, "link": link.id, "user": alice.id, "number": receipt.number, "mail": mail.id},
            **{"organisation": organisation_id, "model": "echo", "path": NAMES[7], "engine": NAMES[8]},
        }

    ids = server.run(name())
    server.command("credits grant", email=organisation_id, amount="1", reason=NAMES[9])
    for text in NAMES[10:40]:
        asked = b'{"model": "echo", "messages": [{"role": "user", "content": "<b>Hello</b>"}], "user": %s}'
        answer = post(server.port, "/v1/chat/completions", server.api_key, asked % json.dumps(text).encode())
        ids["request"] = answer.headers["x-request-id"]
    post(
        server.port,
        "/v1/chat/completions",
        server.api_key,
        b'{"model": %s, "messages": []}' % json.dumps(NAMES[11]).encode(),
    )
    return ids


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedServer, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("hostile") / "data"
    folder.mkdir()
    server = ScriptedServer(folder)
    yield server, hostile(server)
    server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def alice(browser: Eyes, scene: tuple[ScriptedServer, dict[str, str]]) -> AsyncIterator[Window]:
    """The owner, who looks after the server too."""
    people = People(scene[0])
    cookies: Any = [
        {"name": name, "value": value, "url": scene[0].base_url} for name, value in people.owner().http.cookies.items()
    ]
    async with browser.page(scene[0].base_url) as window:
        await window.context.add_cookies(cookies)
        yield window
    people.leave()


async def problems(window: Window, browser: Eyes, path: str, dialogs: list[str]) -> list[str]:
    answer = await window.goto(path)
    if answer is None or "text/html" not in answer.headers.get("content-type", ""):
        return []
    # What an attribute would do, once it is touched.
    await window.mouse.move(300, 300)
    wrong: list[str] = await window.evaluate(MADE)
    wrong += [told for told in browser.heard(window) if "Failed to load resource" not in told]
    return [f"{path[:120]}: {one}" for one in [*wrong, *dialogs]]


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: ids.get(found[1], "never"), path)


async def test_nothing_that_is_kept_runs(
    alice: Window, browser: Eyes, scene: tuple[ScriptedServer, dict[str, str]]
) -> None:
    dialogs: list[str] = []
    alice.on("dialog", lambda dialog: dialogs.append(dialog.message))
    wrong = []
    for page in GETS:
        if not page.path.endswith(".csv"):
            wrong += await problems(alice, browser, filled(page.path, scene[1]), dialogs)

    assert not wrong, "\n".join(wrong)


async def test_nothing_that_comes_with_a_url_runs(
    alice: Window, browser: Eyes, scene: tuple[ScriptedServer, dict[str, str]]
) -> None:
    dialogs: list[str] = []
    alice.on("dialog", lambda dialog: dialogs.append(dialog.message))
    wrong = []
    for number, page in enumerate(GETS):
        if page.path.endswith(".csv"):
            continue
        chosen = {name: PAYLOADS[(number * 7 + at * 11) % len(PAYLOADS)] for at, name in enumerate(PARAMETERS)}
        query = {name: text for name, text in chosen.items() if len(text) < 300 and max(text) < "\ud800"}
        wrong += await problems(alice, browser, f"{filled(page.path, scene[1])}?{urlencode(query)}", dialogs)

    assert not wrong, "\n".join(wrong)


def test_every_payload_is_text_wherever_it_is_reflected(scene: tuple[ScriptedServer, dict[str, str]]) -> None:
    server, people = scene[0], People(scene[0])
    alice, guest = people.owner(), people.guest()
    for at in range(0, len(PAYLOADS), 8):
        payloads = PAYLOADS[at : at + 8]
        text = " ".join(payloads)
        asked = {"q": text, "name": text, "next": text, "model": text, "text": text, "show": text}
        pages = [
            *(alice.http.get(path, params=asked) for path in ("/keys/new", "/audit", "/docs/search")),
            guest.http.get("/login", params=asked),
            guest.post("/login", email=text, password="x", next=text),
            alice.post("/settings/name", name=text),
            alice.post("/keys", name=text),
            alice.post("/members", email=text, role=text),
        ]
        server.instance.guard = Guard()
        for answer in pages:
            made = [one for one in payloads if MARKUP.search(one) and one in answer.text]
            assert not made, f"{str(answer.url)[:80]}: {made}"
    people.leave()


@pytest.mark.parametrize("path", ["/keys/<img src=x>", "/docs/guides/<b>", "/login/<svg>", "/keys/%00<b>"])
def test_paths_are_not_repeated(scene: tuple[ScriptedServer, dict[str, str]], path: str) -> None:
    people = People(scene[0])
    answer = people.owner().http.get(path)
    people.leave()

    assert answer.status_code == 404
    assert path.rpartition("/")[2] not in answer.text


def test_no_path_ends_a_header(scene: tuple[ScriptedServer, dict[str, str]]) -> None:
    raw = Raw(scene[0].port)
    raw.send(b"GET /keys/%0d%0aLocation:%20evil%0d%0a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    head = raw.read_to_end().partition(b"\r\n\r\n")[0].lower()

    assert b"\r\nlocation: /login?next=" in head
    assert head.count(b"\nlocation:") == 1
