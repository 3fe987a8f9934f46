"""Plain text of models becomes thoughts, answers and calls."""

# ruff: noqa: RUF001 (DeepSeek writes its tokens with a fullwidth bar)

import json
import re
from dataclasses import replace

import pytest

from leadline.chat.collect import Choice, Collector
from leadline.chat.events import (
    ChatEvent,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.chat.request import Reasoning, Text, Tool, ToolCall
from leadline.engines.format.family import DEEPSEEK, HERMES, LLAMA3, MISTRAL, PLAIN, QWEN_CODER, CallForm, Thinking
from leadline.engines.format.output import OutputParser

WEATHER = Tool(
    "get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
)
TIME = Tool("time")
TOOLS = (WEATHER, TIME)
THINK = Thinking("<think>", "</think>")


def fold(events: list[ChatEvent]) -> Choice:
    answer = Collector().add((*events, Finished(Usage())))
    assert answer is not None
    return answer.choices[0]


def read(parser: OutputParser, text: str, reason: FinishReason = "stop", cut: int = 1) -> list[ChatEvent]:
    """The events of a text that comes in pieces of `cut` characters, each of one token."""
    events: list[ChatEvent] = []
    for at in range(0, len(text), cut):
        events += parser.feed(text[at : at + cut], 1)
    return events + parser.end(reason)


def answer(text: str, form: CallForm = HERMES, thinking: Thinking | None = None, **more: bool) -> Choice:
    return fold(read(OutputParser(form, thinking, TOOLS, **more), text))


def calls(choice: Choice) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in choice.content if isinstance(call, ToolCall)]


def text_of(choice: Choice) -> str:
    return "".join(block.text for block in choice.content if isinstance(block, Text))


def test_text_goes_out_as_it_comes():
    parser = OutputParser(HERMES, THINK, TOOLS)

    assert parser.feed("Hel", 1) == [TextDelta("Hel", 1)]
    assert parser.feed("lo, a <b> c", 3) == [TextDelta("lo, a <b> c", 3)]
    assert fold(parser.end("stop")).content == ()


def test_text_is_withheld_only_while_it_may_become_a_marker():
    parser = OutputParser(HERMES, None, TOOLS)

    assert parser.feed("One <tool", 3) == [TextDelta("One", 1)]
    assert parser.feed("_ca", 1) == []
    assert parser.feed("t> two", 2) == [TextDelta(" <tool_cat> two", 5)]


def test_a_line_end_waits_for_what_follows_it():
    parser = OutputParser(HERMES, None, TOOLS)

    assert parser.feed("One\n", 1) == [TextDelta("One", 1)]
    assert parser.feed("Two", 1) == [TextDelta("\nTwo", 1)]
    assert parser.feed("\n", 1) + parser.end("length")[:1] == [TextDelta("\n", 1)]


def test_without_tools_and_thoughts_nothing_is_looked_for():
    parser = OutputParser(HERMES, None)

    assert parser.feed(' <tool_call>{"name": "time"}</tool_call>\n', 9) == [
        TextDelta(' <tool_call>{"name": "time"}</tool_call>\n', 9)
    ]


WRITTEN = {
    "hermes": (
        HERMES,
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}\n</tool_call>\n'
        '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>',
    ),
    "hermes, keys in another order": (
        HERMES,
        '<tool_call>{"arguments": {"city": "Rome", "days": 3}, "name": "get_weather"}</tool_call>'
        '<tool_call>{"name": "time"}</tool_call>',
    ),
    "hermes, arguments as text": (
        HERMES,
        r'<tool_call>{"name": "get_weather", "arguments": "{\"city\": \"Rome\", \"days\": 3}"}</tool_call>'
        '<tool_call>{"name": "time", "arguments": null}</tool_call>',
    ),
    "hermes, closed by the first bracket": (
        HERMES,
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}</tool_call>\n'
        '<tool_call>{"name": "time", "arguments": {}</tool_call>',
    ),
    "llama3": (
        LLAMA3,
        '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Rome", "days": 3}}; '
        '{"type": "function", "name": "time", "parameters": {}}',
    ),
    "mistral": (
        MISTRAL,
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}, "id": "abcdefghi"}, '
        '{"arguments": {}, "name": "time"}]',
    ),
    "mistral, named": (MISTRAL, '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome", "days": 3}[TOOL_CALLS]time[ARGS]{}'),
    "mistral, named, with ids": (
        MISTRAL,
        '[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{"city": "Rome", "days": 3}[TOOL_CALLS]time[ARGS]{}',
    ),
    "qwen-coder": (
        QWEN_CODER,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>\n<tool_call>\n<function=time>\n</function>\n</tool_call>",
    ),
    "qwen-coder, without its outer tag": (
        QWEN_CODER,
        "<function=get_weather><parameter=city>Rome</parameter><parameter=days>3</parameter></function></tool_call>"
        "<function=time></function>",
    ),
    "qwen-coder, forced": (
        QWEN_CODER,
        '<tool_call>\n{"name":"get_weather","arguments":{"city":"Rome","days":3}}\n</tool_call>\n'
        '<tool_call>\n{"name":"time","arguments":{}}\n</tool_call>',
    ),
    "deepseek": (
        DEEPSEEK,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Rome", "days": 3}\n```<｜tool▁call▁end｜>\n'
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "deepseek, short": (
        DEEPSEEK,
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Rome", "days": 3}'
        "<｜tool▁call▁end｜><｜tool▁call▁begin｜>time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "plain, bare": (
        PLAIN,
        '{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}\n{"name": "time", "arguments": {}}',
    ),
}


@pytest.mark.parametrize(("form", "written"), WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_each_family_s_calls_are_read(form: CallForm, written: str, cut: int):
    parser = OutputParser(form, None, TOOLS)

    events = read(parser, written, cut=cut)

    choice = fold(events)
    assert calls(choice) == [("get_weather", {"city": "Rome", "days": 3}), ("time", {})]
    assert text_of(choice) == ""
    assert choice.finish_reason == "tool_calls"
    assert counted(events) == len(range(0, len(written), cut)) == parser.output_tokens


@pytest.mark.parametrize(("form", "written"), WRITTEN.values(), ids=WRITTEN)
def test_text_before_and_after_calls_keeps_its_words_and_loses_the_space_at_the_markers(form: CallForm, written: str):
    written = written if form is not PLAIN else f"<tool_call>{written}"

    choice = answer(f"I will look.\n\n{written}\n", form)

    assert text_of(choice) == "I will look."
    assert len(calls(choice)) == 2


def test_arguments_are_passed_on_while_they_come():
    parser = OutputParser(HERMES, None, TOOLS)

    assert parser.feed('<tool_call>\n{"name": "get_weather", "argu', 9) == []
    started, delta = parser.feed('ments": {"city": "Ro', 4)
    assert isinstance(started, ToolCallStarted)
    assert re.fullmatch("call_[0-9a-f]{24}", started.call_id)
    assert (started.index, started.name, started.tokens) == (0, "get_weather", 13)
    assert delta == ToolCallDelta(0, '{"city": "Ro', 0)
    assert parser.feed("me", 1) == [ToolCallDelta(0, "me", 1)]
    assert parser.feed('"}}', 1) == [ToolCallDelta(0, '"', 1)]
    assert parser.feed("\n</tool_call>", 2) == []
    assert parser.feed("", 1) == []
    assert parser.end("stop")[0] == ToolCallDelta(0, "}", 3)


def test_mistral_s_ids_have_nine_characters_where_its_template_wants_that():
    parser = OutputParser(replace(MISTRAL, short_ids=True), None, TOOLS)

    [call] = fold(read(parser, '[TOOL_CALLS] [{"name": "time", "arguments": {}}]')).content
    assert isinstance(call, ToolCall)
    assert re.fullmatch("[A-Za-z0-9]{9}", call.call_id)


def test_where_one_call_is_allowed_generation_may_end_after_it():
    parser = OutputParser(HERMES, None, TOOLS, parallel=False)
    written = '<tool_call>{"name": "time", "arguments": {}}'

    events = [event for character in written for event in parser.feed(character, 1)]
    assert parser.done
    events += parser.feed('</tool_call><tool_call>{"name": "time", "arguments": {}}</tool_call>', 20)
    events += parser.end("length")

    choice = fold(events)
    assert calls(choice) == [("time", {})]
    assert choice.finish_reason == "tool_calls"
    assert parser.output_tokens == len(written) + 20


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, '<tool_call>\n{"name": "unknown", "arguments": {"a": 1}}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {city: 1}}\n</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "get_weather", "arguments": ["Rome"]}\n</tool_call>'),
        (HERMES, "<tool_call>\nget_weather(Rome)\n</tool_call>"),
        (HERMES, '<tool_call>{"name": "get_weather"</tool_call>'),
        (HERMES, "I write <tool_call> to call."),
        (HERMES, "<tool_call>"),
        (QWEN_CODER, "<tool_call>\n<function=unknown>\n</function>\n</tool_call>"),
        (QWEN_CODER, "<tool_call>\n<function=get_weather>Rome</function>\n</tool_call>"),
        (QWEN_CODER, "a <function=get_weather or so"),
        (LLAMA3, '<|python_tag|>get_weather.call(city="Rome")'),
        (MISTRAL, "[TOOL_CALLS] nothing"),
        (MISTRAL, '[TOOL_CALLS]unknown[ARGS]{"a": 1}'),
        (DEEPSEEK, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>unknown\n```json\n{}\n```"),
        (PLAIN, '{"name": "unknown", "arguments": {}}'),
        (PLAIN, '{"name": "get_weather", "place": {}}'),
        (PLAIN, ' {"temperature": 20}'),
        (PLAIN, 'Say {"name": "time", "arguments": {}}'),
    ],
)
@pytest.mark.parametrize("cut", [1, 1000])
def test_what_is_no_call_of_a_known_tool_stays_text_and_nothing_is_lost(form: CallForm, text: str, cut: int):
    choice = fold(read(OutputParser(form, None, TOOLS), text, cut=cut))

    assert choice.content == (Text(text),)
    assert choice.finish_reason == "stop"


def test_a_bare_object_is_let_go_as_soon_as_it_can_be_no_call():
    parser = OutputParser(PLAIN, None, TOOLS)

    assert parser.feed('{"na', 2) == []
    assert parser.feed('tion": ', 2) == [TextDelta('{"nation":', 4)]


def test_a_call_that_was_cut_before_its_arguments_becomes_text():
    choice = fold(read(OutputParser(HERMES, None, TOOLS), '<tool_call>\n{"name": "get_weather", "arg', "length"))

    assert choice.content == (Text('<tool_call>\n{"name": "get_weather", "arg'),)
    assert choice.finish_reason == "length"


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("form", [HERMES, QWEN_CODER])
def test_a_call_that_was_cut_within_its_arguments_is_not_made_whole(form: CallForm, parallel: bool):
    written = {
        "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ro',
        "qwen-coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nRo",
    }

    choice = fold(read(OutputParser(form, None, TOOLS, parallel=parallel), written[form.name], "length"))

    assert choice.content == (Text('get_weather{"city": "Ro'),)
    assert choice.finish_reason == "length"


@pytest.mark.parametrize("parallel", [False, True])
def test_a_call_that_the_model_itself_broke_off_is_no_reason(parallel: bool):
    written = '<tool_call>{"name": "get_weather", "arguments": {"city": "Ro'

    choice = fold(read(OutputParser(HERMES, None, TOOLS, parallel=parallel), written))

    assert choice.content == (Text('get_weather{"city": "Ro'),)
    assert choice.finish_reason == "stop"


def test_brackets_that_the_model_forgot_are_added_where_that_makes_json():
    choice = answer('<tool_call>{"name": "get_weather", "arguments": {"city": ["Rome"')

    assert calls(choice) == [("get_weather", {"city": ["Rome"]})]


def test_raw_line_ends_within_strings_are_escaped():
    choice = answer('<tool_call>{"name": "get_weather", "arguments": {"city": "Ro\nme\\"\t"}}</tool_call>')

    assert calls(choice) == [("get_weather", {"city": 'Ro\nme"\t'})]


def test_values_in_tags_become_json_by_the_schema():
    choice = answer(
        '<tool_call><function=get_weather><parameter=city>\n"Rome"\n </parameter>\n<parameter=days>\nmany\n</parameter>'
        '<parameter=deep>\n{"a": [True]}\n</parameter><parameter=on>True</parameter></function></tool_call>',
        QWEN_CODER,
    )

    assert calls(choice) == [
        ("get_weather", {"city": '"Rome"\n ', "days": "many", "deep": '{"a": [True]}', "on": True})
    ]


def test_thoughts_come_before_the_answer():
    choice = answer("<think>\nLet me see.\n</think>\n\nRome. </think>", thinking=THINK)

    assert choice.content == (Reasoning("Let me see."), Text("Rome. </think>"))


def test_thoughts_that_the_prompt_opened():
    choice = answer("\nLet me <b> see.\n\n</think>\nRome.", thinking=THINK, in_thoughts=True)

    assert choice.content == (Reasoning("Let me <b> see."), Text("Rome."))


def test_thoughts_that_both_the_prompt_and_the_model_opened():
    choice = answer("<think>\nSo.</think>Rome.", thinking=THINK, in_thoughts=True)

    assert choice.content == (Reasoning("So."), Text("Rome."))


def test_empty_thoughts_are_none_and_their_tokens_go_to_the_answer():
    parser = OutputParser(HERMES, THINK, TOOLS)

    events = [event for piece in ("<think>", "\n\n", "</think>", "\n\n", "Rome") for event in parser.feed(piece, 1)]

    assert events == [TextDelta("Rome", 5)]
    assert parser.reasoning_tokens == 0


def test_an_answer_that_only_mentions_thoughts_has_none():
    assert answer("The tag <think> opens.", thinking=THINK).content == (Text("The tag <think> opens."),)


def test_thoughts_that_never_end_are_all_there_is():
    parser = OutputParser(HERMES, THINK, TOOLS)

    choice = fold(read(parser, "<think>So <b> and </thi", "length"))

    assert choice.content == (Reasoning("So <b> and </thi"),)
    assert parser.output_tokens == 0


def test_a_call_after_thoughts():
    choice = answer('<think>So.</think>\n\n{"name": "time", "arguments": {}}', PLAIN, THINK)

    assert choice.content[0] == Reasoning("So.")
    assert calls(choice) == [("time", {})]


def test_tokens_of_thoughts_and_answer_are_counted_apart():
    parser = OutputParser(HERMES, THINK)
    pieces = ("<think>", "\n", "So", ".", "\n", "</think>", "\n\n", "Rome", ".")

    events = [event for piece in pieces for event in parser.feed(piece, 1)]

    assert events == [
        ReasoningDelta("So", 3),
        ReasoningDelta(".", 1),
        TextDelta("Rome", 4),
        TextDelta(".", 1),
    ]
    assert (parser.reasoning_tokens, parser.output_tokens) == (4, 5)


def test_log_probabilities_stay_with_their_tokens():
    parser = OutputParser(HERMES, THINK, TOOLS)
    tokens = [TokenLogprob(piece, -0.5) for piece in ("<think>", "So", "</think>", "Rome", " <", "b")]

    events = [event for token in tokens for event in parser.feed(token.token, 1, (token,))]

    said = [event for event in events if isinstance(event, TextDelta)]
    assert [logprob.token for event in said for logprob in event.logprobs] == ["Rome", " <", "b"]


def test_the_token_of_the_end_of_turn_is_in_the_total():
    parser = OutputParser(HERMES, None, TOOLS)

    events = parser.feed("Rome", 1) + parser.feed("", 1) + parser.end("stop")

    assert counted(events) == 1
    assert parser.output_tokens == 2


def counted(events: list[ChatEvent]) -> int:
    kinds = TextDelta | ReasoningDelta | ToolCallStarted | ToolCallDelta
    return sum(event.tokens for event in events if isinstance(event, kinds))


def test_tokens_without_text_are_counted_once_with_the_next_text():
    parser = OutputParser(HERMES, None, TOOLS)

    assert parser.feed("a", 1) + parser.feed("", 2) + parser.feed("b", 1) + parser.feed("c", 1) == [
        TextDelta("a", 1),
        TextDelta("b", 3),
        TextDelta("c", 1),
    ]


def test_a_call_of_an_unknown_tool_with_its_keys_in_another_order_stays_text():
    text = '<tool_call>{"arguments": {}, "name": "unknown"}</tool_call>'

    assert answer(text).content == (Text(text),)


def test_a_broken_call_is_let_go_at_its_closing_tag():
    parser = OutputParser(HERMES, None, TOOLS)

    assert parser.feed('<tool_call>{"name": "time"', 5) == []
    [delta] = parser.feed("</tool_call>", 1)
    assert delta == TextDelta('<tool_call>{"name": "time"</tool_call>', 6)


def test_arguments_end_at_the_closing_tag_and_get_the_brackets_that_are_missing():
    choice = answer('<tool_call>{"name": "get_weather", "arguments": {"city": ["<Rome>"</tool_call> So.')

    assert calls(choice) == [("get_weather", {"city": ["<Rome>"]})]
    assert text_of(choice) == " So."


def test_a_tag_that_the_model_forgot_to_close_is_closed_where_it_stopped_by_itself():
    assert calls(answer("<tool_call><function=get_weather><parameter=city>Rome", QWEN_CODER)) == [
        ("get_weather", {"city": "Rome"})
    ]
    assert calls(answer("<function=get_weather><parameter=city>Rome</parameter>", QWEN_CODER)) == [
        ("get_weather", {"city": "Rome"})
    ]


def test_a_value_that_is_no_json_is_a_string():
    written = "<function=get_weather><parameter=days>NaN</parameter></function>"

    assert calls(answer(written, QWEN_CODER)) == [("get_weather", {"days": "NaN"})]
