"""The browser that tests of pages look with. Whatever uses it is slow, and runs in the session's event loop."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.console.browser import Eyes, chromium, missing
from tests.console.gallery import Serving, application


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Eyes]:
    """One Chromium for all tests of a session."""
    lacks = missing()
    if lacks:
        pytest.skip(lacks)
    async with chromium() as eyes:
        yield eyes


@pytest.fixture
def look(browser: Eyes) -> Callable[..., Awaitable[None]]:
    """`await look(page)` fails on whatever no page may have."""
    return browser.look


@pytest.fixture(scope="session")
def gallery() -> Iterator[str]:
    """The URL of a server with the gallery's pages."""
    with Serving(application) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Eyes, gallery: str) -> AsyncIterator[Page]:
    """A page on the gallery's server."""
    async with browser.page(gallery) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="session")
async def plain_page(browser: Eyes, gallery: str) -> AsyncIterator[Page]:
    """The same in a browser that runs no scripts."""
    async with browser.page(gallery, scripts=False) as page:
        yield page
