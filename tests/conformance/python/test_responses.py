"""The Responses API through the OpenAI SDK against the scripted engine. Every stream is held against its grammar."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from leadline.chat.events import (
    ChoiceFinished,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.chat.request import ChatRequest, Image, Reasoning, Text, ToolCall, ToolResult
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.errors import EngineFailed
from leadline.operations.housekeeping import prune
from leadline.serving import stored
from leadline.serving.stored import StoredAnswers
from tests.conformance.grammar.responses import check, check_response, frames
from tests.raw import Answer, Raw, head, open_post, parse, post, request
from tests.scripted.engine import SCRIPTS, Script, Stall, Step, prompt_tokens, slow_echo
from tests.scripted.server import ScriptedServer

PATH = "/v1/responses"
ASK = "what is the answer"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CLOCK = {"type": "function", "name": "clock", "description": "The time."}
PROMPT_TICKS, CACHED_TICKS, OUTPUT_TICKS = 10_000, 5_000, 20_000
FORMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def saying(*batches: tuple[Any, ...], reason: FinishReason = "stop") -> Script:
    """A script of these events, one token each."""

    def script(asked: ChatRequest) -> Iterable[Step]:
        prompt = prompt_tokens(asked)
        yield (Started(prompt),)
        yield from batches
        events = [event for batch in batches for event in batch]
        reasoning = sum(isinstance(event, ReasoningDelta) for event in events)
        usage = Usage(prompt, output_tokens=len(events) - reasoning, reasoning_tokens=reasoning)
        yield (ChoiceFinished(reason), Finished(usage))

    return script


ARGUMENTS = (ToolCallStarted(0, "call_a", "weather"), ToolCallDelta(0, '{"city":"}'))
MORE: dict[str, Script] = {
    "thinks-again": saying(
        (ReasoningDelta("a"),), (TextDelta("b"),), (ReasoningDelta("c"), TextDelta("d")), (TextDelta("e"),)
    ),
    "no-arguments": saying((ToolCallStarted(0, "call_a", "clock"), ToolCallDelta(0, "{}")), reason="tool_calls"),
    "half-a-call": saying(ARGUMENTS, reason="length"),
    "json": saying((TextDelta('{"capital":'), TextDelta('"Paris"}'))),
    "silent": saying(),
    "filtered": saying((TextDelta("no"),), reason="content_filter"),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    server = ScriptedServer(tmp_path / "data", scripts=SCRIPTS | MORE)
    yield server
    server.stop()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0) as client:
        yield client


@pytest.fixture
def charlies(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    """Another organisation's client."""
    server.command("accounts create", email="charlie@southwind.example", org="Southwind", password="battery staple")
    server.command("credits grant", email="charlie@southwind.example", amount="1", reason="paid")
    key = server.command("keys create", name="charlie", email="charlie@southwind.example")["api_key"]
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=key, max_retries=0) as client:
        yield client


def ask(server: ScriptedServer, **body: Any) -> Answer:
    return post(server.port, PATH, server.api_key, json.dumps({"model": "echo", "input": ASK} | body).encode())


def get(server: ScriptedServer, path: str) -> Answer:
    return request(server.port, "GET", path, Authorization=f"Bearer {server.api_key}")


def stream_of(server: ScriptedServer, **body: Any) -> bytes:
    body = {"model": "echo", "input": ASK, "stream": True} | body
    return parse(open_post(server.port, PATH, server.api_key, body).read_to_end()).body


def events_of(server: ScriptedServer, **body: Any) -> list[dict[str, Any]]:
    return frames(stream_of(server, **body))


def final_of(server: ScriptedServer, stream: bool, **body: Any) -> dict[str, Any]:
    """The response, however it came."""
    final: dict[str, Any] = check(stream_of(server, **body)) if stream else ask(server, **body).json
    check_response(final)
    return final


def outline(response: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Kind, text and state of each item."""
    return [
        (item["type"], item["arguments"] if "arguments" in item else item["content"][0]["text"], item["status"])
        for item in response["output"]
    ]


def charge_of(server: ScriptedServer) -> int:
    [charge] = server.charges()
    return -charge.amount_ticks


# The SDK


def test_a_whole_response_costs_what_its_usage_says(server, client):
    response = client.responses.create(model="echo-latest", input=ASK)
    assert (response.output_text, response.status, response.model) == (ASK, "completed", "echo")
    assert response.usage.to_dict() == {
        "input_tokens": 4,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
        "num_sources_used": 0,
        "num_server_side_tools_used": 0,
        "cost_in_usd_ticks": 4 * PROMPT_TICKS + 4 * OUTPUT_TICKS,
    }
    [charge] = server.charges()
    assert -charge.amount_ticks == response.usage.cost_in_usd_ticks
    assert charge.request_id == response._request_id
    assert response.id == f"resp_{charge.request_id.replace('-', '')}"
    assert response.created_at <= response.completed_at


def test_a_stream_is_the_whole_response_in_pieces(server, client):
    with client.responses.stream(model="echo", input=ASK) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    whole = client.responses.create(model="echo", input=ASK)
    assert text == final.output_text == whole.output_text == ASK
    assert final.usage == whole.usage
    assert len(server.charges()) == 2


async def test_the_async_client_creates_streams_and_retrieves(server):
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0) as client:
        whole = await client.responses.create(model="echo", input=ASK)
        async with client.responses.stream(model="echo", input="and", previous_response_id=whole.id) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        pieces = [event async for event in await client.responses.create(model="echo", input=ASK, stream=True)]
        listed = [item async for item in client.responses.input_items.list(final.id, limit=1)]
        retrieved = await client.responses.retrieve(final.id)
        replayed = [event.type async for event in await client.responses.retrieve(final.id, stream=True)]
    assert (whole.output_text, final.output_text) == (ASK, "and")
    assert pieces[-1].response.output_text == ASK
    assert [item.role for item in listed] == ["user", "assistant", "user"]
    assert retrieved.output_text == "and"
    assert replayed == kinds


def test_an_answer_is_parsed_into_a_model_of_pydantic(server, client):
    class Country(BaseModel):
        capital: str

    parsed = client.responses.parse(model="json", input="France", text_format=Country)
    assert parsed.output_parsed == Country(capital="Paris")
    assert server.engine.requests[0].json_format.schema["required"] == ["capital"]
    assert parsed.text.format.name == "Country"
    with client.responses.stream(model="json", input="France", text_format=Country) as stream:
        assert stream.get_final_response().output_parsed == Country(capital="Paris")
    assert client.responses.create(model="json", input="x", text={"format": {"type": "json_object"}}).output_text
    assert server.engine.requests[-1].json_format.schema is None


@FORMS
def test_a_tool_is_called_and_its_result_comes_back(server, client, stream):
    given: dict[str, Any] = {"model": "weather", "tools": [WEATHER, CLOCK], "tool_choice": "required"}
    if stream:
        with client.responses.stream(input=ASK, **given) as events:
            first = events.get_final_response()
    else:
        first = client.responses.create(input=ASK, **given)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments) for call in calls] == [
        ("call_a", "weather", '{"city":"Paris"}'),
        ("call_b", "clock", "{}"),
    ]
    assert [tool.name for tool in server.engine.requests[0].tools] == ["weather", "clock"]
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "It is sunny"} for call in calls]
    second = client.responses.create(model="weather", input=results, previous_response_id=first.id)
    assert second.output_text == "It is sunny"
    # The same, by sending all items again.
    third = client.responses.create(
        model="weather", input=[{"role": "user", "content": ASK}, *first.to_dict()["output"], *results]
    )
    assert third.output_text == "It is sunny"
    assert server.engine.requests[1].messages == server.engine.requests[2].messages
    roles = [message.role for message in server.engine.requests[1].messages]
    assert roles == ["user", "assistant", "tool", "tool"]
    assert server.engine.requests[1].messages[1].content == (
        *(Reasoning("hm, two"), Text("Let me look.")),
        *(ToolCall("call_a", "weather", '{"city":"Paris"}'), ToolCall("call_b", "clock", "{}")),
    )


@FORMS
def test_reasoning_is_output_and_costs_what_the_other_dialects_charge(server, stream):
    final = final_of(server, stream, model="weather")
    assert final["usage"]["input_tokens_details"]["cached_tokens"] == 2
    assert (final["usage"]["output_tokens"], final["usage"]["output_tokens_details"]["reasoning_tokens"]) == (7, 2)
    assert final["usage"]["total_tokens"] == 4 + 7
    cost = 2 * PROMPT_TICKS + 2 * CACHED_TICKS + 7 * OUTPUT_TICKS
    assert charge_of(server) == final["usage"]["cost_in_usd_ticks"] == cost
    body = {"model": "weather", "messages": [{"role": "user", "content": ASK}]}
    chat = post(server.port, "/v1/chat/completions", server.api_key, json.dumps(body).encode()).json
    assert chat["usage"]["cost_in_usd_ticks"] == cost
    assert chat["usage"]["total_tokens"] == final["usage"]["total_tokens"]


def test_refusals_are_the_sdks_own_exceptions(server, client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="gpt-17", input=ASK)
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="echo", input=ASK, previous_response_id="resp_unknown", stream=True)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    assert refused.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(f"resp_{'0' * 32}")
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.cancel(f"resp_{'0' * 32}")
    with pytest.raises(openai.InternalServerError) as refused:
        client.responses.create(model="broken-in-prompt", input=ASK, stream=True)
    assert refused.value.status_code == 502
    assert server.charges() == []


# What a request may hold

SAYS = pytest.mark.parametrize(
    ("item", "role", "blocks"),
    [
        ({"role": "user", "content": "hi"}, "user", (Text("hi"),)),
        ({"role": "developer", "content": [{"type": "input_text", "text": "hi"}]}, "system", (Text("hi"),)),
        ({"type": "message", "role": "system", "content": "hi"}, "system", (Text("hi"),)),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
            *("assistant", (Text("hi"),)),
        ),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, "assistant", (Text("no"),)),
        (
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": " "},
            *("assistant", (ToolCall("c", "f", "{}"),)),
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "hi"}]},
            *("tool", (ToolResult("c", (Text("hi"),)),)),
        ),
        (
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            *("assistant", (Reasoning("hm"),)),
        ),
        (
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
            *("assistant", (Reasoning("hm"),)),
        ),
    ],
)


@SAYS
def test_every_kind_of_item_reaches_the_engine(server, item, role, blocks):
    assert ask(server, input=[item]).status == 200
    [message] = server.engine.requests[0].messages
    assert (message.role, message.content) == (role, blocks)


def test_an_answer_after_an_answer_is_a_turn_of_its_own(server):
    said = [{"role": "assistant", "content": text} for text in ("one", "two")]
    assert ask(server, input=said).status == 200
    assert [message.content for message in server.engine.requests[0].messages] == [(Text("one"),), (Text("two"),)]


# As we write it, so that decoding changes nothing.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4AWNo+N8AAAQCAgC7yg/iAAAAAElFTkSuQmCC"
)


def test_images_of_users_and_tools_are_refused_where_the_model_is_blind_and_named(server):
    image = {"type": "input_image", "image_url": PIXEL, "detail": "low"}
    refused = ask(server, input=[{"role": "user", "content": [image]}])
    assert (refused.status, refused.json["error"]["param"]) == (400, "input")
    (server.data / "leadline.toml").write_text(
        '[[engines]]\nname = "e"\nkind = "openai"\nurl = "http://127.0.0.1:9/v1"\n'
        '[[models]]\nname = "seeing"\nengine = "e"\nupstream_model = "echo"\ncapabilities = ["chat", "vision"]\n'
    )
    server.restart()
    output = {"type": "function_call_output", "call_id": "c", "output": [image]}
    assert ask(server, model="seeing", input=[{"role": "user", "content": [image]}, output]).status == 200
    shown = Image(PIXEL, "low")
    contents = [message.content for message in server.engine.requests[0].messages]
    assert contents == [(shown,), (ToolResult("c", (shown,)),)]
    elsewhere = ask(server, input=[{"role": "user", "content": [image]}])
    assert "ask seeing, which can" in elsewhere.json["error"]["message"]
    damaged = ask(server, model="seeing", input=[{"role": "user", "content": [image | {"image_url": PIXEL[:-40]}]}])
    assert (damaged.status, damaged.json["error"]["param"]) == (400, "input")
    assert damaged.json["error"]["message"].startswith("input: image 1: ")
    assert len(server.engine.requests) == 1


def test_instructions_and_sampling_reach_the_engine(server):
    more = {"instructions": "Be brief.", "temperature": 0.3, "top_p": 0.9, "max_output_tokens": 3}
    assert ask(server, **more, parallel_tool_calls=False).status == 200
    [asked] = server.engine.requests
    assert asked.messages[0].role == "system"
    assert asked.messages[0].content == (Text("Be brief."),)
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.max_output_tokens) == (0.3, 0.9, 3)
    assert asked.parallel_tool_calls is False


def test_what_was_asked_for_comes_back(server):
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "metadata": {"order": "7"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}},
        "tool_choice": {"type": "function", "name": "weather"},
        "tools": [WEATHER],
        "top_p": 0.9,
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }
    told = ask(server, **asked).json
    assert {name: told[name] for name in asked} == asked
    bare = ask(server).json
    assert (bare["text"], bare["tool_choice"], bare["tools"]) == ({"format": {"type": "text"}}, "auto", [])
    assert (bare["temperature"], bare["top_p"], bare["metadata"], bare["instructions"]) == (1.0, 1.0, {}, None)
    assert bare["reasoning"] == {"effort": None, "summary": None}


@FORMS
def test_log_probabilities_come_with_include(server, stream):
    final = final_of(server, stream, include=["message.output_text.logprobs"], top_logprobs=2)
    logprobs = final["output"][0]["content"][0]["logprobs"]
    assert [token["token"] for token in logprobs] == ["what", " is", " the", " answer"]
    assert [len(token["top_logprobs"]) for token in logprobs] == [2] * 4
    assert final_of(server, stream)["output"][0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"n": 2}, "n"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"search_parameters": {"mode": "auto"}}, "search_parameters"),
        ({"chat_template": "{{x}}"}, "chat_template"),
        ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}, "tools": [WEATHER]}, "tool_choice.name"),
        ({"tool_choice": {"type": "web_search"}, "tools": [WEATHER]}, "tool_choice.type"),
        (
            {
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]},
                "tools": [WEATHER],
            },
            "tool_choice.tools",
        ),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"role": "sailor", "content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": "a"}, {"type": "web_search_call"}]}, "input[1].type"),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image", "image_url": "data:"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {"a": 1}}, "metadata[]"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"input": "word " * 1500}, "input"),
    ],
)
def test_what_is_wrong_or_not_done_is_refused_by_name(server, more, param):
    refused = ask(server, **more)
    assert (refused.status, refused.json["error"]["param"]) == (400, param), refused.body
    assert refused.json["code"] == "invalid-argument"
    assert server.engine.requests == []


def test_hosted_tools_are_named(server):
    refused = ask(server, tools=[{"type": "web_search"}, WEATHER, {"type": "code_interpreter", "container": {}}])
    assert "web_search, code_interpreter" in refused.json["error"]["message"]


def test_what_has_no_effect_is_accepted(server):
    harmless = {
        "background": False,
        "truncation": "auto",
        "service_tier": "flex",
        "safety_identifier": "s",
        "prompt_cache_retention": "24h",
        "context_management": [],
        "reasoning": {"effort": "none", "summary": "auto"},
        "stream_options": {"include_obfuscation": False},
        "include": ["reasoning.encrypted_content"],
        "unheard_of": [1],
        "max_tool_calls": 3,
    }
    told = ask(server, **harmless).json
    assert (told["status"], told["truncation"], told["service_tier"]) == ("completed", "disabled", "default")


def test_prompts_are_counted_free_of_charge_and_as_they_are_billed(server, client):
    first = client.responses.create(model="echo", input=ASK)
    follow = {"model": "echo", "input": "and now", "instructions": "Be brief.", "previous_response_id": first.id}
    counted = client.responses.input_tokens.count(**follow)
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 12)
    assert len(server.charges()) == 1
    assert client.responses.create(**follow).usage.input_tokens == 12


@FORMS
def test_reasoning_can_be_kept_by_a_client_that_stores_nothing_here(server, charlies, stream):
    asked = {"store": False, "include": ["reasoning.encrypted_content"]}
    thought = final_of(server, stream, model="weather", **asked)["output"][0]
    assert thought["encrypted_content"]
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": thought["encrypted_content"]}
    assert ask(server, input=[sealed, {"role": "user", "content": "go on"}]).status == 200
    assert server.engine.requests[-1].messages[0].content == (Reasoning("hm, two"),)
    # Somebody else's, and another vendor's, are nothing.
    for foreign in (sealed, sealed | {"encrypted_content": "gAAAA=="}, sealed | {"encrypted_content": "é"}):
        charlies.responses.create(model="echo", input=[foreign, {"role": "user", "content": "go on"}])
        assert [message.role for message in server.engine.requests[-1].messages] == ["user"]
    assert "encrypted_content" not in final_of(server, stream, model="weather")["output"][0]


# How it ends


@FORMS
@pytest.mark.parametrize(
    ("asked", "items", "reason"),
    [
        ({"model": "echo", "max_output_tokens": 2}, [("message", "what is", "incomplete")], "max_output_tokens"),
        ({"model": "half-a-call"}, [("function_call", '{"city":"}', "incomplete")], "max_output_tokens"),
        ({"model": "filtered"}, [("message", "no", "incomplete")], "content_filter"),
    ],
)
def test_what_was_cut_is_incomplete_and_says_why(server, stream, asked, items, reason):
    final = final_of(server, stream, **asked)
    assert (final["status"], final["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert outline(final) == items
    assert charge_of(server) == final["usage"]["cost_in_usd_ticks"]


def test_a_conversation_goes_on_after_half_a_call(server, client):
    half = client.responses.create(model="half-a-call", input=ASK)
    assert client.responses.create(model="echo", input="go on", previous_response_id=half.id).output_text == "go on"


@FORMS
def test_a_model_that_says_nothing_has_an_empty_output(server, stream):
    final = final_of(server, stream, model="silent")
    assert (final["status"], final["output"]) == ("completed", [])


def test_a_stream_that_breaks_ends_in_response_failed_and_costs_what_was_delivered(server, client):
    with client.responses.stream(model="broken-after", input=ASK) as stream:
        *_, last = list(stream)
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert (last.response.error.code, last.response.error.message) == ("server_error", "The engine broke.")
    assert last.response.usage is None
    server.wait_until(lambda: not server.instance.ledger.running())
    assert charge_of(server) == 4 * PROMPT_TICKS + 2 * OUTPUT_TICKS
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(last.response.id)


@pytest.mark.parametrize("store", [True, False])
def test_a_charge_that_cannot_be_written_in_time_fails_the_stream(server, monkeypatch, store):
    """To be stored the last batch was encoded, but never sent: the events are numbered as if it had not been."""
    monkeypatch.setattr("leadline.serving.generation.COMMIT_SECONDS", 0)
    events = events_of(server, model="echo", store=store)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["output"] == []
    assert [event["type"] for event in events].count("response.output_text.delta") == 4
    server.wait_until(lambda: not server.instance.ledger.running())


def test_what_fails_before_the_engine_begins_is_a_whole_stream_once_a_keep_alive_is_out(server, monkeypatch):
    monkeypatch.setattr("leadline.dialects.answers.KEEP_ALIVE_SECONDS", 0.01)

    def slow(_: ChatRequest) -> Iterable[Step]:
        yield Stall()
        yield EngineFailed("The engine broke.")

    server.engine.scripts["slow"] = slow
    raw = open_post(server.port, PATH, server.api_key, {"model": "slow", "input": ASK, "stream": True})
    assert b": keep-alive\n\n" in raw.read_until(b"alive\n\n")
    server.loop.call_soon_threadsafe(server.engine.release.set)
    kinds = [event["type"] for event in frames(parse(raw.read_to_end()).body)]
    assert kinds == ["response.created", "response.in_progress", "response.failed"]


def test_keep_alives_are_comments(server, monkeypatch):
    monkeypatch.setattr("leadline.dialects.answers.KEEP_ALIVE_SECONDS", 0.01)
    raw = open_post(server.port, PATH, server.api_key, {"model": "slow", "input": ASK, "stream": True})
    raw.read_until(b"three")
    raw.read_until(b": keep-alive\n\n")
    server.loop.call_soon_threadsafe(server.engine.release.set)
    assert check(parse(raw.read_to_end()).body)["status"] == "completed"


# What is stored


def test_a_stored_response_is_the_one_that_was_given(server, client):
    first = ask(server).json
    hexadecimal = first["id"].removeprefix("resp_")
    [charge] = server.charges()
    for spelled in (first["id"], f"msg_{hexadecimal}", hexadecimal, charge.request_id, charge.request_id.upper()):
        assert get(server, f"{PATH}/{spelled}").json == first
    server.restart()
    assert get(server, f"{PATH}/{first['id']}").json == first
    assert server.engine.requests == []


def test_a_stored_response_is_streamed_again_event_by_event(server):
    for asked in (
        {"model": "weather", "tools": [WEATHER]},
        {"model": "thinks-again", "include": ["reasoning.encrypted_content"]},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 1},
        {"max_output_tokens": 2},
        {"model": "silent"},
    ):
        events = events_of(server, **asked)
        path = f"{PATH}/{events[-1]['response']['id']}?stream=true"
        assert frames(get(server, path).body) == events
        assert frames(get(server, f"{path}&starting_after=1").body) == events[2:]
    assert get(server, f"{path}&starting_after=-1").json["error"]["param"] == "starting_after"


def test_each_response_goes_on_where_the_one_before_it_ended(server, client):
    first = client.responses.create(model="echo", input="one", instructions="Be brief.")
    second = client.responses.create(model="echo", input="two", previous_response_id=first.id)
    third = client.responses.create(model="echo", input="three", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    said = [(message.role, message.content) for message in server.engine.requests[-1].messages]
    assert said == [
        *(("user", (Text("one"),)), ("assistant", (Text("one"),)), ("user", (Text("two"),))),
        *(("assistant", (Text("two"),)), ("user", (Text("three"),))),
    ]
    client.responses.delete(first.id)
    client.responses.create(model="echo", input="four", previous_response_id=third.id)
    assert len(server.engine.requests[-1].messages) == 7


def test_items_may_be_referred_to(server, client):
    first = client.responses.create(model="weather", input="one")
    second = client.responses.create(
        model="echo",
        input=[
            *({"type": "item_reference", "id": item.id} for item in first.output),
            {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
        ],
    )
    said = server.engine.requests[-1].messages
    assert [block.__class__ for block in said[0].content] == [Reasoning, Text, ToolCall, ToolCall]
    # The newest response knows the older one's items.
    server.run(server.pipeline.stored.delete(server.organisation_id, "response", first.id))
    references = [{"id": first.output[1].id}, {"type": "item_reference", "id": second.output[0].id}]
    client.responses.create(model="echo", input=references)
    assert [message.content for message in server.engine.requests[-1].messages] == [
        (Text("Let me look."),),
        (Text("sunny"),),
    ]
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="echo", input=[{"type": "item_reference", "id": first.output[1].id}])
    assert "input[0].id" in refused.value.message


def test_one_request_looks_up_only_so_many_responses(server, client):
    ids = [client.responses.create(model="echo", input=str(number)).output[0].id for number in range(17)]
    refused = ask(server, input=[{"type": "item_reference", "id": item} for item in ids])
    assert (refused.status, refused.json["error"]["param"]) == (400, "input")
    assert ask(server, input=[{"type": "item_reference", "id": item} for item in ids[1:]]).status == 200


def test_the_items_of_a_response_are_listed_by_pages(server, client):
    given = [{"role": "user", "content": str(number)} for number in range(7)]
    response = client.responses.create(model="echo", input=given)
    newest_first = [item.content[0].text for item in client.responses.input_items.list(response.id, limit=2)]
    assert newest_first == ["6", "5", "4", "3", "2", "1", "0"]
    oldest_first = client.responses.input_items.list(response.id, order="asc", limit=3)
    assert [item.content[0].text for item in oldest_first] == newest_first[::-1]
    path = f"{PATH}/{response.id}/input_items"
    page = get(server, f"{path}?order=asc&limit=3").json
    ids = [item["id"] for item in page["data"]]
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", ids[0], ids[2], True)
    rest = get(server, f"{path}?order=asc&pagination_token={page['pagination_token']}").json
    assert (len(rest["data"]), rest["has_more"], rest["pagination_token"]) == (4, False, None)
    assert [get(server, f"{path}?limit={limit}").json["has_more"] for limit in (6, 7, 8)] == [True, False, False]
    for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=x", "after")):
        refused = get(server, f"{path}?{query}")
        assert (refused.status, refused.json["error"]["param"]) == (400, param)


def test_a_deleted_response_is_gone(server, client):
    response = client.responses.create(model="echo", input=ASK)
    answer = request(server.port, "DELETE", f"{PATH}/{response.id}", Authorization=f"Bearer {server.api_key}")
    assert answer.json == {"id": response.id, "object": "response", "deleted": True}
    for gone in (
        lambda: client.responses.retrieve(response.id),
        lambda: client.responses.delete(response.id),
        lambda: client.responses.input_items.list(response.id),
        lambda: client.responses.create(model="echo", input=ASK, previous_response_id=response.id),
    ):
        with pytest.raises(openai.NotFoundError):
            gone()


@FORMS
def test_what_is_not_to_be_stored_is_not(server, stream):
    final = final_of(server, stream, store=False)
    assert final["store"] is False
    assert get(server, f"{PATH}/{final['id']}").status == 404
    assert server.run(server.instance.database.rows("SELECT COUNT(*) FROM stored_answers")) == [(0,)]


@FORMS
def test_what_is_too_large_to_be_stored_says_so(server, stream, monkeypatch):
    monkeypatch.setattr("leadline.serving.stored.LARGEST_BYTES", 2000)
    final = final_of(server, stream, input="word " * 500)
    assert final["store"] is False
    assert get(server, f"{PATH}/{final['id']}").status == 404
    kept = final_of(server, stream)
    assert kept["store"] is True
    assert get(server, f"{PATH}/{kept['id']}").status == 200


def test_another_organisations_response_looks_nonexistent(server, client, charlies):
    response = client.responses.create(model="weather", input=ASK)
    reference = {"type": "item_reference", "id": response.output[0].id}
    unknown = f"resp_{'0' * 32}"
    for attempt in (
        charlies.responses.retrieve,
        charlies.responses.delete,
        charlies.responses.input_items.list,
        lambda id_: charlies.responses.create(model="echo", input=ASK, previous_response_id=id_),
    ):
        told = []
        for id_ in (response.id, unknown):
            with pytest.raises(openai.NotFoundError) as refused:
                attempt(id_)
            told.append(refused.value.message.replace(id_, "ID"))
        assert told[0] == told[1]
    with pytest.raises(openai.NotFoundError):
        charlies.responses.create(model="echo", input=[reference])
    assert client.responses.retrieve(response.id).output_text == "Let me look."


def test_a_key_without_the_chat_scope_may_not_read_what_is_stored(server, client):
    response = client.responses.create(model="echo", input=ASK)
    made = server.command("keys create", name="models", email=None, options={"endpoints": ["models"]})
    answer = request(server.port, "GET", f"{PATH}/{response.id}", Authorization=f"Bearer {made['api_key']}")
    assert answer.status == 403


def test_a_response_is_kept_for_30_days(server, client):
    now = server.pipeline.stored.clock()
    server.pipeline.stored.clock = lambda: now
    response = client.responses.create(model="echo", input=ASK)
    server.pipeline.stored.clock = lambda: now + 30 * MICROSECONDS_PER_DAY - 1
    assert client.responses.retrieve(response.id).output_text == ASK
    server.pipeline.stored.clock = lambda: now + 30 * MICROSECONDS_PER_DAY
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_what_had_its_term_is_deleted_by_the_housekeeping(server):
    now = server.pipeline.stored.clock()
    ask(server)
    for days, left in ((29, 1), (31, 0)):
        server.pipeline.stored.clock = lambda days=days: now + days * MICROSECONDS_PER_DAY
        server.run(prune(server.instance, server.pipeline))
        assert server.run(server.instance.database.rows("SELECT COUNT(*) FROM stored_answers")) == [(left,)]


def test_what_is_stored_can_be_read_in_no_file(server):
    secret = "Zebra-Quagga-Okapi"
    assert secret.encode() in ask(server, input=secret, instructions=secret).body
    assert server.run(server.instance.database.rows("SELECT COUNT(*) FROM stored_answers")) == [(1,)]
    server.restart()
    for path in server.data.rglob("*"):
        assert not path.is_file() or b"Quagga" not in path.read_bytes(), path


@FORMS
def test_a_repeated_request_gets_the_same_response_which_is_stored_once(server, stream):
    body = json.dumps({"model": "weather", "input": ASK, "stream": stream}).encode()
    first, again = (post(server.port, PATH, server.api_key, body, idempotency_key="order-7") for _ in range(2))
    assert (first.status, again.headers.get("idempotent-replayed")) == (200, "true")
    assert first.body == again.body
    assert b'"store":false' not in first.body
    [charge] = server.charges()
    assert get(server, f"{PATH}/{charge.request_id}").json["status"] == "completed"


def test_a_recorded_stream_that_breaks_ends_in_response_failed_for_all_who_read_along(server):
    def breaks(asked: ChatRequest) -> Iterable[Step]:
        *steps, _ = slow_echo(asked)
        return *steps, EngineFailed("It broke.")

    server.engine.scripts["slow"] = breaks
    body = json.dumps({"model": "slow", "input": ASK, "stream": True}).encode()
    raws = [Raw(server.port) for _ in range(3)]
    for raw in raws:
        given = head(PATH, server.api_key, len(body), content_type="application/json", idempotency_key="order-7")
        raw.send(given + body)
        raw.read_until(b"three")
    server.loop.call_soon_threadsafe(server.engine.release.set)
    streams = [parse(raw.read_to_end()).body for raw in raws]
    assert len(set(streams)) == len(server.engine.requests) == 1
    assert check(streams[0])["error"] == {"code": "server_error", "message": "It broke."}
    server.wait_until(lambda: not server.instance.ledger.running())
    assert server.charges() == []


def test_the_charge_is_durable_before_the_last_event(server, client):
    """And so is what is stored: whoever read the end finds it, whatever happens then."""
    stream = client.responses.create(model="echo", input=ASK, stream=True)
    [last] = [event for event in stream if event.type == "response.completed"]
    server.crash()
    assert get(server, f"{PATH}/{last.response.id}").json["output"][0]["content"][0]["text"] == ASK
    assert charge_of(server) == last.response.usage.cost_in_usd_ticks


# Known bugs of other servers: KNOWN_BUGS 43 to 50


@FORMS
def test_43_a_calls_id_and_call_id_are_the_same_in_every_event_and_at_the_end(server, stream):
    final = final_of(server, stream, model="weather")
    called = [(item["id"], item["call_id"]) for item in final["output"] if item["type"] == "function_call"]
    assert [call_id for _, call_id in called] == ["call_a", "call_b"]
    stored_calls = get(server, f"{PATH}/{final['id']}").json["output"]
    assert [(item["id"], item.get("call_id")) for item in stored_calls][2:] == called
    if stream:
        events = frames(get(server, f"{PATH}/{final['id']}?stream=true").body)
        told = {(event["item"]["id"], event["item"].get("call_id")) for event in events if "item" in event}
        assert set(called) <= told
        assert len(told) == len(final["output"])


def test_44_every_event_of_an_item_has_the_items_id(server):
    ids: dict[int, set[str]] = {}
    for event in events_of(server, model="weather"):
        if "output_index" in event:
            ids.setdefault(event["output_index"], set()).add(event.get("item_id") or event["item"]["id"])
    assert [len(of_one) for of_one in ids.values()] == [1, 1, 1, 1]
    assert len(set.union(*ids.values())) == 4


def test_45_a_text_is_told_whole_before_its_part_and_its_item_end(server):
    kinds = [event["type"].removeprefix("response.") for event in events_of(server)]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * 4,
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]


def test_46_every_event_says_where_it_belongs(server):
    for event in events_of(server, model="weather"):
        if "delta" in event or "part" in event or event["type"].endswith(("text.done", "arguments.done")):
            assert {"item_id", "output_index"} <= event.keys()
            assert ("content_index" in event) == ("arguments" not in event["type"])


def test_47_the_first_events_hold_the_full_object_and_numbers_never_restart(server):
    events = events_of(server, model="weather", tools=[WEATHER], metadata={"a": "b"})
    for event in events[:2]:
        check_response(event["response"])
        assert event["response"]["output"] == []
        assert (event["response"]["tools"], event["response"]["metadata"]) == ([WEATHER], {"a": "b"})
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    calls = [event["item"] for event in events if "item" in event and event["item"]["type"] == "function_call"]
    assert all(call["id"].startswith("fc_") and call["call_id"].startswith("call_") for call in calls)


@FORMS
def test_49_reasoning_is_an_item_with_a_part_and_may_come_again(server, stream):
    assert outline(final_of(server, stream, model="thinks-again")) == [
        *(("reasoning", "a", "completed"), ("message", "b", "completed")),
        *(("reasoning", "c", "completed"), ("message", "de", "completed")),
    ]


def test_50_every_piece_is_an_event_of_its_own(server):
    raw = open_post(server.port, PATH, server.api_key, {"model": "slow", "input": ASK, "stream": True})
    for word in (b'"one"', b'" two"', b'" three"'):
        assert b"response.output_text.delta" in raw.read_until(word)
    assert server.engine.running == 1
    server.loop.call_soon_threadsafe(server.engine.release.set)
    assert check(parse(raw.read_to_end()).body)["status"] == "completed"


@FORMS
def test_a_call_without_arguments_has_an_empty_object(server, stream):
    assert outline(final_of(server, stream, model="no-arguments")) == [("function_call", "{}", "completed")]


def test_a_client_that_hangs_up_stops_the_engine_and_stores_nothing(server):
    raw = open_post(server.port, PATH, server.api_key, {"model": "slow", "input": ASK, "stream": True})
    raw.read_until(b"three")
    raw.hang_up()
    server.wait_until(lambda: server.engine.aborted == ["slow"])
    server.wait_until(lambda: not server.instance.ledger.running())
    assert charge_of(server) == 4 * PROMPT_TICKS + 3 * OUTPUT_TICKS
    assert server.run(server.instance.database.rows("SELECT COUNT(*) FROM stored_answers")) == [(0,)]


@pytest.mark.slow
@pytest.mark.node
@pytest.mark.parametrize(("model", "tests"), [("echo", "."), ("weather", "stream"), ("thinks-again", "stream")])
def test_the_javascript_sdk_finds_what_it_expects(server, node, model, tests):
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", f"--test-name-pattern={tests}", "responses.test.mjs"],
        cwd=Path(__file__).parents[1] / "javascript",
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "PATH": os.environ["PATH"],
            "BASE_URL": server.base_url,
            "API_KEY": server.api_key,
            "MODEL": model,
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_largest_answer_that_is_kept_has_16_mebibytes():
    assert stored.LARGEST_BYTES == 16 * 1024 * 1024


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])
def test_the_limits_come_before_the_database(tmp_path, monkeypatch, path):
    """Whoever is over a limit makes nobody look anything up."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text("[limits.default]\nrequests_per_minute = 1\n")
    server = ScriptedServer(tmp_path / "data")
    looked_up: list[str] = []

    async def find(*asked: Any) -> None:
        looked_up.append(asked[-1])

    monkeypatch.setattr(StoredAnswers, "find", lambda _, *asked: find(*asked))
    body = json.dumps({"model": "echo", "input": "hi", "previous_response_id": "resp_x"}).encode()
    answers = [post(server.port, path, server.api_key, body) for _ in range(2)]
    assert [answer.status for answer in answers] == [404, 429]
    assert answers[0].json["error"]["code"] == "previous_response_not_found"
    assert looked_up == ["resp_x"]
    server.stop()


def test_a_schema_without_a_name_comes_back_with_one(server, client):
    """OpenAI's type of the answer has no form without it; the server's listener holds the answer against it."""
    wanted: Any = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    response = client.responses.create(model="echo", input=ASK, text=wanted)
    assert response.text is not None
    assert response.text.format.name == "schema"
    assert final_of(server, True, input=ASK, text=wanted)["text"]["format"]["name"] == "schema"
