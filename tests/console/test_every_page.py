"""Every page that there is, as a browser shows it: no violation of WCAG 2.2 AA, no error, no other host, nothing wider
than the window, in both themes and both sizes. What pages show in other states is looked at beside their own tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Page as Window

from leadline.console.app import PAGES
from leadline.console.page import Page
from tests.console.browser import Eyes
from tests.console.test_everybody import NEVER, Everybody
from tests.console.visitor import set_up_link

pytestmark = pytest.mark.slow
# These answer programs, or lead on.
NO_PAGES = (".csv", "/first-request", "/standing", "/charges/{request}", "/metrics", "/download", "/state", "/tasks")
SHOWN = [page for page in PAGES if page.get is not None and not page.path.endswith(NO_PAGES)]
FOR_GUESTS = [page for page in SHOWN if page.whom == "everybody"]
FOR_MEMBERS = [page for page in SHOWN if page.whom != "everybody"]


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everybody]:
    everybody = Everybody(tmp_path_factory.mktemp("every-page") / "data")
    yield everybody
    everybody.close()


@pytest_asyncio.fixture(loop_scope="session")
async def window(browser: Eyes, everybody: Everybody) -> AsyncIterator[Window]:
    """Of the administrator, who is an owner too: he sees every page."""
    async with browser.page(everybody.server.base_url) as window:
        cookies = [
            {"name": name, "value": value, "url": everybody.server.base_url}
            for name, value in everybody.admin.http.cookies.items()
        ]
        await window.context.add_cookies(cookies)  # type: ignore[arg-type]
        yield window


async def shown(window: Window, browser: Eyes, path: str, name: str) -> None:
    answer = await window.goto(path)
    assert answer is not None
    if "text/html" in answer.headers.get("content-type", ""):
        assert answer.status == 200 or NEVER in path or answer.status == 410, path
        await browser.look(window, f"page{name}", refused=answer.status != 200)


@pytest.mark.parametrize("page", FOR_MEMBERS, ids=lambda page: page.path)
async def test_a_page_of_the_console_is_as_pages_are(
    window: Window, browser: Eyes, everybody: Everybody, page: Page
) -> None:
    await shown(window, browser, everybody.path(page), page.path.replace("/", "-"))


@pytest.mark.parametrize("page", FOR_GUESTS, ids=lambda page: page.path)
async def test_a_page_for_everybody_is_as_pages_are(browser: Eyes, everybody: Everybody, page: Page) -> None:
    server = everybody.server
    path = set_up_link(server) if page.path == "/setup" else everybody.path(page)
    async with browser.page(server.base_url) as window:
        await shown(window, browser, path, page.path.replace("/", "-"))
