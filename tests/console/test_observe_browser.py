"""Usage, the request log, limits and models in a browser: for all eyes, keyboards and widths."""

import asyncio
from collections.abc import Iterator

import pytest
from playwright.async_api import Page

from leadline.ledger.usage import UsageRecord
from tests.console.browser import Eyes
from tests.console.history import Past, configured
from tests.scripted.server import EMAIL, ScriptedServer

# What Chart.js drew, bar by bar.
_DRAWN = """
() => Chart.getChart(document.querySelector("canvas[data-chart]")).data.datasets
  .map(({ label, data }) => [label, data.reduce((sum, one) => sum + one, 0)])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    server = configured(tmp_path_factory.mktemp("seen") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def past(server: ScriptedServer) -> list[UsageRecord]:
    return Past(server).make()


async def sign_in(page: Page) -> None:
    await page.goto("/login")
    await page.fill("[name=email]", EMAIL)
    await page.fill("[name=password]", "correct horse")
    await page.click("main button")
    await page.wait_for_url("**/home")


async def test_usage_is_for_all_eyes_and_keyboards(
    browser: Eyes, server: ScriptedServer, past: list[UsageRecord]
) -> None:
    async with browser.page(server.base_url) as page:
        await sign_in(page)
        await page.goto("/usage?model=phi-4&by=key")
        await browser.look(page, "usage-narrowed")
        await browser.tab_through(page)
        await page.goto("/usage")
        await browser.look(page, "usage")
        drawn = dict(await page.evaluate(_DRAWN))
        charged = -sum(entry.amount_ticks for entry in await asyncio.to_thread(server.charges))
        assert sum(drawn.values()) == charged
        assert charged == sum(record.cost_ticks for record in past)
        cells = await page.locator("table >> nth=0 >> tr:not(.sum) [data-label=Cost] data").evaluate_all(
            "all => all.reduce((sum, one) => sum + Number(one.value), 0)"
        )
        assert cells == charged
        await page.goto("/usage?since=2020-01-01&until=2020-01-31")
        await browser.look(page, "usage-empty")


async def test_filters_and_times_are_chosen_with_the_mouse(
    browser: Eyes, server: ScriptedServer, past: list[UsageRecord]
) -> None:
    async with browser.page(server.base_url) as page:
        await sign_in(page)
        await page.goto("/usage")
        await page.click("button[popovertarget=time]")
        await browser.look(page, "usage-time")
        await page.click("#time >> text=Last 7 days")
        await page.click("main >> text=Filter")
        await page.wait_for_selector("dialog:modal")
        await browser.look(page, "usage-filter")
        await browser.tab_through(page)
        await page.check("dialog >> label:has-text('phi-4') >> input")
        await page.click("dialog >> text=Apply")
        await page.wait_for_selector(".chip >> text=phi-4")
        assert "range=7d" in page.url
        assert "model=phi-4" in page.url
        await page.click("button[popovertarget=group]")
        await page.click("#group >> text=By token type")
        await page.wait_for_selector("h2:has-text('Daily cost by token type')")
        await page.click("[aria-label='Without model phi-4']")
        await page.wait_for_url("**/usage?range=7d&by=class")


async def test_without_scripts_everything_but_the_chart_is_there(
    browser: Eyes, server: ScriptedServer, past: list[UsageRecord]
) -> None:
    async with browser.page(server.base_url, scripts=False) as page:
        await sign_in(page)
        await page.goto("/usage")
        assert not await page.is_visible("canvas")
        assert await page.is_visible("table >> text=phi-4")
        await page.goto("/usage?filter=open")
        await page.check("dialog >> label:has-text('phi-4') >> input")
        await page.click("dialog >> text=Apply")
        await page.wait_for_selector(".chip >> text=phi-4")


async def test_the_log_and_a_request_are_for_all_eyes_and_keyboards(
    browser: Eyes, server: ScriptedServer, past: list[UsageRecord]
) -> None:
    limited = next(record for record in past if record.error == "rate_limited")
    async with browser.page(server.base_url) as page:
        await sign_in(page)
        await page.goto("/log?model=phi-4")
        await browser.look(page, "log")
        await page.goto("/log?status=failed")
        await browser.tab_through(page)
        await page.goto("/log")
        await page.click("main >> a[rel=next]")
        await page.wait_for_selector("text=Newest")
        await page.click("td a.mono >> nth=0")
        await page.wait_for_selector("h1:has-text('Request')")
        await browser.look(page, "request")
        await browser.tab_through(page)
        await page.goto(f"/log/{limited.request_id}")
        await browser.look(page, "request-limited")


@pytest.mark.parametrize("path", ["/limits", "/models", "/models/llama-3.3-70b"])
async def test_limits_and_models_are_for_all_eyes_and_keyboards(
    browser: Eyes, server: ScriptedServer, past: list[UsageRecord], path: str
) -> None:
    async with browser.page(server.base_url) as page:
        await sign_in(page)
        await page.goto(path)
        await browser.look(page)
        await browser.tab_through(page)
