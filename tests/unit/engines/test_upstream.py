"""A remote server as an engine: its oddities are put right, or are clean errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import ChatEvent, ReasoningDelta, Started, TextDelta
from leadline.chat.request import ChatRequest, Message, Reasoning, Text, ToolCall
from leadline.engines.upstream.engine import UpstreamEngine
from leadline.errors import DeadlineExceeded, EngineFailed, InvalidRequest, Unavailable
from tests.fold import collect
from tests.scripted.upstream import Reply, ScriptedUpstream, delta, finish, refusal, sse

ASK = ChatRequest("tiny", (Message("user", (Text("hi"),)),), max_output_tokens=50)
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


@asynccontextmanager
async def engine_with(reply: Reply) -> AsyncIterator[tuple[UpstreamEngine, ScriptedUpstream]]:
    async with ScriptedUpstream(reply).listening() as upstream:
        engine = UpstreamEngine("remote", "openai", upstream.url, "the-key")
        try:
            yield engine, upstream
        finally:
            await engine.close()


async def answer(reply: Reply) -> ChatAnswer:
    async with engine_with(reply) as (engine, _), aclosing(engine.generate(ASK)) as batches:
        return await collect(batches)


def text_of(whole: ChatAnswer) -> str:
    return "".join(block.text for block in whole.choices[0].content if isinstance(block, Text))


async def test_text_and_usage_come_through():
    whole = await answer(Reply(pieces=(sse(delta(role="assistant"), delta(content="Hel"), delta(content="lo")),)))
    assert text_of(whole) == "Hello"
    assert (whole.choices[0].finish_reason, whole.usage.output_tokens) == ("stop", 2)
    whole = await answer(Reply(pieces=(sse(delta(content="Hello"), finish("length", **USAGE)),)))
    assert (whole.choices[0].finish_reason, whole.usage.prompt_tokens, whole.usage.output_tokens) == ("length", 9, 4)


async def batches_of(*pieces: bytes) -> list[tuple[ChatEvent, ...]]:
    async with engine_with(Reply(pieces=pieces)) as (engine, _), aclosing(engine.generate(ASK)) as batches:
        return [batch async for batch in batches]


async def test_texts_that_came_together_are_told_together():
    batch, _ = await batches_of(
        sse(
            *(delta(content="a"), delta(content="b"), delta(reasoning_content="hm")),
            *(delta(content="c"), delta(content="d"), delta(content="e"), finish("stop", **USAGE)),
        )
    )
    assert batch[:4] == (Started(), TextDelta("ab", 2), ReasoningDelta("hm"), TextDelta("cde", 3))


async def test_each_token_keeps_its_log_probabilities():
    def told(text: str) -> dict[str, object]:
        logprobs = {"content": [{"token": text, "logprob": -1.0}]}
        return {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}]}

    batch, _ = await batches_of(sse(told("a"), told("b"), finish("stop")))
    assert [event.text for event in batch if isinstance(event, TextDelta)] == ["a", "b"]


async def test_bytes_cut_anywhere_give_the_same_answer():
    stream = sse(
        delta(content="日本 😀"),
        delta(content=" \u2028end"),
        {"choices": [], "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 5}}},
    )
    stream = b": a comment\r\n\r\n" + stream.replace(b"\n", b"\r\n")
    expected = await answer(Reply(pieces=(stream,)))
    assert text_of(expected) == "日本 😀 \u2028end"
    assert expected.usage.cached_tokens == 5
    assert await answer(Reply(pieces=tuple(bytes([byte]) for byte in stream))) == expected
    for cut in range(1, len(stream), 7):
        assert await answer(Reply(pieces=(stream[:cut], stream[cut:]))) == expected


async def test_the_last_of_several_usages_wins():
    first, last = finish("stop", prompt_tokens=9, completion_tokens=1), {"choices": [], "usage": USAGE}
    whole = await answer(Reply(pieces=(sse(delta(content="a"), first, last),)))
    assert whole.usage.output_tokens == 4


async def test_a_count_beyond_what_was_allowed_is_not_believed():
    whole = await answer(
        Reply(pieces=(sse(delta(content="a"), finish("stop", prompt_tokens=9, completion_tokens=9999)),))
    )
    assert whole.usage.output_tokens == 1


async def test_an_end_without_a_finish_reason_or_done_is_still_an_end():
    whole = await answer(Reply(pieces=(sse(delta(content="a"), done=False),)))
    assert (text_of(whole), whole.choices[0].finish_reason) == ("a", "stop")


async def test_reasoning_stands_beside_the_answer_and_its_tokens_beside_the_others():
    whole = await answer(
        Reply(pieces=(sse(delta(reasoning_content="hm"), delta(content="4"), finish("stop", **USAGE)),))
    )
    assert whole.choices[0].content == (Reasoning("hm"), Text("4"))
    assert (whole.usage.reasoning_tokens, whole.usage.output_tokens) == (1, 3)


def call(**fields):
    return delta(tool_calls=[fields])


async def test_fragmented_and_repeated_tool_calls_are_put_together():
    whole = await answer(
        Reply(
            pieces=(
                sse(
                    call(index=0, id="a", function={"name": "f", "arguments": ""}),
                    call(index=0, id="a", type=None, function={"name": "f", "arguments": '{"x":'}),
                    call(index=0, function={"arguments": "1}"}),
                    # Parallel calls that all say index 0, told apart by their id alone.
                    call(index=0, id="b", function={"name": "g", "arguments": {"y": 2}}),
                    # No arguments at all, an id inside of the function.
                    call(index=1, function={"name": "h", "id": "c", "arguments": None}),
                    delta(tool_calls=[], content=None),
                    finish("stop"),
                ),
            )
        )
    )
    assert whole.choices[0].content == (
        ToolCall("a", "f", '{"x":1}'),
        ToolCall("b", "g", '{"y":2}'),
        ToolCall("c", "h", "{}"),
    )
    assert whole.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(pieces=(sse(delta(content="a"), done=False),), ends="broken"), EngineFailed),
        (Reply(pieces=(), ends="broken"), EngineFailed),
        (Reply(pieces=()), EngineFailed),
        (Reply(pieces=(b"data: {half\n\n",)), EngineFailed),
        (Reply(pieces=(b"data: [1]\n\n",)), EngineFailed),
        (Reply(pieces=(sse({"error": {"message": "their words"}}),)), EngineFailed),
        (Reply(pieces=(b"data: " + b"x" * 2_000_000,)), EngineFailed),
        (refusal(500, {"error": {"message": "their words"}}), EngineFailed),
        (refusal(401, {"error": "their words"}), EngineFailed),
        (refusal(503, {}), Unavailable),
        (refusal(429, []), Unavailable),
        (refusal(400, {"error": {"message": "their words"}}), InvalidRequest),
        (refusal(400, "their words"), InvalidRequest),
    ],
)
async def test_what_goes_wrong_is_a_clean_error_without_the_servers_own_words(reply, error):
    with pytest.raises(error) as raised:
        await answer(reply)
    assert "their words" not in str(raised.value)


async def test_a_prompt_that_is_too_long_for_the_server_is_told_with_both_numbers():
    with pytest.raises(InvalidRequest, match=r"500 tokens.* 900"):
        await answer(refusal(400, {"error": {"n_prompt_tokens": 900, "n_ctx": 500}}))


async def test_nobody_there_is_unavailable():
    engine = UpstreamEngine("remote", "openai", "http://127.0.0.1:9/v1")
    with pytest.raises(Unavailable):
        await anext(engine.generate(ASK))


async def test_closing_the_generator_closes_the_connection():
    async with engine_with(Reply(pieces=(sse(delta(content="a"), done=False),), ends="never")) as (engine, upstream):
        batches = engine.generate(ASK)
        assert isinstance((await anext(batches))[0], Started)
        await batches.aclose()
        await asyncio.wait_for(upstream.hung_up.wait(), 30)


async def test_a_silent_server_meets_a_deadline(monkeypatch):
    monkeypatch.setattr("leadline.engines.upstream.client.NEXT_BYTE_SECONDS", 0.05)
    with pytest.raises(DeadlineExceeded):
        await answer(Reply(pieces=(sse(delta(content="a"), done=False),), ends="never"))


async def test_connections_are_used_again():
    async with engine_with(Reply(pieces=(sse(delta(content="a")),))) as (engine, upstream):
        for _ in range(3):
            async with aclosing(engine.generate(ASK)) as batches:
                await collect(batches)
        assert upstream.connections == 1


async def test_only_named_fields_and_the_engines_own_key_go_out():
    async with engine_with(Reply(pieces=(sse(delta(content="a")),))) as (engine, upstream):
        async with aclosing(engine.generate(replace(ASK, cache_scope="org_1"))) as batches:
            await collect(batches)
        assert upstream.bodies == [
            {
                "model": "tiny",
                "messages": [{"role": "user", "content": "hi"}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": 50,
                "temperature": 1.0,
                "top_p": 1.0,
            }
        ]
        assert "Authorization: Bearer the-key" in upstream.headers[0]


async def test_the_model_list_tells_the_context_and_that_the_server_is_there():
    async with engine_with(Reply()) as (engine, _):
        assert not engine.status.ready
        await engine.start()
        async with asyncio.timeout(30):
            while not engine.status.ready:
                await asyncio.sleep(0.001)
        assert engine.facts("tiny").context_tokens == 500
        assert engine.facts("other").context_tokens is None


async def test_a_reader_that_falls_behind_stops_the_socket():
    piece = sse(*[delta(content="x" * 1000)] * 100, done=False)
    async with engine_with(Reply(pieces=(piece,) * 200, ends="never")) as (engine, _):
        batches = engine.generate(ASK)
        await anext(batches)
        connection = batches.ag_frame.f_locals["response"]._connection
        async with asyncio.timeout(30):
            while not connection._paused:
                await asyncio.sleep(0.001)
        assert connection._unread < 2_000_000
        await batches.aclose()
