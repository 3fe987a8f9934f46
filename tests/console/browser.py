"""Looks at pages as people see them: in Chromium, in light and dark, on a desk and on a phone."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, Request, async_playwright

from tests.proof import count

SCHEMES = ("light", "dark")
SIZES = ((1440, 900), (390, 844))
AXE = Path(__file__).parents[1] / "conformance/javascript/node_modules/axe-core/axe.min.js"
# The suite looks at light pages on a desk and dark ones on a phone, `make proof` at all four.
_SUITE, _PROOF = tuple(zip(SCHEMES, SIZES, strict=True)), tuple(product(SCHEMES, SIZES))
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_TELL_OF_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} blocks ${event.blockedURI} ${event.sample}`));
"""
_RUN_AXE = """
async (tags) => {
  const { violations } = await axe.run(document, { runOnly: { type: "tag", values: tags } });
  const told = ({ target, html, any, all, none }) =>
    `    ${target} ${html.slice(0, 200)} ${[...any, ...all, ...none].map((one) => one.message).join("; ")}`;
  return violations.map(({ id, help, nodes }) => [`${id}: ${help}`, ...nodes.map(told)].join("\\n"));
}
"""
_SETTLED = """
async () => {
  await document.fonts.ready;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}
"""
# What a keyboard has to reach: where a dialog is open, only what is in it; of radio buttons one of each group.
_REACHABLE = """
() => {
  const within = document.querySelector("dialog:modal") ?? document;
  const all = [...within.querySelectorAll(
    'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')];
  const groups = new Set();
  window.reachable = all.filter((one) => {
    if (one.disabled || one.tabIndex < 0 || !one.checkVisibility({ visibilityProperty: true })) return false;
    if (one.type !== "radio") return true;
    const group = [...within.querySelectorAll("input[type=radio]")].filter((other) => other.name === one.name);
    if (one !== (group.find((other) => other.checked) ?? group[0])) return false;
    groups.add(one.name);
    return true;
  });
  window.reached = new Set();
  window.unseen = new Set();
  document.activeElement?.blur();
  return window.reachable.length;
}
"""
_FOCUSED = """
() => {
  const one = document.activeElement;
  if (!one || one === document.body) return false;
  const again = window.reached.has(one);
  window.reached.add(one);
  const ringed = [one, one.closest("label"), one.parentElement].some((each) => {
    if (!each) return false;
    const style = getComputedStyle(each);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  });
  if (!ringed && window.reachable.includes(one)) window.unseen.add(one);
  return again;
}
"""
_NOT_REACHED = (
    "() => window.reachable.filter((one) => !window.reached.has(one)).map((one) => one.outerHTML.slice(0, 160))"
)
_NOT_SEEN = "() => [...window.unseen].map((one) => one.outerHTML.slice(0, 160))"


@dataclass
class Heard:
    """What went wrong on a page while it was open."""

    told: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", lambda message: self.told.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.told.append(str(error)))
        page.on("request", lambda request: self._met(page, request))

    def take(self) -> list[str]:
        """What went wrong since the last time that this was asked."""
        told, self.told = self.told, []
        return told

    def _met(self, page: Page, request: Request) -> None:
        url = urlsplit(request.url)
        own = urlsplit(page.url).netloc or url.netloc
        if url.scheme not in ("data", "blob") and url.netloc != own:
            self.told.append(f"asked another host: {request.url}")


class Eyes:
    """One Chromium for many pages. Each page has a context of its own: no cookie of another one."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._heard: dict[Page, Heard] = {}

    @asynccontextmanager
    async def page(self, base_url: str, *, scripts: bool = True, **options: Any) -> AsyncIterator[Page]:
        """A page in a context of its own; paths are below `base_url`."""
        context = await self._browser.new_context(
            base_url=base_url, java_script_enabled=scripts, reduced_motion="reduce", **options
        )
        context.set_default_timeout(20_000)
        if scripts:
            await context.add_init_script(_TELL_OF_VIOLATIONS)
        page = await context.new_page()
        heard = self._heard[page] = Heard()
        heard.listen(page)
        try:
            yield page
        finally:
            self._heard.pop(page)
            await context.close()

    def heard(self, page: Page) -> list[str]:
        """What went wrong on the page since the last time that this was asked."""
        return self._heard[page].take()

    async def look(self, page: Page, name: str = "", *, refused: bool = False) -> None:
        """Whether the page, as it stands, is as every page has to be, in both themes and both sizes: no error, nothing
        of other hosts, nothing that the policy blocks, nothing wider than the window, nothing that keeps people out.
        Where `LEADLINE_TEST_SHOTS` names a folder, a picture of each goes there. `refused`: the page itself is no 200,
        which Chromium tells as an error."""
        name = name or re.sub(r"\W+", "-", urlsplit(page.url).path).strip("-") or "root"
        wrong: list[str] = []
        for scheme, (width, height) in _PROOF if count(0, 1) else _SUITE:
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": width, "height": height})
            await page.evaluate(_SETTLED)
            wrong += [f"{scheme}, {width} px: {problem}" for problem in await _problems(page, width)]
            await _keep_picture(page, f"{name}-{scheme}-{width}")
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})
        wrong += [told for told in self._heard[page].take() if not (refused and "Failed to load resource" in told)]
        assert not wrong, f"{page.url}\n" + "\n".join(wrong)

    async def tab_through(self, page: Page) -> None:
        """Whether Tab reaches whatever can be used, and shows where it is."""
        count = await page.evaluate(_REACHABLE)
        for _ in range(2 * count + 40):
            await page.keyboard.press("Tab")
            await page.evaluate(_FOCUSED)
            if not await page.evaluate(_NOT_REACHED):
                break
        missed, unseen = await page.evaluate(_NOT_REACHED), await page.evaluate(_NOT_SEEN)
        assert not missed, "Tab does not reach\n" + "\n".join(missed)
        assert not unseen, "It is not seen that the focus is on\n" + "\n".join(unseen)


async def _problems(page: Page, width: int) -> list[str]:
    needed = await page.evaluate("() => document.documentElement.scrollWidth")
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(AXE.read_text("utf-8"))
    broken: list[str] = await page.evaluate(_RUN_AXE, _RULES)
    return [f"it is {needed} px wide", *broken] if needed > width else broken


async def _keep_picture(page: Page, name: str) -> None:
    folder = os.environ.get("LEADLINE_TEST_SHOTS")
    if folder:
        modal = await page.evaluate("() => document.querySelector('dialog:modal, :popover-open') !== null")
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=not modal)


def missing() -> str:
    """What tests in a browser lack on this machine; empty where they lack nothing."""
    if shutil.which("chromium") is None:
        return "There is no Chromium: `chromium` is not on the PATH."
    if not AXE.is_file():
        return "axe-core is not installed. Run `npm ci` in tests/conformance/javascript."
    return ""


@asynccontextmanager
async def chromium() -> AsyncIterator[Eyes]:
    """The system's own Chromium, without a window."""
    async with async_playwright() as playwright:
        # In a container Chromium has no sandbox of its own, and little shared memory.
        options = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        try:
            yield Eyes(browser)
        finally:
            await browser.close()
