"""The playground as people use it."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from leadline.chat.events import ChoiceFinished, Finished, ReasoningDelta, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest, Image, Text
from tests.conformance.conftest import JAVASCRIPT, node  # noqa: F401 — a fixture
from tests.console.browser import Eyes
from tests.console.organisation import People
from tests.console.payloads import PAYLOADS
from tests.console.test_snippets import plain
from tests.pictures import png
from tests.scripted.engine import SCRIPTS, ScriptedEngine, Step
from tests.scripted.server import ScriptedServer

WRITTEN = """It looks like **dusk, shortly after sunset**. I would put it at about *80 percent*.

- The sky runs from deep blue overhead to a warm band at the horizon.
- The foreground hills are fully `silhouetted`, so the light is low.

| time of day | share |
|---|--:|
| dusk | 80 % |
| dawn | 20 % |

```python
def tide(hour):  # metres
    return 2.5 * hour
```

More is [on this page](https://example.com/tides), and ![here](https://elsewhere.example/pixel.png) is a picture.
"""
DEADLINE_SECONDS = 120


def writes(request: ChatRequest) -> Iterable[Step]:
    """Thinks, and answers in Markdown, or in JSON where it is asked for it."""
    yield (Started(812, 40),)
    if request.json_format is not None:
        yield (TextDelta('{\n  "time": "dusk",\n  "confidence": 0.8\n}'),)
    else:
        yield (ReasoningDelta("The sky is dark, and warm below."),)
        yield from ((TextDelta(f"{word} "),) for word in WRITTEN.split(" "))
    usage = Usage(prompt_tokens=812, cached_tokens=40, output_tokens=96, reasoning_tokens=7)
    yield (ChoiceFinished("stop"), Finished(usage))


def repeats(request: ChatRequest) -> Iterable[Step]:
    """What the user said, to the letter: as thoughts, and as the answer."""
    said = "".join(block.text for block in request.messages[-1].content if isinstance(block, Text))
    yield (Started(1),)
    yield (ReasoningDelta(said), TextDelta(said[:7]), TextDelta(said[7:] or " "))
    yield (ChoiceFinished("stop"), Finished(Usage(prompt_tokens=1, output_tokens=1, reasoning_tokens=1)))


class Scene:
    """A server, a model on it that sees, and a browser."""

    def __init__(self, server: ScriptedServer, sees: ScriptedEngine, browser: Eyes) -> None:
        self.server, self.sees, self.browser = server, sees, browser
        self.people = People(server)

    @asynccontextmanager
    async def open(self, path: str = "/playground", **options: Any) -> AsyncIterator[Page]:
        """A page of Alice's, in a browser of its own."""
        alice = self.people.owner()
        cookies = [
            {"name": name, "value": value, "url": self.server.base_url} for name, value in alice.http.cookies.items()
        ]
        async with self.browser.page(self.server.base_url, **options) as page:
            await page.context.add_cookies(cookies)  # type: ignore[arg-type]
            await page.goto(path)
            yield page


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedServer, ScriptedEngine]]:
    folder = tmp_path_factory.mktemp("playground") / "data"
    folder.mkdir()
    (folder / "leadline.toml").write_text(
        "[limits.default]\nrequests_per_minute = 6000\ntokens_per_minute = 90000000\n"
    )
    sees = ScriptedEngine({"harbour-vision": writes}, context_tokens=32_768)
    scripts = {"writes": writes, "repeats": repeats} | {
        name: SCRIPTS[name] for name in ("slow", "broken-after", "stall")
    }
    server = ScriptedServer(folder, "50", scripts=scripts, engines={"harbour-vision": sees})
    server.instance.base_url = server.base_url
    server.instance.grpc_address = server.grpc_address
    yield server, sees
    server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def scene(servers: tuple[ScriptedServer, ScriptedEngine], browser: Eyes) -> AsyncIterator[Scene]:
    scene = Scene(*servers, browser)
    yield scene
    scene.people.leave()


@pytest.fixture
def page_of(scene: Scene) -> Any:
    return scene.open


async def ask(page: Page, text: str, *, model: str = "") -> None:
    """Sends, and waits for the whole answer."""
    if model:
        await page.select_option("#field-model", model)
    count = await page.locator(".message").count()
    await page.fill("#prompt", text)
    await page.press("#prompt", "Enter")
    await page.wait_for_selector(f".message:nth-child({count + 2}) .stats:not([hidden])")


async def messages(page: Page) -> list[str]:
    return [text.strip() for text in await page.locator(".message .said").all_inner_texts()]


# ---- How it looks ----


async def test_it_is_as_every_page_has_to_be_before_the_first_message(scene, look, page_of):
    async with page_of() as page:
        await look(page, "playground-empty")
        await scene.browser.tab_through(page)


async def test_it_is_as_every_page_has_to_be_with_answers(scene, look, page_of):
    async with page_of() as page:
        await ask(page, "What time of day is this, and how sure are you?", model="harbour-vision")
        await page.check("#field-json")
        await ask(page, "Answer as JSON with fields time and confidence.")
        await look(page, "playground-answered")
        await scene.browser.tab_through(page)


async def test_it_is_as_every_page_has_to_be_while_an_answer_comes_and_after_it_was_stopped(scene, look, page_of):
    async with page_of() as page:
        await page.select_option("#field-model", "slow")
        await page.fill("#prompt", "Slowly, please")
        await page.press("#prompt", "Enter")
        await page.wait_for_selector(".said:has-text('one two three')")
        await look(page, "playground-streaming")
        await page.click("#stop")
        await page.wait_for_selector(".message:last-child .stats:not([hidden])")
        await look(page, "playground-stopped")


async def test_it_is_as_every_page_has_to_be_where_an_answer_broke(look, page_of):
    async with page_of() as page:
        await ask(page, "Break", model="broken-after")
        await look(page, "playground-broken")


async def test_the_conversation_as_code_is_as_every_page_has_to_be(scene, look, page_of):
    async with page_of() as page:
        await ask(page, "What time of day is this?", model="writes")
        await page.click("#show-code")
        await page.wait_for_selector("#code-dialog[open]")
        await look(page, "playground-code")
        await scene.browser.tab_through(page)


async def test_a_phone_has_the_settings_in_a_panel(scene, page_of):
    async with page_of(viewport={"width": 390, "height": 844}) as page:
        assert not await page.is_visible("#settings")
        await page.click("[popovertarget=settings][aria-label=Settings]")
        await page.select_option("#field-model", "slow")
        if folder := os.environ.get("LEADLINE_TEST_SHOTS"):
            await page.screenshot(path=Path(folder) / "playground-settings-light-390.png")
        await page.click("#settings [aria-label=Close]")
        assert not await page.is_visible("#settings")
        assert await page.input_value("#field-model") == "slow"


async def test_without_scripts_it_says_so_and_shows_the_request(page_of):
    async with page_of(scripts=False) as page:
        text = await page.inner_text("main")
        assert "The playground needs JavaScript" in text
        assert "/v1/chat/completions" in text
        assert not await page.is_visible("#composer")
        assert not await page.is_visible("#settings")


# ---- Talking ----


async def test_enter_sends_and_shift_enter_adds_a_line(scene, page_of):
    async with page_of("/playground?model=repeats") as page:
        await page.fill("#prompt", "one")
        await page.press("#prompt", "Shift+Enter")
        await page.keyboard.type("two")
        await page.press("#prompt", "Enter")
        await page.wait_for_selector(".message.assistant .stats:not([hidden])")

        assert await messages(page) == ["one\ntwo", "one two"] or await messages(page) == ["one\ntwo", "one\ntwo"]
        assert await page.input_value("#prompt") == ""
        assert await page.evaluate("() => document.activeElement.id") == "prompt"


async def test_each_answer_says_what_it_took_and_the_balance_follows(scene, page_of):
    async with page_of() as page:
        before = await page.inner_text(".rail .balance .figure")
        await ask(page, "What does this cost?", model="writes")

        stats = re.sub(r"\s+", " ", await page.inner_text(".message.assistant .stats"))
        charge = scene.server.charges()[-1]
        assert "812 in" in stats.replace("in 812", "812 in")
        assert "$0.000998" in stats
        link = await page.get_attribute(".message.assistant .stats a", "href")
        assert link == f"/log/{charge.id}"
        assert await page.inner_text(".rail .balance .figure") <= before
        assert "Requests per minute" in await page.inner_text("#limits")
        assert await page.inner_text("details summary") == "Thoughts"


async def test_the_answer_is_announced_once_when_it_is_whole(page_of):
    async with page_of("/playground?model=repeats") as page:
        await page.evaluate(
            """() => {
              window.heard = [];
              new MutationObserver(() => {
                const text = document.querySelector("[data-announced]")?.textContent;
                if (text && text !== window.heard.at(-1)) window.heard.push(text);
              }).observe(document.body, { childList: true, characterData: true, subtree: true });
            }"""
        )
        await ask(page, "Say it once")

        assert await page.evaluate("() => window.heard") == ["repeats answered: Say it once"]
        assert await page.locator("#messages [aria-live], #messages [role=status], #messages [role=log]").count() == 0


async def test_stop_frees_the_engine_and_keeps_what_came(scene, page_of):
    engine = scene.server.engine
    async with page_of("/playground?model=slow") as page:
        await page.fill("#prompt", "Slowly")
        await page.press("#prompt", "Enter")
        await page.wait_for_selector(".said:has-text('one two three')")
        assert not await page.is_visible("#send")
        await page.click("#stop")
        await asyncio.to_thread(scene.server.wait_until, lambda: engine.running == 0)
        await page.wait_for_selector(".message:last-child .stats:not([hidden])")

        assert engine.aborted[-1] == "slow"
        assert await page.inner_text(".message:last-child [data-part=state]") == "Stopped"
        assert (await messages(page))[-1] == "one two three"
        assert "$0.0000" in await page.inner_text(".message:last-child .stats")
        assert await page.evaluate("() => document.activeElement.id") == "prompt"
        # What came of it is a turn like any other.
        await ask(page, "Go on", model="repeats")
        assert [message.role for message in engine.requests[-1].messages] == ["user", "assistant", "user"]


async def test_messages_are_asked_again_edited_deleted_and_cleared(scene, page_of):
    engine = scene.server.engine
    async with page_of("/playground?model=repeats") as page:
        await ask(page, "first")
        await ask(page, "second")
        await page.click(".message:nth-child(2) [data-act=retry]")
        await page.wait_for_selector(".message:nth-child(2) .stats:not([hidden])")
        assert await messages(page) == ["first", "first"]

        await page.click(".message:nth-child(1) [data-act=edit]")
        assert await page.evaluate("() => document.activeElement.value") == "first"
        await page.keyboard.press("Escape")
        assert await page.evaluate("() => document.activeElement.dataset.act") == "edit"
        await page.click(".message:nth-child(1) [data-act=edit]")
        await page.fill(".edit textarea", "changed")
        await page.click(".edit button >> text=Send")
        await page.wait_for_selector(".message:nth-child(2) .said:has-text('changed')")
        await page.wait_for_selector(".message:nth-child(2) .stats:not([hidden])")
        assert len(engine.requests[-1].messages) == 1

        await page.click(".message:nth-child(1) [data-act=delete]")
        assert await messages(page) == ["changed"]
        assert await page.evaluate("() => document.activeElement.className") == "message assistant"
        await page.click("#clear")
        await page.click("#clear-now")
        assert await messages(page) == []
        assert await page.is_visible("#starters")
        assert await page.is_disabled("#clear")


async def test_a_starter_is_put_into_the_message_and_not_sent(scene, page_of):
    heard = len(scene.server.engine.requests)
    async with page_of() as page:
        await page.click(".starter >> nth=0")
        assert "tides" in await page.input_value("#prompt")
        assert await page.evaluate("() => document.activeElement.id") == "prompt"
    assert len(scene.server.engine.requests) == heard


async def test_settings_are_remembered_and_stand_in_the_url(scene, page_of):
    async with page_of() as page:
        await page.select_option("#field-model", "repeats")
        await page.fill("#field-system", "Be brief.")
        await page.fill("#field-temperature", "0.2")
        await page.fill("#field-max_tokens", "77")
        await page.uncheck("#field-stream")
        await ask(page, "hello")
        request = scene.server.engine.requests[-1]
        assert request.messages[0].content == (Text("Be brief."),)
        assert (request.sampling.temperature, request.max_output_tokens) == (0.2, 77)
        assert "model=repeats" in page.url
        assert "temperature=0.2" in page.url
        assert "brief" not in page.url
        url = page.url

        await page.goto("/playground")
        assert await page.input_value("#field-model") == "repeats"
        assert await page.input_value("#field-system") == "Be brief."
        await page.goto("/playground?model=slow&temperature=1.5")
        assert await page.input_value("#field-model") == "slow"
        assert await page.inner_text("label[for=field-temperature] output") == "1.5"
    async with page_of(url) as page:
        assert await page.input_value("#field-max_tokens") == "77"
        assert await page.input_value("#field-system") == ""


async def test_a_setting_that_makes_no_sense_is_not_sent(scene, page_of):
    heard = len(scene.server.engine.requests)
    async with page_of() as page:
        await page.fill("#field-max_tokens", "many")
        await page.fill("#prompt", "hello")
        await page.press("#prompt", "Enter")
        assert await messages(page) == []
        assert await page.input_value("#prompt") == "hello"
        assert await page.evaluate("() => document.activeElement.id") == "field-max_tokens"
    assert len(scene.server.engine.requests) == heard


async def test_a_conversation_stays_in_its_tab_and_goes_with_the_session(scene, page_of):
    async with page_of("/playground?model=writes") as page:
        await ask(page, "Do you remember?")
        whole = await page.inner_html(".message.assistant .said")
        await page.reload()
        assert await page.inner_html(".message.assistant .said") == whole
        other = await page.context.new_page()
        await other.goto("/playground")
        assert await other.locator(".message").count() == 0
        await page.click("[aria-label='Sign out']")
        await page.wait_for_url("**/login*")
        assert await page.evaluate("() => sessionStorage.length") == 0


async def test_whoever_was_signed_out_reads_so_and_loses_nothing(scene, page_of):
    async with page_of("/playground?model=repeats") as page:
        await page.context.clear_cookies()
        await page.fill("#prompt", "Am I here?")
        await page.press("#prompt", "Enter")
        note = page.locator(".message.assistant .note")
        assert "You are signed out" in await note.inner_text()
        assert await note.locator("a").get_attribute("href") == "/login?next=/playground"
        assert (await messages(page))[0] == "Am I here?"


async def test_beyond_a_limit_a_countdown_says_when_to_ask_again(tmp_path, browser, look):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "leadline.toml").write_text("[limits.default]\nrequests_per_minute = 1\ntokens_per_minute = 0\n")
    server = await asyncio.to_thread(ScriptedServer, folder)
    scene = Scene(server, server.engine, browser)
    async with scene.open("/playground?model=echo") as page:
        await ask(page, "one")
        await page.fill("#prompt", "two")
        await page.press("#prompt", "Enter")
        note = page.locator(".message:last-child .note")
        text = await note.inner_text()
        assert "Too much at once" in text
        assert re.search(r"You can ask again in \d+ s\.", text)
        assert await note.locator("a").get_attribute("href") == "/limits"
        assert "1 of 1" in await page.inner_text("#limits")
        await look(page, "playground-limited", refused=True)
    scene.people.leave()
    await asyncio.to_thread(server.stop)


# ---- Pictures ----


async def test_pictures_are_attached_by_button_paste_and_drop(scene, page_of):
    files = [{"name": f"{colour}.png", "mimeType": "image/png", "buffer": png(colour)} for colour in ("red", "blue")]
    async with page_of("/playground?model=harbour-vision") as page:
        await page.set_input_files("#files", files)
        for event in ("paste", "drop"):
            await page.evaluate(
                """([event, bytes]) => {
                  const files = new DataTransfer();
                  files.items.add(new File([new Uint8Array(bytes)], `${event}.png`, { type: "image/png" }));
                  const made = event === "paste"
                    ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true })
                    : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
                  document.getElementById("prompt").dispatchEvent(made);
                }""",
                [event, list(png("green"))],
            )
        await page.wait_for_selector("#pictures .picture:nth-child(4)")
        sources = await page.evaluate("() => [...document.querySelectorAll('#pictures img')].map((one) => one.src)")
        assert all(source.startswith("blob:") for source in sources)
        await page.click("[aria-label='Remove blue.png']")
        await ask(page, "What are these?")

        content = scene.sees.requests[-1].messages[0].content
        assert [type(block) for block in content] == [Image, Image, Image, Text]
        names = await page.locator(".message.user .picture span").all_inner_texts()
        assert names == ["red.png", "paste.png", "drop.png"]
        assert not await page.is_visible("#pictures")


@pytest.mark.parametrize(
    ("file", "model", "says"),
    [
        (
            {"name": "a.png", "mimeType": "image/png", "buffer": b"x"},
            "writes",
            "writes cannot see pictures. Choose harbour",
        ),
        ({"name": "a.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"}, "harbour-vision", "a.svg is no picture"),
        ({"name": "a.txt", "mimeType": "text/plain", "buffer": b"x"}, "harbour-vision", "a.txt is no picture"),
        (
            {"name": "a.png", "mimeType": "image/png", "buffer": b"x" * (20 * 1024 * 1024 + 1)},
            "harbour-vision",
            "a.png is larger than 20 MiB",
        ),
    ],
)
async def test_what_cannot_be_sent_is_not_attached(page_of, file, model, says):
    async with page_of(f"/playground?model={model}") as page:
        await page.set_input_files("#files", file)
        await page.wait_for_selector("#composer-wrong:not([hidden])")
        assert says in await page.inner_text("#composer-wrong")
        assert not await page.is_visible("#pictures")


# ---- What a model writes ----


async def test_markdown_is_shown_links_are_guarded_and_no_picture_is_loaded(page_of):
    async with page_of("/playground?model=writes") as page:
        await ask(page, "Write")
        said = page.locator(".message.assistant .said")
        assert await said.locator("strong").inner_text() == "dusk, shortly after sunset"
        assert await said.locator("li").count() == 2
        assert await said.locator("td.number").first.inner_text() == "80 %"
        assert await said.locator("img").count() == 0
        for link in await said.locator("a").all():
            assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
            assert await link.get_attribute("target") == "_blank"
        hrefs = [await link.get_attribute("href") for link in await said.locator("a").all()]
        assert hrefs == ["https://example.com/tides", "https://elsewhere.example/pixel.png"]


_SEND_ALL = """
async (payloads) => {
  const prompt = document.getElementById("prompt");
  const list = document.getElementById("messages");
  const send = document.getElementById("send");
  const latest = Date.now() + 120_000;
  for (const payload of payloads) {
    prompt.value = payload;
    document.getElementById("composer").requestSubmit();
    while (send.hidden || !list.lastElementChild?.querySelector(".stats:not([hidden])")) {
      if (Date.now() > latest) throw new Error(`no answer to ${payload}`);
      if (list.querySelector(".note")) throw new Error(list.querySelector(".note").textContent);
      await new Promise((done) => setTimeout(done, 1));
    }
    list.lastElementChild.querySelector("details").open = true;
    window.told = (window.told ?? 0) + 1;
    for (const one of [...list.querySelectorAll("*")]) window.looked(one, payload);
    document.getElementById("clear-now").click();
  }
}
"""
_LOOKED = """
() => {
  window.wrong = [];
  const known = new Set(
    ("ARTICLE HEADER H2 SPAN DIV UL LI DETAILS SUMMARY P DL DT DD A BUTTON svg use H3 H4 H5 H6 OL BLOCKQUOTE PRE HR " +
     "TABLE THEAD TBODY TR TH TD STRONG EM S BR CODE").split(" "));
  const schemes = new Set(["http:", "https:", "mailto:"]);
  window.looked = (one, payload) => {
    if (!known.has(one.tagName)) window.wrong.push([one.tagName, payload]);
    for (const { name, value } of one.attributes) {
      if (name.startsWith("on") || name === "style" || name === "src" || name === "srcdoc") {
        window.wrong.push([`${one.tagName} ${name}`, payload]);
      }
      const own = one.closest(".stats, .actions");
      if (name === "href" && !own && !schemes.has(one.protocol)) window.wrong.push([value, payload]);
    }
    if (one.tagName === "A" && !one.closest(".stats") && one.href) {
      if (one.rel !== "noopener noreferrer nofollow") window.wrong.push(["rel", payload]);
    }
  };
}
"""


async def test_no_hostile_answer_runs_loads_or_shows_anything_of_its_own(scene, page_of):
    dialogs: list[str] = []
    async with page_of("/playground?model=repeats") as page:
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page.on("popup", lambda popup: dialogs.append(popup.url))
        await page.evaluate(_LOOKED)
        url = page.url
        await page.evaluate(_SEND_ALL, list(PAYLOADS))

        assert await page.evaluate("() => window.told") == len(PAYLOADS) >= 300
        assert await page.evaluate("() => window.wrong") == []
        assert await page.evaluate("() => window.pwned") is None
        assert dialogs == []
        assert page.url == url
        # All at once as a conversation, once more after a reload, and as code.
        await page.evaluate(
            """(payloads) => {
              const url = "data:image/png;base64,AAAA";
              const said = (text) => ({ role: "user", model: text, text, pictures: [{ name: text, url }] });
              const answered = (text) => ({ role: "assistant", model: text, text, state: "streaming",
                refused: { title: text, text, link: ["/limits", text] } });
              const kept = payloads.map((text, number) => (number % 2 ? answered(text) : said(text)));
              const { owner } = JSON.parse(document.getElementById("known").textContent);
              sessionStorage.setItem(`playground ${owner}`, JSON.stringify(kept));
            }""",
            list(PAYLOADS),
        )
        await page.reload()
        assert await page.locator(".message").count() == len(PAYLOADS)
        await page.click("#show-code")
        await page.wait_for_selector("#code-dialog[open]")
        assert await page.evaluate("() => window.pwned") is None
        assert dialogs == []
        assert scene.browser._heard[page].take() == []


# ---- As code ----


async def test_the_code_of_a_conversation_runs_and_asks_the_same(scene, page_of, node, tmp_path):  # noqa: F811
    (tmp_path / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    async with page_of("/playground?model=harbour-vision") as page:
        await page.fill("#field-system", 'You are "brief" and it\'s fine. \\n 🦑')
        await page.set_input_files("#files", {"name": "red.png", "mimeType": "image/png", "buffer": png("red")})
        await ask(page, "What is this?\nAnd </script> why?")
        await ask(page, "How sure are you?")
        asked = scene.sees.requests[-1]
        await page.click("#show-code")
        await page.wait_for_selector("#code-dialog[open]")
        shown = await page.locator("#code-dialog pre code").all_text_contents()
        programs = await page.evaluate(
            "() => [...document.querySelectorAll('#code-dialog pre')].map((one) => one.whole)"
        )
        assert await page.is_visible("#code-hint")

    assert len(programs) == 5
    assert all("…" in short and "…" not in whole for short, whole in zip(shown, programs, strict=True))
    curl, *rest = programs
    (tmp_path / "snippet.mjs").write_text(rest.pop(1), "utf-8")
    commands = [
        ["bash", "-eu", "-c", curl],
        [node, "snippet.mjs"],
        *([sys.executable, "-W", "ignore", "-c", one] for one in rest),
    ]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    for command in commands:
        count = len(scene.sees.requests)
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            cwd=tmp_path,
            env=environment | {"XAI_API_KEY": scene.server.api_key},
            check=False,
        )
        assert done.returncode == 0, (command[0], done.stdout, done.stderr)
        assert "dusk" in done.stdout
        [heard] = scene.sees.requests[count:]
        assert plain(heard) == plain(asked), command[0]


async def test_what_is_copied_is_the_whole_program(page_of):
    async with page_of("/playground?model=harbour-vision", permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.set_input_files("#files", {"name": "red.png", "mimeType": "image/png", "buffer": png("red")})
        await page.wait_for_selector("#pictures .picture")
        await page.fill("#prompt", "What is this?")
        await page.click("#show-code")
        await page.wait_for_selector("#code-dialog[open]")
        await page.click("#code-dialog [data-copy-code]")
        await page.wait_for_selector("#code-dialog .said:has-text('Copied')")
        copied = await page.evaluate("() => navigator.clipboard.readText()")
        assert json.dumps(copied)
        assert "…" not in copied
        assert "base64,iVBOR" in copied
