"""The pages of the server's administrators, in both themes, both sizes, and by keyboard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.administration.commands.credits import grant_credits
from tests.console.admin_scene import Scene, never, scene
from tests.console.browser import Eyes
from tests.console.organisation import OWNERS_PASSWORD, user_id
from tests.scripted.server import EMAIL


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("admin")) as found:
        found.people.member("developer", name="Dora")
        found.people.stranger()
        server = found.server
        server.run(
            grant_credits(server.instance, COMMAND_LINE, "carol@harbour.example", "25", "Pilot in spring", "90d")
        )
        yield found


async def sign_in(page: Any) -> None:
    await page.goto("/login")
    await page.fill("[name=email]", EMAIL)
    await page.fill("[name=password]", OWNERS_PASSWORD)
    await page.click("main button.primary")
    await page.wait_for_url("**/home")


PATHS = ("engines", "users", "organisations", "grants", "prices", "prices/echo", "audit", "mail", "system")


@pytest.mark.parametrize("path", PATHS)
async def test_each_page_is_for_all_eyes_and_keyboards(browser: Eyes, served: Scene, path: str) -> None:
    async with browser.page(served.server.base_url) as page:
        await sign_in(page)
        await page.goto(f"/admin/{path}")
        await browser.look(page, f"admin-{path.replace('/', '-')}")
        await browser.tab_through(page)


async def test_one_user_and_one_organisation_are_for_all_eyes(browser: Eyes, served: Scene) -> None:
    carol = user_id(served.server, "carol@harbour.example")
    async with browser.page(served.server.base_url) as page:
        await sign_in(page)
        await page.goto(f"/admin/users/{carol}")
        await browser.look(page, "admin-user")
        await page.click("text=Make a reset link")
        await page.wait_for_selector("h1:has-text('A link for')")
        await browser.look(page, "admin-user-link")
        await page.goto(f"/admin/users/{carol}")
        await page.click("main a:text-is('Harbour')")
        await page.wait_for_url("**/admin/organisations/*")
        await browser.look(page, "admin-organisation")
        await page.click("button:has-text('Suspend')")
        await browser.look(page, "admin-organisation-suspend")


async def test_an_engine_loads_and_a_pull_goes_on_before_ones_eyes(browser: Eyes, served: Scene) -> None:
    served.bring(never)
    async with browser.page(served.server.base_url) as page:
        await sign_in(page)
        await page.goto("/admin/engines")
        await page.click("button:has-text('Unload')")
        await page.wait_for_selector("text=Not loaded; loads at its next request")
        await page.click("button:has-text('Load')")
        await page.wait_for_selector("text=Loading here.gguf, 200 of 400 MB")
        await page.click("#pull button:has-text('Pull')")
        await page.wait_for_selector("text=49.0 MB of 98.0 MB")
        await browser.look(page, "admin-engines-busy")
        served.engine.unload()
        await page.wait_for_selector("text=Not loaded; loads at its next request")
        await page.click("button:has-text('Cancel')")
        await page.wait_for_selector(".tag:has-text('cancelled')")


async def test_new_prices_are_looked_at_before_they_hold(browser: Eyes, served: Scene) -> None:
    async with browser.page(served.server.base_url) as page:
        await sign_in(page)
        await page.goto("/admin/prices/large")
        await page.fill("[name=output]", "12.5")
        await page.click("button:has-text('Preview')")
        await page.wait_for_selector("text=Not saved yet")
        await browser.look(page, "admin-price-preview")


async def test_a_wrong_grant_and_a_wrong_pull_say_why_in_their_place(browser: Eyes, served: Scene) -> None:
    async with browser.page(served.server.base_url) as page:
        await sign_in(page)
        await page.goto("/admin/grants")
        await page.fill("[name=organisation]", "nobody@nowhere.example")
        await page.fill("[name=amount]", "25")
        await page.fill("[name=reason]", "Pilot")
        await page.click("main button.primary")
        await page.wait_for_selector(".wrong")
        await browser.look(page, "admin-grants-wrong", refused=True)
        await page.goto("/admin/engines")
        await page.fill("[name=wanted]", "something")
        await page.click("#pull button:has-text('Pull')")
        await page.wait_for_selector("text=is nothing to pull")
        await browser.look(page, "admin-engines-wrong", refused=True)


async def test_the_books_are_checked_and_backed_up_from_the_page(browser: Eyes, served: Scene) -> None:
    async with browser.page(served.server.base_url) as page:
        await sign_in(page)
        await page.goto("/admin/system")
        await page.click("text=Check now")
        await page.wait_for_selector(".tag:has-text('every rule holds')")
        await page.click("text=Back up now")
        await page.wait_for_selector("td >> text=leadline-")
        await browser.look(page, "admin-system-done")


async def test_a_server_without_engines_says_what_to_write(browser: Eyes, tmp_path: Path) -> None:
    with scene(tmp_path) as found:
        found.server.instance.engines = {}
        async with browser.page(found.server.base_url) as page:
            await sign_in(page)
            await page.goto("/admin/engines")
            await browser.look(page, "admin-engines-none")
