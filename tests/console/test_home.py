"""The first page: what is left to do, what the last day was, and which limits are near."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.api_key import KeyOptions
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.ledger.spend_limits import SpendLimits, change_spend_limits
from leadline.money import SpendCap, Ticks, usd
from tests.console.browser import Eyes
from tests.console.organisation import OWNERS_PASSWORD, People
from tests.console.visitor import Visitor, text_of
from tests.raw import post
from tests.scripted.server import EMAIL, ScriptedServer

BODY = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}'


@pytest.fixture
def alice(server: ScriptedServer) -> Iterator[Visitor]:
    people = People(server)
    yield people.owner()
    people.leave()


def ask(server: ScriptedServer, api_key: str = "") -> int:
    return post(server.port, "/v1/chat/completions", api_key or server.api_key, BODY).status


def key(server: ScriptedServer, name: str, **options: object) -> str:
    """The new key's text."""
    made = server.run(server.instance.keys.create(server.organisation_id, KeyOptions(name, **options), COMMAND_LINE))  # type: ignore[arg-type]
    return made[1]


def news(visitor: Visitor) -> list[tuple[str, str, str]]:
    """Where each leads, what it says and how near it is."""
    page = visitor.get("/home").text
    _, _, part = page.partition('<h2 id="news">')
    rows = re.findall(r'<a href="([^"]+)">([^<]+)</a><span class="tag \w+">(\w+)<', part.partition("</section>")[0])
    return [(path, text, near) for path, text, near in rows]


def test_the_steps_tick_themselves_and_go_with_the_first_request(server: ScriptedServer, alice: Visitor) -> None:
    [first] = server.instance.keys.of(server.organisation_id)
    server.run(server.instance.keys.revoke(first, COMMAND_LINE))
    begun = text_of(alice.get("/home"))
    text = key(server, "web")
    made = text_of(alice.get("/home"))
    ask(server, text)
    done = text_of(alice.get("/home"))

    assert "2 of 4 done" in begun
    assert "3 of 4 done" in made
    assert "First steps" not in done
    assert re.search(r"Requests 1\b", done)


def test_nothing_is_said_of_limits_that_are_far(server: ScriptedServer, alice: Visitor) -> None:
    key(server, "wide", cap=SpendCap(usd("100"), "month"))
    ask(server)

    assert news(alice) == []


def test_limits_that_are_near_or_met_lead_to_what_changes_them(server: ScriptedServer, alice: Visitor) -> None:
    ask(server, key(server, "capped"))
    [charge] = server.charges()
    cost, keys, now = -charge.amount_ticks, server.instance.keys, server.instance.keys.clock()
    [capped] = [one for one in keys.of(server.organisation_id) if one.name == "capped"]
    server.run(keys.change(capped, replace(capped.options, cap=SpendCap(Ticks(cost), "day")), COMMAND_LINE))
    key(server, "ending", expires_at=now + 3 * MICROSECONDS_PER_DAY)
    limits = SpendLimits(None, Ticks(cost * 10 // 9))
    server.run(change_spend_limits(server.instance.ledger, server.organisation_id, limits))
    ids = {one.name: one.id for one in server.instance.keys.of(server.organisation_id)}

    assert [(path, near) for path, _, near in news(alice)] == [
        (f"/keys/{ids['capped']}", "met"),
        ("/billing", "near"),
        (f"/keys/{ids['ending']}", "near"),
    ]
    texts = [text for _, text, _ in news(alice)]
    assert "capped has used 100 % of its cap" in texts[0]
    assert texts[1].startswith("90 % of the month")
    assert texts[2] == "ending expires in 2 days"


async def test_news_are_for_all_eyes(browser: Eyes, server: ScriptedServer) -> None:
    key(server, "ending", expires_at=server.instance.keys.clock() + MICROSECONDS_PER_DAY // 2)
    async with browser.page(server.base_url) as page:
        await page.goto("/login")
        await page.fill("[name=email]", EMAIL)
        await page.fill("[name=password]", OWNERS_PASSWORD)
        await page.click("main button.primary")
        await page.wait_for_selector("text=ending expires today")
        await browser.look(page, "home-news")
        await page.goto("/keys?show=attention")
        await browser.look(page, "keys-attention")
