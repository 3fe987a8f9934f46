"""Messages of the real model through Anthropic's SDK: the form of every answer, not what it says."""

from typing import Any, Literal

import anthropic
import pytest
from anthropic import beta_tool
from pydantic import BaseModel

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
# The newest SDK has no parameter for it any more.
COLD = {"temperature": 0}
ASK: Any = [{"role": "user", "content": "Tell me about the sea."}]
WEATHER: Any = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CLOCK: Any = {"name": "clock", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}}


class Wave(BaseModel):
    """Of choices alone: the SDK sends no bounds of numbers, it only describes them."""

    height: Literal[1, 2, 3]
    mood: Literal["calm", "wild"]


def say(claude: anthropic.Anthropic, stream: bool, **more: Any) -> Any:
    ask: Any = {"model": MODEL, "max_tokens": 24, "messages": ASK, "extra_body": COLD} | more
    if not stream:
        return claude.messages.create(**ask)
    with claude.messages.stream(**ask) as events:
        return events.get_final_message()


def both(claude: anthropic.Anthropic, **more: Any) -> Any:
    """The whole message, after the streamed one was found to say the same of a prompt that was cached alike."""
    say(claude, False, **more | {"max_tokens": 1})
    whole, streamed = (say(claude, stream, **more) for stream in (False, True))
    if whole.usage.cache_read_input_tokens != streamed.usage.cache_read_input_tokens:
        return whole
    told = [
        [block.to_dict() | ({"id": ""} if block.type == "tool_use" else {}) for block in message.content]
        for message in (whole, streamed)
    ]
    assert told[0] == told[1]
    assert whole.stop_reason == streamed.stop_reason
    return whole


def test_tokens_are_counted_as_they_are_billed(claude):
    ask: Any = {"messages": ASK, "system": "Sé breve. 海", "tools": [WEATHER]}
    counted = claude.messages.count_tokens(model=MODEL, **ask).input_tokens
    usage = both(claude, **ask, max_tokens=4).usage
    assert usage.input_tokens + usage.cache_read_input_tokens == counted


def test_a_stop_sequence_is_named(claude):
    stop = both(claude).content[0].text[5:9]
    cut = both(claude, stop_sequences=["\u0000", stop])
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", stop)
    assert stop not in cut.content[0].text


def test_one_token_is_one_token(claude):
    answer = both(claude, max_tokens=1)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 1)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_tools_that_need_not_be_called(claude, choice):
    answer = both(claude, tools=[WEATHER, CLOCK], tool_choice={"type": choice})
    assert choice == "auto" or {block.type for block in answer.content} == {"text"}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "any", "disable_parallel_tool_use": True}, {"weather", "clock"}),
        ({"type": "tool", "name": "clock", "disable_parallel_tool_use": True}, {"clock"}),
    ],
)
def test_tools_that_must_be_called(claude, choice, names):
    answer = both(claude, tools=[WEATHER, CLOCK], tool_choice=choice, max_tokens=48)
    [call] = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert call.name in names
    assert call.input == {} if call.name == "clock" else call.input["city"] in ("Paris", "Rome")


def test_several_tools_at_once(claude):
    for answer in (say(claude, stream, tools=[CLOCK], tool_choice={"type": "any"}) for stream in (False, True)):
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert {call.name for call in calls} == {"clock"}
        assert len({call.id for call in calls}) == len(calls)


def test_the_tool_runner_calls_and_sends_results_back(claude):
    heard = []

    @beta_tool
    def weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather in a city."""
        heard.append(city)
        return "wild, 12°"

    choice: Any = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    for stream in (False, True):
        runner: Any = claude.beta.messages.tool_runner(
            model=MODEL,
            max_tokens=48,
            messages=ASK,
            tools=[weather],
            tool_choice=choice,
            max_iterations=2,
            stream=stream,
        )
        for turn in runner:
            message = turn.get_final_message() if stream else turn
            assert message.stop_reason == "tool_use"
    assert len(heard) >= 2
    assert set(heard) <= {"Paris", "Rome"}


def test_answers_are_parsed_by_the_sdk(claude):
    ask: Any = {"model": MODEL, "max_tokens": 96, "messages": ASK, "extra_body": COLD, "output_format": Wave}
    assert isinstance(claude.messages.parse(**ask).parsed_output, Wave)
    with claude.messages.stream(**ask) as events:
        assert isinstance(events.get_final_message().parsed_output, Wave)


def test_an_answer_is_gone_on_with(claude):
    answer = both(claude, messages=[*ASK, {"role": "assistant", "content": "The sea is"}], max_tokens=8)
    assert answer.content[0].text


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_is_refused_by_name(claude, stream):
    pixel = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    for messages, told in (
        ([{"role": "user", "content": [{"type": "image", "source": pixel}]}], "vision"),
        ([{"role": "user", "content": "sea " * 20_000}], "8192"),
    ):
        with pytest.raises(anthropic.BadRequestError, match=told):
            say(claude, stream, messages=messages)
    with pytest.raises(anthropic.BadRequestError, match="thinking"):
        say(claude, stream, max_tokens=2048, thinking={"type": "enabled", "budget_tokens": 1024})
