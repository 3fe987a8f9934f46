"""One question in three dialects, whole and streamed, and what was told, in words that all of them share."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.conformance.grammar import answers, chat, messages, responses
from tests.raw import Answer, post
from tests.scripted.server import ScriptedServer

Json = dict[str, Any]
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
FORMS = tuple((dialect, stream) for dialect in PATHS for stream in (False, True))
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


@dataclass(frozen=True)
class Told:
    """`calls` are ids, names and arguments; `output` are the tokens of thoughts too."""

    thoughts: str
    text: str
    calls: tuple[tuple[str, str, Any], ...]
    reason: str
    prompt: int
    cached: int
    output: int
    ticks: int

    @property
    def said(self) -> tuple[str, str, tuple[tuple[str, Any], ...], str]:
        """Without ids and counts."""
        return self.thoughts, self.text, tuple(call[1:] for call in self.calls), self.reason


def question(dialect: str, model: str, stream: bool, **more: Any) -> Json:
    body: Json = {"model": model, "stream": stream} | more
    match dialect:
        case "chat":
            asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2048}
            return asked | ({"stream_options": {"include_usage": True}} if stream else {}) | body
        case "messages":
            thinking = {"type": "enabled", "budget_tokens": 1024}
            return {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2048, "thinking": thinking} | body
        case _:
            return {"input": "hi", "max_output_tokens": 2048} | body


def ask(server: ScriptedServer, dialect: str, stream: bool, model: str, **more: Any) -> Answer:
    body = json.dumps(question(dialect, model, stream, **more)).encode()
    return post(server.port, PATHS[dialect], server.api_key, body)


def told(dialect: str, stream: bool, body: bytes) -> Told:
    """What an answer tells; it keeps to its grammar."""
    match dialect:
        case "chat":
            return _chat_stream(body) if stream else _chat(body)
        case "messages":
            return _message(messages.check(body).message if stream else answers.check_message(body))
        case _:
            response = responses.check(body) if stream else json.loads(body)
            responses.check_response(response)
            return _response(response)


def everywhere(server: ScriptedServer, model: str, forms: Iterable[tuple[str, bool]] = FORMS, **more: Any) -> Told:
    """What all dialects tell, whole and streamed: it is the same."""
    found = {}
    for dialect, stream in forms:
        answer = ask(server, dialect, stream, model, **more)
        assert answer.status == 200, answer.body
        found[dialect, stream] = told(dialect, stream, answer.body)
    first, *rest = found.values()
    assert all(_alike(other) == _alike(first) for other in rest), found
    return first


def _alike(one: Told) -> Told:
    """Ids that are our own are new in every answer."""
    calls = tuple(("call_" if call_id.startswith("call_") else call_id, *call) for call_id, *call in one.calls)
    return replace(one, calls=calls)


def _chat(body: bytes) -> Told:
    answer = answers.check_completion(body)
    [choice] = answer["choices"]
    message = choice["message"]
    said = message.get("reasoning_content", ""), message["content"], message.get("tool_calls", [])
    return _told_in_chat(*said, choice["finish_reason"], answer["usage"])


def _chat_stream(body: bytes) -> Told:
    grammar = chat.check(body, includes_usage=True)
    [said] = grammar.said
    assert said.finish_reason is not None
    assert grammar.usage is not None
    return _told_in_chat(said.reasoning, said.content, said.calls, said.finish_reason, grammar.usage)


def _told_in_chat(thoughts: str, text: str, calls: list[Json], reason: str, usage: Json) -> Told:
    functions = [(call["id"], call["function"]) for call in calls]
    return Told(
        *(thoughts, text),
        tuple((call_id, function["name"], json.loads(function["arguments"])) for call_id, function in functions),
        *(reason, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]),
        usage["completion_tokens"] + usage["completion_tokens_details"]["reasoning_tokens"],
        usage["cost_in_usd_ticks"],
    )


def _message(message: Json) -> Told:
    blocks, usage = message["content"], message["usage"]
    cached = usage["cache_read_input_tokens"]
    return Told(
        "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        tuple((block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        _REASONS[message["stop_reason"]],
        usage["input_tokens"] + cached,
        cached,
        usage["output_tokens"],
        usage["cost_in_usd_ticks"],
    )


def _response(response: Json) -> Told:
    items, usage = response["output"], response["usage"]
    calls = [item for item in items if item["type"] == "function_call"]
    details = response["incomplete_details"]
    reason = {"max_output_tokens": "length", "content_filter": "content_filter"}[details["reason"]] if details else None
    texts = {
        kind: "".join(item["content"][0]["text"] for item in items if item["type"] == kind)
        for kind in ("reasoning", "message")
    }
    return Told(
        *texts.values(),
        tuple((call["call_id"], call["name"], json.loads(call["arguments"])) for call in calls),
        reason or ("tool_calls" if calls else "stop"),
        usage["input_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens"],
        usage["cost_in_usd_ticks"],
    )
