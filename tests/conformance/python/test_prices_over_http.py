"""Prices on the wire: a request keeps the price of its admission, and a long context costs what its model tells."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from leadline.money import TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION
from tests.raw import Answer, Raw, open_post, post, request
from tests.scripted.server import ScriptedServer

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
PATHS = pytest.mark.parametrize("path", [CHAT, MESSAGES])
FORMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
THRESHOLD = 20
# The models run the scripts after which they are named.
CONFIGURATION = f"""
[[engines]]
name = "scripted"
kind = "openai"
url = "http://127.0.0.1:9/v1"
[[models]]
name = "dated"
engine = "scripted"
upstream_model = "slow"
prices = {{ input = 1.00, output = 2.00 }}
[[models]]
name = "gift"
engine = "scripted"
upstream_model = "echo"
[[models]]
name = "long"
engine = "scripted"
upstream_model = "weather"
[models.prices]
input = 1.00
cached_input = 0.25
output = 2.00
long_context_threshold = {THRESHOLD}
input_long_context = 2.50
cached_input_long_context = 0.50
output_long_context = 4.00
[[models]]
name = "half-long"
engine = "scripted"
upstream_model = "weather"
prices = {{ input = 1.00, output = 2.00, long_context_threshold = {THRESHOLD}, output_long_context = 3.00 }}
"""
USD_PER_MILLION = TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    """One whose models have their prices from the file and by command."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text(CONFIGURATION)
    server = ScriptedServer(tmp_path / "data")
    yield server
    server.stop()


def ask(model: str, text: str = "tell me all", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]} | more


def send(server: ScriptedServer, path: str, body: dict[str, Any], **headers: str) -> Answer:
    return post(server.port, path, server.api_key, json.dumps(body).encode(), **headers)


def set_price(server: ScriptedServer, model: str, effective_from: str | None = None, **changes: str) -> None:
    server.command("models price", name=model, changes=changes, effective_from=effective_from)


def told(server: ScriptedServer, model: str) -> dict[str, Any]:
    """The model as xAI's list tells it."""
    answer = request(server.port, "GET", f"/v1/language-models/{model}", x_api_key=server.api_key)
    return dict(answer.json)


def release(server: ScriptedServer) -> None:
    server.loop.call_soon_threadsafe(server.engine.release.set)


def running(server: ScriptedServer, path: str, *, stream: bool) -> Raw:
    """A request to `dated` that the engine is at: admitted at the price of now."""
    raw = open_post(server.port, path, server.api_key, ask("dated", stream=stream))
    server.wait_until(lambda: server.engine.running == 1)
    return raw


@PATHS
@FORMS
def test_a_request_that_runs_keeps_the_price_of_its_admission_and_the_next_has_the_new_one(server, path, stream):
    old = running(server, path, stream=stream)
    set_price(server, "dated", input="3.00", output="5.50")
    release(server)
    assert b'"cost_in_usd_ticks":90000' in old.read_to_end()
    assert b'"cost_in_usd_ticks":255000' in send(server, path, ask("dated", stream=stream)).body
    costs = [-charge.amount_ticks for charge in server.charges()]
    assert costs == [3 * 10_000 + 3 * 20_000, 3 * 30_000 + 3 * 55_000]
    assert server.command("credits verify")["broken"] == []


def test_a_price_may_fall_under_a_request_that_runs(server):
    old = running(server, CHAT, stream=True)
    set_price(server, "dated", input="0", output="0")
    release(server)
    old.read_to_end()
    send(server, CHAT, ask("dated"))
    assert [-charge.amount_ticks for charge in server.charges()] == [90_000, 0]


def test_a_client_that_hangs_up_after_a_change_pays_the_price_of_its_admission(server):
    old = running(server, CHAT, stream=True)
    old.read_until(b"three")
    set_price(server, "dated", input="3.00", output="5.50")
    old.hang_up()
    server.wait_until(lambda: not server.instance.ledger.running())
    assert [-charge.amount_ticks for charge in server.charges()] == [90_000]


def test_the_models_that_are_listed_have_the_new_price_at_once(server):
    assert told(server, "dated")["completion_text_token_price"] == 20_000
    set_price(server, "dated", output="5.50")
    assert told(server, "dated")["completion_text_token_price"] == 55_000
    assert told(server, "dated")["prompt_text_token_price"] == 10_000


def test_a_price_of_the_future_costs_nobody_anything_today(server):
    set_price(server, "dated", "2999-01-01", input="1000")
    release(server)
    assert send(server, CHAT, ask("dated")).json["usage"]["cost_in_usd_ticks"] == 90_000


def test_a_new_price_outlives_a_restart_and_an_old_answer_keeps_its_own(server):
    release(server)
    first = send(server, CHAT, ask("dated"), idempotency_key="order-1")
    set_price(server, "dated", input="3.00", output="5.50")
    server.restart()
    release(server)
    assert send(server, CHAT, ask("dated"), idempotency_key="order-1").body == first.body
    assert first.json["usage"]["cost_in_usd_ticks"] == 90_000
    assert send(server, CHAT, ask("dated")).json["usage"]["cost_in_usd_ticks"] == 255_000
    assert len(server.charges()) == 2


def test_a_model_without_a_price_is_free_until_it_gets_one(server):
    poor = {"name": "bob", "email": "bob@southwind.example"}
    server.command("accounts create", email=poor["email"], org="Southwind", password="battery staple")
    key, body = server.command("keys create", **poor)["api_key"], json.dumps(ask("gift")).encode()
    assert post(server.port, CHAT, key, body).json["usage"]["cost_in_usd_ticks"] == 0
    set_price(server, "gift", output="0.0001")
    refused = post(server.port, CHAT, key, body)
    assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")


def rule(prices: dict[str, Any], prompt: int, cached: int, output: int) -> int:
    """XAI_REST, section 5: what a request costs by the fields of its model. `output` includes reasoning."""

    def price(field: str) -> int:
        is_long = 0 < prices["long_context_threshold"] <= prompt
        return int((prices[f"{field}_long_context"] if is_long else 0) or prices[field])

    return (
        (prompt - cached) * price("prompt_text_token_price")
        + cached * price("cached_prompt_text_token_price")
        + output * price("completion_text_token_price")
    )


def of_words(count: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "word " * count}]


@FORMS
@pytest.mark.parametrize("model", ["long", "half-long"])
@pytest.mark.parametrize("prompt_tokens", [THRESHOLD - 1, THRESHOLD])
def test_from_the_threshold_on_all_tokens_have_the_prices_of_a_long_context(server, stream, model, prompt_tokens):
    prices = told(server, model)
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as client:
        if stream:
            with client.chat.completions.stream(model=model, messages=of_words(prompt_tokens)) as events:
                usage = events.get_final_completion().usage
        else:
            usage = client.chat.completions.create(model=model, messages=of_words(prompt_tokens)).usage
    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key) as client:
        message = client.messages.create(model=model, max_tokens=64, messages=of_words(prompt_tokens), stream=stream)
        # The last but one event of a stream is `message_delta`, which has the usage.
        theirs = [*message][-2].usage if stream else message.usage
    assert theirs.input_tokens + theirs.cache_read_input_tokens == prompt_tokens
    cached, reasoning = usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens
    assert (usage.prompt_tokens, cached, usage.completion_tokens, reasoning) == (prompt_tokens, 2, 5, 2)
    cost = rule(prices, prompt_tokens, cached, usage.completion_tokens + reasoning)
    assert usage.cost_in_usd_ticks == theirs.cost_in_usd_ticks == cost
    assert [-charge.amount_ticks for charge in server.charges()] == [cost, cost]


def test_the_rule_at_the_threshold_in_numbers(server):
    def cost(model: str, words: int) -> int:
        answer = send(server, CHAT, ask(model) | {"messages": of_words(words)})
        return int(answer.json["usage"]["cost_in_usd_ticks"])

    assert cost("long", 19) == 17 * 10_000 + 2 * 2_500 + 7 * 20_000
    assert cost("long", 20) == 18 * 25_000 + 2 * 5_000 + 7 * 40_000
    # A long-context price that is not there is the same as without.
    assert cost("half-long", 19) == 19 * 10_000 + 7 * 20_000
    assert cost("half-long", 20) == 20 * 10_000 + 7 * 30_000


def test_a_threshold_that_comes_by_command_holds_from_the_next_request_on(server):
    old = running(server, CHAT, stream=True)
    set_price(server, "dated", long_context_threshold="3", input_long_context="7.00")
    release(server)
    old.read_to_end()
    send(server, CHAT, ask("dated"))
    send(server, CHAT, ask("dated", "tell me"))
    costs = [-charge.amount_ticks for charge in server.charges()]
    assert costs == [90_000, 3 * 70_000 + 3 * 20_000, 2 * 10_000 + 3 * 20_000]
    assert told(server, "dated")["prompt_text_token_price_long_context"] == 70_000


def test_a_prompt_that_may_be_long_is_held_at_the_long_price(server):
    set_price(server, "dated", long_context_threshold="3", input_long_context="7.00", output_long_context="9.00")
    raw = running(server, CHAT, stream=True)
    assert server.balance().held_ticks == 3 * 70_000 + 100 * 90_000
    raw.hang_up()
