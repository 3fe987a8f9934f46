"""Responses of the real model through OpenAI's SDK: the form of every answer, and what is kept of it."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
ASK = "Tell me about the sea."
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CLOCK: Any = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}, "strict": False}
NAMED: Any = {"type": "function", "name": "weather"}


class Wave(BaseModel):
    height: int = Field(ge=0, le=99)
    mood: Literal["calm", "wild"]


def respond(sdk: openai.OpenAI, stream: bool, **more: Any) -> Any:
    ask: Any = {"model": MODEL, "input": ASK, "max_output_tokens": 24, "temperature": 0} | more
    if not stream:
        return sdk.responses.create(**ask)
    *_, last = sdk.responses.create(**ask, stream=True)
    return last.response


def both(sdk: openai.OpenAI, **more: Any) -> Any:
    """The whole response, after the streamed one was found to say the same of a prompt that was cached alike."""
    respond(sdk, False, **more | {"max_output_tokens": 1, "store": False})
    whole, streamed = (respond(sdk, stream, **more) for stream in (False, True))
    if streamed.usage.input_tokens_details == whole.usage.input_tokens_details:
        assert said(streamed) == said(whole)
    return whole


def said(response: Any) -> Any:
    calls = [(item.name, item.arguments) for item in response.output if item.type == "function_call"]
    return response.status, response.output_text, calls


def test_a_chain_is_gone_on_with_retrieved_listed_and_deleted(sdk):
    first = both(sdk, instructions="Be brief.")
    second = respond(sdk, True, input="And the lakes? 湖", previous_response_id=first.id)
    assert sdk.responses.retrieve(second.id).output_text == second.output_text
    *_, last = sdk.responses.retrieve(second.id, stream=True)
    assert last.response.output_text == second.output_text
    items = list(sdk.responses.input_items.list(second.id, limit=1, order="asc"))
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert sdk.responses.input_tokens.count(model=MODEL, input=ASK).input_tokens < second.usage.input_tokens
    for response in (first, second):
        sdk.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(response.id)
    with pytest.raises(openai.NotFoundError) as refused:
        respond(sdk, False, previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"


def test_one_token_is_one_token(sdk):
    # The least that OpenAI's own server takes is 16; here it is one.
    answer = both(sdk, max_output_tokens=1, store=False)
    assert (answer.status, answer.usage.output_tokens) == ("incomplete", 1)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_tools_that_need_not_be_called(sdk, choice):
    answer = both(sdk, tools=[WEATHER, CLOCK], tool_choice=choice)
    assert choice == "auto" or {item.type for item in answer.output} == {"message"}


@pytest.mark.parametrize(("choice", "names"), [("required", {"weather", "clock"}), (NAMED, {"weather"})])
def test_tools_that_must_be_called_and_their_results(sdk, choice, names):
    tools = [WEATHER, CLOCK]
    answer = both(sdk, tools=tools, tool_choice=choice, parallel_tool_calls=False, max_output_tokens=48)
    [call] = answer.output
    assert call.name in names
    arguments = json.loads(call.arguments)
    assert arguments == {} if call.name == "clock" else arguments["city"] in ("Paris", "Rome")
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "wild, 12°"}]
    assert respond(sdk, True, input=result, tools=tools, previous_response_id=answer.id).usage.output_tokens


def test_logprobs(sdk):
    more: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    for answer in (respond(sdk, stream, **more) for stream in (False, True)):
        part = answer.output[0].content[0]
        assert "".join(token.token for token in part.logprobs) == part.text
        assert all(len(token.top_logprobs) == 2 for token in part.logprobs)


def test_answers_are_parsed_by_the_sdk(sdk):
    ask: Any = {"model": MODEL, "input": ASK, "max_output_tokens": 96, "temperature": 0, "text_format": Wave}
    assert isinstance(sdk.responses.parse(**ask).output_parsed, Wave)
    with sdk.responses.stream(**ask) as events:
        assert isinstance(events.get_final_response().output_parsed, Wave)


def test_json_of_any_form(sdk):
    answer = both(sdk, text={"format": {"type": "json_object"}}, max_output_tokens=48)
    assert answer.status == "incomplete" or isinstance(json.loads(answer.output_text), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_is_refused_by_name(sdk, stream):
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    for given, told in (([{"role": "user", "content": [image]}], "vision"), ("sea " * 20_000, "8192")):
        with pytest.raises(openai.BadRequestError, match=told):
            respond(sdk, stream, input=given)
    with pytest.raises(openai.BadRequestError, match="reasoning"):
        respond(sdk, stream, reasoning={"effort": "high"})
