"""Five hundred requests at once on a cent that pays for three of them: three are run, and nothing is ever overspent."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from leadline.accounts.actor import COMMAND_LINE
from leadline.administration.billing import change_limits
from leadline.chat.events import ChoiceFinished, Finished, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest
from leadline.errors import CreditsHeld
from leadline.ledger.books import Hold
from leadline.ledger.ledger import Ledger
from leadline.ledger.spend_limits import SpendLimits
from leadline.money import Ticks
from tests.proof import CHAT, DIALECTS, MESSAGES, ask, keep
from tests.raw import DEADLINE_SECONDS, Answer
from tests.scripted.engine import Stall, Step, prompt_tokens
from tests.scripted.server import ScriptedServer

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("path", [CHAT, MESSAGES])
BOTH_FORMS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
BOUND = pytest.mark.parametrize("bound", ["credits", "cap", "limit"])

CROWD = 500
CENT_TICKS = 10**8
# A request can cost 30,030,000 ticks, so a cent pays for three of them and not for four.
MAX_TOKENS, PROMPT_TICKS, OUTPUT_TICKS = 1500, 3 * 10_000, 20_000
MOST_TICKS = PROMPT_TICKS + MAX_TOKENS * OUTPUT_TICKS
LIMITS = "[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n"


@dataclass(frozen=True)
class Outcome:
    """How a request ended. `why` is OpenAI's code or Anthropic's type."""

    status: int
    why: str = ""
    retry_after: str | None = None
    should_retry: str | None = None


SERVED = Outcome(200)
HELD = {
    CHAT: Outcome(429, "rate_limit_exceeded", retry_after="1"),
    MESSAGES: Outcome(429, "rate_limit_error", retry_after="1"),
}
SPENT = {
    CHAT: Outcome(429, "insufficient_quota", should_retry="false"),
    MESSAGES: Outcome(402, "billing_error", should_retry="false"),
}


class Overspent(AssertionError):
    """More is held than there is."""


def using(tokens: int) -> Callable[[ChatRequest], Iterable[Step]]:
    """Waits on the prompt, then uses so many tokens."""

    def script(request: ChatRequest) -> Iterable[Step]:
        prompt = prompt_tokens(request)
        yield (Started(prompt, 0),)
        yield Stall()
        yield (TextDelta("all of it", tokens),)
        yield (ChoiceFinished("stop"), Finished(Usage(prompt, output_tokens=tokens)))

    return script


@dataclass
class Cent:
    """A server, and a key that can spend one cent: of credits, of its cap, or of the organisation's limit."""

    server: ScriptedServer
    path: str
    key: str
    began_ticks: int

    def crowd(self, asking: int, model: str, *, stream: bool, **more: Any) -> tuple[int, Counter[Outcome]]:
        """Ask that often at once. How many ran at once while all others were refused, and how all ended."""
        messages = [{"role": "user", "content": "tell me all"}]
        body = {"model": model, "stream": stream, "max_tokens": MAX_TOKENS, "messages": messages} | more

        async def ask_all() -> tuple[int, Counter[Outcome]]:
            asked = await asyncio.gather(*(ask(self.server.port, self.path, self.key, body) for _ in range(asking)))
            async with asyncio.timeout(DEADLINE_SECONDS):
                while sum(not one.ended.done() for one in asked) > self.server.engine.running:
                    await asyncio.sleep(0.005)
            at_once = self.server.engine.running
            held_ticks = sum(hold.ticks for hold in self.server.instance.ledger._open.values())
            if held_ticks > self.left_ticks():
                for one in asked:
                    one.close()
                raise Overspent(f"{at_once} run at once")
            self.server.loop.call_soon_threadsafe(self.server.engine.release.set)
            return at_once, Counter([_outcome(self.path, await one.to_end()) for one in asked])

        self.server.loop.call_soon_threadsafe(self.server.engine.release.clear)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(ask_all())
        finally:
            self.server.wait_until(lambda: not self.server.instance.ledger.running())

    def left_ticks(self) -> int:
        return CENT_TICKS - (self.began_ticks - self.server.balance().balance_ticks)

    def broken(self) -> list[str]:
        broken: list[str] = self.server.command("credits verify")["broken"]
        return broken


def _outcome(path: str, answer: Answer) -> Outcome:
    if answer.status == 200:
        assert b'"cost_in_usd_ticks":' in answer.body
        return SERVED
    why = answer.json["error"]["code" if path == CHAT else "type"]
    return Outcome(answer.status, why, answer.headers.get("retry-after"), answer.headers.get("x-should-retry"))


@contextmanager
def a_cent(data: Path, path: str, bound: str) -> Iterator[Cent]:
    data.mkdir()
    (data / "leadline.toml").write_text(LIMITS, "utf-8")
    scripts = {"dear": using(1400), "cheap": using(200)}
    server = ScriptedServer(data, usd="0.01" if bound == "credits" else "1000", scripts=scripts, like_serve=True)
    try:
        server.engine.context_tokens = 10_000
        key = server.api_key
        if bound == "limit":
            limits = SpendLimits(hard_ticks=Ticks(CENT_TICKS))
            server.run(change_limits(server.instance, COMMAND_LINE, server.organisation_id, limits))
        elif bound == "cap":
            key = server.command("keys create", name="capped", email=None, options={"cap": "0.01/month"})["api_key"]
        yield Cent(server, path, key, server.balance().balance_ticks)
    finally:
        server.stop()


@BOUND
@BOTH_FORMS
@BOTH
def test_as_many_are_run_as_are_affordable_and_the_others_hear_why_not(
    tmp_path: Path, path: str, stream: bool, bound: str
) -> None:
    with a_cent(tmp_path / "data", path, bound) as cent:
        at_once, first = cent.crowd(CROWD, "dear", stream=stream)
        _, then = cent.crowd(CROWD, "dear", stream=stream)

        assert (at_once, first) == (3, {SERVED: 3, HELD[path]: CROWD - 3})
        assert then == {SPENT[path]: CROWD}
        assert cent.left_ticks() == CENT_TICKS - 3 * (PROMPT_TICKS + 1400 * OUTPUT_TICKS)
        assert cent.broken() == []


@BOUND
@BOTH
def test_what_was_held_and_not_used_is_served_to_those_who_come_again(tmp_path: Path, path: str, bound: str) -> None:
    with a_cent(tmp_path / "data", path, bound) as cent:
        served, asking = 0, CROWD
        while (affordable := cent.left_ticks() // MOST_TICKS) > 0:
            at_once, outcomes = cent.crowd(asking, "cheap", stream=served % 2 == 0)
            assert (at_once, outcomes) == (affordable, {SERVED: affordable, HELD[path]: asking - affordable})
            served, asking = served + affordable, 50
        _, last = cent.crowd(asking, "cheap", stream=True)

        assert last == {SPENT[path]: asking}
        assert cent.left_ticks() == CENT_TICKS - served * (PROMPT_TICKS + 200 * OUTPUT_TICKS)
        assert 0 <= cent.left_ticks() < MOST_TICKS
        assert cent.broken() == []
        keep(f"overspend, {DIALECTS[path]}, {bound}", asked_at_once=CROWD, served=served, overspent_ticks=0)


def test_those_who_name_no_length_share_the_cent_to_the_last_slice(tmp_path: Path) -> None:
    """The model's own length is 512 tokens. Nine times that is affordable, and then one shorter answer."""
    with a_cent(tmp_path / "data", CHAT, "credits") as cent:
        at_once, outcomes = cent.crowd(CROWD, "cheap", stream=True, max_tokens=None)

        assert (at_once, outcomes) == (10, {SERVED: 10, HELD[CHAT]: CROWD - 10})
        assert cent.broken() == []


@BOUND
@BOTH_FORMS
def test_a_ledger_that_reads_first_and_writes_later_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool, bound: str
) -> None:
    tested: deque[Hold] = deque()

    def read_then_write(ledger: Ledger, hold: Hold) -> None:
        """What is reserved counts ten requests later."""
        if hold.ticks > ledger.available_ticks(hold):
            raise CreditsHeld
        ledger._open[hold.request_id] = hold
        tested.append(hold)
        if len(tested) > 10:
            write(ledger, tested.popleft())

    def write(ledger: Ledger, hold: Hold) -> None:
        hold.cap = None
        ledger._held[hold.organisation_id] += hold.ticks
        ledger._spending.reserve(hold, hold.opened_at)

    monkeypatch.setattr(Ledger, "reserve", read_then_write)
    with a_cent(tmp_path / "data", CHAT, bound) as cent, pytest.raises(Overspent):
        cent.crowd(CROWD, "dear", stream=stream)
