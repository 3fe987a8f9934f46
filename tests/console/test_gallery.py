"""The frame and each macro, seen in a browser."""

import pytest

from tests.console.gallery import PATHS


@pytest.mark.parametrize("path", PATHS)
async def test_each_page_of_the_gallery_is_as_every_page_has_to_be(page, look, path):
    await page.goto(path)
    await look(page)


@pytest.mark.parametrize("path", ["/gallery", "/gallery/open", "/gallery/kept", "/keys", "/start", "/plain"])
async def test_a_keyboard_reaches_everything_and_shows_where_it_is(page, browser, path):
    await page.goto(path)
    await browser.tab_through(page)


@pytest.mark.parametrize("path", PATHS)
async def test_no_page_is_wider_than_the_narrowest_window(page, path):
    """WCAG's reflow: 320 px are 1280 at 400 percent."""
    await page.set_viewport_size({"width": 320, "height": 640})
    await page.goto(path)
    assert await page.evaluate("() => document.documentElement.scrollWidth") == 320
