"""From a pull in the console to a model that answers, without a file edited and without a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.admin_scene import Scene, scene, tiny
from tests.console.browser import Eyes
from tests.console.organisation import OWNERS_PASSWORD
from tests.console.visitor import text_of
from tests.raw import post
from tests.scripted.server import EMAIL

CONFIGURATION = """
[[engines]]
name = "here"
kind = "llamacpp"
[[models]]
name = "echo"
engine = "here"
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, CONFIGURATION) as found:
        found.bring(tiny)
        found.serve()
        yield found


def status_of(found: Scene, model: str) -> int:
    body = b'{"model": "%s", "messages": [{"role": "user", "content": "Hello"}]}' % model.encode()
    return post(found.server.port, "/v1/chat/completions", found.server.api_key, body).status


def test_a_pull_leads_to_a_model_that_keys_may_ask(served: Scene) -> None:
    served.admin.post("/admin/engines", wanted="hf:northwind/Tiny-GGUF/tiny.gguf")
    served.server.wait_until(lambda: served.server.instance.pulls.all()[0].state == "done")
    page = served.admin.get("/admin/engines")
    form = served.admin.get("/admin/weights/tiny")
    before = status_of(served, "tiny")
    answer = served.admin.post("/admin/weights/tiny", name="tiny", aliases="gpt-*, mine", input="$0.10", output="0.40")

    assert 'href="/admin/weights/tiny"' in page.text
    assert 'name="name" type="text" value="tiny"' in form.text
    assert (before, answer.status_code) == (404, 303)
    assert {one.name for one in served.server.pipeline.catalog.models} == {"echo", "tiny"}
    after = served.admin.get("/admin/engines")
    assert "tiny is a model now" in text_of(after)
    assert 'aria-label="tiny" data-part="engine-tiny"' in after.text
    assert "tiny" in text_of(served.admin.get("/models"))
    assert "$0.10" in text_of(served.admin.get("/admin/prices"))
    assert served.server.pipeline.catalog.find("gpt-4o").name == "tiny"
    assert "models serve" in text_of(served.admin.get("/admin/audit"))


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"name": "echo"}, "a name of echo already"),
        ({"name": "a b"}, "is no name"),
        ({"aliases": "echo"}, "a name of echo already"),
        ({"input": "cheap"}, "is not a price"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field_and_kept(served: Scene, typed: dict[str, str], says: str) -> None:
    served.server.run(tiny(served.server.data, "", None))
    answer = served.admin.post("/admin/weights/tiny", {"name": "small", "output": "0.40"} | typed)

    assert answer.status_code == 400
    assert says in text_of(answer)
    assert all(f'value="{text}"' in answer.text for text in typed.values())
    assert 'value="0.40"' in answer.text


def test_a_model_is_withdrawn_on_its_page_and_its_weights_deleted(served: Scene) -> None:
    served.server.run(tiny(served.server.data, "", None))
    served.admin.post("/admin/weights/tiny", name="tiny")
    refused = served.admin.post("/admin/weights/tiny/delete")
    page = served.admin.get("/models/tiny").text
    served.admin.post("/admin/weights/withdraw", model="tiny")

    assert refused.status_code == 303
    assert 'action="/admin/weights/withdraw"' in page
    assert status_of(served, "tiny") == 404
    served.admin.post("/admin/weights/tiny/delete")
    assert not (served.server.data / "models" / "tiny.gguf").exists()


def test_the_last_model_stays_and_the_page_says_why(served: Scene) -> None:
    served.admin.post("/admin/weights/withdraw", model="echo")

    assert "the only model" in text_of(served.admin.get("/admin/engines"))
    assert status_of(served, "echo") == 200


async def test_from_the_pull_to_the_model_before_ones_eyes(browser: Eyes, served: Scene) -> None:
    async with browser.page(served.server.base_url) as page:
        await page.goto("/login")
        await page.fill("[name=email]", EMAIL)
        await page.fill("[name=password]", OWNERS_PASSWORD)
        await page.click("main button.primary")
        await page.wait_for_url("**/home")
        await page.goto("/admin/engines")
        await page.fill("[name=wanted]", "hf:northwind/Tiny-GGUF/tiny.gguf")
        await page.click("#pull button:has-text('Pull')")
        await page.wait_for_selector(".tag:has-text('done')")
        await browser.look(page, "admin-weights")
        assert await page.locator("[data-part=pulls] time[title$='your time']").count() == 1
        await page.click("a.primary:has-text('Serve it')")
        await page.fill("[name=input]", "0.10")
        await browser.look(page, "admin-serve")
        await browser.tab_through(page)
        await page.fill("[name=name]", "echo")
        await page.click("main button:has-text('Serve it')")
        await page.wait_for_selector(".wrong")
        await browser.look(page, "admin-serve-wrong", refused=True)
        await page.fill("[name=name]", "tiny")
        await page.click("main button:has-text('Serve it')")
        await page.wait_for_selector("text=tiny is a model now")
        await page.goto("/models/tiny")
        await page.click("button:has-text('Withdraw')")
        await browser.look(page, "model-withdraw")
        await page.click("dialog button.danger")
        await page.wait_for_selector("text=tiny is offered no more")
