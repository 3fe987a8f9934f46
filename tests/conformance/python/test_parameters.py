"""docs/parameters.md is true: each field of each request is honoured, harmless or refused, as its tables say."""

import json
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_create_params as beta_message_create_params
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from leadline.dialects.anthropic.complete import Body as CompleteBody
from leadline.dialects.anthropic.decode import Body as MessagesBody
from leadline.dialects.openai.decode import Body as ChatBody
from leadline.dialects.openai.decode_completion import Body as CompletionBody
from leadline.dialects.responses.decode import Body as ResponsesBody
from tests.proof import count
from tests.raw import post

DOCUMENT = Path(__file__).parents[3] / "docs" / "parameters.md"
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, COMPLETE = "/v1/messages", "/v1/complete"
ASK = [{"role": "user", "content": "hi"}]
BODIES = {
    CHAT: (ChatBody, {"messages": ASK}),
    COMPLETIONS: (CompletionBody, {"prompt": "hi"}),
    RESPONSES: (ResponsesBody, {"input": "hi", "store": False}),
    MESSAGES: (MessagesBody, {"messages": ASK, "max_tokens": 9}),
    COMPLETE: (CompleteBody, {"prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 9}),
}
# What the newest SDKs can send, and what xAI's own documents list besides.
SENT = {
    CHAT: {*chat_create_params.CompletionCreateParamsBase.__annotations__, "deferred", "search_parameters", "stream"},
    COMPLETIONS: {*completion_create_params.CompletionCreateParamsBase.__annotations__, "stream"},
    RESPONSES: {
        *response_create_params.ResponseCreateParamsBase.__annotations__,
        *("stream", "top_k", "min_p", "logprobs", "max_turns", "reasoning_effort", "search_parameters"),
    },
    MESSAGES: {
        *message_create_params.MessageCreateParamsBase.__annotations__,
        *beta_message_create_params.MessageCreateParamsBase.__annotations__,
        *("stream", "temperature", "top_p", "top_k"),
    },
    COMPLETE: {
        "metadata",
        "model",
        "prompt",
        "max_tokens_to_sample",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
    },
}
# Values of fields that are refused.
REFUSED = {
    "audio": {"voice": "x", "format": "wav"},
    "background": True,
    "best_of": 2,
    "chat_template": "{{ x }}",
    "chat_template_kwargs": {"x": 1},
    "container": "x",
    "conversation": "conv_1",
    "mcp_servers": [{"type": "url"}],
    "modalities": ["text", "audio"],
    "n": 2,
    "prompt": {"id": "x"},
    "search_parameters": {"mode": "auto"},
    "suffix": "x",
    "thread": {"type": "create"},
    "web_search_options": {},
}
# Values of harmless fields that have a type here.
TYPED = {
    "max_tool_calls": 1,
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "truncation": "auto",
    "user": "u",
    "stream_options": {"include_obfuscation": False},
}


def table(path: str) -> dict[str, str]:
    """What the document says of each field."""
    section = DOCUMENT.read_text().partition(f"## `POST {path}`\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \| (honoured|harmless|refused) \|", section, re.MULTILINE)
    told = [(field, kind) for fields, kind in rows for field in re.findall(r"`(\w+)`", fields)]
    assert len(dict(told)) == len(told), "a field is told twice"
    return dict(told)


def of_kind(kind: str) -> list[tuple[str, str]]:
    return [(path, field) for path in BODIES for field, told in table(path).items() if told == kind]


@pytest.mark.parametrize("path", BODIES)
def test_every_field_that_is_decoded_or_sent_is_in_the_table(path):
    decoded = {field.encode_name for field in msgspec.structs.fields(BODIES[path][0])}
    assert (decoded | SENT[path]) - table(path).keys() == set()


@pytest.mark.parametrize("path", BODIES)
def test_what_is_honoured_or_refused_is_decoded(path):
    decoded = {field.encode_name for field in msgspec.structs.fields(BODIES[path][0])}
    told = table(path)
    assert {field for field, kind in told.items() if kind != "harmless"} - decoded == set()


@pytest.mark.parametrize(("path", "field"), of_kind("refused"))
def test_what_is_refused_is_refused_by_name(server, path, field):
    body = {"model": "echo"} | BODIES[path][1] | {field: REFUSED[field]}
    answer = post(server.port, path, server.api_key, json.dumps(body).encode())
    assert answer.status == 400
    assert field in answer.json["error"]["message"]
    assert answer.json["error"].get("param", field) == field
    assert server.engine.requests == []
    body[field] = None
    assert post(server.port, path, server.api_key, json.dumps(body).encode()).status == 200


@pytest.mark.parametrize("path", BODIES)
def test_what_is_harmless_changes_nothing(server, path):
    plain = {"model": "echo"} | BODIES[path][1]
    harmless = [field for other, field in of_kind("harmless") if other == path]
    bodies = [plain, *(plain | {field: TYPED.get(field, {"x": 1})} for field in harmless)]
    assert [post(server.port, path, server.api_key, json.dumps(body).encode()).status for body in bodies] == [
        200 for _ in bodies
    ]
    first, *others = server.engine.requests
    assert all(other == first for other in others)


FUNCTION = {"name": "f"}
TOOL = {"type": "function", "function": FUNCTION}
# What may stand in any field: of the right kind, of a wrong one, and beyond its bounds.
ANYTHING: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 3.5, 1e9, 2**63, 2**70, "", "x", "none", "auto", "required", "high", "a b c", {}),
    *([], [1], [[1]], ["a"], [None], [1, 2, 3], [[1, 2], [3]], ["a", 1], [""], {"a": 1}, {"5": 1}, {"5": 1000}),
    *(FUNCTION, [FUNCTION], TOOL, [TOOL], {"type": "function"}, {"type": "allowed_tools"}, {"effort": "low"}),
    *({"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}, {"type": "disabled"}, {"include_usage": True}),
    {"type": "allowed_tools", "mode": "auto", "tools": [TOOL | FUNCTION]},
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}},
    {"type": "json_schema", "json_schema": {"schema": {}}},
    {"format": {"type": "json_schema", "schema": {}}},
    [{"role": "function", "name": "f", "content": None}],
    [{"role": "assistant", "function_call": FUNCTION}, {"role": "function", "name": "f"}],
    [{"role": "assistant", "function_call": FUNCTION | {"arguments": "["}}],
    [{"role": "assistant", "content": [{"type": "thinking", "thinking": "a"}]}],
    [{"role": "user", "content": "hi"}],
    "\n\nHuman: a\n\nAssistant:",
]


@pytest.mark.parametrize("path", BODIES)
def test_whatever_stands_in_a_field_is_honoured_or_refused_by_name(server, path):
    server.engine.context_tokens = None
    fields = sorted(table(path).keys() - {"model", "deferred"})
    for seed in range(count(60, 2000)):
        rng = random.Random(seed)
        odd = {field: rng.choice(ANYTHING) for field in rng.sample(fields, rng.randint(1, 3))}
        body = {"model": "echo"} | BODIES[path][1] | odd
        answer = post(server.port, path, server.api_key, json.dumps(body).encode())
        assert answer.status in (200, 400, 404, 429), (body, answer.body)
        if answer.status == 400:
            error = answer.json["error"]
            assert any(field in error["message"] or field in (error.get("param") or "") for field in odd), (body, error)
