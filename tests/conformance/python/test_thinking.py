"""How hard to think is one thing in three dialects: `reasoning_effort`, `reasoning.effort` and `thinking`."""

import json
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.raw import post, request
from tests.scripted.server import ScriptedServer

ASK = [{"role": "user", "content": "what is the answer"}]
TOOLS = [{"name": "weather", "input_schema": {"type": "object"}}]
EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
ENABLED = {"type": "enabled", "budget_tokens": 1024}
# A model that cannot think, on the scripted engine.
FILE = """
[[engines]]
name = "scripted"
kind = "openai"
url = "http://127.0.0.1:9/v1"

[[models]]
name = "plain"
engine = "scripted"
upstream_model = "echo"
capabilities = ["chat", "tools"]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "leadline.toml").write_text(FILE)
    server = ScriptedServer(data)
    yield server
    server.stop()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(server: ScriptedServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client:
        yield client


def asked(server: ScriptedServer):
    return server.engine.requests[-1].effort


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_reaches_the_engine_from_chats_and_responses(server, client, effort):
    client.chat.completions.create(model="echo", messages=ASK, reasoning_effort=effort)
    assert asked(server) == effort
    response = client.responses.create(model="echo", input="hi", reasoning={"effort": effort})
    assert (asked(server), response.reasoning.effort) == (effort, effort)
    client.responses.create(model="echo", input="hi", extra_body={"reasoning_effort": effort})
    assert asked(server) == effort


def test_who_says_nothing_leaves_it_to_the_model_but_in_messages_wants_no_thoughts(server, client, claude):
    client.chat.completions.create(model="echo", messages=ASK)
    assert asked(server) is None
    client.responses.create(model="echo", input="hi")
    assert asked(server) is None
    claude.messages.create(model="echo", max_tokens=9, messages=ASK)
    assert asked(server) == "none"


@pytest.mark.parametrize(
    ("thinking", "config", "effort"),
    [
        ({"type": "disabled"}, {"effort": "high"}, "none"),
        (ENABLED, {}, "low"),
        ({"type": "enabled", "budget_tokens": 4096}, {}, "medium"),
        ({"type": "enabled", "budget_tokens": 16_384}, {}, "high"),
        (ENABLED, {"effort": "max"}, "max"),
        ({"type": "adaptive"}, {}, "high"),
        ({"type": "adaptive", "display": "summarized"}, {"effort": "xhigh"}, "xhigh"),
        ({"type": "between_tools"}, {}, "none"),
    ],
)
def test_thinking_is_an_effort(server, thinking, config, effort):
    body = {"model": "echo", "max_tokens": 20_000, "messages": ASK, "thinking": thinking, "output_config": config}
    assert post(server.port, MESSAGES, server.api_key, json.dumps(body).encode()).status == 200
    assert asked(server) == effort


def test_between_tools_it_thinks_after_a_result(server):
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "weather", "input": {}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "sunny"}]}
    body = {"model": "echo", "max_tokens": 9, "messages": [*ASK, used, result], "tools": TOOLS}
    body["thinking"] = {"type": "between_tools"}
    assert post(server.port, MESSAGES, server.api_key, json.dumps(body).encode()).status == 200
    assert asked(server) == "medium"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("thinking", "blocks"),
    [
        (None, []),
        ({"type": "disabled"}, []),
        (ENABLED, ["hm, two"]),
        ({"type": "adaptive"}, ["hm, two"]),
        (ENABLED | {"display": "omitted"}, [""]),
    ],
)
def test_thoughts_are_shown_as_asked_and_charged_always(server, claude, stream, thinking, blocks):
    more = {} if thinking is None else {"thinking": thinking}
    asks = {"model": "weather", "max_tokens": 2048, "messages": ASK, "tools": TOOLS} | more
    if stream:
        with claude.messages.stream(**asks) as events:
            message = events.get_final_message()
    else:
        message = claude.messages.create(**asks)
    thoughts = [block for block in message.content if block.type == "thinking"]
    assert [block.thinking for block in thoughts] == blocks
    assert all(block.signature for block in thoughts)
    assert [block.type for block in message.content if block.type != "thinking"] == ["text", "tool_use", "tool_use"]
    assert message.usage.output_tokens == 7


REFUSED = [
    (CHAT, {"messages": ASK, "reasoning_effort": "low"}, "reasoning_effort"),
    (RESPONSES, {"input": "hi", "reasoning": {"effort": "low"}}, "reasoning.effort"),
    (MESSAGES, {"messages": ASK, "max_tokens": 2048, "thinking": ENABLED}, None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body", "param"), REFUSED)
def test_a_model_that_cannot_think_refuses_an_effort_by_name(server, path, body, param, stream):
    answer = post(server.port, path, server.api_key, json.dumps(body | {"model": "plain", "stream": stream}).encode())
    assert (answer.status, answer.json["error"].get("param")) == (400, param)
    assert "plain does not support parameter reasoningEffort" in answer.json["error"]["message"]
    assert "thinking" in answer.json["error"]["message"]
    assert server.engine.requests == []
    assert server.charges() == []


ACCEPTED = [
    (CHAT, {"messages": ASK, "reasoning_effort": "none"}),
    (RESPONSES, {"input": "hi", "reasoning": {"effort": "none"}}),
    (RESPONSES, {"input": "hi", "reasoning": {"summary": "auto"}}),
    (MESSAGES, {"messages": ASK, "max_tokens": 9}),
    (MESSAGES, {"messages": ASK, "max_tokens": 9, "thinking": {"type": "disabled"}}),
    (MESSAGES, {"messages": ASK, "max_tokens": 9, "thinking": {"type": "adaptive"}}),
    (MESSAGES, {"messages": ASK, "max_tokens": 9, "thinking": {"type": "between_tools"}}),
    (MESSAGES, {"messages": ASK, "max_tokens": 9, "output_config": {"effort": "high"}}),
]


@pytest.mark.parametrize(("path", "body"), ACCEPTED)
def test_a_model_that_cannot_think_is_not_told_to_where_that_is_no_more_than_a_wish(server, path, body):
    answer = post(server.port, path, server.api_key, json.dumps(body | {"model": "plain"}).encode())
    assert answer.status == 200, answer.body
    assert asked(server) is None


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "hard"}}, "thinking.type"),
        ({"thinking": {"type": "adaptive", "display": "loud"}}, "thinking.display"),
        ({"thinking": ENABLED, "tools": TOOLS, "tool_choice": {"type": "any"}}, "thinking"),
        ({"output_config": {"effort": "none"}}, "output_config.effort"),
    ],
)
def test_thinking_that_makes_no_sense_is_refused_by_name(server, more, field):
    body = {"model": "echo", "max_tokens": 2048, "messages": ASK} | more
    answer = post(server.port, MESSAGES, server.api_key, json.dumps(body).encode())
    assert answer.status == 400
    assert field in answer.json["error"]["message"]


def test_tokens_are_counted_with_thinking_as_they_are_billed(claude):
    counted = claude.messages.count_tokens(model="echo", messages=ASK, thinking=ENABLED)
    message = claude.messages.create(model="echo", max_tokens=2048, messages=ASK, thinking=ENABLED)
    assert counted.input_tokens == message.usage.input_tokens


def test_the_list_of_models_says_who_can_think(server):
    listed = request(server.port, "GET", "/v1/language-models", x_api_key=server.api_key).json["models"]
    capabilities = {model["id"]: model.get("capabilities") for model in listed}
    assert capabilities["echo"] == {"reasoning_effort": EFFORTS}
    assert capabilities["plain"] is None


def test_what_a_model_lacks_is_named_in_the_message_where_the_shape_has_no_other_place(server):
    body = {"model": "plain", "max_tokens": 9, "messages": ASK}
    body["output_config"] = {"format": {"type": "json_schema", "schema": {}}}
    answer = post(server.port, MESSAGES, server.api_key, json.dumps(body).encode())
    assert answer.status == 400
    assert answer.json["error"]["message"] == "output_config.format: The model plain does not support JSON answers."
