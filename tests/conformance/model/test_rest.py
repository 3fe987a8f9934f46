"""What else the API has, on the real models: vectors, tokens, lists, keys, deferred completions."""

import asyncio
import time
from typing import Any
from uuid import UUID

import anthropic
import openai
import pytest

from tests.raw import request

pytestmark = pytest.mark.model
MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
DEADLINE_SECONDS = 60


def get(sdk: openai.OpenAI, path: str) -> Any:
    return sdk.get(path, cast_to=object)


def test_vectors_of_texts_and_of_their_tokens_are_the_same(sdk):
    texts = ["The sea.", "海", "🌊 ים"]
    answer = sdk.embeddings.create(model=EMBEDDER, input=texts)
    assert [len(one.embedding) for one in answer.data] == [384] * 3
    tokens = sdk.post("/tokenize-text", body={"model": EMBEDDER, "text": texts[0]}, cast_to=object)["token_ids"]
    ids = [token["token_id"] for token in tokens]
    [again] = sdk.embeddings.create(model=EMBEDDER, input=[ids]).data
    assert again.embedding == pytest.approx(answer.data[0].embedding, abs=1e-3)
    [short] = sdk.embeddings.create(model=EMBEDDER, input=texts[0], dimensions=8, encoding_format="float").data
    assert len(short.embedding) == 8
    with pytest.raises(openai.BadRequestError, match="512"):
        sdk.embeddings.create(model=EMBEDDER, input="sea " * 600)
    with pytest.raises(openai.BadRequestError):
        sdk.embeddings.create(model=MODEL, input="sea")
    with pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(model=EMBEDDER, messages=[{"role": "user", "content": "hi"}])


def test_tokens_are_the_bytes_of_their_text(sdk):
    text = "Sé breve, 海 👩‍👩‍👧"
    tokens = sdk.post("/tokenize-text", body={"model": "grok-2", "text": text}, cast_to=object)["token_ids"]
    assert bytes(byte for token in tokens for byte in token["token_bytes"]).decode() == text


def test_the_models_are_listed_in_every_shape(sdk, claude):
    assert [model.id for model in sdk.models.list()] == [MODEL, EMBEDDER]
    assert [model.id for model in claude.models.list(limit=1)] == [MODEL, EMBEDDER]
    assert sdk.models.retrieve("grok-beta").id == claude.models.retrieve("grok-beta").id == MODEL
    assert [model["id"] for model in get(sdk, "/language-models")["models"]] == [MODEL]
    assert [model["id"] for model in get(sdk, "/embedding-models")["models"]] == [EMBEDDER]
    assert get(sdk, "/image-generation-models")["models"] == []
    assert get(sdk, "/language-models/grok-beta")["id"] == MODEL
    assert get(sdk, f"/embedding-models/{EMBEDDER}")["id"] == EMBEDDER


def test_a_key_is_told_of_itself(live, sdk):
    key = get(sdk, "/api-key")
    assert key["redacted_api_key"][-4:] == live.api_key[-4:]
    assert get(sdk, "/me")["api_key"]["api_key_id"] == key["api_key_id"]


def test_a_deferred_completion_is_fetched_once(live, sdk, bill):
    ask: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "deferred": True}
    request_id = sdk.post("/chat/completions", body=ask, cast_to=object)["request_id"]
    port, path = int(live.base_url.rpartition(":")[2]), f"/v1/chat/deferred-completion/{request_id}"
    until = time.monotonic() + DEADLINE_SECONDS
    while (done := request(port, "GET", path, Authorization=f"Bearer {live.api_key}")).status == 202:
        assert time.monotonic() < until
    assert done.json["id"] == request_id
    bill.note(request_id, done.body)
    with pytest.raises(openai.NotFoundError):
        get(sdk, f"/chat/deferred-completion/{request_id}")


def test_the_asynchronous_sdks(live, bill):
    async def ask() -> None:
        turn: Any = [{"role": "user", "content": "hi"}]
        more: Any = {"model": MODEL, "messages": turn, "max_tokens": 4}
        async with openai.AsyncOpenAI(base_url=f"{live.base_url}/v1", api_key=live.api_key) as sdk:
            chunks = [chunk async for chunk in await sdk.chat.completions.create(**more, stream=True)]
        bill.told[chunks[-1].id] = chunks[-1].usage.cost_in_usd_ticks
        async with anthropic.AsyncAnthropic(base_url=live.base_url, api_key=live.api_key) as claude:
            events = [event async for event in await claude.messages.create(**more, stream=True)]
            message = await claude.messages.create(**more)
        [cost] = [event.usage.cost_in_usd_ticks for event in events if event.type == "message_delta"]
        bill.told[_request_id(events[0].message.id)] = cost
        bill.told[_request_id(message.id)] = message.usage.cost_in_usd_ticks

    asyncio.run(ask())


def _request_id(message_id: str) -> str:
    return str(UUID(message_id.removeprefix("msg_")))
