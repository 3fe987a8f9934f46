"""A form that is forced behind thoughts that were asked for."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from leadline.chat.request import (
    ChatRequest,
    JsonFormat,
    Message,
    Sampling,
    Text,
    Tool,
)
from leadline.engines.embedded.grammars import grammar_of
from leadline.engines.format.grammar import after_thoughts, call_grammar, json_grammar
from leadline.engines.format.template import ChatTemplate
from leadline.engines.llamacpp.engine import LlamaCppEngine
from tests.faults.test_engine import answer, running_engine
from tests.unit.engines.format.corpus import FOLDER, template
from tests.unit.engines.test_grammar_recogniser import Grammar, LlamaCpp
from tests.weights import default_weights

ASK = ChatRequest("m", (Message("user", (Text("hi"),)),), 5, json_format=JsonFormat())
FORMS = ["<think></think>{}", '<think>\nhm, a < b and << c\n</think>\n\n{"a": 1}', "<think><</think>{}"]
NO_FORMS = [
    "{}",
    "<think>hm{}",
    "<think>a</b></think>{}",
    "<think>a</think>b</think>{}",
    "<think></think>",
    "hm</think>{}",
]


@pytest.fixture(scope="module")
def weights() -> Path:
    return default_weights()


@pytest.mark.parametrize(("opening", "closing"), [("<think>", "</think>"), ("[THINK]", "[/THINK]")])
@pytest.mark.parametrize(("text", "taken"), [*((text, True) for text in FORMS), *((text, False) for text in NO_FORMS)])
def test_thoughts_come_before_the_form_and_end_where_they_first_can(opening, closing, text, taken):
    text = text.replace("</think>", closing).replace("<think>", opening).replace("<", opening[0])
    grammar = after_thoughts(json_grammar(), opening, closing)
    assert Grammar(grammar).accepts(text) is taken
    assert LlamaCpp(grammar).accepts(text) is taken
    opened = after_thoughts(json_grammar(), "", closing)
    assert LlamaCpp(opened).accepts(text.removeprefix(opening)) is (taken or text.startswith("hm"))


def test_a_call_comes_behind_thoughts_too():
    form = template("qwen3").calls.syntax
    grammar = after_thoughts(call_grammar((Tool("f"),), form, parallel=False), "<think>", "</think>")
    assert LlamaCpp(grammar).accepts('<think>hm</think>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')


@pytest.mark.parametrize(
    ("effort", "in_thoughts", "begins"),
    [
        (None, False, "root ::= object"),
        ("none", False, "root ::= object"),
        ("low", False, 'root ::= "<think>"'),
        ("low", True, "root ::= ([^<]"),
    ],
)
def test_only_thoughts_that_were_asked_for_come_before_a_form(effort, in_thoughts, begins):
    request = replace(ASK, effort=effort)
    assert grammar_of(request, template("qwen3"), in_thoughts=in_thoughts).startswith(begins)
    assert grammar_of(request, template("smollm2"), in_thoughts=False).startswith("root ::= object")


@pytest.mark.model
async def test_a_real_model_thinks_and_then_answers_in_json(weights: Path) -> None:
    async with running_engine(LlamaCppEngine, weights) as engine:
        assert engine._weights is not None
        vocabulary = engine._weights.template._vocabulary
        thinking = ChatTemplate((FOLDER / "qwen3.jinja").read_text("utf-8"), vocabulary)
        engine._weights = replace(engine._weights, template=thinking)
        assert "reasoning" in engine.facts("m").capabilities
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        # The end of thoughts is made likely, since this model was never taught to think.
        likely = tuple((token.token_id, 4.0) for token in await engine.tokenize("m", "</"))
        asked = replace(ASK, max_output_tokens=200, json_format=JsonFormat(schema), effort="low")
        thought = 0
        for seed in range(3):
            answered = await answer(engine, replace(asked, sampling=Sampling(1.0, seed=seed, logit_bias=likely)))
            thought += answered.usage.reasoning_tokens
            if answered.choices[0].finish_reason == "stop":
                text = answered.choices[0].content[-1]
                assert isinstance(text, Text)
                assert isinstance(msgspec.json.decode(text.text)["n"], int)
        assert thought > 0
