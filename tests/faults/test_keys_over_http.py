"""What an API key may do, over real HTTP: where it opens, how much it may spend, how fast it may be used. Every change
holds from the next request on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.operations import housekeeping
from tests.raw import Answer, Raw, head, open_post, parse, post, request
from tests.scripted.server import ScriptedServer

CHAT, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
PATHS = pytest.mark.parametrize("path", [CHAT, MESSAGES])
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000
NAME = "ci of Alice"
SECOND = 1_000_000_000
# What remains, by the words of each dialect.
REQUESTS_LEFT = {CHAT: "x-ratelimit-remaining-requests", MESSAGES: "anthropic-ratelimit-requests-remaining"}
TOKENS_LEFT = {CHAT: "x-ratelimit-remaining-tokens", MESSAGES: "anthropic-ratelimit-tokens-remaining"}


def ask(model: str = "echo", text: str = "tell me all", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]} | more


def key(server: ScriptedServer, **options: Any) -> str:
    return str(server.command("keys create", name=NAME, email=None, options=options)["api_key"])


def change(server: ScriptedServer, **options: Any) -> None:
    server.command("keys change", key=NAME, email=None, options=options)


def send(server: ScriptedServer, path: str, api_key: str, body: dict[str, Any] | None = None) -> Answer:
    return post(server.port, path, api_key, json.dumps(body or ask()).encode())


def model_names(server: ScriptedServer, api_key: str, **headers: str) -> list[str]:
    answer = request(server.port, "GET", "/v1/models", x_api_key=api_key, **headers)
    assert answer.status == 200
    return [model["id"] for model in answer.json["data"]]


@contextmanager
def openai_client(server: ScriptedServer, api_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=api_key, max_retries=0) as client:
        yield client


@contextmanager
def anthropic_client(server: ScriptedServer, api_key: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.base_url, api_key=api_key, max_retries=0) as client:
        yield client


def release(server: ScriptedServer) -> None:
    server.loop.call_soon_threadsafe(server.engine.release.set)


def revoke(server: ScriptedServer) -> None:
    """Revoke the key, and have the server look at what runs. Where that goes on all the same, it ends by itself."""
    server.command("keys revoke", key=NAME, email=None)
    server.run(server.pipeline.running.tick())
    release(server)


def wait_until_settled(server: ScriptedServer) -> None:
    server.wait_until(lambda: not server.instance.ledger.running())


@dataclass
class StoppedClock:
    """A clock that the test steps."""

    now: int

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def limiter_clock(server: ScriptedServer) -> StoppedClock:
    """The limiter's: nothing refills by itself. Monotonic nanoseconds."""
    clock = StoppedClock(10**15)
    server.pipeline.limiter.clock = clock
    return clock


@pytest.fixture
def key_clock(server: ScriptedServer) -> StoppedClock:
    """That of expiries and rotations. Microseconds since 1970."""
    clock = StoppedClock(server.instance.keys.clock())
    server.instance.keys.clock = clock
    return clock


def assert_forbidden(answer: Answer, path: str, *words: str) -> None:
    assert (answer.status, answer.headers["x-should-retry"]) == (403, "false")
    error = answer.json["error"]
    if path in (MESSAGES, COUNT):
        assert (answer.json["type"], error["type"]) == ("error", "permission_error")
    else:
        assert (answer.json["code"], error["code"]) == ("permission-denied", "permission_denied")
    for word in (NAME, *words):
        assert word in error["message"]


# Scopes


def test_a_key_for_chat_does_nothing_else(server):
    chat = key(server, endpoints=["chat"])
    assert send(server, CHAT, chat).status == send(server, MESSAGES, chat).status == 200
    assert_forbidden(send(server, COUNT, chat), COUNT, "tokenize", "chat")
    for path in ("/v1/models", "/v1/models/echo", "/v1/language-models", "/v1/language-models/echo"):
        assert_forbidden(request(server.port, "GET", path, x_api_key=chat), path, "models")


@PATHS
@pytest.mark.parametrize("scope", ["tokenize", "models"])
def test_a_key_without_chat_does_not_chat_and_the_engine_never_hears_of_it(server, path, scope):
    other = key(server, endpoints=[scope])
    assert_forbidden(send(server, path, other), path, "chat", scope)
    assert_forbidden(send(server, path, other, ask(stream=True)), path)
    assert send(server, COUNT, other).status == (200 if scope == "tokenize" else 403)
    assert request(server.port, "GET", "/v1/models", x_api_key=other).status == (200 if scope == "models" else 403)
    assert (server.engine.requests, server.charges(), server.balance().held_ticks) == ([], [], 0)


@pytest.mark.parametrize("permitted", ["echo", "echo-latest", "claude-*", "claude-opus-9"])
def test_a_key_for_a_model_may_use_it_by_all_its_names_however_it_was_given(server, permitted):
    scoped = key(server, models=[permitted])
    for name in ("echo", "echo-latest", "claude-sonnet-9"):
        for path in (CHAT, MESSAGES, COUNT):
            assert send(server, path, scoped, ask(name)).status == 200
    for path in (CHAT, MESSAGES, COUNT):
        assert_forbidden(send(server, path, scoped, ask("weather")), path, "weather")
    assert {each.model for each in server.engine.requests} == {"echo"}


def test_the_lists_of_models_show_what_the_key_may_use(server):
    scoped, all_names = key(server, models=["echo-latest", "weather", "gone"]), model_names(server, server.api_key)
    assert len(all_names) > 2
    assert model_names(server, scoped) == [name for name in all_names if name in ("echo", "weather")]
    assert model_names(server, scoped, anthropic_version="2023-06-01") == model_names(server, scoped)
    for path in ("/v1/models", "/v1/language-models"):
        assert request(server.port, "GET", f"{path}/claude-opus-9", x_api_key=scoped).status == 200
        assert_forbidden(request(server.port, "GET", f"{path}/slow", x_api_key=scoped), path, "slow")
        assert request(server.port, "GET", f"{path}/nothing", x_api_key=scoped).status == 404
    assert send(server, CHAT, scoped, ask("nothing")).status == 404


def test_a_changed_scope_holds_from_the_next_request_on(server):
    scoped = key(server, endpoints=["models"], models=["weather"])
    change(server, endpoints=["chat"])
    assert_forbidden(send(server, CHAT, scoped), CHAT, "echo")
    change(server, models=["echo"])
    assert send(server, CHAT, scoped).status == 200
    change(server, endpoints=[], models=[])
    assert send(server, COUNT, scoped, ask("weather")).status == 200


def test_a_refused_scope_is_the_sdks_own_exception(server):
    scoped = key(server, endpoints=["chat"], models=["echo"])
    with openai_client(server, scoped) as client:
        assert client.chat.completions.create(**ask("echo-latest")).model == "echo"
        with pytest.raises(openai.PermissionDeniedError, match=NAME) as refused:
            client.chat.completions.create(**ask("weather"))
        assert refused.value.code == "permission_denied"
        with pytest.raises(openai.PermissionDeniedError, match=NAME):
            client.models.list()
    with anthropic_client(server, scoped) as client:
        assert client.messages.create(**ask("claude-opus-9")).model == "claude-opus-9"
        with pytest.raises(anthropic.PermissionDeniedError, match=NAME) as refused:
            client.messages.create(**ask("weather"))
        assert refused.value.body["error"]["type"] == "permission_error"
        with pytest.raises(anthropic.PermissionDeniedError, match=NAME):
            client.messages.count_tokens(model="echo", messages=ask()["messages"])


# Time and state


@PATHS
def test_a_key_works_until_the_moment_of_its_expiry(server, key_clock, path):
    mortal = key(server, expires="90d")
    key_clock.now += 90 * MICROSECONDS_PER_DAY - 1
    assert send(server, path, mortal).status == 200
    key_clock.now += 1
    refused = send(server, path, mortal)
    assert (refused.status, refused.headers["x-should-retry"]) == (401, "false")
    assert f"“{NAME}” expired on" in refused.json["error"]["message"]
    assert mortal not in refused.body.decode()
    change(server, expires="1d")
    assert send(server, path, mortal).status == 200


def test_a_disabled_enabled_and_revoked_key_is_so_from_the_next_request_on(server):
    changing = key(server)
    with openai_client(server, changing) as client:  # one connection for all
        for command in ("disable", "enable", "disable", "enable"):
            client.chat.completions.create(**ask())
            server.command(f"keys {command}", key=NAME, email=None)
            if command == "disable":
                with pytest.raises(openai.AuthenticationError, match=f"“{NAME}” is disabled") as refused:
                    client.chat.completions.create(**ask())
                assert refused.value.code == "invalid_api_key"
                server.command("keys enable", key=NAME, email=None)
        server.command("keys revoke", key=NAME, email=None)
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key") as refused:
            client.chat.completions.create(**ask())
        assert NAME not in str(refused.value)
    with anthropic_client(server, changing) as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(**ask())
    assert len(server.charges()) == 4


def test_a_rotated_keys_two_secrets_both_work_until_the_overlap_ends(server, key_clock):
    old = key(server)
    new = server.command("keys rotate", key=NAME, email=None, overlap="24h")["api_key"]
    assert send(server, CHAT, old).status == send(server, MESSAGES, new).status == 200
    key_clock.now += 24 * MICROSECONDS_PER_HOUR
    refused = send(server, CHAT, old)
    assert (refused.status, send(server, CHAT, new).status) == (401, 200)
    assert f"“{NAME}” stopped working on" in refused.json["error"]["message"]
    newest = server.command("keys rotate", key=NAME, email=None, overlap="0s")["api_key"]
    assert [send(server, CHAT, each).status for each in (old, new, newest)] == [401, 401, 200]
    assert len({charge.key_id for charge in server.charges()}) == 1


@PATHS
def test_a_running_stream_of_a_revoked_key_ends_with_an_error_and_costs_what_was_delivered(server, path):
    raw = open_post(server.port, path, key(server), ask("slow", stream=True))
    raw.read_until(b"three")
    revoke(server)
    received = raw.read_to_end()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"was revoked while it ran" in received
    assert (b"invalid_api_key" if path == CHAT else b"authentication_error") in received
    wait_until_settled(server)
    assert (server.engine.aborted, server.balance().held_ticks) == (["slow"], 0)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (3 * PROMPT_TICKS + 3 * OUTPUT_TICKS, "interrupted")


@PATHS
@pytest.mark.parametrize(("model", "stream"), [("slow", False), ("stall", False), ("stall", True)])
def test_what_has_not_begun_to_answer_ends_with_a_401_when_its_key_is_revoked_and_costs_nothing(
    server, path, model, stream
):
    raw = open_post(server.port, path, key(server), ask(model, stream=stream))
    server.wait_until(lambda: server.engine.running == 1)
    revoke(server)
    answer = parse(raw.read_to_end())
    assert answer.status == 401
    assert "was revoked while it ran" in answer.json["error"]["message"]
    wait_until_settled(server)
    assert (server.engine.aborted, server.charges(), server.balance().held_ticks) == ([model], [], 0)


def test_the_openai_sdk_raises_when_a_key_is_revoked_under_a_stream(server):
    with openai_client(server, key(server)) as client:
        stream = client.chat.completions.create(**ask("slow", stream=True))
        next(stream)
        revoke(server)
        with pytest.raises(openai.APIError, match="was revoked while it ran"):
            list(stream)


def test_the_anthropic_sdk_raises_when_a_key_is_revoked_under_a_stream(server):
    with anthropic_client(server, key(server)) as client:
        with client.messages.stream(**ask("slow")) as stream:
            next(stream)
            revoke(server)
            with pytest.raises(anthropic.APIStatusError, match="was revoked while it ran"):
                list(stream)


def test_other_running_streams_go_on_and_so_does_that_of_a_disabled_key(server):
    revoked, disabled = key(server), server.command("keys create", name="other", email=None)["api_key"]
    raws = [open_post(server.port, CHAT, each, ask("slow", stream=True)) for each in (disabled, server.api_key)]
    doomed = open_post(server.port, CHAT, revoked, ask("slow", stream=True))
    for raw in (*raws, doomed):
        raw.read_until(b"three")
    server.command("keys disable", key="other", email=None)
    revoke(server)
    assert b"revoked" in doomed.read_to_end()
    for raw in raws:
        assert b"data: [DONE]" in raw.read_to_end()
    assert sorted(charge.reason for charge in server.charges()) == ["", "", "interrupted"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_revoked_key_ends_what_is_recorded_for_its_idempotency_key_too(server, stream):
    raw, encoded = Raw(server.port), json.dumps(ask("slow", stream=stream)).encode()
    headers = {"content_type": "application/json", "idempotency_key": "order-1"}
    raw.send(head(CHAT, key(server), len(encoded), **headers) + encoded)
    server.wait_until(lambda: server.engine.running == 1)
    if stream:
        raw.read_until(b"three")
    revoke(server)
    received = raw.read_to_end()
    assert received.startswith(b"HTTP/1.1 200 " if stream else b"HTTP/1.1 401 ")
    assert b"was revoked while it ran" in received
    wait_until_settled(server)
    assert (server.engine.aborted, server.balance().held_ticks) == (["slow"], 0)


def test_a_recorded_stream_of_a_revoked_key_costs_what_was_delivered_since_the_key_cannot_ask_again(server):
    raw, encoded = Raw(server.port), json.dumps(ask("slow", stream=True)).encode()
    headers = {"content_type": "application/json", "idempotency_key": "order-1"}
    raw.send(head(CHAT, key(server), len(encoded), **headers) + encoded)
    raw.read_until(b"three")
    revoke(server)
    raw.read_to_end()
    wait_until_settled(server)
    assert [-charge.amount_ticks for charge in server.charges()] == [3 * PROMPT_TICKS + 3 * OUTPUT_TICKS]


# Caps. A day's cap of $0.0001 is 1,000,000 ticks: 40 words of prompt and 30 of answer.

CAP, CAP_TICKS = "0.0001/day", 1_000_000


def worth_a_cap(model: str = "echo", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "word " * 10}, {"role": "user", "content": "word " * 30}]
    return {"model": model, "messages": messages, "max_tokens": 30} | more


def assert_spent(answer: Answer, path: str) -> None:
    assert (answer.status, answer.headers["x-should-retry"]) == (429 if path == CHAT else 402, "false")
    assert "retry-after" not in answer.headers
    error = answer.json["error"]
    assert (error["code"] if path == CHAT else error["type"]) == (
        "insufficient_quota" if path == CHAT else "billing_error"
    )
    assert f"“{NAME}”" in error["message"]
    assert "a day" in error["message"]


@PATHS
def test_a_cap_can_be_spent_to_the_last_tick_and_then_names_the_key_and_the_period(server, path):
    capped = key(server, cap=CAP)
    assert send(server, path, capped, worth_a_cap()).status == 200
    [charge] = server.charges()
    assert -charge.amount_ticks == CAP_TICKS
    refused = send(server, path, capped, ask(text="hi", max_tokens=1))
    assert_spent(refused, path)
    assert "$0.0001" in refused.json["error"]["message"]
    assert send(server, path, server.api_key).status == 200, "another key of the organisation may still spend"
    assert send(server, path, capped, ask("echo", stream=True)).status == (429 if path == CHAT else 402)
    assert len(server.engine.requests) == 2


@PATHS
def test_what_a_keys_own_running_request_holds_of_its_cap_is_worth_a_retry(server, path):
    capped = key(server, cap=CAP)
    running = open_post(server.port, path, capped, worth_a_cap("slow", stream=True))
    running.read_until(b"three")
    refused = send(server, path, capped, worth_a_cap())
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "x-should-retry" not in refused.headers
    error = refused.json["error"]
    assert error["type"] == ("rate_limit_exceeded" if path == CHAT else "rate_limit_error")
    assert f"“{NAME}”" in error["message"]
    release(server)
    running.read_to_end()
    assert send(server, path, capped, ask(max_tokens=3)).status == 200


def test_without_max_tokens_the_answer_is_cut_to_what_the_cap_allows(server):
    capped = key(server, cap="0.0002/month")
    with openai_client(server, capped) as client:
        answer = client.chat.completions.create(model="echo", messages=ask(text="word " * 70)["messages"])
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 65)
        assert answer.usage.cost_in_usd_ticks == 70 * PROMPT_TICKS + 65 * OUTPUT_TICKS == 2 * CAP_TICKS
        with pytest.raises(openai.RateLimitError, match=rf"“{NAME}” may spend \$0.0002 a month") as refused:
            client.chat.completions.create(model="echo", messages=ask()["messages"])
    assert refused.value.code == "insufficient_quota"
    assert -sum(charge.amount_ticks for charge in server.charges()) == 2 * CAP_TICKS


def test_a_spent_cap_is_a_payment_error_in_the_anthropic_sdk(server):
    with anthropic_client(server, key(server, cap="0.0001/week")) as client:
        with pytest.raises(anthropic.APIStatusError, match=rf"“{NAME}” may spend \$0.0001 a week") as refused:
            client.messages.create(**ask())
    assert (refused.value.status_code, refused.value.body["error"]["type"]) == (402, "billing_error")


def test_a_changed_cap_holds_from_the_next_request_on(server):
    capped = key(server, cap=CAP)
    assert send(server, CHAT, capped, worth_a_cap()).status == 200
    assert_spent(send(server, CHAT, capped, worth_a_cap()), CHAT)
    change(server, cap="0.0002/day")
    assert send(server, CHAT, capped, worth_a_cap()).status == 200
    change(server, cap=None)
    assert send(server, CHAT, capped, worth_a_cap()).status == 200
    change(server, cap="0.0003/day")
    assert_spent(send(server, CHAT, capped, worth_a_cap()), CHAT)
    assert len(server.charges()) == 3


# Limits


def assert_limited(answer: Answer, path: str, words: str, retry_after: int | None) -> None:
    assert answer.status == 429
    error = answer.json["error"]
    assert error["type"] == ("rate_limit_exceeded" if path == CHAT else "rate_limit_error")
    assert f"“{NAME}”" in error["message"]
    assert words in error["message"]
    assert answer.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert answer.headers.get("x-should-retry") == ("false" if retry_after is None else None)


@PATHS
@pytest.mark.parametrize(
    ("limit", "words", "wait_seconds"),
    [
        ({"requests_per_second": 2}, "Requests per Second (actual/limit): 3/2", 1),
        ({"requests_per_minute": 2}, "Requests per Minute (actual/limit): 3/2", 30),
    ],
)
def test_a_keys_requests_are_limited_and_come_back_when_the_answer_says(
    server, limiter_clock, path, *, limit, words, wait_seconds
):
    limited = key(server, **limit)
    for left in ("1", "0"):
        answer = send(server, path, limited)
        assert (answer.status, answer.headers[REQUESTS_LEFT[path]]) == (200, left)
    for _ in range(3):
        refused = send(server, path, limited)
        assert_limited(refused, path, words, wait_seconds)
        assert refused.headers[REQUESTS_LEFT[path]] == "0"
    assert send(server, path, server.api_key).status == 200, "another key has limits of its own"
    limiter_clock.now += wait_seconds * SECOND
    assert send(server, path, limited).status == 200
    assert len(server.charges()) == 4


def test_the_headers_tell_limit_rest_and_reset_in_each_dialects_words(server, limiter_clock):
    limited = key(server, requests_per_minute=4, tokens_per_minute=6000)
    headers = send(server, CHAT, limited, ask(stream=True)).headers
    assert {name: value for name, value in headers.items() if "ratelimit" in name} == {
        "x-ratelimit-limit-requests": "4",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "15s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5897",
        "x-ratelimit-reset-tokens": "1.03s",
    }
    wait_until_settled(server)
    asked_at = datetime.now(UTC)
    headers = send(server, MESSAGES, limited).headers
    limits = {name: value for name, value in headers.items() if "ratelimit" in name}
    resets = [
        datetime.fromisoformat(limits.pop(f"anthropic-ratelimit-{what}-reset")) for what in ("requests", "tokens")
    ]
    assert limits == {
        "anthropic-ratelimit-requests-limit": "4",
        "anthropic-ratelimit-requests-remaining": "2",
        "anthropic-ratelimit-tokens-limit": "6000",
        # Of the first request's 103 tokens 97 have come back.
        "anthropic-ratelimit-tokens-remaining": str(6000 - 6 - 103),
    }
    assert all(reset > asked_at for reset in resets)


@PATHS
@pytest.mark.parametrize("stream", [False, True])
def test_tokens_that_were_reserved_and_not_used_come_back_after_the_answer(server, limiter_clock, path, stream):
    limited = key(server, tokens_per_minute=1000)
    used = 0
    for _ in range(3):
        answer = send(server, path, limited, ask(stream=stream))
        wait_until_settled(server)
        assert int(answer.headers[TOKENS_LEFT[path]]) == 1000 - used - 103
        used += 3 + 3


@PATHS
def test_tokens_that_a_running_request_may_still_need_are_taken(server, limiter_clock, path):
    limited = key(server, tokens_per_minute=200)
    running = open_post(server.port, path, limited, ask("slow", stream=True))
    running.read_until(b"three")
    refused = send(server, path, limited)
    assert_limited(refused, path, "Tokens per Minute (actual/limit): 206/200", 2)
    assert refused.headers[TOKENS_LEFT[path]] == "97"
    release(server)
    running.read_to_end()
    assert send(server, path, limited).status == 200


@PATHS
def test_a_request_larger_than_a_whole_window_is_not_worth_a_retry(server, limiter_clock, path):
    limited = key(server, tokens_per_minute=200)
    refused = send(server, path, limited, ask(max_tokens=300))
    assert_limited(refused, path, "may use 303 tokens", None)
    assert "Tokens per Minute: 200" in refused.json["error"]["message"]
    assert refused.headers[TOKENS_LEFT[path]] == "200"


@PATHS
def test_requests_at_once_are_limited_until_one_has_ended(server, path):
    limited = key(server, concurrent_requests=1)
    running = open_post(server.port, path, limited, ask("slow", stream=True))
    running.read_until(b"three")
    assert_limited(send(server, path, limited), path, "Concurrent Requests (actual/limit): 2/1", 1)
    running.hang_up()
    wait_until_settled(server)
    assert send(server, path, limited).status == 200


def test_a_refusal_counts_as_a_request_unless_it_is_the_limiters_own(server, limiter_clock):
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    options = {"requests_per_minute": 10, "tokens_per_minute": 500, "models": ["echo"]}
    bob = {"name": NAME, "email": "bob@southwind.example"}
    limited = server.command("keys create", **bob, options=options)["api_key"]
    assert send(server, CHAT, limited).json["error"]["code"] == "insufficient_quota"  # counts
    server.command("credits grant", email=bob["email"], amount="1", reason="paid")
    assert send(server, CHAT, limited).headers[REQUESTS_LEFT[CHAT]] == "8"
    assert send(server, CHAT, limited, ask("weather")).status == 403  # counts: key and model are known
    assert send(server, CHAT, limited, ask("nothing")).status == 404  # no such model
    assert send(server, CHAT, limited, ask(max_tokens=-1)).status == 400  # no request yet
    assert send(server, CHAT, limited, ask(max_tokens=900)).status == 429  # the limiter's own
    answer = send(server, CHAT, limited)
    assert answer.headers[REQUESTS_LEFT[CHAT]] == "6"
    assert answer.headers[TOKENS_LEFT[CHAT]] == str(500 - 6 - 103)


def test_a_changed_limit_holds_from_the_next_request_on_and_forgets_nothing(server, limiter_clock):
    limited = key(server, requests_per_minute=2)
    assert [send(server, CHAT, limited).status for _ in range(3)] == [200, 200, 429]
    change(server, requests_per_minute=4)
    answers = [send(server, CHAT, limited) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "4"
    change(server, requests_per_minute=0)
    assert "x-ratelimit-limit-requests" in send(server, CHAT, limited).headers, "the organisation's limit stays"


def test_an_organisations_limit_is_by_model_and_over_all_its_keys(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text("[limits.default]\nrequests_per_minute = 2\n")
    server = ScriptedServer(tmp_path / "data")
    try:
        server.pipeline.limiter.clock = StoppedClock(10**15)
        assert [send(server, CHAT, each).status for each in (key(server), server.api_key)] == [200, 200]
        refused = send(server, CHAT, server.api_key)
        assert refused.status == 429
        assert (
            "for model echo. Your limit is: Requests per Minute (actual/limit): 3/2" in refused.json["error"]["message"]
        )
        assert send(server, CHAT, server.api_key, ask("weather")).status == 200
    finally:
        server.stop()


def test_a_rate_limit_is_the_sdks_own_exception(server, limiter_clock):
    limited = key(server, requests_per_minute=1)
    with openai_client(server, limited) as client:
        client.chat.completions.create(**ask())
        with pytest.raises(openai.RateLimitError, match="Requests per Minute") as refused:
            client.chat.completions.create(**ask(stream=True))
    assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "60")
    with anthropic_client(server, limited) as client:
        with pytest.raises(anthropic.RateLimitError, match="Requests per Minute") as refused:
            client.messages.create(**ask())
    assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"


# Use


def last_used(server: ScriptedServer) -> str | None:
    used: str | None = server.command("keys show", key=NAME, email=None)["last_used_at"]
    return used


def test_the_last_use_of_a_key_is_known_at_once_and_outlives_a_restart(server, monkeypatch):
    used_key = key(server)
    assert last_used(server) is None
    assert send(server, CHAT, used_key, ask("nothing")).status == 404
    first = last_used(server)
    assert first is not None
    assert request(server.port, "GET", "/v1/models", x_api_key=used_key).status == 200
    known = last_used(server)
    assert known is not None
    assert known >= first
    monkeypatch.setattr(housekeeping, "_EVERY_SECONDS", 0)

    async def keep_house_once() -> None:
        house = server.loop.create_task(housekeeping.keep_house(server.instance, server.pipeline))
        query = "SELECT COUNT(*) FROM api_keys WHERE last_used_at IS NOT NULL"
        while not (await server.instance.database.rows(query))[0][0]:
            pass
        house.cancel()

    server.run(keep_house_once())
    server.restart()
    assert last_used(server) == known


def test_a_key_that_was_refused_was_not_used(server):
    disabled = key(server)
    server.command("keys disable", key=NAME, email=None)
    assert send(server, CHAT, disabled).status == 401
    assert last_used(server) is None
