"""What OpenVINO GenAI's cache really used again, against what is told of it."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leadline.chat.request import ChatRequest, Text
from leadline.chat.request import Message as Turn
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.openvino.engine import OpenVinoEngine
from leadline.engines.openvino.model import installed
from leadline.engines.openvino.prefixes import BLOCK_TOKENS
from leadline.engines.openvino.wire import Began, Generate, Message, Wrote
from tests.faults.test_engine import answer, until
from tests.weights import default_weights

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not installed(), reason="the package openvino-genai is not installed"),
]
CACHE_TOKENS, PARALLEL = 512, 2


def make(*, reuses: bool) -> Any:
    """One that computes a block of the prompt in each step, so that its steps tell what it computed."""
    from leadline.engines.openvino import pipeline

    settings = {
        "weights": str(default_weights()),
        "cache_tokens": CACHE_TOKENS,
        "parallel_requests": PARALLEL,
        "threads": 2,
        "special": [],
        "ends": [],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "STEP_TOKENS", BLOCK_TOKENS)
        return pipeline.Pipeline(settings, reuses=reuses)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return make(reuses=True)


def ask(prompt: list[int], tokens: int = 2) -> Generate:
    return Generate(1, prompt, tokens, 0.0, 1.0, 0, 0.0, 0.0, 0.0, 0, None, [], logprobs=False, scope="")


def run(pipeline: Any, prompt: list[int], tokens: int = 2) -> tuple[int, int]:
    """The whole blocks of the prompt that were told as used again, and those that were, by the steps to its first
    token."""
    said: list[Message] = []
    assert pipeline.add(ask(prompt, tokens), said.append) is not None
    steps = 0
    while pipeline.works:
        steps += not any(isinstance(message, Wrote) for message in said)
        pipeline.step()
    [told] = [message.cached_tokens for message in said if isinstance(message, Began)]
    return math.ceil(told / BLOCK_TOKENS), math.ceil(len(prompt) / BLOCK_TOKENS) - steps


def test_no_more_is_told_than_was_used_again_however_the_cache_is_written_over(pipeline):
    draw = random.Random(7)
    stems = [[draw.randrange(1000, 40_000) for _ in range(200)] for _ in range(5)]
    told_ever = lost_ever = 0
    for _ in range(36):
        stem = draw.choice(stems)
        prompt = stem[: draw.choice((96, 160, 200))] + [
            draw.randrange(1000, 40_000) for _ in range(draw.randrange(1, 50))
        ]
        told, real = run(pipeline, prompt, draw.randrange(1, 5))
        assert told <= real
        told_ever += told
        lost_ever += real < 3
    assert told_ever > 10
    assert lost_ever > 2


def test_a_turn_that_goes_on_from_an_answer_uses_prompt_and_answer_again(pipeline):
    draw = random.Random(8)
    prompt = [draw.randrange(1000, 40_000) for _ in range(200)]
    assert run(pipeline, prompt, 4) == (0, 0)
    told, real = run(pipeline, prompt, 2)
    assert told == real == 200 // BLOCK_TOKENS


def test_a_prompt_that_is_wholly_there_still_computes_its_last_token(pipeline):
    draw = random.Random(9)
    prompt = [draw.randrange(1000, 40_000) for _ in range(4 * BLOCK_TOKENS)]
    run(pipeline, prompt)
    said: list[Message] = []
    pipeline.add(ask(prompt), said.append)
    while pipeline.works:
        pipeline.step()
    assert isinstance(said[0], Began)
    assert said[0].cached_tokens == 4 * BLOCK_TOKENS - 1


def test_a_pipeline_of_several_organisations_uses_nothing_again():
    pipeline = make(reuses=False)
    draw = random.Random(10)
    prompt = [draw.randrange(1000, 40_000) for _ in range(200)]
    assert [run(pipeline, prompt) for _ in range(2)] == [(0, 0), (0, 0)]


@pytest.fixture
def weights() -> Path:
    return default_weights()


async def test_another_organisations_prompt_is_computed_anew_and_told_so(weights):
    async def provide(_: Callable[[str], None]) -> Weights:
        return Weights(weights, "digest", 8192)

    engine = OpenVinoEngine("default", provide, Settings(2048, 4, 2))
    await engine.start()
    try:
        await until(lambda: engine.status.ready)
        story = "Once there was a fox who lived by the sea. " * 12
        scoped = (ChatRequest("m", (Turn("user", (Text(story),)),), 2, cache_scope=scope) for scope in "aabab")
        first, second, *others = [(await answer(engine, request)).usage.cached_tokens for request in scoped]
    finally:
        await engine.close()
    assert first == 0
    assert second > 100
    assert others == [0, 0, 0]
