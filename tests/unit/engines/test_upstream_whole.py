"""A remote server is asked for a whole answer where one is wanted and cannot be long; else it streams to us."""

import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import Started, TextDelta
from leadline.chat.request import ChatRequest, Message, Reasoning, Text, ToolCall
from leadline.engines.upstream.client import MOST_WHOLE_TOKENS
from leadline.errors import EngineFailed, InvalidRequest, Unavailable
from tests.fold import collect
from tests.scripted.upstream import Reply, delta, finish, refusal, sse
from tests.unit.engines.test_upstream import engine_with

WHOLE = ChatRequest("tiny", (Message("user", (Text("hi"),)),), max_output_tokens=50, whole=True)
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 1}}
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
]


def said(reason: str = "stop", usage: Any = USAGE, **message: Any) -> Reply:
    """A whole answer, in two pieces."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    return Reply(pieces=(body[:20], body[20:]), content_type="application/json; charset=utf-8")


async def answer(reply: Reply, request: ChatRequest = WHOLE) -> ChatAnswer:
    async with engine_with(reply) as (engine, _), aclosing(engine.generate(request)) as batches:
        return await collect(batches)


@pytest.mark.parametrize(
    ("request_", "streams"),
    [
        (WHOLE, False),
        (replace(WHOLE, max_output_tokens=MOST_WHOLE_TOKENS), False),
        (replace(WHOLE, max_output_tokens=MOST_WHOLE_TOKENS + 1), True),
        (replace(WHOLE, stop=("x",)), True),
        (replace(WHOLE, whole=False), True),
    ],
)
async def test_what_is_wanted_whole_and_cannot_be_long_is_asked_for_whole(request_: ChatRequest, streams: bool):
    async with engine_with(said(content="Hello")) as (engine, upstream):
        async with aclosing(engine.generate(request_)) as batches:
            await collect(batches)
        [body] = upstream.bodies
        assert (body["stream"], "stream_options" in body) == (streams, streams)
        assert upstream.connections == 1


async def test_it_says_what_a_stream_would_have_said():
    streamed = sse(
        *(delta(reasoning_content="hm"), delta(content="Hello")),
        *(delta(tool_calls=[{"index": index} | call]) for index, call in enumerate(CALLS)),
        finish("tool_calls", **USAGE),
    )
    whole = await answer(said("tool_calls", reasoning_content="hm", content="Hello", tool_calls=CALLS))
    assert whole == await answer(Reply(pieces=(streamed,)), replace(WHOLE, whole=False))
    assert whole.choices[0].content == (
        *(Reasoning("hm"), Text("Hello")),
        *(ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}")),
    )
    assert (whole.usage.output_tokens, whole.usage.reasoning_tokens) == (3, 1)


async def test_a_server_that_streams_all_the_same_is_understood():
    assert await answer(Reply(pieces=(sse(delta(content="Hello"), finish("stop", **USAGE)),))) == await answer(
        said(content="Hello")
    )


async def test_it_begins_when_it_is_sent_and_comes_in_one_batch():
    async with engine_with(said(content="Hello")) as (engine, _), aclosing(engine.generate(WHOLE)) as batches:
        first, second = [batch async for batch in batches]
    assert first == (Started(),)
    assert second[0] == TextDelta("Hello")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(pieces=(b'{"choices": [{"mess',), content_type="application/json"), EngineFailed),
        (Reply(pieces=(b'{"choices": [{"mess',), content_type="application/json", ends="broken"), EngineFailed),
        (Reply(pieces=(b'"their words"',), content_type="application/json"), EngineFailed),
        (Reply(pieces=(b'{"error": "their words"}',), content_type="application/json"), EngineFailed),
        (said(tool_calls=[{"id": "a", "function": {"arguments": "{}"}}]), EngineFailed),
        (refusal(503, {}), Unavailable),
        (refusal(400, "their words"), InvalidRequest),
    ],
)
async def test_what_goes_wrong_is_a_clean_error_without_the_servers_own_words(reply: Reply, error: type[Exception]):
    with pytest.raises(error) as raised:
        await answer(reply)
    assert "their words" not in str(raised.value)


async def test_a_count_beyond_what_was_allowed_is_not_believed():
    whole = await answer(said(content="a", usage={"prompt_tokens": 9, "completion_tokens": 9999}))
    assert whole.usage.output_tokens == 1
