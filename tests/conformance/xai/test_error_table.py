"""CONTRACT, section 5, over gRPC: each row of the error table is produced for real, with its status, its words, the
metadata that tell whether to try again, and the id under which the ledger knows it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import xai_sdk
from xai_sdk.chat import user

from leadline.dialects.xai import rpc
from leadline.errors import DeadlineExceeded, Unavailable
from tests.conformance.xai.questions import ask, said
from tests.conformance.xai.rpcs import Outcome, bearer, call, plain_channel
from tests.faults.test_malformed import FOREIGN
from tests.scripted.engine import SCRIPTS, echo
from tests.scripted.server import EMAIL, ScriptedServer

WHOLE, STREAM = "/xai_api.Chat/GetCompletion", "/xai_api.Chat/GetCompletionChunk"
LARGEST_BYTES = 12_000
# Words of gRPC's library, and of Python's.
LIBRARY = re.compile(r"grpc|core/|Traceback|Error:|Exception|protobuf|Parsing|asyncio|0x[0-9a-f]+", re.IGNORECASE)
# Of each fact: what is asked and with which key; then the status, words of the details, and whether to try again: False
# and None are `x-should-retry`, an integer is the least of `retry-after`.
FACTS: dict[str, tuple[dict[str, Any], str, str, int | bool | None]] = {
    "no key": ({"key": ""}, "UNAUTHENTICATED", "No API key was presented", False),
    "wrong key": ({"key": "no"}, "UNAUTHENTICATED", "Incorrect API key", False),
    "disabled key": ({"key": "disabled"}, "UNAUTHENTICATED", "is disabled", False),
    "revoked key": ({"key": "revoked"}, "UNAUTHENTICATED", "Incorrect API key", False),
    "another endpoint": ({"key": "embeds"}, "PERMISSION_DENIED", "may not use chat endpoints", False),
    "another model": ({"key": "slow"}, "PERMISSION_DENIED", "may not use the model echo", False),
    "suspended": ({"key": "suspended"}, "PERMISSION_DENIED", "suspended", False),
    "unknown model": ({"model": "nothing"}, "NOT_FOUND", "'nothing' does not exist", False),
    "unknown method": ({"path": "/xai_api.Chat/Nothing"}, "UNIMPLEMENTED", "There is no method", False),
    "another service": ({"path": "/xai_api.Image/GenerateImage"}, "UNIMPLEMENTED", "makes images", False),
    "bad field": ({"temperature": 3}, "INVALID_ARGUMENT", "temperature must be from 0 to 2", False),
    "no message of its kind": ({"raw": b"\xff\xff"}, "INVALID_ARGUMENT", "GetCompletionsRequest", False),
    "prompt beyond the context": ({"messages": [said("word " * 2000)]}, "INVALID_ARGUMENT", "1000 tokens", False),
    "too large": ({"user": "x" * LARGEST_BYTES}, "RESOURCE_EXHAUSTED", "larger than", False),
    "no credits": ({"key": "poor"}, "PERMISSION_DENIED", "credits", False),
    "cap spent": ({"key": "capped"}, "PERMISSION_DENIED", "“capped” may spend", False),
    "credits held": ({"key": "held"}, "RESOURCE_EXHAUSTED", "held by your own running requests", 1),
    "rate limited": ({"key": "limited"}, "RESOURCE_EXHAUSTED", "Requests per Minute (actual/limit): 2/1", 1),
    "beyond a whole window": ({"key": "narrow", "max_tokens": 600}, "RESOURCE_EXHAUSTED", "may use 601 tokens", False),
    "used idempotency-key": (
        {"metadata": (("idempotency-key", "used"),)},
        *("ALREADY_EXISTS", "Idempotency-Key was used", False),
    ),
    "busy engine": ({"model": "busy"}, "UNAVAILABLE", "The engine is busy.", 1),
    "deadline": ({"model": "late"}, "DEADLINE_EXCEEDED", "The engine is late.", None),
    "broken engine": ({"model": "broken-before"}, "INTERNAL", "The engine broke.", None),
    "our own fault": ({"model": "crash"}, "INTERNAL", "It was logged with this request's id", None),
}


def late(_):
    yield DeadlineExceeded("The engine is late.")


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ScriptedServer, dict[str, str]]]:
    """A server in which every fact of the table is true, and its keys by name."""
    server = ScriptedServer(tmp_path / "data", scripts=SCRIPTS | {"late": late})
    keys = {"": "", "no": "no", "alice": server.api_key}
    for name, options in {
        "disabled": {},
        "revoked": {},
        "embeds": {"endpoints": ["embed"]},
        "slow": {"models": ["slow"]},
        "capped": {"cap": "0.0001/month"},
        "limited": {"requests_per_minute": 1},
        "narrow": {"tokens_per_minute": 500},
    }.items():
        keys[name] = server.command("keys create", name=name, email=EMAIL, options=options)["api_key"]
    server.command("keys disable", key="disabled", email=EMAIL)
    server.command("keys revoke", key="revoked", email=EMAIL)
    for name, usd in (("poor", None), ("held", "0.0005"), ("suspended", None)):
        bob = f"bob@{name}.example"
        server.command("accounts create", email=bob, org=name, password="battery staple")
        if usd is not None:
            server.command("credits grant", email=bob, amount=usd, reason="paid")
        keys[name] = server.command("keys create", name=name, email=bob)["api_key"]
    server.command("accounts suspend", email="bob@suspended.example")
    monkeypatch.setattr(rpc, "LARGEST_BODY_BYTES", LARGEST_BYTES)
    with plain_channel(server.grpc_address) as channel:
        running = channel.unary_stream(STREAM, lambda message: message.SerializeToString())(
            ask("slow", max_tokens=200), metadata=bearer(keys["held"])
        )
        next(running)
        assert call(channel, WHOLE, [ask()], bearer(keys["limited"])).code == "OK"
        used = (*bearer(server.api_key), ("idempotency-key", "used"))
        assert call(channel, WHOLE, [ask(messages=[said("something else")])], used).code == "OK"
        yield server, keys
        server.loop.call_soon_threadsafe(server.engine.release.set)
        list(running)
    server.stop()


def outcome_of(channel: grpc.Channel, keys: dict[str, str], asked: dict[str, Any], *, stream: bool) -> Outcome:
    asked = {"max_tokens": 64} | asked
    key, path = keys[asked.pop("key", "alice")], asked.pop("path", STREAM if stream else WHOLE)
    more = asked.pop("metadata", ())
    message = asked.pop("raw", None) or ask(**asked)
    return call(channel, path, [message], (*bearer(key), *more) if key else ())


@pytest.mark.parametrize("stream", [False, True])
def test_every_row_has_its_status_its_words_and_its_id(scenes, stream):
    server, keys = scenes
    with plain_channel(server.grpc_address) as channel:
        for name, (asked, code, words, retry) in FACTS.items():
            outcome = outcome_of(channel, keys, asked, stream=stream)
            assert outcome.code == code, (name, outcome)
            assert words in outcome.details, (name, outcome)
            assert not LIBRARY.search(outcome.details), (name, outcome)
            assert not FOREIGN.search(outcome.details.encode()), (name, outcome)
            assert "secret" not in outcome.details
            assert outcome.messages == ()
            assert tells_whether_to_retry(outcome.trailing, retry), (name, outcome.trailing)
            assert len(outcome.trailing["x-request-id"]) == 36, name
    assert len(server.charges()) == 2, "of the calls that set the scene"


def tells_whether_to_retry(trailing: dict[str, str], retry: int | bool | None) -> bool:
    should, after = trailing.get("x-should-retry"), trailing.get("retry-after")
    if retry is False:
        return should == "false" and after is None
    return should is None and (after is None if retry is None else retry <= int(after or 0) <= 60)


def test_the_id_in_the_trailing_metadata_is_that_of_the_ledger_and_of_the_records(server, channel):
    for path, model in ((WHOLE, "echo"), (STREAM, "echo"), (STREAM, "broken-after"), (WHOLE, "broken-before")):
        outcome = call(channel, path, [ask(model)], bearer(server.api_key))
        request_id = outcome.trailing["x-request-id"]
        [(endpoint, status)] = server.run(
            server.instance.database.rows(
                "SELECT endpoint, status FROM usage_records JOIN meters ON meters.id = meter_id WHERE request_id = $1",
                request_id,
            )
        )
        assert endpoint == path.removeprefix("/")
        assert (status == "finished") == (outcome.code == "OK")
        assert (server.charges()[-1].request_id == request_id) == (model != "broken-before")


def test_what_breaks_within_a_stream_ends_it_with_its_error_after_what_was_said(server, sdk):
    stream = sdk.chat.create("broken-after", messages=[user("?")]).stream()
    assert next(stream)[0].content == "one two"
    with pytest.raises(grpc.RpcError) as broken:
        next(stream)
    assert (broken.value.code(), broken.value.details()) == (grpc.StatusCode.INTERNAL, "The engine broke.")
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (10_000 + 2 * 20_000, "interrupted")


def test_what_the_limits_leave_is_told_in_the_trailing_metadata(server, channel):
    options = {"requests_per_minute": 4, "tokens_per_minute": 6000}
    key = server.command("keys create", name="limited", email=EMAIL, options=options)["api_key"]
    for path, left in ((WHOLE, "3"), (STREAM, "2")):
        trailing = call(channel, path, [ask(max_tokens=100)], bearer(key)).trailing
        assert trailing["x-ratelimit-limit-requests"] == "4"
        assert trailing["x-ratelimit-remaining-requests"] == left
        assert trailing["x-ratelimit-limit-tokens"] == "6000"
        assert int(trailing["x-ratelimit-remaining-tokens"]) < 6000
        assert trailing["x-ratelimit-reset-requests"]
        assert trailing["x-ratelimit-reset-tokens"]


def test_what_was_unavailable_is_tried_again_by_the_sdk_and_charged_once(server, sdk):
    tries = iter([Unavailable("The engine is busy."), Unavailable("The engine is busy.")])

    def busy_twice(request):
        if (error := next(tries, None)) is not None:
            return (error,)
        return echo(request)

    server.engine.scripts["busy"] = busy_twice
    assert sdk.chat.create("busy", messages=[user("at last")]).sample().content == "at last"
    assert (len(server.engine.requests), len(server.charges())) == (3, 1)
    tries = iter([Unavailable("The engine is busy.")])
    *_, (streamed, _) = sdk.chat.create("busy", messages=[user("at last")]).stream()
    assert streamed.content == "at last"
    assert (len(server.engine.requests), len(server.charges())) == (5, 2)


def test_what_cannot_succeed_is_not_tried_again_by_the_sdk(server):
    client = xai_sdk.Client(api_key=server.api_key, api_host=server.grpc_address)
    for model in ("broken-before", "crash", "nothing"):
        with pytest.raises(grpc.RpcError):
            client.chat.create(model, messages=[user("?")]).sample()
    assert len(server.engine.requests) == 2
    client.close()


@pytest.mark.parametrize("path", [WHOLE, STREAM])
def test_a_deadline_that_passes_cancels_the_engine(server, channel, path):
    outcome = call(channel, path, [ask("stall")], bearer(server.api_key), timeout_seconds=0.3)
    assert outcome.code == "DEADLINE_EXCEEDED"
    server.wait_until(lambda: not server.engine.running and not server.instance.ledger.running())
    assert server.engine.aborted == ["stall"]
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (10_000, "interrupted")


def delivered(server: ScriptedServer) -> int:
    """The tokens of all streams that the transport has taken."""
    return sum(generation.usage.output_tokens for generation in server.pipeline.running._generations)


def test_a_client_that_cancels_pays_for_what_it_got(server, channel):
    running = channel.unary_stream(STREAM, lambda message: message.SerializeToString())(
        ask("slow"), metadata=bearer(server.api_key)
    )
    for _ in range(3):
        next(running)
    server.wait_until(lambda: delivered(server) == 3)
    running.cancel()
    server.wait_until(lambda: not server.engine.running and not server.instance.ledger.running())
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (10_000 + 3 * 20_000, "interrupted")
    assert server.engine.aborted == ["slow"]


@pytest.mark.parametrize(("model", "path"), [("slow", STREAM), ("stall", STREAM), ("stall", WHOLE)])
def test_a_call_of_a_key_that_is_revoked_ends_with_an_error_that_says_so(server, channel, model, path):
    key = server.command("keys create", name="doomed", email=EMAIL)["api_key"]
    running = channel.unary_stream(path, lambda message: message.SerializeToString())(ask(model), metadata=bearer(key))
    if model == "slow":
        for _ in range(3):
            next(running)
        server.wait_until(lambda: delivered(server) == 3)
    server.wait_until(lambda: server.engine.running == 1)
    server.command("keys revoke", key="doomed", email=EMAIL)
    server.run(server.pipeline.running.tick())
    with pytest.raises(grpc.RpcError) as ended:
        list(running)
    assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "was revoked while it ran" in ended.value.details()
    server.wait_until(lambda: not server.instance.ledger.running())
    charges = [-charge.amount_ticks for charge in server.charges()]
    assert charges == ([10_000 + 3 * 20_000] if model == "slow" else [])
    assert server.engine.aborted == [model]
