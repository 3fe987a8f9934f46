"""Vectors of a remote server: what it does oddly is put right, or is a clean error."""

import asyncio
from array import array
from contextlib import aclosing
from typing import Any

import pytest

from leadline.chat.events import Embedded, Finished, Started
from leadline.chat.request import ChatRequest, Vectors
from leadline.engines.upstream.engine import UpstreamEngine
from leadline.errors import EngineFailed, InvalidRequest, LeadlineError, Unavailable
from leadline.serving.vectors import embed
from tests.scripted.upstream import Reply, ScriptedUpstream, refusal

ASK = ChatRequest("tiny", (), 0, choices=2, prompts=("the cat", (5, 7)), vectors=Vectors())
ESTIMATE = 2


def answer(*data: dict[str, Any], **more: Any) -> Reply:
    return refusal(200, {"object": "list", "data": data} | more)


def one(index: int | None, *numbers: float) -> dict[str, Any]:
    return {"embedding": numbers} | ({} if index is None else {"index": index})


async def vectors(reply: Reply, request: ChatRequest = ASK) -> tuple[list[list[float]], int]:
    """The vectors by the number of their prompt, and the prompt's tokens."""
    found, tokens = {}, None
    async with ScriptedUpstream(reply).listening() as upstream:
        engine = UpstreamEngine("remote", "openai", upstream.url, "the-key")
        async with aclosing(embed(engine, request, ESTIMATE)) as batches:
            batch = await anext(batches)
            assert batch == (Started(), Started())
            async for batch in batches:
                found |= {event.choice: event.vector.tolist() for event in batch if isinstance(event, Embedded)}
                tokens = next((event.usage.prompt_tokens for event in batch if isinstance(event, Finished)), None)
        await engine.close()
    [body] = upstream.bodies
    assert body == {"model": "tiny", "input": ["the cat", [5, 7]], "encoding_format": "float"}
    assert "POST /v1/embeddings HTTP/1.1" in upstream.headers[0]
    assert tokens is not None
    return [found[number] for number in range(len(request.prompts))], tokens


@pytest.mark.parametrize("indexes", [(0, 1), (None, None)])
async def test_vectors_and_their_tokens_come_through(indexes):
    first, second = indexes
    reply = answer(one(first, 0.6, 0.8), one(second, 1, 0), usage={"prompt_tokens": 9, "total_tokens": 9})
    assert await vectors(reply) == ([array("f", (0.6, 0.8)).tolist(), [1.0, 0.0]], 9)


async def test_the_index_says_whose_a_vector_is():
    assert (await vectors(answer(one(1, 1, 0), one(0, 0, 1))))[0] == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    "usage", [{}, {"usage": None}, {"usage": {}}, {"usage": {"prompt_tokens": 0}}, {"usage": {"prompt_tokens": -4}}]
)
async def test_where_no_tokens_are_told_they_are_estimated(usage):
    assert (await vectors(answer(one(0, 1), one(1, 1), **usage)))[1] == 2 * ESTIMATE


async def test_a_count_that_nobody_counted_is_not_believed():
    assert (await vectors(answer(one(0, 1), one(1, 1), usage={"prompt_tokens": 10**30})))[1] == 2 * ESTIMATE


@pytest.mark.parametrize(
    "reply",
    [
        answer(),
        answer(one(0, 1.0)),
        answer(one(0, 1.0), one(1, 1.0), one(2, 1.0)),
        answer(one(0, 1.0), one(0, 1.0)),
        answer(one(1, 1.0), one(2, 1.0)),
        answer(one(0, 1.0), one(None, 1.0)),
        answer(one(0, 1.0, 2.0), one(1, 1.0)),
        answer(one(0), one(1)),
        answer(one(0, 1e39), one(1, 1.0)),
        answer({"index": 0, "embedding": [None]}, one(1, 1.0)),
        answer({"index": 0, "embedding": None}, one(1, 1.0)),
        answer({"index": 0, "embedding": ["1"]}, one(1, 1.0)),
        answer({"index": 0, "embedding": "AACAPw=="}, one(1, 1.0)),
        answer({"index": 0}, one(1, 1.0)),
        answer(one(0, float("nan")), one(1, 1.0)),
        answer(one(0, float("inf")), one(1, 1.0)),
        answer([0, 1.0], one(1, 1.0)),
        refusal(200, {"data": None}),
        refusal(200, {"error": {"message": "a secret of the server"}}),
        refusal(200, []),
        Reply(200, (b"<html>a secret of the server",)),
        Reply(200, (b"\xff\xfe",)),
        Reply(200, (b"",)),
        Reply(200, (b'{"data":[',), ends="broken"),
        refusal(500, {"error": {"message": "a secret of the server"}}),
        refusal(404, {"error": {"message": "a secret of the server"}}),
        refusal(401, {"error": {"message": "a secret of the server"}}),
    ],
)
async def test_what_is_no_vector_for_each_input_is_a_failure_of_the_engine(reply):
    with pytest.raises(EngineFailed) as failure:
        await vectors(reply)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, InvalidRequest), (413, InvalidRequest), (422, InvalidRequest), (429, Unavailable), (503, Unavailable)],
)
async def test_a_refusal_is_told_in_our_words(status: int, error: type[LeadlineError]):
    with pytest.raises(error) as failure:
        await vectors(refusal(status, {"error": {"message": "a secret of the server"}}))
    assert "secret" not in str(failure.value)


async def test_a_prompt_that_is_too_long_is_told_with_both_numbers():
    reply = refusal(400, {"error": {"message": "too long", "n_prompt_tokens": 600, "n_ctx": 512}})
    with pytest.raises(InvalidRequest, match=r"512 tokens, but the prompt has 600") as refused:
        await vectors(reply)
    assert refused.value.param == "input"


async def test_an_answer_that_is_too_long_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr("leadline.engines.upstream.client._MOST_VECTORS_BYTES", 1000)
    with pytest.raises(EngineFailed, match="too long"):
        await vectors(answer(one(0, *[0.5] * 1000), one(1, *[0.5] * 1000)))


async def test_closing_the_generator_hangs_up():
    async with ScriptedUpstream(Reply(pieces=(b"{",), ends="never")).listening() as upstream:
        engine = UpstreamEngine("remote", "openai", upstream.url)
        batches = engine.embed(ASK)
        await anext(batches)
        rest = asyncio.ensure_future(anext(batches))
        while not upstream.bodies:
            await asyncio.sleep(0)
        rest.cancel()
        await asyncio.gather(rest, return_exceptions=True)
        await asyncio.wait_for(upstream.hung_up.wait(), 30)
        await engine.close()
