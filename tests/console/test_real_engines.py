"""The pages of a server's administrators on the real engine and the real model, in a real browser: it is loaded,
unloaded and loaded again, asked, joined by a second one, and what it did is backed up and brought back."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.cli.process import EMAIL, PASSWORD, Serving, init, leadline
from tests.console.browser import Eyes
from tests.weights import default_weights

pytestmark = pytest.mark.model
DEADLINE_MILLISECONDS = 120_000
MODEL = "smollm2-135m-instruct"
ENGINE = "[data-part=engine-{}]"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Credits, and the default model's weights under two names."""
    weights = default_weights()
    folder = tmp_path / "data"
    (folder / "models").mkdir(parents=True, mode=0o700)
    for name in (MODEL, "second"):
        (folder / "models" / f"{name}.gguf").symlink_to(weights)
    assert init(folder, "--credit", "20").code == 0
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Eyes, data: Path) -> AsyncIterator[Page]:
    """The administrator's, once the model is loaded."""
    server = await Serving.start(data)
    try:
        base_url = (await server.event("serving"))["base_url"]
        await server.event("ready")
        async with browser.page(base_url) as page:
            page.set_default_timeout(DEADLINE_MILLISECONDS)
            await page.goto("/login")
            await page.fill("[name=email]", EMAIL)
            await page.fill("[name=password]", PASSWORD)
            await page.click("main button.primary")
            await page.wait_for_url("**/home")
            yield page
    finally:
        assert await server.stop() == 0


async def in_state(page: Page, state: str, engine: str = "default") -> str:
    """What the page says of the engine once it is in that state."""
    await page.wait_for_selector(f"{ENGINE.format(engine)} .tag:text-is('{state}')")
    return await page.inner_text(ENGINE.format(engine))


async def act(page: Page, button: str, engine: str = "default") -> None:
    await page.click(f"{ENGINE.format(engine)} button:has-text('{button}')")


async def ask(page: Page, text: str, model: str = MODEL) -> str:
    """The answer in the playground, once it is whole, with what is said of it."""
    await page.goto(f"/playground?model={model}")
    await page.fill("#field-max_tokens", "24")
    await page.fill("#prompt", text)
    await page.press("#prompt", "Enter")
    await page.wait_for_selector(".message.assistant .stats:not([hidden])")
    return await page.inner_text(".message.assistant")


async def talk(page: Page, max_tokens: int) -> Any:
    """One stream after another until their reader hangs up: a fast engine is soon at the end of one."""
    body = {"model": MODEL, "turns": [{"role": "user", "text": "Count."}], "max_tokens": max_tokens}
    return await page.evaluate_handle(
        """async (body) => {
          const stop = new AbortController();
          const headers = { "content-type": "application/json" };
          const ask = async () => {
            const answer = await fetch("/playground/chat",
              { method: "POST", body: JSON.stringify(body), headers, signal: stop.signal });
            const reader = answer.body.getReader();
            while (!(await reader.read()).done);
          };
          (async () => { while (true) await ask(); })().catch(() => {});
          return stop;
        }""",
        body,
    )


async def test_an_engine_is_unloaded_loaded_and_asked_before_ones_eyes(page: Page, browser: Eyes) -> None:
    await page.goto("/admin/engines")
    loaded = await in_state(page, "loaded")
    await act(page, "Unload")
    unloaded = await in_state(page, "unloaded")
    await browser.look(page, "real-engine-unloaded")
    await act(page, "Load")
    await page.wait_for_selector(f"{ENGINE.format('default')} progress")
    again = await in_state(page, "loaded")
    told = await page.inner_text(ENGINE.format("default"))
    answer = await ask(page, "Say hello.")
    await page.goto("/log")

    # Its weights alone are 98 MB.
    taken = [re.search(r"Memory: ([\d.]+) (\w?B)", text) for text in (loaded, unloaded, again)]
    assert [one is not None and one[2] == "MB" and float(one[1]) > 90 for one in taken] == [True, False, True]
    assert "8,192" in loaded
    assert "16 requests at once" in loaded
    assert "next request" in unloaded
    assert MODEL in told
    assert re.search(r"\bout\s+\d+", answer), answer
    assert MODEL in await page.inner_text("main table")


async def test_what_runs_and_waits_is_counted_and_keeps_its_engine(page: Page) -> None:
    await page.goto("/admin/engines")
    # Each may need half of the room and more, so that the second one waits.
    streams = [asyncio.create_task(talk(page, 8000)) for _ in range(3)]
    counts = f"{ENGINE.format('default')} .measures"
    await page.wait_for_function(
        """(counts) => {
          const [running, waiting, pace] = [...document.querySelectorAll(`${counts} dd`)].map((one) => one.innerText);
          return running === "3" && waiting === "1" && parseFloat(pace) > 0;
        }""",
        arg=counts,
    )
    await act(page, "Unload")
    await page.wait_for_selector("text=need it now")
    stays = await in_state(page, "loaded")
    await page.goto("/home")  # hangs up
    await asyncio.gather(*streams, return_exceptions=True)
    await page.goto("/admin/engines")
    await page.wait_for_selector(f"{counts} dd:first-of-type:text-is('0')")

    assert "Running" in stays


async def test_weights_are_served_asked_and_withdrawn_and_the_first_model_shares_its_cores(
    page: Page, data: Path
) -> None:
    await page.goto("/admin/engines")
    await page.click("tr:has-text('second') a:has-text('Serve it')")
    await page.fill("[name=input]", "0.10")
    await page.fill("[name=output]", "0.40")
    await page.click("main button:has-text('Serve it')")
    await page.wait_for_selector("text=second is a model now")
    await in_state(page, "unloaded", "second")
    answers = [await ask(page, "Say hello.", model) for model in (MODEL, "second")]
    await page.goto("/admin/engines")
    await in_state(page, "loaded", "second")
    await page.goto("/models/second")
    await page.click("button:has-text('Withdraw')")
    await page.click("dialog button.danger")
    await page.wait_for_selector("text=second is offered no more")

    # The first one was loaded anew, since from then on its threads make way for the other's.
    log = "".join(file.read_text() for file in (data / "logs").iterdir())
    assert all(re.search(r"\bout\s+\d+", answer) for answer in answers), answers
    unloaded = [json.loads(line).get("engine") for line in log.splitlines() if '"engine unloaded"' in line]
    assert "default" in unloaded
    assert await page.locator(ENGINE.format("second")).count() == 0
    assert [one["name"] for one in leadline("models", "list", "--json", "--data", str(data)).json["models"]] == [MODEL]


async def test_a_backup_of_the_page_is_brought_back(page: Page, data: Path, tmp_path: Path) -> None:
    await ask(page, "Say hello.")
    await page.goto("/admin/system")
    await page.click("button:has-text('Back up now')")
    async with page.expect_download() as downloading:
        await page.click("a:has-text('Download')")
    file = tmp_path / "taken.tar.gz"
    await (await downloading.value).save_as(file)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_bytes((data / "secret").read_bytes())
    restored = await asyncio.to_thread(leadline, "db", "restore", str(file), "--json", "--data", str(elsewhere))
    books = [
        await asyncio.to_thread(leadline, "credits", "ledger", EMAIL, "--json", "--data", str(folder))
        for folder in (data, elsewhere)
    ]

    assert (restored.code, restored.json["ok"]) == (0, True), restored.err
    assert json.loads(books[0].out) == json.loads(books[1].out)
    assert [one["kind"] for one in books[1].json["entries"]].count("charge") == 1
