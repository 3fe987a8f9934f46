"""The harness itself: each fault that it looks for is seen."""

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.console.gallery import POLICY, Serving

_FAULTS = {
    "script": ('<h1>Leadline</h1><script src="/broken.js"></script>', "Cannot read properties of null"),
    "policy": ('<h1 style="color: red">Leadline</h1>', "style-src"),
    "stranger": ('<h1>Leadline</h1><img alt="" src="http://elsewhere.example/pixel.png">', "elsewhere.example"),
    "width": ('<h1>Leadline</h1><pre tabindex="0">' + "wide " * 200 + "</pre>", "390 px: it is"),
    "name": ("<h1>Leadline</h1><button></button>", "button-name"),
    "contrast": ('<h1>Leadline</h1><link rel="stylesheet" href="/pale.css"><p>pale</p>', "color-contrast"),
}


def _page(request):
    body, _ = _FAULTS[request.path_params["fault"]]
    text = f'<!doctype html><html lang="en"><title>A fault</title><link rel="icon" href="data:,"><main>{body}</main>'
    return HTMLResponse(text, headers={"content-security-policy": POLICY})


@pytest.fixture(scope="module")
def faulty():
    routes = [
        Route("/broken.js", lambda _: Response("null.nothing", media_type="text/javascript")),
        Route("/pale.css", lambda _: Response("p { color: #ccc; background: #fff; }", media_type="text/css")),
        Route("/{fault}", _page),
    ]
    with Serving(Starlette(routes=routes)) as url:
        yield url


@pytest.mark.parametrize("fault", _FAULTS)
async def test_each_fault_is_seen(browser, look, faulty, fault):
    async with browser.page(faulty) as page:
        await page.goto(f"/{fault}")
        with pytest.raises(AssertionError, match=_FAULTS[fault][1]):
            await look(page)


async def test_what_no_keyboard_reaches_is_seen(browser, page):
    await page.goto("/keys")
    await page.evaluate("() => document.querySelector('.rail').setAttribute('inert', '')")
    with pytest.raises(AssertionError, match="Tab does not reach"):
        await browser.tab_through(page)


async def test_a_focus_that_is_not_shown_is_seen(browser, page):
    await page.goto("/plain")
    await page.evaluate("() => { for (const one of document.querySelectorAll('.input')) one.style.outline = 'none' }")
    with pytest.raises(AssertionError, match="not seen that the focus is on"):
        await browser.tab_through(page)


async def test_what_went_wrong_is_told_once_and_a_refused_page_is_no_fault(browser, look, page):
    await page.goto("/plain")
    await page.evaluate("() => console.error('broken')")
    with pytest.raises(AssertionError, match="broken"):
        await look(page)
    await look(page)
    await page.goto("/refused")
    await look(page, refused=True)
