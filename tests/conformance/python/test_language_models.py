"""xAI's list of language models, and what the list of models says of prices."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import openai
import pytest

from leadline.catalog.prices import prices_of
from leadline.config import PriceSection
from tests.raw import Answer, request
from tests.scripted.server import ScriptedServer

ASK = [{"role": "user", "content": "what is the answer"}]
LONG = PriceSection(
    input=Decimal(1),
    cached_input=Decimal("0.5"),
    output=Decimal(2),
    long_context_threshold=128_000,
    input_long_context=Decimal(2),
    output_long_context=Decimal(4),
)
NO_LONG_CONTEXT = {
    "long_context_threshold": 0,
    "prompt_text_token_price_long_context": 0,
    "cached_prompt_text_token_price_long_context": 0,
    "completion_text_token_price_long_context": 0,
}
LONG_CONTEXT = {
    "long_context_threshold": 128_000,
    "prompt_text_token_price_long_context": 20_000,
    "cached_prompt_text_token_price_long_context": 5_000,
    "completion_text_token_price_long_context": 40_000,
}


def get(server: ScriptedServer, path: str) -> Answer:
    return request(server.port, "GET", path, Authorization=f"Bearer {server.api_key}")


@pytest.fixture
def long_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A server whose models have prices for a long context."""
    monkeypatch.setattr("tests.scripted.server.PRICES", prices_of(LONG))
    server = ScriptedServer(tmp_path / "data")
    yield server
    server.stop()


def test_a_language_model_has_its_prices_in_cents_per_100_million_tokens(server):
    answer = get(server, "/v1/language-models/echo")
    assert answer.status == 200
    assert answer.json == {
        "id": "echo",
        "fingerprint": answer.json["fingerprint"],
        "created": 0,
        "object": "model",
        "owned_by": "leadline",
        "version": "1.0",
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "prompt_text_token_price": 10_000,
        "cached_prompt_text_token_price": 5_000,
        "prompt_image_token_price": 10_000,
        "completion_text_token_price": 20_000,
        **NO_LONG_CONTEXT,
        "aliases": ["echo-latest", "claude-*"],
        "capabilities": {"reasoning_effort": ["none", "minimal", "low", "medium", "high", "xhigh", "max"]},
    }


def test_the_prices_are_those_that_an_answer_costs(server):
    model = get(server, "/v1/language-models/weather").json
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as client:
        usage = client.chat.completions.create(model="weather", messages=ASK).usage
    cached = usage.prompt_tokens_details.cached_tokens
    assert cached == 2
    assert usage.cost_in_usd_ticks == (
        (usage.prompt_tokens - cached) * model["prompt_text_token_price"]
        + cached * model["cached_prompt_text_token_price"]
        + (usage.completion_tokens + usage.completion_tokens_details.reasoning_tokens)
        * model["completion_text_token_price"]
    )


def test_the_list_has_every_language_model(server):
    models = get(server, "/v1/language-models").json["models"]
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as client:
        assert [model["id"] for model in models] == [
            model.id for model in client.models.list() if not model.id.startswith("embed")
        ]
    assert models[0] == get(server, "/v1/language-models/echo").json


def test_the_fingerprint_is_that_of_the_answers(server):
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as client:
        answer = client.chat.completions.create(model="echo", messages=ASK)
    assert get(server, "/v1/language-models/echo").json["fingerprint"] == answer.system_fingerprint


@pytest.mark.parametrize("alias", ["echo-latest", "claude-opus-9", "claude%2Dopus"])
def test_an_alias_answers_too(server, alias):
    assert get(server, f"/v1/language-models/{alias}").json["id"] == "echo"


def test_what_is_not_there_is_a_404_and_without_a_key_a_401(server):
    unknown = get(server, "/v1/language-models/gpt-17")
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
    assert request(server.port, "GET", "/v1/language-models").status == 401
    assert request(server.port, "POST", "/v1/language-models").status == 405


def test_a_model_that_only_embeds_is_no_language_model(server, monkeypatch):
    monkeypatch.setattr("tests.scripted.engine.CAPABILITIES", frozenset(("embeddings",)))
    assert get(server, "/v1/language-models").json == {"models": []}
    refused = get(server, "/v1/language-models/echo")
    assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    assert get(server, "/v1/models/echo").status == 200


@pytest.mark.parametrize(("capability", "sees"), [("completions", ["text"]), ("vision", ["text", "image"])])
def test_what_goes_in_is_what_the_model_can_take(server, monkeypatch, capability, sees):
    monkeypatch.setattr("tests.scripted.engine.CAPABILITIES", frozenset(("completions", capability)))
    assert get(server, "/v1/language-models/echo").json["input_modalities"] == sees


def test_prices_of_a_long_context_are_told_where_there_are_any(long_server):
    for path in ("/v1/language-models/echo", "/v1/models/echo"):
        told = get(long_server, path).json
        assert {field: told[field] for field in LONG_CONTEXT} == LONG_CONTEXT


def test_the_list_of_models_says_nothing_of_a_long_context_where_there_is_none(server):
    assert get(server, "/v1/models/echo").json.keys().isdisjoint(LONG_CONTEXT)
