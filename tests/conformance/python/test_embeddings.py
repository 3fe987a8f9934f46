"""`POST /v1/embeddings` over real HTTP: what goes in, what comes out, and what it costs."""

import asyncio
import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.raw import Answer, open_post, post, request
from tests.scripted.engine import vector
from tests.scripted.server import EMAIL, ScriptedServer

EMBEDDINGS = "/v1/embeddings"
PROMPT_TICKS = 10_000
TEXTS = ["the cat sat", "a mat", "blue"]


def send(
    server: ScriptedServer, given: Any = "the cat sat", model: str = "embed", key: str = "", **more: Any
) -> Answer:
    headers = {name: more.pop(name) for name in ("idempotency_key",) if name in more}
    body = {"model": model, "input": given} | more
    return post(server.port, EMBEDDINGS, key or server.api_key, json.dumps(body).encode(), **headers)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    """For tests that leave no trace, or do not mind those of others."""
    server = ScriptedServer(tmp_path_factory.mktemp("shared") / "data")
    yield server
    server.stop()


def client(server: ScriptedServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0)


def settled(server: ScriptedServer) -> None:
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)


def test_the_sdk_reads_the_vectors_in_the_order_of_the_inputs(shared):
    with client(shared) as sdk:
        answer = sdk.embeddings.create(model="embed", input=TEXTS)
    assert (answer.object, answer.model) == ("list", "embed")
    assert [(one.index, one.object) for one in answer.data] == [(0, "embedding"), (1, "embedding"), (2, "embedding")]
    assert [one.embedding for one in answer.data] == [vector(text).tolist() for text in TEXTS]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (6, 6)


def test_the_asynchronous_sdk_reads_them_too(shared):
    async def ask() -> list[float]:
        async with openai.AsyncOpenAI(base_url=f"{shared.base_url}/v1", api_key=shared.api_key) as sdk:
            return (
                (await sdk.embeddings.create(model="embed", input="blue", encoding_format="base64")).data[0].embedding
            )

    told = asyncio.run(ask())
    told = list(struct.unpack("<4f", base64.b64decode(told))) if isinstance(told, str) else told
    assert told == vector("blue").tolist()


@pytest.mark.parametrize("form", [{}, {"encoding_format": None}, {"encoding_format": "float"}])
def test_floats_are_the_default(shared, form):
    [one] = send(shared, "blue", **form).json["data"]
    assert one == {"object": "embedding", "index": 0, "embedding": vector("blue").tolist()}


def test_base64_holds_the_same_floats_little_endian(shared):
    [one] = send(shared, "blue", encoding_format="base64").json["data"]
    assert list(struct.unpack("<4f", base64.b64decode(one["embedding"], validate=True))) == vector("blue").tolist()


@pytest.mark.parametrize(
    ("given", "prompts"),
    [("blue", ["blue"]), (["blue"], ["blue"]), ([3, 5], [(3, 5)]), ([[3], [5, 7]], [(3,), (5, 7)])],
)
def test_inputs_are_texts_or_tokens_one_or_several(shared, given, prompts):
    answer = send(shared, given).json
    assert [one["embedding"] for one in answer["data"]] == [vector(prompt).tolist() for prompt in prompts]
    assert shared.engine.requests[-1].prompts == tuple(prompts)


def test_128_inputs_are_taken(shared):
    assert len(send(shared, ["blue"] * 128).json["data"]) == 128


def test_fewer_dimensions_are_the_first_ones_made_one_long(shared):
    [one] = send(shared, "the cat sat", dimensions=2).json["data"]
    first = vector("the cat sat")[:2]
    assert one["embedding"] == pytest.approx([value / math.hypot(*first) for value in first])
    assert math.hypot(*one["embedding"]) == pytest.approx(1)
    assert send(shared, "blue", dimensions=4).json["data"][0]["embedding"] == vector("blue").tolist()


def test_more_dimensions_than_there_are_are_refused_and_cost_nothing(server):
    refused = send(server, dimensions=5)
    assert (refused.status, refused.json["error"]["param"]) == (400, "dimensions")
    assert "5" in refused.json["error"]["message"]
    assert "4" in refused.json["error"]["message"]
    assert server.charges() == []
    assert server.balance().held_ticks == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "blue"}, "model"),
        ({"model": "embed"}, "input"),
        ({"model": "embed", "input": None}, "input"),
        ({"model": "embed", "input": ""}, "input"),
        ({"model": "embed", "input": []}, "input"),
        ({"model": "embed", "input": ["a", ""]}, "input[1]"),
        ({"model": "embed", "input": [[]]}, "input[0]"),
        ({"model": "embed", "input": [[1], []]}, "input[1]"),
        ({"model": "embed", "input": ["a", 1]}, "input"),
        ({"model": "embed", "input": ["a", [1]]}, "input"),
        ({"model": "embed", "input": [1, [1]]}, "input"),
        ({"model": "embed", "input": {"text": "a"}}, "input"),
        ({"model": "embed", "input": 7}, "input"),
        ({"model": "embed", "input": [True]}, "input[0]"),
        ({"model": "embed", "input": [-1]}, "input[0]"),
        ({"model": "embed", "input": [1.5]}, "input[0]"),
        ({"model": "embed", "input": [2**31]}, "input[0]"),
        ({"model": "embed", "input": [["a"]]}, "input[0][0]"),
        ({"model": "embed", "input": ["a"] * 129}, "input"),
        ({"model": "embed", "input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"model": "embed", "input": "a", "dimensions": 0}, "dimensions"),
        ({"model": "embed", "input": "a", "dimensions": 65_537}, "dimensions"),
        ({"model": "embed", "input": "a", "dimensions": "4"}, "dimensions"),
        ({"model": "embed", "input": "a", "user": 7}, "user"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(shared, body, param):
    before = len(shared.engine.requests)
    refused = post(shared.port, EMBEDDINGS, shared.api_key, json.dumps(body).encode())
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
    assert len(shared.engine.requests) == before


def test_fields_without_effect_are_taken(shared):
    assert send(shared, user="u-1", preview=True, anything=[1]).status == 200


def test_an_input_longer_than_the_context_is_refused_with_both_numbers_and_costs_nothing(server):
    assert send(server, ["blue " * 1000, "blue " * 1000]).status == 200
    refused = send(server, ["blue", "blue " * 1001])
    assert (refused.status, refused.json["error"]["param"]) == (400, "input")
    assert "1000" in refused.json["error"]["message"]
    assert "1001" in refused.json["error"]["message"]
    assert len(server.charges()) == 1


def test_a_chat_model_embeds_nothing_and_an_unknown_model_is_not_there(shared):
    refused = send(shared, model="echo")
    assert (refused.status, refused.json["error"]["param"]) == (400, "model")
    assert "echo does not support embeddings" in refused.json["error"]["message"]
    assert send(shared, model="gpt-17").status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/complete", {"prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 9}),
    ],
)
def test_an_embedding_model_writes_nothing(shared, path, body):
    before = len(shared.engine.requests)
    refused = post(shared.port, path, shared.api_key, json.dumps({"model": "embed"} | body).encode())
    assert refused.status == 400
    assert "embed does not support c" in refused.json["error"]["message"]
    assert len(shared.engine.requests) == before


def test_the_price_is_that_of_the_input_and_the_charge_is_the_cost_that_was_told(server):
    answer = send(server, TEXTS)
    assert answer.json["usage"] == {"prompt_tokens": 6, "total_tokens": 6, "cost_in_usd_ticks": 6 * PROMPT_TICKS}
    [charge] = server.charges()
    assert (charge.amount_ticks, charge.request_id) == (-6 * PROMPT_TICKS, answer.headers["x-request-id"])
    [record] = server.command("usage log", limit=10, before=None, email=EMAIL)["records"]
    assert (record["endpoint"], record["status"], record["prompt_tokens"]) == (EMBEDDINGS, "finished", 6)
    assert record["output_tokens"] == 0


def test_where_the_engine_does_not_count_a_token_is_four_bytes(shared):
    assert send(shared, ["four", "eight ok"], model="embed-uncounted").json["usage"]["prompt_tokens"] == 4


def test_limits_and_ids_are_told_as_for_chat(server):
    answer = send(server)
    assert answer.headers["x-ratelimit-limit-requests"] == "480"
    assert answer.headers["x-ratelimit-remaining-requests"] == "479"
    assert answer.headers["x-ratelimit-limit-tokens"] == "2000000"
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


def test_tokens_are_limited_as_for_chat(server):
    options = {"tokens_per_minute": 10}
    key = server.command("keys create", name="limited", email=None, options=options)["api_key"]
    assert send(server, "one two three", key=key).headers["x-ratelimit-limit-tokens"] == "10"
    refused = send(server, "word " * 11, key=key)
    assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
    assert server.engine.running == 0
    assert len(server.engine.requests) == 1


def test_a_key_embeds_only_with_the_scope_for_it(server):
    keys = {
        endpoint: server.command("keys create", name=endpoint, email=None, options={"endpoints": [endpoint]})["api_key"]
        for endpoint in ("embed", "chat")
    }
    assert send(server, key=keys["embed"]).status == 200
    refused = send(server, key=keys["chat"])
    assert (refused.status, refused.json["error"]["code"]) == (403, "permission_denied")
    assert send(server, key="ll_none").status == 401


def test_the_same_idempotency_key_embeds_once(server):
    first, second = (send(server, TEXTS, idempotency_key="once") for _ in range(2))
    assert (first.status, second.status) == (200, 200)
    assert first.body == second.body
    assert second.headers["idempotent-replayed"] == "true"
    assert len(server.charges()) == 1
    assert send(server, "other", idempotency_key="once").status == 409


def test_a_client_that_hangs_up_stops_the_engine_and_pays_for_the_prompt(server):
    raw = open_post(server.port, EMBEDDINGS, server.api_key, {"model": "embed-stall", "input": ["four", "eight ok"]})
    server.wait_until(lambda: server.engine.running == 1)
    raw.hang_up()
    server.wait_until(lambda: server.engine.aborted == ["embed-stall"])
    settled(server)
    [charge] = server.charges()
    # Estimated, within the bound of a token a word.
    assert (-charge.amount_ticks, charge.reason) == (3 * PROMPT_TICKS, "interrupted")


def test_an_engine_that_breaks_costs_nothing(server):
    assert send(server, model="embed-broken").status == 502
    settled(server)
    assert server.charges() == []


def test_without_credits_nothing_is_embedded(tmp_path: Path):
    server = ScriptedServer(tmp_path / "data", usd="0.000002")
    try:
        refused = send(server, "one two three")
        assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")
        assert send(server, "one two").status == 200
        assert server.engine.requests[-1].prompts == ("one two",)
        assert server.balance().balance_ticks == 0
    finally:
        server.stop()


def test_an_embedding_model_is_listed_as_one_and_not_as_a_language_model(shared):
    def ids(path: str) -> list[str]:
        body = request(shared.port, "GET", path, x_api_key=shared.api_key).json
        return [model["id"] for model in body.get("models") or body["data"]]

    assert "embed" in ids("/v1/embedding-models")
    assert "echo" not in ids("/v1/embedding-models")
    assert "embed" not in ids("/v1/language-models")
    assert {"embed", "echo"} <= set(ids("/v1/models"))
    told = request(shared.port, "GET", "/v1/embedding-models/embed", x_api_key=shared.api_key).json
    assert (told["id"], told["prompt_text_token_price"]) == ("embed", PROMPT_TICKS)
    assert told["output_modalities"] == ["embeddings"]
    assert request(shared.port, "GET", "/v1/embedding-models/echo", x_api_key=shared.api_key).status == 404
