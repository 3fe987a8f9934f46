"""What Claude Code and its kind send (SDK_CONFORMANCE 6.10, 1.2, 1.3), byte for byte where it matters."""

import json
from typing import Any

import pytest

from tests.conformance.grammar import messages
from tests.conformance.remote import KINDS, Remote
from tests.raw import Answer, post, request
from tests.scripted.server import ScriptedServer
from tests.scripted.upstream import Reply, delta, finish, sse

PATH = "/v1/messages?beta=true"
BETAS = (
    *("claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27"),
    *(
        "prompt-caching-scope-2026-01-05",
        "effort-2025-11-24",
        "advanced-tool-use-2025-11-20",
        "never-heard-of-2027-01-01",
    ),
)
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"path": {"type": "string", "description": "Where it lies."}},
    "required": ["path"],
    "additionalProperties": False,
}
TOOLS = [{"name": f"Tool{number}", "description": "Does it.", "input_schema": SCHEMA} for number in range(24)]
FIRST: dict[str, Any] = {
    "model": "claude-sonnet-9",
    "max_tokens": 32_000,
    "stream": True,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197"},
        {"type": "text", "text": "You are a coding agent.", **CACHED},
        {"type": "text", "text": "# Tone\nBe brief.", **CACHED},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "count to three", **CACHED}]},
        {"role": "system", "content": [{"type": "text", "text": "The date is today."}]},
    ],
    "tools": [*TOOLS[:-1], TOOLS[-1] | CACHED],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": '{"device_id":"d","account_uuid":"","session_id":"s"}'},
}


def ask(server: ScriptedServer, path: str = PATH, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    sent = {"x_api_key": server.api_key, "anthropic_version": "2023-06-01", "anthropic_beta": ",".join(BETAS)}
    body = json.dumps(FIRST | more).encode()
    return post(server.port, path, None, body, **sent if headers is None else headers)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_start_page_answers_whoever_probes_it(server, method):
    answer = request(server.port, method, "/")
    assert answer.status == 200
    assert (answer.body == b"") == (method == "HEAD")


def test_its_first_request_is_answered(server):
    message = messages.check(ask(server).body).message
    assert message["model"] == "claude-sonnet-9"
    assert message["stop_reason"] == "end_turn"
    [asked] = server.engine.requests
    assert [one.role for one in asked.messages] == ["system", "user", "system"]
    assert len(asked.tools) == 24
    [charge] = server.charges()
    assert -charge.amount_ticks == message["usage"]["cost_in_usd_ticks"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_remote_engine_gets_it_in_turns_that_its_template_takes(remote: Remote, kind):
    function = {"name": "Tool7", "arguments": '{"path":"a"}'}
    called = delta(tool_calls=[{"index": 0, "id": "call_1", "function": function}])
    remote.upstream.reply = Reply(pieces=(sse(delta(content="I look."), called, finish("stop")),))
    message = messages.check(ask(remote.server, model=kind).body).message
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    sent = remote.upstream.bodies[-1]
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user"]
    assert sent["messages"][0]["content"].endswith("\n\nYou are a coding agent.\n\n# Tone\nBe brief.")
    assert "The date is today." in sent["messages"][1]["content"]
    assert [tool["function"]["parameters"] for tool in sent["tools"]] == [SCHEMA] * 24
    assert "context_management" not in sent

    # The second turn: the result, an error, a picture.
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "no such file", "is_error": True, **CACHED}
    turns = [
        *FIRST["messages"],
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [result]},
    ]
    assert ask(remote.server, model=kind, messages=turns).status == 200
    assert remote.upstream.bodies[-1]["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": "Error: no such file",
    }


@pytest.mark.parametrize("path", ["/v1/v1/messages", "//v1/messages", "/v1/messages/", "/v1//messages?beta=true"])
def test_base_urls_with_too_much_in_them_are_understood(server, path):
    assert messages.check(ask(server, path).body).done


def test_its_tokens_are_counted_with_the_tools(server):
    fields = ("model", "messages", "system", "tools", "thinking", "output_config", "metadata", "context_management")
    counted = post(
        server.port,
        "/v1/messages/count_tokens?beta=true",
        None,
        json.dumps({name: FIRST[name] for name in fields}).encode(),
        x_api_key=server.api_key,
    ).json["input_tokens"]
    message = messages.check(ask(server).body).message
    assert counted == message["usage"]["input_tokens"] > 0
    assert len(server.charges()) == 1


def test_an_answer_that_the_client_began_goes_on(server, remote: Remote):
    begun = [FIRST["messages"][0], {"role": "assistant", "content": "One, two,"}]
    assert messages.check(ask(server, messages=begun).body).done
    assert [one.role for one in server.engine.requests[-1].messages] == ["system", "user", "assistant"]
    remote.upstream.reply = Reply(pieces=(sse(delta(content=" three")),))
    for kind, told in (("vllm", True), ("openai", None)):
        assert messages.check(ask(remote.server, model=kind, messages=begun).body).done
        assert remote.upstream.bodies[-1].get("continue_final_message") is told


def test_the_key_may_come_in_either_header_but_two_different_ones_are_refused(server):
    key, bearer = server.api_key, f"Bearer {server.api_key}"
    for headers in ({"x_api_key": key}, {"authorization": bearer}, {"x_api_key": key, "authorization": bearer}):
        assert ask(server, headers=headers).status == 200
    assert ask(server, headers={"x_api_key": "", "authorization": bearer}).status == 200
    refused = ask(server, headers={"x_api_key": key, "authorization": "Bearer other"})
    # CONTRACT, section 4, which wins.
    assert refused.status == 400
    assert all(name in refused.json["error"]["message"] for name in ("Authorization", "x-api-key"))
    assert key not in refused.body.decode()


@pytest.mark.parametrize(
    ("kept", "stop"),
    [({"stop_sequences": ["two"]}, ("stop_sequence", "two")), ({"max_tokens": 1}, ("max_tokens", None))],
)
def test_why_it_ended_is_told(server, kept, stop):
    turns = [{"role": "user", "content": "one two three"}]
    message = messages.check(ask(server, messages=turns, **kept).body).message
    assert (message["stop_reason"], message["stop_sequence"]) == stop


@pytest.mark.model
def test_the_default_model_answers_its_first_request(live):
    """It knows no thinking, and not what to do with tools; it answers in the grammar all the same."""
    sent = {"x_api_key": live.api_key, "anthropic_version": "2023-06-01", "anthropic_beta": ",".join(BETAS)}
    body = FIRST | {"model": "grok-beta", "max_tokens": 24, "tools": TOOLS[:3]}
    port = int(live.base_url.rpartition(":")[2])
    answer = post(port, PATH, None, json.dumps(body).encode(), **sent)
    assert answer.status == 200, answer.body
    assert messages.check(answer.body).message["stop_reason"] in ("end_turn", "max_tokens", "tool_use")
