"""The OpenAI SDK against the scripted engine: what it reads is what the script said."""

from collections.abc import Iterator

import openai
import pytest

from tests.scripted.server import ScriptedServer

ASK = [{"role": "user", "content": "what is the answer"}]


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0) as client:
        yield client


def test_a_whole_answer_costs_what_its_usage_says(server, client):
    answer = client.chat.completions.create(model="echo", messages=ASK)
    assert answer.choices[0].message.content == "what is the answer"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.usage.to_dict() == {
        "prompt_tokens": 4,
        "completion_tokens": 4,
        "total_tokens": 8,
        "prompt_tokens_details": {"text_tokens": 4, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "num_sources_used": 0,
        "cost_in_usd_ticks": 4 * 10_000 + 4 * 20_000,
    }
    [charge] = server.charges()
    assert -charge.amount_ticks == answer.usage.cost_in_usd_ticks
    assert charge.request_id == answer.id == answer._request_id
    assert server.balance().held_ticks == 0


def test_a_stream_is_the_whole_answer_in_pieces(server, client):
    with client.chat.completions.stream(model="echo", messages=ASK, stream_options={"include_usage": True}) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text == final.choices[0].message.content == "what is the answer"
    assert final.choices[0].finish_reason == "stop"
    [charge] = server.charges()
    assert -charge.amount_ticks == final.usage.cost_in_usd_ticks == 120_000


def test_usage_comes_on_the_last_choices_finish_chunk_unless_a_chunk_of_its_own_is_asked_for(client):
    chunks = list(client.chat.completions.create(model="echo", messages=ASK, stream=True))
    assert [bool(chunk.usage) for chunk in chunks] == [False] * 5 + [True]
    assert chunks[-1].choices[0].finish_reason == "stop"
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="echo", messages=ASK, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 8
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * 5 + ["stop"]


def test_every_chunk_has_the_same_id_time_model_and_fingerprint(client):
    chunks = list(client.chat.completions.create(model="echo-latest", messages=ASK, stream=True))
    shells = {(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint, chunk.object) for chunk in chunks}
    assert len(shells) == 1
    assert shells.pop()[2] == "echo"


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_and_reasoning_come_through(client, stream):
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("weather", "clock")]
    ask = {"model": "weather", "messages": ASK, "tools": tools}
    if stream:
        with client.chat.completions.stream(**ask) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**ask)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content == "Let me look."
    assert message.reasoning_content == "hm, two"
    assert [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("call_a", "weather", '{"city":"Paris"}'),
        ("call_b", "clock", "{}"),
    ]
    assert answer.usage.total_tokens == 4 + 5 + 2
    assert answer.usage.cost_in_usd_ticks == 2 * 10_000 + 2 * 5_000 + (5 + 2) * 20_000


def test_tool_results_reach_the_engine_in_order(server, client):
    call = {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_a", "content": "It is sunny"},
    ]
    answer = client.chat.completions.create(model="weather", messages=messages)
    assert answer.choices[0].message.content == "It is sunny"
    roles = [message.role for message in server.engine.requests[0].messages]
    assert roles == ["system", "user", "assistant", "tool"]


@pytest.mark.parametrize("stream", [False, True])
def test_n_choices_bill_the_prompt_once_and_every_choices_tokens(server, client, stream):
    ask = {"model": "echo", "messages": ASK, "n": 3}
    if stream:
        with client.chat.completions.stream(**ask) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**ask)
    assert [choice.message.content for choice in answer.choices] == ["what is the answer"] * 3
    assert answer.usage.completion_tokens == 12
    [charge] = server.charges()
    assert -charge.amount_ticks == 4 * 10_000 + 12 * 20_000


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_belong_to_their_tokens(client, stream):
    ask = {"model": "echo", "messages": ASK, "logprobs": True, "top_logprobs": 2}
    if stream:
        with client.chat.completions.stream(**ask) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**ask)
    content = answer.choices[0].logprobs.content
    assert [token.token for token in content] == ["what", " is", " the", " answer"]
    assert [len(token.top_logprobs) for token in content] == [2] * 4


def test_a_stop_string_ends_the_answer_and_is_not_in_it(server, client):
    answer = client.chat.completions.create(model="echo", messages=ASK, stop=["the"])
    assert answer.choices[0].message.content == "what is "
    assert answer.choices[0].finish_reason == "stop"
    assert server.engine.aborted == ["echo"]
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_at_its_limit(client, limit):
    answer = client.chat.completions.create(model="echo", messages=ASK, **{limit: 2})
    assert answer.choices[0].message.content == "what is"
    assert answer.choices[0].finish_reason == "length"


def test_models_are_listed_and_found_by_alias(client):
    assert "echo" in [model.id for model in client.models.list()]
    assert client.models.retrieve("echo-latest").id == "echo"
    assert client.models.retrieve("claude-opus-9").id == "echo"


def test_refusals_are_the_sdks_own_exceptions(server, client):
    wrong = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="nope", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError) as refused:
        wrong.chat.completions.create(model="echo", messages=ASK, stream=True)
    assert (refused.value.code, refused.value.status_code) == ("invalid_api_key", 401)
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-17", messages=ASK)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="echo", messages=[{"role": "user", "content": 7}])
    assert refused.value.param == "messages[0].content"
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="busy", messages=ASK)
    assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "2")
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="broken-before", messages=ASK, stream=True)
    assert refused.value.status_code == 502
    assert server.charges() == []
    assert server.balance().held_ticks == 0


def test_a_stream_that_breaks_raises_in_the_sdk_and_costs_what_was_delivered(server, client):
    stream = client.chat.completions.create(model="broken-after", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="The engine broke"):
        list(stream)
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (4 * 10_000 + 2 * 20_000, "interrupted")


def test_out_of_credits_is_refused_before_the_first_byte_and_not_retried(server, client):
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    poor = server.command("keys create", name="poor", email="bob@southwind.example")["api_key"]
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=poor) as client_of_bob:
        with pytest.raises(openai.RateLimitError) as refused:
            client_of_bob.chat.completions.create(model="echo", messages=ASK, stream=True)
    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert server.engine.requests == []


async def test_the_async_client_streams_too(server):
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1/", api_key=server.api_key) as client:
        stream = await client.chat.completions.create(model="echo", messages=ASK, stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(text) == "what is the answer"
