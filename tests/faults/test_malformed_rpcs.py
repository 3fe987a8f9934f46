"""Hundreds of gRPC calls with something wrong in them: each is taken or refused by its field's name, none is a fault of
ours, and what is refused costs nothing and never reaches an engine."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from leadline.dialects.xai.protos import METHODS
from leadline.dialects.xai.server import HANDLERS
from leadline.errors import InvalidRequest
from leadline.web.exchange import LARGEST_BODY_BYTES
from tests.conformance.xai.questions import ask, said
from tests.conformance.xai.rpcs import DEADLINE_SECONDS, Outcome, bearer, call, plain_channel
from tests.faults.rpc_mutants import CHAT, STREAM, Mutant, mutant
from tests.faults.test_malformed import FOREIGN, schema
from tests.proof import count, keep
from tests.scripted.engine import SCRIPTS, ScriptedEngine, echo
from tests.scripted.server import ScriptedServer

pytestmark = pytest.mark.slow

# How a call may end here, where there are all credits and no limits.
ENDS = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "UNIMPLEMENTED")
# What is wrong with no single field, or with another one than was touched.
OF_THE_WHOLE = re.compile(
    "is not a valid|This model's context is|does not support|headers Authorization|cannot see|^logprobs are not|init is"
)
CHARGED = re.compile("/(GetCompletion|GetCompletionChunk|CompactContext|SampleText|SampleTextStreaming|Embed)$")


@pytest.fixture
def sturdy(tmp_path: Path) -> Iterator[ScriptedServer]:
    (tmp_path / "data").mkdir()
    limits = "[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n"
    (tmp_path / "data" / "leadline.toml").write_text(limits)
    scripts, eyes = {"echo": SCRIPTS["echo"], "embed": SCRIPTS["embed"]}, ScriptedEngine({"eyes": echo})
    engines = {"eyes": eyes, "schema": ScriptedEngine({"schema": schema})}
    server = ScriptedServer(tmp_path / "data", usd="1000000", scripts=scripts, engines=engines, like_serve=True)
    yield server
    server.stop()


@dataclass
class Found:
    """`paid` are the calls whose answers told a cost."""

    wrong: list[str] = field(default_factory=list)
    paid: set[str] = field(default_factory=set)
    codes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)


def test_whatever_is_wrong_with_a_call_is_refused_by_name_and_costs_nothing(sturdy):
    rounds = count(1_200, 20_000)
    found = run(sturdy, rounds)
    figures = {"wrong": len(found.wrong), "codes": dict(sorted(found.codes.items())), "kinds": dict(found.kinds)}
    keep("malformed, gRPC", rounds=rounds, **figures)
    assert not found.wrong, "\n".join([f"{len(found.wrong)} of {rounds}", *found.wrong[:40]])
    sturdy.wait_until(lambda: not sturdy.pipeline.deferred._tasks and not sturdy.instance.ledger.running())
    charged = {charge.request_id for charge in sturdy.charges()}
    assert found.paid <= charged
    assert sturdy.balance().held_ticks == 0
    assert sturdy.command("credits verify")["ok"]
    # Some are rare.
    assert rounds < 1_200 or min(found.codes[code] for code in ENDS) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "bug", "found"),
    [
        ("leadline.dialects.xai.decode.whole_number", lambda wire, *_: -wire.max_tokens, "may not be: INTERNAL"),
        ("leadline.dialects.xai.rpc.DecodeError", KeyError, "may not be: INTERNAL"),
        (
            "leadline.dialects.xai.decode._tool",
            lambda *_: (_ for _ in ()).throw(InvalidRequest("No.")),
            "does not name",
        ),
    ],
    ids=["a number that nobody checked", "bytes that nobody checked", "a refusal that names nothing"],
)
def test_a_planted_bug_is_found(sturdy, monkeypatch, where, bug, found):
    monkeypatch.setattr(where, bug)
    assert found in "\n".join(run(sturdy, 1_200).wrong)


def run(server: ScriptedServer, rounds: int) -> Found:
    found = Found()
    with plain_channel(server.grpc_address) as channel:
        for number in range(rounds):
            one = mutant(number)
            what = f"{number} {one.kind} {one.path[:60]} {one.field or ''}"
            before = len(server.engine.requests)
            outcome = send(channel, one, server.api_key)
            server.wait_until(lambda: not server.pipeline.deferred._tasks)
            found.codes[outcome.code] += 1
            found.kinds[one.kind] += 1
            found.wrong += [f"{what}: {fault}" for fault in faults(one, outcome)]
            if outcome.code != "OK" and len(server.engine.requests) != before:
                found.wrong.append(f"{what}: the engine was asked, and then it was {outcome.code}")
            if outcome.code == "OK" and CHARGED.search(one.path):
                found.paid.add(outcome.trailing["x-request-id"])
    return found


def send(channel: grpc.Channel, one: Mutant, key: str) -> Outcome:
    metadata = [
        (name, value.replace("{key}", key) if isinstance(value, str) else value) for name, value in one.metadata
    ]
    return call(channel, one.path, one.messages, metadata)


def faults(one: Mutant, outcome: Outcome) -> Iterator[str]:
    """What is wrong with how a call ended."""
    content = b" ".join(m if isinstance(m, bytes) else m.SerializeToString() for m in one.messages)
    told = f"{outcome.code} {outcome.details[:300]!r} to {content[:300]!r}"
    if outcome.code not in ENDS:
        yield f"may not be: {told}"
    if one.must == "refused" and outcome.code == "OK":
        yield f"should be refused: {told}"
    if one.must == "taken" and outcome.code not in ("OK", "NOT_FOUND", *_of_what_is_not_here(one)):
        yield f"should be taken: {told}"
    if outcome.code == "OK":
        return
    if "x-request-id" not in outcome.trailing:
        yield f"has no id: {told}"
    if foreign := FOREIGN.search(outcome.details.encode()):
        yield f"foreign words {foreign[0]!r}: {told}"
    knows = outcome.code == "INVALID_ARGUMENT" and one.field and not OF_THE_WHOLE.search(outcome.details)
    if knows and one.field not in outcome.details:
        yield f"does not name {one.field}: {told}"


def _of_what_is_not_here(one: Mutant) -> tuple[str, ...]:
    """Methods that answer nothing but that, and those whose least message says too little."""
    return (
        ("UNIMPLEMENTED",)
        if one.path in METHODS and one.path not in HANDLERS
        else ("INVALID_ARGUMENT",) * (not CHARGED.search(one.path))
    )


# Sizes


def test_a_message_of_more_than_32_mib_is_refused_and_one_of_20_is_not(sturdy):
    with plain_channel(sturdy.grpc_address) as channel:
        metadata = bearer(sturdy.api_key)
        sizes = ((CHAT, 20 * 1024**2, "OK"), (CHAT, LARGEST_BODY_BYTES + 1, "RESOURCE_EXHAUSTED"))
        for path, size, code in (*sizes, (STREAM, LARGEST_BODY_BYTES + 1, "RESOURCE_EXHAUSTED")):
            asked = ask(user="x" * (size - ask().ByteSize() - 6))
            assert asked.ByteSize() == size
            outcome = call(channel, path, [asked], metadata)
            assert outcome.code == code
            assert code == "OK" or "larger than 32 MiB" in outcome.details
        assert call(channel, CHAT, [ask()], metadata).code == "OK"
    assert len(sturdy.engine.requests) == 2


def test_what_is_more_than_the_library_takes_is_refused_before_it_is_read(sturdy):
    with plain_channel(sturdy.grpc_address) as channel:
        outcome = call(channel, CHAT, [bytes(LARGEST_BODY_BYTES + 1024**2)], bearer(sturdy.api_key))
        assert outcome.code == "RESOURCE_EXHAUSTED"
        assert call(channel, CHAT, [ask()], bearer(sturdy.api_key)).code == "OK"


def test_a_message_that_grows_when_it_is_unpacked_is_refused(sturdy):
    with plain_channel(sturdy.grpc_address) as channel:
        bomb: Any = ask(user="x" * (LARGEST_BODY_BYTES + 1024**2)).SerializeToString()
        rpc = channel.unary_unary(CHAT)
        with pytest.raises(grpc.RpcError) as refused:
            rpc(bomb, metadata=bearer(sturdy.api_key), compression=grpc.Compression.Gzip, timeout=30)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sturdy.engine.requests == []


def test_metadata_are_bounded(sturdy):
    with plain_channel(sturdy.grpc_address, ("grpc.max_metadata_size", 1024**2)) as channel:
        for size, codes in ((6_000, {"OK"}), (12_000, {"OK", "RESOURCE_EXHAUSTED"}), (40_000, {"RESOURCE_EXHAUSTED"})):
            for name, value in (("x-large", "x" * size), ("x-large-bin", bytes(size * 3 // 4))):
                outcome = call(channel, CHAT, [ask()], (*bearer(sturdy.api_key), (name, value)))
                assert outcome.code in codes, (size, name, outcome)


def test_a_message_of_too_many_messages_is_refused_before_it_is_unpacked(sturdy, monkeypatch):
    """Each takes two bytes on the wire, and a hundred times that in memory."""
    monkeypatch.setattr("leadline.dialects.xai.wire.MOST_FIELDS", most := 20_000)
    start, least = ask(messages=[]).SerializeToString(), ask(messages=[said("")]).SerializeToString()
    with plain_channel(sturdy.grpc_address) as channel:
        for content in (start + b"\x0a\x00" * most, least * most, start + b"\x62\x00" * most):
            outcome = call(channel, CHAT, [content], bearer(sturdy.api_key))
            assert outcome.code == "INVALID_ARGUMENT"
            assert "more than 20000 fields" in outcome.details
    assert sturdy.engine.requests == []


def test_a_call_that_never_sends_its_message_is_given_up(sturdy, monkeypatch):
    monkeypatch.setattr("leadline.dialects.xai.rpc.MESSAGE_SECONDS", 0.05)
    never = threading.Event()

    def silent() -> Iterator[bytes]:
        never.wait(DEADLINE_SECONDS)
        yield b""

    with plain_channel(sturdy.grpc_address) as channel:
        for path in (CHAT, STREAM):
            outcome = call(channel, path, [], bearer(sturdy.api_key))
            assert (outcome.code, "without a message" in outcome.details) == ("INVALID_ARGUMENT", True)
            rpc = channel.stream_unary(path)
            for key, code in ((sturdy.api_key, "DEADLINE_EXCEEDED"), ("no", "UNAUTHENTICATED")):
                with pytest.raises(grpc.RpcError) as refused:
                    rpc(silent(), metadata=bearer(key), timeout=DEADLINE_SECONDS)
                assert refused.value.code().name == code
        never.set()
    assert sturdy.engine.requests == []
