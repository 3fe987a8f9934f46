"""What every major of the Python SDKs must find. A script, so that it runs with whichever major its path holds:
BASE_URL and API_KEY say where; it prints what it has checked."""

import asyncio
import os
from typing import Any

import anthropic
import openai
from pydantic import BaseModel

BASE_URL, API_KEY = os.environ["BASE_URL"], os.environ["API_KEY"]
ASK: Any = [{"role": "user", "content": "what is the answer"}]
SAID = "what is the answer"
CALLS = [("call_a", "weather", '{"city":"Paris"}'), ("call_b", "clock", "{}")]
INPUTS = [("call_a", "weather", {"city": "Paris"}), ("call_b", "clock", {})]
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


class Capital(BaseModel):
    capital: str


def chat_completions(client: openai.OpenAI) -> None:
    """Whole, in chunks, through the helper, raw, and with two choices."""
    create = client.chat.completions.create
    answer = create(model="echo", messages=ASK)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (SAID, "stop")
    assert answer._request_id == answer.id
    chunks = list(create(model="echo", messages=ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    with client.chat.completions.stream(model="echo", messages=ASK, stream_options={"include_usage": True}) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == SAID
    assert final.usage is not None
    assert answer.usage is not None
    assert final.usage.to_dict() == answer.usage.to_dict()
    assert [choice.message.content for choice in create(model="echo", messages=ASK, n=2).choices] == [SAID] * 2
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=ASK)
    assert raw.headers["x-request-id"] == raw.parse().id
    with client.chat.completions.with_streaming_response.create(model="echo", messages=ASK) as streaming:
        assert streaming.parse().choices[0].message.content == SAID


def chat_tools(client: openai.OpenAI) -> None:
    """Whole and streamed, there and back."""
    tools: Any = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("weather", "clock")]
    whole = client.chat.completions.create(model="weather", messages=ASK, tools=tools).choices[0]
    with client.chat.completions.stream(model="weather", messages=ASK, tools=tools) as stream:
        streamed = stream.get_final_completion().choices[0]
    for choice in (whole, streamed):
        assert choice.finish_reason == "tool_calls"
        told = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
        assert told == CALLS
        turn = choice.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
        results = [{"role": "tool", "tool_call_id": call_id, "content": call_id} for call_id, _, _ in CALLS]
        messages: Any = [*ASK, turn, *results]
        answer = client.chat.completions.create(model="weather", messages=messages, tools=tools)
        assert answer.choices[0].message.content == "call_b"


def chat_parse(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model="json", messages=ASK, response_format=Capital)
    assert parsed.choices[0].message.parsed == Capital(capital="Paris")
    with client.chat.completions.stream(model="json", messages=ASK, response_format=Capital) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Capital(capital="Paris")


def responses(client: openai.OpenAI) -> None:
    """Whole, streamed, parsed, gone on with."""
    whole = client.responses.create(model="weather", input=SAID)
    with client.responses.stream(model="weather", input=SAID) as stream:
        events = list(stream)
        streamed = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for response in (whole, streamed):
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
        assert response.output_text == "Let me look."
    assert client.responses.parse(model="json", input=SAID, text_format=Capital).output_parsed == Capital(
        capital="Paris"
    )
    second = client.responses.create(model="echo", input="go on", previous_response_id=whole.id)
    assert second.output_text == "go on"
    assert client.responses.retrieve(whole.id).output_text == "Let me look."
    assert len(list(client.responses.input_items.list(second.id, limit=1, order="asc"))) > 2


def openai_models(client: openai.OpenAI) -> None:
    assert "echo" in [model.id for model in client.models.list()]
    assert client.models.retrieve("echo-latest").id == "echo"


def openai_errors(client: openai.OpenAI) -> None:
    """Typed, with their code and field, also in a stream."""
    create = client.chat.completions.create
    for model, kind, status in (
        ("nothing", openai.NotFoundError, 404),
        ("busy", openai.InternalServerError, 503),
        ("broken-before", openai.InternalServerError, 502),
    ):
        for stream in (False, True):
            error: Any = failure(kind, lambda m=model, s=stream: create(model=m, messages=ASK, stream=s))
            assert error.status_code == status
            assert error.request_id
    wrong = failure(openai.AuthenticationError, client.with_options(api_key="no").models.list)
    assert (wrong.code, wrong.status_code) == ("invalid_api_key", 401)
    bad = failure(openai.BadRequestError, lambda: create(model="echo", messages=ASK, temperature=3))
    assert (bad.param, bad.type) == ("temperature", "invalid_request_error")
    broken = failure(openai.APIError, lambda: list(create(model="broken-after", messages=ASK, stream=True)))
    assert "The engine broke" in broken.message


async def openai_async() -> None:
    async with openai.AsyncOpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY, max_retries=0) as client:
        answer = await client.chat.completions.create(model="echo", messages=ASK)
        assert answer.choices[0].message.content == SAID
        async with client.chat.completions.stream(model="echo", messages=ASK) as stream:
            assert (await stream.get_final_completion()).choices[0].message.content == SAID
        async with client.responses.stream(model="echo", input=SAID) as events:
            assert (await events.get_final_response()).output_text == SAID
        assert "echo" in [model.id async for model in client.models.list()]


def messages(client: anthropic.Anthropic) -> None:
    """Whole, in events, through the helper, and raw."""
    whole = client.messages.create(model="echo", max_tokens=64, messages=ASK)
    assert (whole.content[0].text, whole.stop_reason) == (SAID, "end_turn")
    assert whole.id == "msg_" + (whole._request_id or "").replace("-", "")
    kinds = [event.type for event in client.messages.create(model="echo", max_tokens=64, messages=ASK, stream=True)]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    with client.messages.stream(model="echo", max_tokens=64, messages=ASK) as stream:
        assert "".join(stream.text_stream) == SAID
        final = stream.get_final_message()
    assert final.content[0].text == SAID
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )
    raw = client.messages.with_raw_response.create(model="echo", max_tokens=64, messages=ASK)
    assert raw.parse().id == "msg_" + raw.headers["request-id"].replace("-", "")
    with client.messages.with_streaming_response.create(model="echo", max_tokens=64, messages=ASK) as streaming:
        assert streaming.parse().content[0].text == SAID
    beta = client.beta.messages.create(model="echo", max_tokens=64, messages=ASK, betas=["context-1m-2025-08-07"])
    assert beta.content[0].text == SAID


def messages_tools(client: anthropic.Anthropic) -> None:
    """Thoughts and calls, whole and streamed; the runner calls the functions itself."""
    tools: Any = [{"name": name, "input_schema": {"type": "object"}} for name in ("weather", "clock")]
    ask: Any = {"model": "weather", "max_tokens": 2048, "messages": ASK, "tools": tools, "thinking": THINKING}
    with client.messages.stream(**ask) as stream:
        streamed = stream.get_final_message()
    for message in (client.messages.create(**ask), streamed):
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
        assert message.content[0].thinking == "hm, two"
        assert [(block.id, block.name, block.input) for block in message.content[2:]] == INPUTS
        assert message.stop_reason == "tool_use"
        results = [{"type": "tool_result", "tool_use_id": call_id, "content": call_id} for call_id, _, _ in INPUTS]
        turns: Any = [*ASK, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
        assert client.messages.create(**ask | {"messages": turns}).content[0].text == "call_b"

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather."""
        return f"sunny in {city}"

    @anthropic.beta_tool
    def clock() -> str:
        """The time."""
        return "noon"

    runner = client.beta.messages.tool_runner(model="weather", max_tokens=64, tools=[weather, clock], messages=ASK)
    assert runner.until_done().content[0].text == "noon"


def messages_parse(client: anthropic.Anthropic) -> None:
    ask: Any = {"model": "json", "max_tokens": 64, "messages": ASK}
    assert client.messages.parse(**ask, output_format=Capital).parsed_output == Capital(capital="Paris")
    with client.messages.stream(**ask, output_format=Capital) as stream:
        assert stream.get_final_message().parsed_output == Capital(capital="Paris")


def counts_and_models(client: anthropic.Anthropic) -> None:
    tools: Any = [{"name": "clock", "input_schema": {"type": "object"}}]
    counted = client.messages.count_tokens(model="echo", messages=ASK, tools=tools)
    billed = client.messages.create(model="echo", max_tokens=9, messages=ASK, tools=tools).usage.input_tokens
    assert counted.input_tokens == billed
    listed = list(client.models.list(limit=2))
    assert "echo" in [model.id for model in listed]
    assert all(model.created_at and model.display_name for model in listed)
    assert client.models.retrieve("echo-latest").id == "echo"


def anthropic_errors(client: anthropic.Anthropic) -> None:
    """Typed, with their kind, also in a stream."""
    for model, kind, status, told in (
        ("nothing", anthropic.NotFoundError, 404, "not_found_error"),
        ("busy", anthropic.APIStatusError, 529, "overloaded_error"),
        ("broken-before", anthropic.InternalServerError, 502, "api_error"),
    ):
        for stream in (False, True):
            ask: Any = {"model": model, "max_tokens": 9, "messages": ASK, "stream": stream}
            error: Any = failure(kind, lambda ask=ask: client.messages.create(**ask))
            assert (error.status_code, error.body["error"]["type"]) == (status, told)
            assert error.request_id == error.body["request_id"]
    failure(anthropic.AuthenticationError, client.with_options(api_key="no").models.list)
    bad: Any = failure(
        anthropic.BadRequestError, lambda: client.messages.create(model="echo", max_tokens=0, messages=ASK)
    )
    assert "max_tokens" in bad.body["error"]["message"]

    def break_off() -> None:
        with client.messages.stream(model="broken-after", max_tokens=9, messages=ASK) as stream:
            list(stream)

    assert "The engine broke" in str(failure(anthropic.APIStatusError, break_off))


def text_completions(client: openai.OpenAI) -> None:
    """Whole, in chunks, and of several prompts."""
    create = client.completions.create
    whole = create(model="echo", prompt=SAID, logprobs=1)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (SAID, "stop")
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.text_offset == [0, 4, 7, 11]
    chunks = list(create(model="echo", prompt=SAID, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == SAID
    assert chunks[-1].usage is not None
    assert [choice.text for choice in create(model="echo", prompt=["a", "b"], n=2).choices] == ["a", "a", "b", "b"]


def old_completions(client: anthropic.Anthropic) -> None:
    """Only the majors before the newest have them."""
    if not hasattr(client, "completions"):
        return
    prompt = f"{anthropic.HUMAN_PROMPT} {SAID}{anthropic.AI_PROMPT}"
    ask: Any = {"model": "echo", "prompt": prompt, "max_tokens_to_sample": 9}
    whole = client.completions.create(**ask)
    assert (whole.completion, whole.stop_reason, whole.type) == (SAID, "stop_sequence", "completion")
    events = list(client.completions.create(**ask, stream=True))
    assert "".join(event.completion for event in events) == SAID
    assert [event.stop_reason for event in events] == [None] * 4 + ["stop_sequence"]
    bad: Any = failure(anthropic.BadRequestError, lambda: client.completions.create(**ask | {"prompt": SAID}))
    assert "prompt" in bad.body["error"]["message"]
    broken: Any = ask | {"model": "broken-after", "stream": True}
    assert "The engine broke" in str(
        failure(anthropic.APIStatusError, lambda: list(client.completions.create(**broken)))
    )


async def anthropic_async() -> None:
    async with anthropic.AsyncAnthropic(base_url=BASE_URL, api_key=API_KEY, max_retries=0) as client:
        ask: Any = {"model": "echo", "max_tokens": 64, "messages": ASK}
        assert (await client.messages.create(**ask)).content[0].text == SAID
        async with client.messages.stream(**ask) as stream:
            assert await stream.get_final_text() == SAID
        assert (await client.messages.count_tokens(model="echo", messages=ASK)).input_tokens == 4
        assert "echo" in [model.id async for model in client.models.list()]


def failure(kind: type[Exception], attempt: Any) -> Any:
    """The exception of `kind` that the attempt ends in."""
    try:
        attempt()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def main() -> None:
    with openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY, max_retries=0) as client:
        for check in (
            *(chat_completions, chat_tools, chat_parse, text_completions, responses),
            *(openai_models, openai_errors),
        ):
            check(client)
            print("openai", openai.__version__, check.__name__)
    with anthropic.Anthropic(base_url=BASE_URL, api_key=API_KEY, max_retries=0) as client:
        for check in (
            *(messages, messages_tools, messages_parse, old_completions, counts_and_models),
            anthropic_errors,
        ):
            check(client)
            print("anthropic", anthropic.__version__, check.__name__)
    for check in (openai_async, anthropic_async):
        asyncio.run(check())
        print(check.__name__)


if __name__ == "__main__":
    main()
