"""The seeds' steps as a person walks them, in a real browser, with the real model: from the link that a new server
prints to an answer of curl, its charge, and the pages that show it."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.cli.process import Serving
from tests.console.browser import Eyes
from tests.proof import keep
from tests.weights import FOLDER, default_weights

pytestmark = pytest.mark.model
EMAIL, PASSWORD = "mara@northwind.example", "four words that match"
DEADLINE_SECONDS = 120


@pytest.fixture
def data(tmp_path: Path) -> Path:
    default_weights()
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "models").symlink_to(FOLDER)
    return folder


async def _shell(program: str) -> str:
    """What a person's terminal prints."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", program), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def _set_up(page: Page, link: str) -> None:
    await page.goto(link)
    for field, text in {"name": "Mara", "email": EMAIL, "email_again": EMAIL, "org": "Northwind Labs"}.items():
        await page.fill(f"[name={field}]", text)
    await page.fill("[name=password]", PASSWORD)
    await page.click("text=Create your account")


async def _create_key(page: Page) -> tuple[str, str]:
    """What stands in the page to copy: the line with the key, and the request."""
    await page.wait_for_selector("dialog:modal")
    assert await page.input_value("dialog [name=name]") == "first-key"
    await page.click("dialog button:has-text('Create key')")
    await page.wait_for_selector("text=Waiting for the first request")
    shown = page.locator("pre:visible")
    return await shown.nth(0).inner_text(), await shown.nth(1).inner_text()


async def _ready(page: Page) -> None:
    """Once the model can answer."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (await page.request.get("/health/ready")).ok:
            await asyncio.sleep(0.1)


async def test_from_the_set_up_link_to_a_charged_answer(data: Path, browser: Eyes) -> None:
    server = await Serving.start(data)
    link = (await server.event("setup_link"))["url"]
    began = time.monotonic()
    async with browser.page(link.partition("/setup")[0]) as page:
        await _set_up(page, link)
        await browser.tab_through(page)
        line, request = await _create_key(page)
        key_seconds = time.monotonic() - began
        await _ready(page)
        answer = json.loads(await _shell(f"{line}\n{request}"))
        heard = await page.wait_for_selector("text=First request received")
        assert heard is not None
        told = await heard.inner_text()
        answer_seconds = time.monotonic() - began
        await page.click("text=I have saved the key")
        usage = answer["usage"]
        assert f"{usage['total_tokens']} tokens" in told
        await page.goto("/usage")
        assert "smollm2-135m-instruct" in await page.inner_text("main")
        await page.goto(f"/log/{answer['id']}")
        assert str(usage["completion_tokens"]) in await page.inner_text("main")
        await page.goto("/home")
        assert "First steps" not in await page.inner_text("main")
        again = await page.goto(link)
        assert again is not None
        assert again.status == 410
    assert await server.stop() == 0
    keep("walk", seconds_to_the_key=round(key_seconds, 1), seconds_to_the_answer=round(answer_seconds, 1))
