"""CONTRACT, section 5: every row of the error table is the exception that the newest SDKs have for it, with the headers
that tell them whether to try again. One table of scenes for Python and JavaScript."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from leadline.errors import DeadlineExceeded
from tests.raw import Raw, open_post, post
from tests.scripted.engine import SCRIPTS
from tests.scripted.server import ScriptedServer

Json = dict[str, Any]
SAID = [{"role": "user", "content": "hi"}]
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
LARGEST_BYTES = 4000
# Of each fact: what is asked besides, then class, status and code in OpenAI's words and in Anthropic's, then whether to
# try again: False and None are the header `x-should-retry`, an integer is the least of `retry-after`.
FACTS: dict[str, tuple[Json, tuple[str, int, str], tuple[str, int, str], int | bool | None]] = {
    "wrong key": (
        {"key": "no"},
        ("AuthenticationError", 401, "invalid_api_key"),
        ("AuthenticationError", 401, "authentication_error"),
        False,
    ),
    "disabled key": (
        {"key": "disabled"},
        ("AuthenticationError", 401, "invalid_api_key"),
        ("AuthenticationError", 401, "authentication_error"),
        False,
    ),
    "revoked key": (
        {"key": "revoked"},
        ("AuthenticationError", 401, "invalid_api_key"),
        ("AuthenticationError", 401, "authentication_error"),
        False,
    ),
    "another endpoint": (
        {"key": "embeds"},
        ("PermissionDeniedError", 403, "permission_denied"),
        ("PermissionDeniedError", 403, "permission_error"),
        False,
    ),
    "another model": (
        {"key": "slow"},
        ("PermissionDeniedError", 403, "permission_denied"),
        ("PermissionDeniedError", 403, "permission_error"),
        False,
    ),
    "unknown model": (
        {"model": "nothing"},
        ("NotFoundError", 404, "model_not_found"),
        ("NotFoundError", 404, "not_found_error"),
        False,
    ),
    "wrong verb": (
        {"method": "get"},
        ("APIError", 405, "invalid_request_error"),
        ("APIError", 405, "invalid_request_error"),
        False,
    ),
    "not JSON": (
        {"headers": {"Content-Type": "text/plain"}},
        ("APIError", 415, "invalid_request_error"),
        ("APIError", 415, "invalid_request_error"),
        False,
    ),
    "bad field": (
        {"body": {"temperature": 3}},
        ("BadRequestError", 400, "invalid_request_error"),
        ("BadRequestError", 400, "invalid_request_error"),
        False,
    ),
    "too large": (
        {"body": {"user": "x" * LARGEST_BYTES}},
        ("APIError", 413, "request_too_large"),
        ("ContentTooLargeError", 413, "request_too_large"),
        False,
    ),
    "no credits": (
        {"key": "poor"},
        ("RateLimitError", 429, "insufficient_quota"),
        ("PaymentRequiredError", 402, "billing_error"),
        False,
    ),
    "cap spent": (
        {"key": "capped"},
        ("RateLimitError", 429, "insufficient_quota"),
        ("PaymentRequiredError", 402, "billing_error"),
        False,
    ),
    "credits held": (
        {"key": "held"},
        ("RateLimitError", 429, "rate_limit_exceeded"),
        ("RateLimitError", 429, "rate_limit_error"),
        1,
    ),
    "rate limited": (
        {"key": "limited"},
        ("RateLimitError", 429, "rate_limit_exceeded"),
        ("RateLimitError", 429, "rate_limit_error"),
        1,
    ),
    "used Idempotency-Key": (
        {"headers": {"Idempotency-Key": "used"}},
        ("ConflictError", 409, "idempotency_conflict"),
        ("ConflictError", 409, "invalid_request_error"),
        False,
    ),
    "busy engine": (
        {"model": "busy"},
        ("InternalServerError", 503, "overloaded"),
        ("OverloadedError", 529, "overloaded_error"),
        1,
    ),
    "deadline": (
        {"model": "late"},
        ("InternalServerError", 504, "timeout"),
        ("GatewayTimeoutError", 504, "api_error"),
        None,
    ),
    "broken engine": (
        {"model": "broken-before"},
        ("InternalServerError", 502, "api_error"),
        ("InternalServerError", 502, "api_error"),
        None,
    ),
    "our own fault": (
        {"model": "crash"},
        ("InternalServerError", 500, "api_error"),
        ("InternalServerError", 500, "api_error"),
        None,
    ),
}


def late(_):
    yield DeadlineExceeded("The engine is late.")


def question(dialect: str, asked: Json, stream: bool) -> Json:
    tokens = {"max_tokens": 64}
    return {"model": asked.get("model", "echo"), "messages": SAID, "stream": stream} | tokens | asked.get("body", {})


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ScriptedServer, dict[str, str]]]:
    """A server in which every fact of the table is true, and its keys by name."""
    server = ScriptedServer(tmp_path / "data", scripts=SCRIPTS | {"late": late})
    email, keys = "alice@northwind.example", {"no": "no", "alice": server.api_key}
    for name, options in {
        "disabled": {},
        "revoked": {},
        "embeds": {"endpoints": ["embed"]},
        "slow": {"models": ["slow"]},
        "capped": {"cap": "0.0001/month"},
        "limited": {"requests_per_minute": 1},
    }.items():
        keys[name] = server.command("keys create", name=name, email=email, options=options)["api_key"]
    server.command("keys disable", key="disabled", email=email)
    server.command("keys revoke", key="revoked", email=email)
    for name, usd in (("poor", None), ("held", "0.0005")):
        bob = f"bob@{name}.example"
        server.command("accounts create", email=bob, org=name, password="battery staple")
        if usd is not None:
            server.command("credits grant", email=bob, amount=usd, reason="paid")
        keys[name] = server.command("keys create", name=name, email=bob)["api_key"]
    running = [_stream(server, keys["held"], "slow", max_tokens=200)]
    running[0].read_until(b"three")
    _stream(server, keys["limited"], "echo").read_to_end()
    used = json.dumps({"model": "echo", "messages": SAID}).encode()
    assert post(server.port, PATHS["openai"], keys["alice"], used, idempotency_key="used").status == 200
    monkeypatch.setattr("leadline.web.exchange.LARGEST_BODY_BYTES", LARGEST_BYTES)
    yield server, keys
    server.loop.call_soon_threadsafe(server.engine.release.set)
    running[0].read_to_end()
    server.stop()


def _stream(server: ScriptedServer, key: str, model: str, **more: Any) -> Raw:
    body = {"model": model, "messages": SAID, "stream": True} | more
    return open_post(server.port, PATHS["openai"], key, body)


def tells_whether_to_retry(headers: Any, retry: int | bool | None) -> bool:
    should, after = headers.get("x-should-retry"), headers.get("retry-after")
    if retry is False:
        return should == "false" and after is None
    return should is None and (after is None if retry is None else retry <= int(after) <= 60)


def test_pythons_sdks_have_an_exception_for_every_row(scenes):
    server, keys = scenes
    with (
        openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="-", max_retries=0) as ours,
        anthropic.Anthropic(base_url=server.base_url, api_key="-", max_retries=0) as theirs,
    ):
        for name, (asked, in_openai, in_anthropic, retry) in FACTS.items():
            for sdk, client, expected in ((openai, ours, in_openai), (anthropic, theirs, in_anthropic)):
                key = keys[asked.get("key", "alice")]
                path = PATHS["openai"].removeprefix("/v1") if sdk is openai else PATHS["anthropic"]
                for stream in (False, True):
                    body, call = question(sdk.__name__, asked, stream), client.with_options(api_key=key)
                    options = {"headers": asked.get("headers", {})}
                    more = {} if asked.get("method") == "get" else {"body": body, "options": options}
                    send = call.get if asked.get("method") == "get" else call.post
                    with pytest.raises(sdk.APIError) as raised:
                        send(path, cast_to=object, **more)
                    error: Any = raised.value
                    kind, status, code = expected
                    assert isinstance(error, getattr(sdk, kind)), (name, error)
                    assert error.status_code == status, (name, error)
                    told = error.code if sdk is openai else error.body["error"]["type"]
                    assert (told or error.type) == code, (name, error.body)
                    assert error.request_id, name
                    assert tells_whether_to_retry(error.response.headers, retry), (name, error.response.headers)


def test_what_breaks_within_a_stream_is_an_exception_of_the_sdk(scenes):
    server, keys = scenes
    ask = {"model": "broken-after", "messages": SAID, "max_tokens": 9, "stream": True}
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=keys["alice"]) as client:
        with pytest.raises(openai.APIError, match="The engine broke") as raised:
            list(client.chat.completions.create(**ask))
        assert raised.value.type == "api_error"
        *_, last = list(client.responses.create(model="broken-after", input="hi", stream=True))
        assert (last.type, last.response.error.code) == ("response.failed", "server_error")
    with anthropic.Anthropic(base_url=server.base_url, api_key=keys["alice"]) as client:
        with pytest.raises(anthropic.APIStatusError, match="The engine broke") as refused:
            list(client.messages.create(**ask))
        assert refused.value.body["error"]["type"] == "api_error"


@pytest.mark.node
def test_javascripts_sdks_have_an_exception_for_every_row(scenes, node):
    server, keys = scenes
    facts = [
        {
            "name": name,
            "key": keys[asked.get("key", "alice")],
            "method": asked.get("method", "post"),
            "headers": asked.get("headers", {}),
            "body": question("", asked, stream),
            "openai": in_openai,
            "anthropic": in_anthropic,
            "retry": retry,
        }
        for name, (asked, in_openai, in_anthropic, retry) in FACTS.items()
        for stream in (False, True)
    ]
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", "errors.mjs"],
        cwd=Path(__file__).parent / "javascript",
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "BASE_URL": server.base_url, "FACTS": json.dumps(facts)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"pass {len(facts)}" in done.stdout
