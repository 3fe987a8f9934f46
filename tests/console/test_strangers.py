"""What a stranger learns of who is here, and what is left on a screen of who was."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import expect

from tests.console.browser import Eyes
from tests.console.organisation import OWNERS_PASSWORD, People
from tests.console.visitor import PASSWORD
from tests.scripted.server import EMAIL, ScriptedServer

NOBODY = "nobod@northwind.example"


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[ScriptedServer]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/leadline.toml").write_text('[accounts]\nsign_up = "open"\n')
    server = ScriptedServer(tmp_path / "data")
    yield server
    server.stop()


def shape(answer: httpx2.Response) -> tuple[int, list[tuple[str, int]], str]:
    """Status, the names and lengths of all headers, and the page."""
    headers = sorted((name, len(value)) for name, value in answer.headers.multi_items() if name != "date")
    return answer.status_code, headers, answer.text.replace(EMAIL, "…").replace(NOBODY, "…")


def test_answers_to_a_known_and_an_unknown_e_mail_are_of_one_shape(open_server: ScriptedServer) -> None:
    people = People(open_server)
    signing_up = {"name": "Bob", "org": "Southwind", "password": PASSWORD}
    assert len(EMAIL) == len(NOBODY)
    for path, fields in (
        ("/login", {"password": "not this one"}),
        ("/login", {"password": ""}),
        ("/login", {"password": "x" * 5000, "next": "/keys"}),
        ("/forgot", {}),
        ("/signup", signing_up),
        ("/signup", signing_up | {"password": "short"}),
        ("/signup", signing_up | {"org": ""}),
    ):
        known, unknown = (
            shape(people.guest().post(path, fields, email=email, email_again=email)) for email in (EMAIL, NOBODY)
        )
        assert known == unknown, path
    people.leave()


async def test_after_signing_out_the_way_back_shows_nothing(browser: Eyes, tmp_path: Path) -> None:
    server = ScriptedServer(tmp_path / "data")
    async with browser.page(server.base_url) as page:
        await page.goto("/login?next=/keys")
        await page.get_by_label("E-mail").fill(EMAIL)
        await page.get_by_label("Password").fill(OWNERS_PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text("first-key").first).to_be_visible()
        await page.evaluate(
            "() => { const form = document.createElement('form'); form.method = 'post'; form.action = '/logout';"
            " document.body.append(form); form.submit(); }"
        )
        await page.wait_for_url("**/login")
        await page.go_back()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        shown = await page.content()
    server.stop()

    assert "first-key" not in shown
    assert EMAIL not in shown
