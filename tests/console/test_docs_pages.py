"""The docs as a server gives them out: to everybody, under the policy of all pages, whatever a stranger sends."""

from collections.abc import Iterator

import pytest

from leadline.console.docs.protos import protos
from leadline.console.docs.site import Docs
from leadline.dialects.api import openapi
from tests.console.pages_of_docs import Read
from tests.console.visitor import Visitor
from tests.scripted.server import EMAIL, ScriptedServer

PAGES = [path for path in Docs(openapi).paths() if not path.endswith(".proto")]
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    server = ScriptedServer(tmp_path_factory.mktemp("site") / "data")
    yield server
    server.stop()


@pytest.fixture
def guest(site: ScriptedServer) -> Iterator[Visitor]:
    visitor = Visitor(site)
    yield visitor
    visitor.close()


def test_every_page_is_open_to_everybody_under_the_policy(guest):
    policy = guest.get("/login").headers["content-security-policy"]
    assert "unsafe" not in policy
    for path in PAGES:
        answer = guest.get(path)
        assert (answer.status_code, answer.headers["content-security-policy"]) == (200, policy), path
        assert "set-cookie" not in answer.headers
        page = Read(answer.text)
        assert len(page.ids) == len(set(page.ids)), path
        assert [load for load in page.loads if not load.startswith("/static/")] == [], path
        assert "style" not in page.attributes


def test_whoever_is_signed_in_reads_them_beside_the_rail(site, guest):
    alone = guest.get("/docs/quickstart")
    guest.sign_in(EMAIL, PASSWORD)
    within = guest.get("/docs/quickstart")
    assert ('class="rail"' in alone.text, 'class="rail"' in within.text) == (False, True)
    assert 'href="/docs/quickstart" aria-current="page"' in within.text
    assert f"curl {site.instance.base_url}/v1/chat/completions" in Read(within.text).text


def test_the_host_that_a_request_names_is_in_no_page(guest):
    for host in ("evil.example", 'x"><script>', "evil.example:1"):
        assert "evil" not in guest.get("/docs/quickstart", host=host, x_forwarded_host=host).text


@pytest.mark.parametrize(
    "query", ["<script>alert(1)</script>", '"><img src=x>', "(", "%00", "x" * 5000, "&q=2", "{{7*7}}"]
)
def test_a_hostile_query_is_only_text(guest, query):
    answer = guest.http.get("/docs/search", params={"q": query})
    page = Read(answer.text)
    assert answer.status_code == 200
    assert "img" not in page.tags
    assert "alert(1)</script>" not in answer.text
    assert len(answer.text) < 40_000
    assert "49" not in page.text or query != "{{7*7}}"


def test_a_search_shows_where_a_word_is(guest):
    page = Read(guest.get("/docs/search?q=caddy").text)
    assert "/docs/guides/proxy#caddy" in page.links
    assert "Try fewer" in Read(guest.get("/docs/search?q=zebra").text).text
    assert "Say what you look for" in Read(guest.get("/docs/search").text).text


def test_protos_are_plain_text_and_nothing_else_is_there(guest):
    for name, proto in protos().items():
        answer = guest.get(f"/docs/protos/{name}")
        assert answer.content == proto.content
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in (
        "/docs/protos/nothing.proto",
        "/docs/protos/..%2f__init__.py",
        "/docs/guides/nothing",
        "/docs/guides/",
    ):
        assert guest.get(path).status_code == 404, path


def test_the_first_page_is_found_by_the_name_of_all(guest):
    answer = guest.get("/docs")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs/quickstart")
    assert guest.get("/docs/quickstart/").status_code == 200
    assert guest.post("/docs/quickstart").status_code == 405


LOOKED_AT = (
    "/docs/quickstart",
    "/docs/guides/tools",
    "/docs/guides/errors",
    "/docs/api",
    "/docs/api/chat",
    "/docs/protos",
)


async def test_pages_are_as_every_page_has_to_be(browser, look, site):
    async with browser.page(site.base_url) as page:
        for path in (*LOOKED_AT, "/docs/search?q=tokens"):
            await page.goto(path)
            await look(page)
        await page.goto("/docs/quickstart")
        await browser.tab_through(page)


async def test_they_work_without_scripts(browser, site):
    async with browser.page(site.base_url, scripts=False) as page:
        await page.goto("/docs/quickstart")
        curl, python = page.locator("#code-3 pre").nth(0), page.locator("#code-3 pre").nth(1)
        assert (await curl.is_visible(), await python.is_visible()) == (True, False)
        await page.locator("#code-3 label", has_text="Python").click()
        assert (await curl.is_visible(), await python.is_visible()) == (False, True)
        await page.get_by_role("searchbox").fill("caddy")
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name="TLS and proxies: Caddy").click()
        assert page.url.endswith("/docs/guides/proxy#caddy")


async def test_beside_the_rail_they_are_as_every_page_has_to_be(browser, look, site):
    async with browser.page(site.base_url) as page:
        await page.goto("/login")
        await page.get_by_label("E-mail").fill(EMAIL)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/home")
        for path in ("/docs/quickstart", "/docs/api/models"):
            await page.goto(path)
            await look(page, f"signed-in{path.replace('/', '-')}")
