"""What is wrong with a request is said in its dialect, the engine never hears of it, and nothing is charged."""

import json

import pytest

from tests.raw import Raw, head, parse, post, request

pytestmark = pytest.mark.slow

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ASK = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
BOTH = pytest.mark.parametrize("path", [CHAT, MESSAGES])

BAD_BODIES = {
    "broken JSON": (b'{"model": "echo", ', None),
    "empty": (b"", None),
    "an array": (b"[]", None),
    "not UTF-8": (b'{"model": "\xff"}', None),
    "a lone surrogate": (json.dumps(ASK).encode().replace(b'"hi"', b'"\\ud800"'), None),
    "not a number": (json.dumps(ASK | {"temperature": 7}).encode().replace(b"7", b"NaN"), None),
    "too long a number": (json.dumps(ASK | {"max_tokens": 7}).encode().replace(b"7", b"7" * 5000), None),
    "a duplicate key": (b'{"model":"echo","model":"echo","messages":[{"role":"user","content":"hi"}]}', None),
    "deep nesting": (json.dumps(ASK).encode()[:-1] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}", None),
    "no messages": (json.dumps({"model": "echo", "max_tokens": 5}).encode(), "messages"),
    "empty messages": (json.dumps(ASK | {"messages": []}).encode(), "messages"),
    "no model": (json.dumps({"messages": ASK["messages"], "max_tokens": 5}).encode(), "model"),
    "a number as a model": (json.dumps(ASK | {"model": 5}).encode(), "model"),
    "a number as a string": (json.dumps(ASK | {"max_tokens": "5"}).encode(), "max_tokens"),
    "a boolean as a number": (json.dumps(ASK | {"max_tokens": True}).encode(), "max_tokens"),
    "a negative limit": (json.dumps(ASK | {"max_tokens": -1}).encode(), "max_tokens"),
    "a hot temperature": (json.dumps(ASK | {"temperature": 2.5}).encode(), "temperature"),
    "a string as stream": (json.dumps(ASK | {"stream": "yes"}).encode(), "stream"),
    "an unknown role": (json.dumps(ASK | {"messages": [{"role": "x", "content": "hi"}]}).encode(), "messages[0].role"),
    "no content": (json.dumps(ASK | {"messages": [{"role": "user"}]}).encode(), "messages[0].content"),
    "an unknown part": (
        json.dumps(ASK | {"messages": [{"role": "user", "content": [{"type": "smell"}]}]}).encode(),
        "messages[0].content[0].type",
    ),
}


@BOTH
@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_bad_body_is_a_400_that_names_the_field(server, path, what):
    body, field = BAD_BODIES[what]
    answer = post(server.port, path, server.api_key, body)
    assert answer.status == 400, answer.body
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json["error"]
    if field is not None:
        assert field in error["message"]
    if path == CHAT:
        assert (answer.json["code"], error["type"], error["param"]) == (
            "invalid-argument",
            "invalid_request_error",
            field,
        )
    else:
        assert (answer.json["type"], error["type"]) == ("error", "invalid_request_error")
        assert answer.json["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert server.engine.requests == []
    assert server.charges() == []
    assert server.balance().held_ticks == 0


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"stop": ["a"] * 9}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"five": 1}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"deferred": True, "stream": True}, "deferred"),
        ({"chat_template": "{{x}}"}, "chat_template"),
        ({"functions": [{"name": "f"}], "tools": [{"type": "function", "function": {"name": "f"}}]}, "functions"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].name"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
        ({"seed": 2**70}, "seed"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_is_not_done_is_refused_by_name(server, more, param):
    answer = post(server.port, CHAT, server.api_key, json.dumps(ASK | more).encode())
    assert (answer.status, answer.json["error"]["param"]) == (400, param)
    assert server.engine.requests == []


def test_what_has_no_effect_is_accepted(server):
    harmless = {
        "store": True,
        "user": "u",
        "service_tier": "auto",
        "metadata": {"a": "b"},
        "unheard_of": [1],
        "n": None,
    }
    assert post(server.port, CHAT, server.api_key, json.dumps(ASK | harmless).encode()).status == 200
    harmless = {"metadata": {"user_id": "u"}, "thinking": {"type": "adaptive"}, "context_management": {"edits": []}}
    assert post(server.port, MESSAGES, server.api_key, json.dumps(ASK | harmless).encode()).status == 200


@BOTH
@pytest.mark.parametrize("ask", [ASK, ASK | {"stream": True}])
def test_a_prompt_longer_than_the_context_is_a_400_with_both_numbers(server, path, ask):
    long = ask | {"messages": [{"role": "user", "content": "word " * 1500}]}
    answer = post(server.port, path, server.api_key, json.dumps(long).encode())
    assert answer.status == 400
    assert "1000" in answer.json["error"]["message"]
    assert "1500" in answer.json["error"]["message"]
    assert server.engine.requests == []


@BOTH
def test_a_body_above_32_mebibytes_is_a_413_before_it_is_read(server, path):
    raw = Raw(server.port)
    raw.send(head(path, server.api_key, 32 * 1024 * 1024 + 1, content_type="application/json"))
    answer = parse(raw.read_to_end())
    assert answer.status == 413
    assert answer.json["error"]["type"] == "request_too_large"


@BOTH
def test_a_chunked_body_above_32_mebibytes_is_a_413(server, path):
    raw = Raw(server.port)
    key = f"Authorization: Bearer {server.api_key}\r\n"
    raw.send(
        f"POST {path} HTTP/1.1\r\nHost: t\r\n{key}Content-Type: application/json\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    mebibyte = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    for _ in range(33):
        raw.send(mebibyte)
    assert parse(raw.read_until(b"request_too_large")).status == 413
    raw.hang_up()


@BOTH
def test_a_body_that_is_not_json_by_its_type_is_a_415(server, path):
    answer = post(server.port, path, server.api_key, b"model=echo", content_type="application/x-www-form-urlencoded")
    assert (answer.status, answer.json["error"]["type"]) == (415, "invalid_request_error")


@BOTH
def test_another_verb_is_a_405_that_names_the_right_one(server, path):
    answer = request(server.port, "DELETE", path, x_api_key=server.api_key)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_an_unknown_path_is_a_404_in_openais_shape(server):
    answer = request(server.port, "GET", "/v1/nothing", x_api_key=server.api_key)
    assert (answer.status, answer.json["code"], answer.json["error"]["param"]) == (404, "not-found", None)


@BOTH
def test_without_a_key_nothing_is_told_and_the_body_is_not_read(server, path):
    raw = Raw(server.port)
    raw.send(head(path, None, 1000, content_type="application/json"))
    answer = parse(raw.read_to_end())
    assert answer.status == 401


@pytest.mark.parametrize("how", ["disabled", "revoked", "wrong", "cut"])
@BOTH
def test_a_key_that_does_not_work_is_a_401_without_any_of_it(server, path, how):
    key = server.api_key
    if how in ("disabled", "revoked"):
        verb = {"disabled": "disable", "revoked": "revoke"}[how]
        server.command(f"keys {verb}", key="first-key", email=None)
    key = {"wrong": key[:-1] + ("a" if key[-1] != "a" else "b"), "cut": key[:-1]}.get(how, key)
    answer = post(server.port, path, key, json.dumps(ASK).encode())
    assert answer.status == 401
    assert key.encode() not in answer.body
    assert key[12:20].encode() not in answer.body


def test_a_disabled_key_works_again_once_enabled(server):
    server.command("keys disable", key="first-key", email=None)
    assert post(server.port, CHAT, server.api_key, json.dumps(ASK).encode()).status == 401
    server.command("keys enable", key="first-key", email=None)
    assert post(server.port, CHAT, server.api_key, json.dumps(ASK).encode()).status == 200


def test_both_key_headers_count_and_two_different_keys_are_refused(server):
    def ask(**headers: str) -> int:
        body = json.dumps(ASK).encode()
        return post(server.port, CHAT, None, body, **headers).status

    key = server.api_key
    assert ask(x_api_key=key) == 200
    assert ask(authorization=f"bearer {key}") == 200
    assert ask(x_api_key=key, authorization=f"Bearer {key}") == 200
    assert ask(x_api_key=key, authorization="") == 200
    assert ask(x_api_key=key, authorization="Bearer other") == 400
    assert ask() == 401


def test_a_bug_of_ours_is_a_500_without_a_word_from_the_inside(server):
    answer = post(server.port, CHAT, server.api_key, json.dumps(ASK | {"model": "crash"}).encode())
    assert (answer.status, answer.json["error"]["type"]) == (500, "api_error")
    assert b"secret" not in answer.body
    assert server.balance().held_ticks == 0
    assert server.charges() == []


def test_an_image_is_refused_where_no_model_can_see(server):
    server.engine.context_tokens = None
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/cat.png"}}
    ask = ASK | {"messages": [{"role": "user", "content": [picture]}]}
    answer = post(server.port, CHAT, server.api_key, json.dumps(ask).encode())
    assert answer.status == 400
    assert "no vision model is loaded" in answer.json["error"]["message"]


@pytest.mark.parametrize("data", ["@@@", "é", "AAA", "\u0000"])
def test_an_image_that_is_no_base64_is_refused_by_name(server, data):
    shown = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    ask = ASK | {"messages": [{"role": "user", "content": [shown]}]}
    answer = post(server.port, MESSAGES, server.api_key, json.dumps(ask).encode())
    assert answer.status == 400
    assert "messages[0].content[0].source.data is not valid base64" in answer.json["error"]["message"]


def test_a_model_that_is_loading_is_a_503_that_says_when_to_come_back(server):
    server.engine.ready = False
    answer = post(server.port, CHAT, server.api_key, json.dumps(ASK).encode())
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    ready = request(server.port, "GET", "/health/ready")
    assert (ready.status, "loading" in ready.json["detail"]) == (503, True)
    assert request(server.port, "GET", "/health/live").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_start_page_needs_no_key(server, method):
    answer = request(server.port, method, "/")
    assert (answer.status, bool(answer.body)) == (200, method == "GET")
