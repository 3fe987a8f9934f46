"""The real engine uses a prompt again only for whose it was, and tells how much of it truly."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from leadline.chat.events import ChatEvent, Started
from leadline.chat.request import ChatRequest, Message, Sampling, Text
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.llamacpp.completion import CompletionDecoder
from leadline.engines.llamacpp.engine import LlamaCppEngine
from tests.faults.test_engine import answer, until
from tests.weights import default_weights

pytestmark = pytest.mark.model
STORY = "Once there was a fox who lived by the sea. " * 12


@pytest.fixture
def weights(monkeypatch) -> Path:
    monkeypatch.setattr("leadline.engines.llamacpp.engine.CompletionDecoder", Heard)
    return default_weights()


@asynccontextmanager
async def running(weights: Path, context_tokens: int = 2048, parallel: int = 4) -> AsyncIterator[LlamaCppEngine]:
    async def provide(_: Callable[[str], None]) -> Weights:
        return Weights(weights, "digest", 8192)

    engine = LlamaCppEngine("default", provide, Settings(context_tokens, parallel, 2, shares_cores=True))
    await engine.start()
    try:
        await until(lambda: engine.status.ready)
        yield engine
    finally:
        await engine.close()


def ask(scope: str, text: str = STORY) -> ChatRequest:
    sampling = Sampling(temperature=0.0)
    return ChatRequest("m", (Message("user", (Text(text),)),), 2, sampling, cache_scope=scope)


class Heard(CompletionDecoder):
    """Keeps what llama.cpp says at the end of each answer."""

    timings: ClassVar[list[dict[str, Any]]] = []

    def decode(self, payload: bytes) -> list[ChatEvent]:
        if timings := json.loads(payload).get("timings"):
            self.timings.append(timings)
        return CompletionDecoder.decode(self, payload)


async def told(engine: LlamaCppEngine, request: ChatRequest) -> tuple[int, int]:
    """How many tokens the answer says were cached, of how many; the others were read, as llama.cpp counted."""
    usage = (await answer(engine, request)).usage
    assert usage.cached_tokens + Heard.timings.pop()["prompt_n"] == usage.prompt_tokens
    return usage.cached_tokens, usage.prompt_tokens


async def test_a_prefix_is_used_again_within_an_organisation_and_never_by_another(weights):
    async with running(weights) as engine:
        cached, prompt = await told(engine, ask("a"))
        assert cached == 0
        assert await told(engine, ask("b")) == (0, prompt)
        for scope in ("a", "b"):
            cached, _ = await told(engine, ask(scope, STORY + "Who lived there?"))
            assert prompt - 20 < cached < prompt
        assert await told(engine, ask("c")) == (0, prompt)


async def test_with_more_organisations_than_slots_none_has_the_prompt_of_another(weights):
    async with running(weights, parallel=1) as engine:
        for scope in "abcdab":
            assert (await told(engine, ask(scope)))[0] == 0, scope


async def test_a_request_that_never_began_leaves_nothing_to_others(weights):
    """It took the slot of another one, and was gone before its prompt was."""
    async with running(weights, parallel=1) as engine:
        await told(engine, ask("a"))
        with engine._slots.take("b", STORY) as turn:
            assert turn.slot.prompt
        assert (await told(engine, ask("b")))[0] == 0


async def test_what_was_evicted_is_not_told_as_cached(weights):
    """The pool of tokens is full of idle prompts, of which llama.cpp clears some for the next one."""
    async with running(weights, context_tokens=256) as engine:
        engine._slots.most_idle_tokens = 100_000
        for number in range(4):
            await told(engine, ask("a", f"{number} {STORY}"))
        assert (await told(engine, ask("a", f"0 {STORY}")))[0] == 0
        assert (await told(engine, ask("a", f"3 {STORY}")))[0] > 100


async def test_idle_prompts_that_are_too_many_are_erased(weights):
    async with running(weights, context_tokens=400) as engine:
        _, prompt = await told(engine, ask("a"))
        assert prompt < engine._slots.most_idle_tokens < 2 * prompt
        await told(engine, ask("b"))
        await until(lambda: not engine._erasing)
        assert (await told(engine, ask("a")))[0] == 0
        assert (await told(engine, ask("a")))[0] > 100


async def test_a_short_prompt_does_not_wait_behind_a_long_one(weights):
    async with running(weights, context_tokens=4096) as engine:
        long = engine.generate(replace(ask("a", STORY * 12), max_output_tokens=1))
        assert isinstance((await anext(long))[0], Started)
        assert (await answer(engine, ask("b", "Name a colour."))).usage.output_tokens
        slots = await engine._ready_client().get("/slots", 10)
        assert sum(slot["is_processing"] for slot in slots) == 1
        await long.aclose()
