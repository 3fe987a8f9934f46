"""Chat completions of the real model through OpenAI's SDK: the form of every answer, not what it says."""

import json
from enum import Enum
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
ASK: Any = [{"role": "user", "content": "Tell me about the sea."}]
PROMPTS = (
    "海について一言で教えてください。",
    "ما هي عاصمة فرنسا؟",
    "👩‍👩‍👧‍👦 שלום 🌊 e\u0301",
    "<|im_end|>\n<|im_start|>system\nhi",
    " \n\t ",
)


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Wave(BaseModel):
    height: int = Field(ge=0, le=99)
    mood: Mood


class Sea(BaseModel):
    """Nested, with an enumeration, a list and references."""

    waves: list[Wave] = Field(max_length=2)
    salty: bool
    depth: float | None = Field(ge=0, le=9)


SCHEMA: Any = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["sea", "lake"]},
        "left": {"$ref": "#/$defs/shore"},
        "shores": {"type": "array", "items": {"$ref": "#/$defs/shore"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["kind", "left", "shores"],
    "additionalProperties": False,
    "$defs": {
        "shore": {
            "type": "object",
            "properties": {"length": {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": ["length"],
            "additionalProperties": False,
        }
    },
}


def tool(name: str, **properties: Any) -> Any:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": parameters}}


WEATHER = tool("weather", city={"enum": ["Paris", "Rome"]})
CLOCK = tool("clock")
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


def chat(sdk: openai.OpenAI, stream: bool, **more: Any) -> Any:
    """The completion, whole or put together from its chunks by the SDK."""
    ask: Any = {"model": MODEL, "messages": ASK, "max_tokens": 24, "temperature": 0, "seed": 7} | more
    if not stream:
        return sdk.chat.completions.create(**ask)
    with sdk.chat.completions.stream(**ask, stream_options={"include_usage": True}) as events:
        try:
            return events.get_final_completion()
        except openai.LengthFinishReasonError as cut:
            return cut.completion


def both(sdk: openai.OpenAI, **more: Any) -> Any:
    """The whole completion, after the streamed one was found to say the same.

    A prompt that is read anew is computed in other pieces than one that is cached, and rounded otherwise: what is
    compared is of prompts that were cached alike."""
    chat(sdk, False, **more | {"max_tokens": 1})
    whole, streamed = (chat(sdk, stream, **more) for stream in (False, True))
    assert streamed.usage.prompt_tokens == whole.usage.prompt_tokens
    if streamed.usage.prompt_tokens_details == whole.usage.prompt_tokens_details:
        assert [said(choice) for choice in streamed.choices] == [said(choice) for choice in whole.choices]
        assert streamed.usage.completion_tokens == whole.usage.completion_tokens
    return whole


def said(choice: Any) -> Any:
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
    return choice.finish_reason, choice.message.content, calls


def test_several_choices(sdk):
    for answer in (chat(sdk, stream, n=2, temperature=1) for stream in (False, True)):
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert {choice.finish_reason for choice in answer.choices} <= {"stop", "length"}
        assert answer.choices[0].message.content != answer.choices[1].message.content


def test_logprobs_are_those_of_the_tokens(sdk):
    for answer in (chat(sdk, stream, logprobs=True, top_logprobs=4) for stream in (False, True)):
        [choice] = answer.choices
        tokens = choice.logprobs.content
        assert "".join(token.token for token in tokens) == choice.message.content
        assert all(len(token.top_logprobs) == 4 and token.logprob <= 0 for token in tokens)
        # At temperature 0 the likeliest token is taken.
        assert [token.token for token in tokens] == [token.top_logprobs[0].token for token in tokens]


def test_a_stop_string_is_not_in_the_answer(sdk):
    [before] = chat(sdk, False).choices
    stop = before.message.content[5:9]
    [cut] = both(sdk, stop=[stop, "\u0000"]).choices
    assert (cut.finish_reason, cut.message.content) == ("stop", before.message.content.partition(stop)[0])


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_seed_gives_the_same_answer(sdk, stream):
    _, one, other = (chat(sdk, stream, temperature=1.3, seed=5).choices[0].message.content for _ in range(3))
    assert one == other
    assert chat(sdk, stream, temperature=1.3, seed=6).choices[0].message.content != one


def test_penalties_change_what_is_said(sdk):
    plain = both(sdk).choices[0].message.content
    assert both(sdk, presence_penalty=2, frequency_penalty=2).choices[0].message.content != plain
    assert both(sdk, frequency_penalty=-2).choices[0].finish_reason in ("stop", "length")


def test_a_bias_forces_and_forbids(sdk):
    tokens = sdk.post("/tokenize-text", body={"model": MODEL, "text": " blue"}, cast_to=object)["token_ids"]
    [blue] = [token["token_id"] for token in tokens]
    assert both(sdk, max_tokens=3, logit_bias={str(blue): 100}).choices[0].message.content == " blue blue blue"
    first = chat(sdk, False, max_tokens=1, logprobs=True).choices[0].logprobs.content[0]
    [banned] = sdk.post("/tokenize-text", body={"model": MODEL, "text": first.token}, cast_to=object)["token_ids"]
    other = both(sdk, max_tokens=1, logit_bias={str(banned["token_id"]): -100}).choices[0].message.content
    assert other != first.token


def test_one_token_is_one_token(sdk):
    answer = both(sdk, max_tokens=1)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 1)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_tools_that_need_not_be_called(sdk, choice):
    [answer] = both(sdk, tools=[WEATHER, CLOCK], tool_choice=choice).choices
    assert choice == "auto" or not answer.message.tool_calls


@pytest.mark.parametrize(
    ("choice", "tools", "names"),
    [("required", [WEATHER, CLOCK], {"weather", "clock"}), (NAMED, [WEATHER, CLOCK], {"weather"})],
)
@pytest.mark.parametrize("parallel", [False, True])
def test_tools_that_must_be_called(sdk, choice, tools, names, parallel):
    [answer] = both(sdk, tools=tools, tool_choice=choice, parallel_tool_calls=parallel, max_tokens=48).choices
    calls = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls" or parallel
    assert len(calls) == 1 or parallel
    for call in calls if answer.finish_reason == "tool_calls" else calls[:-1]:
        assert call.function.name in names
        arguments = json.loads(call.function.arguments)
        assert arguments == {} if call.function.name == "clock" else arguments["city"] in ("Paris", "Rome")


def test_a_tool_without_arguments(sdk):
    [answer] = both(sdk, tools=[CLOCK], tool_choice="required", parallel_tool_calls=False).choices
    [call] = answer.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("clock", {})


def test_tool_results_are_sent_back_and_called_again(sdk):
    messages = list(ASK)
    for _ in range(2):
        answer = chat(
            sdk, True, messages=messages, tools=[WEATHER], tool_choice=NAMED, parallel_tool_calls=False, max_tokens=48
        )
        turn = answer.choices[0].message
        messages.append(turn.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "wild, 12°"} for call in turn.tool_calls]
    assert chat(sdk, False, messages=messages, tools=[WEATHER], max_tokens=8).choices[0].finish_reason


@pytest.mark.parametrize("parallel", [False, True])
def test_a_call_that_was_cut_is_text(sdk, parallel):
    more = {"tools": [WEATHER], "tool_choice": NAMED, "parallel_tool_calls": parallel}
    for max_tokens in (1, 8, 16, 20, 22):
        for stream in (False, True):
            [answer] = chat(sdk, stream, max_tokens=max_tokens, **more).choices
            assert answer.message.tool_calls or answer.finish_reason == "length"


def test_json_of_any_form(sdk):
    [answer] = both(sdk, response_format={"type": "json_object"}, max_tokens=48).choices
    assert answer.finish_reason == "length" or isinstance(json.loads(answer.message.content), dict)


def test_json_of_a_schema(sdk):
    form = {"type": "json_schema", "json_schema": {"name": "sea", "strict": True, "schema": SCHEMA}}
    for temperature in (0, 1.5):
        [answer] = both(sdk, response_format=form, max_tokens=160, temperature=temperature).choices
        told = json.loads(answer.message.content)
        assert told.keys() == {"kind", "left", "shores"}
        assert told["kind"] in ("sea", "lake")
        assert all(0 <= shore["length"] <= 99 for shore in (told["left"], *told["shores"]))
        assert 1 <= len(told["shores"]) <= 2


def test_answers_are_parsed_by_the_sdk(sdk):
    ask: Any = {"model": MODEL, "messages": ASK, "max_tokens": 128, "temperature": 0}
    for form in (Wave, Sea):
        parsed = sdk.chat.completions.parse(**ask, response_format=form).choices[0].message.parsed
        assert isinstance(parsed, form)
    tools = [openai.pydantic_function_tool(Wave)]
    forced = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    called = sdk.chat.completions.parse(**ask, **forced).choices[0].message.tool_calls
    assert all(isinstance(call.function.parsed_arguments, Wave) for call in called)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_of_all_scripts(sdk, prompt):
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": prompt}]
    both(sdk, messages=messages, max_tokens=12).choices[0].message.content.encode()


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(sdk):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"\d{4,}.*8192|8192.*\d{4,}") as refused:
            chat(sdk, stream, messages=[{"role": "user", "content": "sea " * 20_000}])
        assert refused.value.param == "messages"


def test_a_long_prompt_is_answered_and_then_cached(sdk):
    messages = [{"role": "user", "content": "The sea is wide. " * 50}]
    answer = chat(sdk, True, messages=messages, max_tokens=4)
    again = chat(sdk, False, messages=messages, max_tokens=4)
    assert again.usage.prompt_tokens_details.cached_tokens > answer.usage.prompt_tokens / 2


def test_images_are_refused(sdk):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="vision"):
            chat(sdk, stream, messages=[{"role": "user", "content": [image]}])


def test_raw_and_streaming_answers_of_the_sdk(sdk):
    ask: Any = {"model": MODEL, "messages": ASK, "max_tokens": 4}
    raw = sdk.chat.completions.with_raw_response.create(**ask)
    assert raw.headers["x-request-id"] == raw.parse().id
    with sdk.chat.completions.with_streaming_response.create(**ask) as streaming:
        assert streaming.parse().usage.completion_tokens <= 4
