"""What every release of xAI's SDK must find. A script, so that it runs with whichever its path holds: API_HOST and
API_KEY say where; it prints what it has checked."""

import asyncio
import os
import warnings
from datetime import timedelta
from typing import Any

import grpc
import xai_sdk
from pydantic import BaseModel
from xai_sdk.__about__ import __version__
from xai_sdk.chat import assistant, required_tool, system, tool, tool_result, user

WHERE = {"api_host": os.environ["API_HOST"], "api_key": os.environ["API_KEY"]}
SAID = "what is the answer"
CALLS = [("call_a", "weather", '{"city":"Paris"}'), ("call_b", "clock", "{}")]
TOOLS = [
    tool("weather", "Of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
    tool("clock", "The time", {"type": "object", "properties": {}}),
]


class Capital(BaseModel):
    capital: str


def said(answer: Any) -> Any:
    calls = [(call.id, call.function.name, call.function.arguments) for call in answer.tool_calls]
    return answer.content, answer.reasoning_content, calls, answer.finish_reason


def whole_and_streamed(client: xai_sdk.Client) -> None:
    chat = client.chat.create("echo-latest", messages=[system("Be brief."), user(SAID)], max_tokens=64)
    answer = chat.sample()
    assert said(answer) == (SAID, "", [], "REASON_STOP")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 4)
    assert answer.system_fingerprint.startswith("fp_")
    *_, (streamed, _) = chat.stream()
    assert said(streamed) == said(answer)
    assert streamed.usage == answer.usage
    assert [one.content for one in chat.sample_batch(2)] == [SAID] * 2
    *_, (streamed, _) = chat.stream_batch(2)
    assert [one.content for one in streamed] == [SAID] * 2
    chat.append(answer).append(assistant("so")).append(user("go on"))
    assert chat.sample().content == "go on"


def tools(client: xai_sdk.Client) -> None:
    chat = client.chat.create("weather", messages=[user("How is it?")], tools=TOOLS, tool_choice="auto")
    answer = chat.sample()
    assert said(answer) == ("Let me look.", "hm, two", CALLS, "REASON_TOOL_CALLS")
    *_, (streamed, _) = chat.stream()
    assert said(streamed) == said(answer)
    chat.append(answer)
    # Older ones know no id of a call here.
    for result in ("rain", "noon"):
        chat.append(tool_result(result))
    assert chat.sample().content == "noon"
    named = client.chat.create("weather", messages=[user("?")], tools=TOOLS, tool_choice=required_tool("clock"))
    assert named.sample().tool_calls


def parsed(client: xai_sdk.Client) -> None:
    answer, shape = client.chat.create("json", messages=[user("Of France?")]).parse(Capital)
    assert (shape.capital, answer.content) == ("Paris", '{"capital":"Paris"}')


def deferred(client: xai_sdk.Client) -> None:
    chat = client.chat.create("echo", messages=[user(SAID)])
    assert chat.defer(timeout=timedelta(seconds=30), interval=timedelta(milliseconds=5)).content == SAID


def models_and_tokens(client: xai_sdk.Client) -> None:
    assert "echo" in [model.name for model in client.models.list_language_models()]
    assert client.models.get_language_model("echo-latest").name == "echo"
    assert [model.name for model in client.models.list_image_generation_models()] == []
    assert [token.string_token for token in client.tokenize.tokenize_text("Hello there", "echo")] == ["Hello", "there"]
    assert client.auth.get_api_key_info().acls


def errors(client: xai_sdk.Client) -> None:
    for model, temperature, code in (
        ("nothing", 1.0, grpc.StatusCode.NOT_FOUND),
        ("echo", 9.0, grpc.StatusCode.INVALID_ARGUMENT),
        ("broken-before", 1.0, grpc.StatusCode.INTERNAL),
    ):
        try:
            client.chat.create(model, messages=[user("?")], temperature=temperature).sample()
        except grpc.RpcError as error:
            assert error.code() == code  # noqa: PT017
        else:
            raise AssertionError(f"{model} was answered")


async def asynchronous() -> None:
    client = xai_sdk.AsyncClient(**WHERE)
    chat = client.chat.create("echo", messages=[user(SAID)])
    assert (await chat.sample()).content == SAID
    pieces = [chunk.content async for _, chunk in chat.stream()]
    assert "".join(pieces) == SAID


def main() -> None:
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    client = xai_sdk.Client(**WHERE)
    for check in (whole_and_streamed, tools, parsed, deferred, models_and_tokens, errors):
        check(client)
        print("xai-sdk", __version__, check.__name__)
    if hasattr(client, "close"):  # the first release has none
        client.close()
    asyncio.run(asynchronous())
    print("xai-sdk", __version__, asynchronous.__name__)


if __name__ == "__main__":
    main()
