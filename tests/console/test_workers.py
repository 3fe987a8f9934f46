"""The workers of an engine, on the page of engines: how each is, and how they come and go."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from leadline.engines.engine import WorkerStatus
from tests.console.admin_scene import CONFIGURATION, Scene, scene
from tests.console.browser import Eyes
from tests.console.organisation import audit_rows
from tests.console.test_admin_browser import sign_in
from tests.console.visitor import text_of

ONE, TWO, THREE = (f"http://gpu-{number}.example:8000/v1" for number in (1, 2, 3))
PATH = "/admin/engines"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Scene]:
    """The engine gpu-1 has two workers, of which one is away."""
    listed = CONFIGURATION.replace('url = "http://10.0.4.20:8000/v1"', f'urls = ["{ONE}", "{TWO}"]')
    with scene(tmp_path, listed) as found:
        engine = type(found.engine)(found.server.engine.scripts, name="gpu-1")
        workers = (
            WorkerStatus(ONE, "ready", "answers", 3, 1, prompt_tokens=200, cached_tokens=150),
            WorkerStatus(TWO, "away", "<b>nobody</b> is there"),
        )
        engine.told = replace(engine.told, state=None, detail="1 of 2 workers take requests", workers=workers)
        found.server.instance.engines["gpu-1"] = engine
        yield found


def urls(served: Scene) -> str:
    return (served.server.data / "leadline.toml").read_text()


def test_the_page_says_how_each_worker_is(served: Scene) -> None:
    page = served.admin.get(PATH)
    said = text_of(page)
    assert "1 of 2 workers take requests" in said
    assert f"{ONE} ready 3 1 75 %" in " ".join(said.split())
    assert "<b>nobody</b>" not in page.text
    assert ONE in served.admin.get(f"{PATH}/now").json()["parts"]["engine-gpu-1"]


def test_a_worker_is_added_and_removed_there(served: Scene) -> None:
    served.admin.post(f"{PATH}/gpu-1/workers", url=THREE)
    assert THREE in urls(served)
    served.admin.post(f"{PATH}/gpu-1/workers/remove", url=TWO)
    assert TWO not in urls(served)
    assert [row.action for row in audit_rows(served.server, "workers")] == ["workers remove", "workers add"]


@pytest.mark.parametrize(("engine", "url"), [("gpu-1", "nowhere"), ("gpu-1", ONE), ("here", THREE), ("nobody", THREE)])
def test_what_cannot_be_added_is_told_and_changes_nothing(served: Scene, engine: str, url: str) -> None:
    before = urls(served)
    answer = served.admin.post(f"{PATH}/{engine}/workers", url=url)
    assert answer.status_code == 303
    assert urls(served) == before
    assert audit_rows(served.server, "workers") == []


def test_whoever_does_not_look_after_the_server_adds_none(served: Scene) -> None:
    before = urls(served)
    answer = served.people.stranger().post(f"{PATH}/gpu-1/workers", url=THREE)
    assert answer.status_code in (403, 404)
    assert urls(served) == before


async def test_the_page_with_workers_is_for_all_eyes_and_keyboards(browser: Eyes, served: Scene) -> None:
    async with browser.page(served.server.base_url) as page:
        await sign_in(page)
        await page.goto(PATH)
        await browser.look(page, "admin-workers")
        await browser.tab_through(page)
