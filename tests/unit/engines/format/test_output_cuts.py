"""However a text is cut into pieces, it is read the same."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.chat.collect import Choice
from leadline.chat.events import ChatEvent, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStarted
from leadline.chat.request import Text, ToolCall
from leadline.engines.format.family import DEEPSEEK, HERMES, LLAMA3, MISTRAL, PLAIN, QWEN_CODER, CallForm
from leadline.engines.format.output import OutputParser
from tests.unit.engines.format.test_output import THINK, TOOLS, WRITTEN, counted, fold

FORMS = (HERMES, PLAIN, LLAMA3, MISTRAL, QWEN_CODER, DEEPSEEK)
_TAGS = {"<function=", "</function>", "<parameter=", "</parameter>", "```"}
_MARKERS = sorted({marker for form in FORMS for marker in form.markers} | _TAGS)
_FRAGMENTS = st.one_of(
    st.sampled_from([written for _, written in WRITTEN.values()]),
    st.sampled_from([*_MARKERS, *THINK.markers]),
    st.sampled_from(
        ["get_weather", '{"name": "time", ', '"arguments": {', '"parameters": {"a": "', "}", "]", '"', "\\"]
    ),
    st.sampled_from([" ", "\n", "\n\n", "\x85", "Rome", "<", "</", "[", ",", ";", "`", "{", "é", "日本", "😀"]),
    st.text(max_size=3),
)
TEXTS = st.lists(_FRAGMENTS, max_size=12).map("".join)


def read(parser: OutputParser, pieces: list[str]) -> tuple[Choice, list[ChatEvent]]:
    """One token a character."""
    events: list[ChatEvent] = []
    for piece in pieces:
        events += parser.feed(piece, len(piece))
    events += parser.end("stop")
    return nameless(fold(events)), events


def nameless(choice: Choice) -> Choice:
    """Without the ids of calls, which are made up."""
    content = tuple(replace(block, call_id="") if isinstance(block, ToolCall) else block for block in choice.content)
    return replace(choice, content=content)


def cut(text: str, places: list[int]) -> list[str]:
    bounds = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(bounds)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@given(
    text=TEXTS, places=st.lists(st.integers(0, 10_000), max_size=8), in_thoughts=st.booleans(), parallel=st.booleans()
)
def test_a_text_reads_the_same_however_it_is_cut(
    form: CallForm, text: str, places: list[int], in_thoughts: bool, parallel: bool
):
    def parser() -> OutputParser:
        return OutputParser(form, THINK, TOOLS, in_thoughts=in_thoughts, parallel=parallel)

    whole, _ = read(parser(), [text])
    by_character, _ = read(parser(), list(text))
    in_pieces, events = read(parser(), cut(text, places))

    assert by_character == in_pieces == whole
    check_grammar(events)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@given(text=TEXTS, places=st.lists(st.integers(0, 10_000), max_size=8))
def test_tokens_are_conserved(form: CallForm, text: str, places: list[int]):
    parser = OutputParser(form, THINK, TOOLS)

    _, events = read(parser, cut(text, places))

    assert parser.output_tokens + parser.reasoning_tokens == len(text)
    assert counted(events) <= len(text)
    if any(isinstance(event, TextDelta | ToolCallStarted) for event in events[-2:-1]):
        assert counted(events) == len(text)


@given(text=TEXTS)
def test_without_calls_all_text_but_the_space_around_thoughts_comes_out(text: str):
    choice, events = read(OutputParser(HERMES, None, TOOLS), list(text))

    if not any(isinstance(event, ToolCallStarted) for event in events):
        assert choice.content == ((Text(text),) if text else ())


def check_grammar(events: list[ChatEvent]) -> None:
    begun = 0
    for event in events:
        match event:
            case TextDelta() | ReasoningDelta():
                assert event.text
            case ToolCallStarted():
                assert event.index == begun
                begun += 1
            case ToolCallDelta():
                assert event.index == begun - 1
                assert event.arguments
            case _:
                pass
