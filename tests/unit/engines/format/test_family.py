"""Which family a template belongs to, and how it thinks."""

import re

import pytest

from leadline.engines.format.family import HERMES, PLAIN, call_form, known_call_id, new_call_id
from tests.unit.engines.format.corpus import VOCABULARIES, template

FORMS = {
    "qwen25": "hermes",
    "qwen3": "hermes",
    "hermes": "hermes",
    "llama31": "llama3",
    "mistral_v03": "mistral",
    "mistral_args": "mistral",
    "qwen3_coder": "qwen-coder",
    "deepseek_r1": "deepseek",
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_template_tells_how_its_model_calls(name: str):
    assert template(name).calls.name == FORMS.get(name, "plain")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_template_tells_whether_its_model_thinks_and_how_that_is_switched(name: str):
    thinking = template(name).thinking

    if name not in ("qwen3", "deepseek_r1", "thinking_generation"):
        assert thinking is None
        return
    assert thinking is not None
    assert thinking.markers == ("<think>", "</think>")
    assert thinking.switch == (None if name == "deepseek_r1" else "enable_thinking")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_forced_calls_have_a_syntax_in_json(name: str):
    syntax = template(name).calls.syntax

    assert syntax.name_key == "name"
    assert syntax.arguments_key == ("parameters" if name == "llama31" else "arguments")
    assert syntax.opening == ("" if name == "llama31" else "[TOOL_CALLS] [" if "mistral" in name else "<tool_call>\n")


def test_only_mistral_s_template_wants_short_ids():
    assert [name for name in VOCABULARIES if template(name).calls.short_ids] == ["mistral_v03"]


def test_calls_that_we_cannot_read_back_are_not_taken_for_the_family_that_they_resemble():
    """Other families write `<tool_call>` too, but no JSON in it."""
    assert call_form("<tool_call>") is HERMES
    assert template("key_tags").calls is PLAIN


def test_a_template_without_calls_is_plain():
    assert call_form("{{ messages[0].content }}").name == "plain"


@pytest.mark.parametrize("call_id", ["call_1", "toolu_01A-b", "abcdefghi"])
def test_harmless_ids_stay(call_id: str):
    assert known_call_id(call_id, short=False) == call_id


@pytest.mark.parametrize("call_id", ["", "<|im_end|>", "x" * 65, "a b", "é", "a\n"])
def test_other_ids_become_harmless_ones_and_always_the_same(call_id: str):
    assert re.fullmatch("call_[A-Za-z0-9]{24}", known_call_id(call_id, short=False))
    assert re.fullmatch("[A-Za-z0-9]{9}", known_call_id(call_id, short=True))
    assert known_call_id(call_id, short=True) == known_call_id(call_id, short=True)


def test_new_ids_differ():
    assert len({new_call_id(short=True) for _ in range(100)} | {new_call_id(short=False) for _ in range(100)}) == 200
