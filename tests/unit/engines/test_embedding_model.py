"""The embedding model that can be pulled, run by the embedded engine, against vectors that were computed without it."""

import asyncio
import json
import math
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from leadline.administration.models import build
from leadline.chat.events import Embedded
from leadline.chat.request import ChatRequest, Vectors
from leadline.config import load
from leadline.weights.known import ALL_MINILM
from leadline.weights.store import Store
from tests.weights import FOLDER, weights

pytestmark = pytest.mark.model
DEADLINE_SECONDS = 300
REFERENCE: list[dict[str, Any]] = json.loads((Path(__file__).parent / "all_minilm_l6_v2.json").read_text("utf-8"))[
    "sentences"
]
CONFIGURATION = """
[[engines]]
name = "embedder"
kind = "llamacpp"
weights = "all-minilm-l6-v2"
[[models]]
name = "all-minilm-l6-v2"
engine = "embedder"
"""


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


async def test_the_vectors_are_those_of_the_published_model(tmp_path):
    await asyncio.to_thread(weights, ALL_MINILM)
    (tmp_path / "leadline.toml").write_text(CONFIGURATION)
    [engine], _ = build(load(tmp_path / "leadline.toml", {}), Store(FOLDER), 0)
    texts = tuple(sentence["text"] for sentence in REFERENCE)
    request = ChatRequest(ALL_MINILM.name, (), 0, choices=len(texts), prompts=texts, vectors=Vectors())
    found: dict[int, list[float]] = {}
    await engine.start()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not engine.status.ready:
                await asyncio.sleep(0.05)
        assert await engine.count_prompt_tokens(request) == sum(sentence["tokens"] for sentence in REFERENCE)
        async with aclosing(engine.embed(request)) as batches:
            async for batch in batches:
                found |= {event.choice: event.vector.tolist() for event in batch if isinstance(event, Embedded)}
    finally:
        await engine.close()
    expected = [sentence["vector"] for sentence in REFERENCE]
    for number, vector in enumerate(expected):
        assert len(found[number]) == 384
        assert math.hypot(*found[number]) == pytest.approx(1, abs=1e-5)
        assert cosine(found[number], vector) > 0.999
    # Which sentence is nearest to which, in the same order.
    for number, vector in enumerate(expected):
        others = [other for other in range(len(expected)) if other != number]
        assert sorted(others, key=lambda other: -cosine(found[number], found[other])) == sorted(
            others, key=lambda other: -cosine(vector, expected[other])
        )
    _, cat, kitten, market, _ = (found[number] for number in range(len(expected)))
    assert cosine(cat, kitten) > 0.6 > cosine(cat, market)
