"""The Anthropic SDK against the scripted engine."""

from collections.abc import Iterator

import anthropic
import pytest

from tests.scripted.server import ScriptedServer

ASK = [{"role": "user", "content": "what is the answer"}]
TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("weather", "clock")]


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client:
        yield client


def test_a_whole_message_costs_what_its_usage_says(server, client):
    message = client.messages.create(model="claude-sonnet-9", max_tokens=64, system="Be brief.", messages=ASK)
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "what is the answer"}]
    assert (message.stop_reason, message.stop_sequence, message.role) == ("end_turn", None, "assistant")
    assert message.model == "claude-sonnet-9"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (6, 4)
    [charge] = server.charges()
    assert -charge.amount_ticks == message.usage.cost_in_usd_ticks == 6 * 10_000 + 4 * 20_000
    assert charge.model == "echo"
    assert message.id == "msg_" + charge.request_id.replace("-", "")
    assert message._request_id == charge.request_id


def test_a_stream_is_the_whole_message_in_pieces(server, client):
    with client.messages.stream(model="echo", max_tokens=64, messages=ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == "what is the answer"
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 4, 4)
    [charge] = server.charges()
    assert -charge.amount_ticks == 120_000


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_text_and_tool_calls_are_blocks_in_order(client, stream):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    ask = {"model": "weather", "max_tokens": 2048, "messages": ASK, "tools": TOOLS, "thinking": thinking}
    if stream:
        with client.messages.stream(**ask) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(**ask)
    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    thinking, text, weather, clock = message.content
    assert (thinking.thinking, bool(thinking.signature)) == ("hm, two", True)
    assert text.text == "Let me look."
    assert (weather.id, weather.name, weather.input) == ("call_a", "weather", {"city": "Paris"})
    assert (clock.id, clock.name, clock.input) == ("call_b", "clock", {})
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (2, 2)
    assert message.usage.output_tokens == 5 + 2


def test_tool_results_come_first_and_the_rest_of_the_turn_follows(server, client):
    used = [{"type": "tool_use", "id": f"call_{name}", "name": "weather", "input": {}} for name in "ab"]
    turn = [
        {"type": "text", "text": "Here you are:"},
        {"type": "tool_result", "tool_use_id": "call_a", "content": [{"type": "text", "text": "sunny"}]},
        {"type": "tool_result", "tool_use_id": "call_b", "content": [], "is_error": True},
    ]
    messages = [*ASK, {"role": "assistant", "content": used}, {"role": "user", "content": turn}]
    client.messages.create(model="weather", max_tokens=64, messages=messages, tools=TOOLS)
    [request] = server.engine.requests
    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "tool", "user"]
    assert request.messages[3].content[0].is_error


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_is_named(client, stream):
    ask = {"model": "echo", "max_tokens": 64, "messages": ASK, "stop_sequences": ["answer", "the"]}
    if stream:
        with client.messages.stream(**ask) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(**ask)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "the")
    assert message.content[0].text == "what is "


def test_an_answer_at_its_limit_says_max_tokens(client):
    message = client.messages.create(model="echo", max_tokens=1, messages=ASK)
    assert (message.stop_reason, message.content[0].text) == ("max_tokens", "what")


def test_tokens_are_counted_as_they_are_billed_and_for_free(server, client):
    counted = client.messages.count_tokens(model="echo", system="Be brief.", messages=ASK)
    message = client.messages.create(model="echo", max_tokens=1, system="Be brief.", messages=ASK)
    assert counted.input_tokens == message.usage.input_tokens == 6
    assert len(server.charges()) == 1


def test_models_are_listed_in_anthropics_shape(client):
    models = list(client.models.list())
    assert {model.type for model in models} == {"model"}
    assert models[0].id == "echo"
    assert client.models.retrieve("echo-latest").id == "echo"


def test_empty_text_blocks_are_dropped(server, client):
    turn = [{"type": "text", "text": ""}, {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]
    message = client.messages.create(model="echo", max_tokens=9, messages=[{"role": "user", "content": turn}])
    assert message.content[0].text == "hello"


def test_refusals_are_the_sdks_own_exceptions(server, client):
    wrong = anthropic.Anthropic(base_url=server.base_url, api_key="nope", max_retries=0)
    with wrong, pytest.raises(anthropic.AuthenticationError) as refused:
        wrong.messages.create(model="echo", max_tokens=9, messages=ASK)
    assert refused.value.body["error"]["type"] == "authentication_error"
    assert refused.value.body["request_id"] == refused.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nothing", max_tokens=9, messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model="echo", max_tokens=0, messages=ASK)
    with pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.create(model="busy", max_tokens=9, messages=ASK)
    assert (refused.value.status_code, refused.value.body["error"]["type"]) == (529, "overloaded_error")
    assert server.charges() == []


def test_no_credits_is_a_payment_error(server):
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    poor = server.command("keys create", name="poor", email="bob@southwind.example")["api_key"]
    with anthropic.Anthropic(base_url=server.base_url, api_key=poor, max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.create(model="echo", max_tokens=9, messages=ASK)
    assert (refused.value.status_code, refused.value.body["error"]["type"]) == (402, "billing_error")


def test_a_stream_that_breaks_raises_in_the_sdk(client):
    with pytest.raises(anthropic.APIStatusError, match="The engine broke"):
        with client.messages.stream(model="broken-after", max_tokens=9, messages=ASK) as stream:
            list(stream)


async def test_the_async_client_streams_too(server):
    async with anthropic.AsyncAnthropic(base_url=f"{server.base_url}/", api_key=server.api_key) as client:
        async with client.messages.stream(model="echo", max_tokens=64, messages=ASK) as stream:
            assert await stream.get_final_text() == "what is the answer"
