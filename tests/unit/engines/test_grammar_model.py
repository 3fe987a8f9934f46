"""Grammars of ours in the real engine, with a real model: it keeps to them, and comes to an end."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadline.chat.request import JsonFormat, Sampling
from leadline.engines.format.grammar import schema_grammar
from leadline.engines.llamacpp.engine import LlamaCppEngine
from tests.faults.test_engine import answer, ask, running_engine
from tests.unit.engines.test_grammar_recogniser import Grammar
from tests.weights import default_weights

pytestmark = pytest.mark.model
WORD = {"type": "string", "pattern": "^[A-Za-zé ]{1,12}$"}
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": WORD,
            "born": {"type": "string", "format": "date"},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "mood": {"enum": ["calm", "cross", "cheerful", None, 7]},
            "tags": {"type": "array", "items": WORD, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "born", "score", "mood", "tags"],
    },
    {
        "type": "object",
        "properties": {
            "left": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]},
            "right": {"$ref": "#/$defs/leaf"},
        },
        "required": ["left", "right"],
        "$defs": {"leaf": {"type": "object", "properties": {"n": {"type": "integer", "minimum": -5, "maximum": 17}}}},
    },
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"const": {"a": [1, "é😀"]}}], "items": False},
    {"type": "string", "minLength": 1990, "maxLength": 2010, "pattern": "^[ab]+$"},
    {
        "type": "object",
        "additionalProperties": {"type": "integer", "maximum": 9},
        "minProperties": 2,
        "maxProperties": 2,
    },
]


@pytest.fixture(scope="module")
def weights() -> Path:
    return default_weights()


async def test_a_model_keeps_to_every_grammar(weights: Path) -> None:
    async with running_engine(LlamaCppEngine, weights, context_tokens=4096) as engine:
        for schema in SCHEMAS:
            # Warm enough to try what it must not.
            asked = replace(
                ask("Make something up.", 2100), sampling=Sampling(1.5, seed=11), json_format=JsonFormat(schema)
            )
            [choice] = (await answer(engine, asked)).choices
            [block] = choice.content
            assert choice.finish_reason == "stop"
            assert Grammar(schema_grammar(schema)).accepts(block.text)
            json.loads(block.text)
