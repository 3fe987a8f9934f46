"""Metadata `idempotency-key` over gRPC: the same message sent again gets the same answer, and is charged once, whatever
happens between the two."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pytest
import xai_sdk
from xai_sdk.chat import user

from leadline.chat.request import ChatRequest
from leadline.dialects.xai import answers
from leadline.errors import EngineFailed, Unavailable
from leadline.serving.replays import Recording, Replays
from tests.conformance.xai.questions import ask, questions, said
from tests.conformance.xai.rpcs import DEADLINE_SECONDS, Metadata, Outcome, bearer, call, plain_channel
from tests.proof import count, keep
from tests.raw import post
from tests.scripted.engine import SCRIPTS, Step, echo, slow_echo
from tests.scripted.server import EMAIL, ScriptedServer

WHOLE, STREAM = "/xai_api.Chat/GetCompletion", "/xai_api.Chat/GetCompletionChunk"
DEFERRED, TEXTS = "/xai_api.Chat/StartDeferredCompletion", "/xai_api.Sample/SampleTextStreaming"
PAID = (
    *(WHOLE, STREAM, DEFERRED, "/xai_api.Chat/CompactContext"),
    *("/xai_api.Sample/SampleText", TEXTS, "/xai_api.Embedder/Embed"),
)
FORMS = pytest.mark.parametrize("path", [WHOLE, STREAM], ids=["whole", "stream"])
KEY, DUPLICATES = "order-7f3a-retry", 20
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000
NO_LIMITS = "[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n"
JOINED: list[Recording] = []


def message(model: str = "echo", text: str = "tell me all", **more: Any) -> Any:
    return ask(model, messages=[said(text)], max_tokens=100, **more)


def metadata(server: ScriptedServer, key: str = KEY, api_key: str | None = None) -> Metadata:
    return (*bearer(api_key or server.api_key), ("idempotency-key", key))


class Begun:
    """A call whose answer is left to the caller."""

    def __init__(self, channel: grpc.Channel, path: str, message: Any, metadata: Metadata) -> None:
        self.rpc = channel.unary_stream(path)(message.SerializeToString(), metadata=metadata, timeout=DEADLINE_SECONDS)
        self.messages: list[bytes] = []

    def read(self, count: int) -> list[bytes]:
        while len(self.messages) < count:
            self.messages.append(next(self.rpc))
        return self.messages

    def end(self) -> Outcome:
        try:
            self.messages += self.rpc
        except grpc.RpcError as error:
            assert error is self.rpc  # noqa: PT017
        trailing = {name: str(value) for name, value in self.rpc.trailing_metadata() or ()}
        return Outcome(self.rpc.code().name, self.rpc.details() or "", tuple(self.messages), trailing)


@pytest.fixture(autouse=True)
def note_who_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call that got as far as to find a recording."""
    find = Replays.find
    JOINED.clear()

    async def noted_find(*asked: Any) -> tuple[Recording, bool]:
        found = await find(*asked)
        JOINED.append(found[0])
        return found

    monkeypatch.setattr(Replays, "find", noted_find)


@pytest.fixture
def channel(server: ScriptedServer) -> Iterator[grpc.Channel]:
    with plain_channel(server.grpc_address) as channel:
        yield channel


def tell(server: ScriptedServer, path: str, message: Any, key: str = KEY) -> Outcome:
    """Ask over a channel of its own: where the server listens changes when it starts again."""
    with plain_channel(server.grpc_address) as channel:
        return call(channel, path, [message], metadata(server, key))


def replayed(outcome: Outcome) -> bool:
    return outcome.trailing.get("idempotent-replayed") == "true"


def release(server: ScriptedServer) -> None:
    server.loop.call_soon_threadsafe(server.engine.release.set)


def wait_for_joined(server: ScriptedServer, count: int) -> None:
    server.wait_until(lambda: len(JOINED) == count)


def wait_until_quiet(server: ScriptedServer) -> None:
    """Until no client is served and nothing runs."""
    assert server._rpcs is not None
    calls = server._rpcs._service._running
    server.wait_until(lambda: not calls and not server.instance.ledger.running() and not server.pipeline.replays._tasks)


def wait_until_left(server: ScriptedServer) -> None:
    """Until no client is served."""
    assert server._rpcs is not None
    calls = server._rpcs._service._running
    server.wait_until(lambda: not calls)


def kept_answers(server: ScriptedServer) -> int:
    [(count,)] = server.run(server.instance.database.rows("SELECT COUNT(*) FROM replays"))
    return int(count)


@pytest.mark.parametrize("path", PAID)
def test_the_same_message_again_gets_the_same_messages_and_is_charged_once(server, path):
    [asked] = questions()[path]
    first, again = tell(server, path, asked), tell(server, path, asked)
    wait_until_quiet(server)
    server.restart()
    kept = tell(server, path, asked)
    [charge] = server.charges()
    assert [replayed(outcome) for outcome in (first, again, kept)] == [False, True, True]
    for outcome in (first, again, kept):
        assert (outcome.code, outcome.trailing["x-request-id"]) == ("OK", charge.request_id)
        assert outcome.messages == first.messages
    assert len(first.messages) >= (2 if path in (STREAM, TEXTS) else 1)
    assert int(first.trailing["x-ratelimit-limit-requests"]) > 0
    assert charge.request_id.encode() in first.messages[0]
    assert charge.amount_ticks < 0
    assert server.engine.requests == []  # that of the second start


def test_another_message_or_method_with_the_key_is_a_conflict_also_while_the_first_one_runs(server, channel):
    running = Begun(channel, STREAM, message("slow"), metadata(server))
    running.read(1)
    for path, asked in ((STREAM, message("slow", "and you")), (WHOLE, message("slow")), (DEFERRED, message("slow"))):
        refused = tell(server, path, asked)
        assert (refused.code, replayed(refused)) == ("ALREADY_EXISTS", False)
        assert "Idempotency-Key" in refused.details
        assert refused.trailing["x-should-retry"] == "false"
    release(server)
    assert running.end().code == "OK"
    assert tell(server, WHOLE, message("slow")).code == "ALREADY_EXISTS"
    assert len(server.engine.requests) == len(server.charges()) == 1


def test_keys_of_http_and_of_grpc_do_not_answer_each_other(server):
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "tell me all"}]}).encode()
    at = server.port, "/v1/chat/completions", server.api_key, body
    assert tell(server, WHOLE, message(), "one").code == "OK"
    assert post(*at, idempotency_key="one").status == 409
    assert post(*at, idempotency_key="two").status == 200
    assert tell(server, WHOLE, message(), "two").code == "ALREADY_EXISTS"
    assert len(server.charges()) == 2


def test_the_same_key_with_another_api_key_is_another_request(server, channel):
    other = server.command("keys create", name="other", email=EMAIL)["api_key"]
    outcomes = [call(channel, WHOLE, [message()], metadata(server, api_key=key)) for key in (None, other)]
    assert not any(map(replayed, outcomes))
    assert len(server.charges()) == 2


@FORMS
def test_duplicates_wait_for_the_first_and_all_get_its_answer(server, channel, path):
    begun = [Begun(channel, path, message("slow"), metadata(server)) for _ in range(DUPLICATES)]
    wait_for_joined(server, DUPLICATES)
    release(server)
    outcomes = [one.end() for one in begun]
    assert {outcome.code for outcome in outcomes} == {"OK"}
    assert len({outcome.messages for outcome in outcomes}) == 1
    assert [replayed(outcome) for outcome in outcomes].count(False) == 1
    [charge] = server.charges()
    assert {outcome.trailing["x-request-id"] for outcome in outcomes} == {charge.request_id}
    assert -charge.amount_ticks == 3 * PROMPT_TICKS + 3 * OUTPUT_TICKS
    assert len(server.engine.requests) == 1


def test_a_duplicate_reads_along_message_by_message(server, channel):
    first = Begun(channel, STREAM, message("slow"), metadata(server))
    said_so_far = first.read(3)
    second = Begun(channel, STREAM, message("slow"), metadata(server))
    assert second.read(3) == said_so_far
    assert server.engine.running == 1
    release(server)
    assert second.end().messages == first.end().messages
    assert len(first.messages) > 3
    assert len(server.charges()) == 1


@pytest.mark.parametrize("path", [WHOLE, STREAM, TEXTS])
def test_a_client_that_cancels_does_not_stop_the_work_and_its_retry_gets_all_of_it(server, channel, path):
    asked = message("slow") if path != TEXTS else questions("slow")[TEXTS][0]
    first = Begun(channel, path, asked, metadata(server))
    server.wait_until(lambda: server.engine.running == 1)
    first.rpc.cancel()
    wait_until_left(server)
    assert (server.engine.running, server.engine.aborted) == (1, [])
    release(server)
    wait_until_quiet(server)
    again = tell(server, path, asked)
    assert (again.code, replayed(again)) == ("OK", True)
    assert b"three" in b"".join(again.messages)
    assert (server.engine.aborted, len(server.engine.requests)) == ([], 1)
    [charge] = server.charges()
    assert charge.reason == ""


@pytest.mark.parametrize(("tokens", "code"), [(3, "OK"), (50, "INVALID_ARGUMENT")])
def test_a_client_that_cancels_before_its_request_is_admitted_does_not_stop_it_either(server, channel, tokens, code):
    """The tokenizer decides, and it stalls. Whoever waits hears what came of it, be it a refusal."""
    counted, asked = asyncio.Event(), asyncio.Event()
    server.engine.context_tokens = 50

    async def counts_at_last(_: object) -> int:
        asked.set()
        await counted.wait()
        return tokens

    server.engine.count_prompt_tokens = counts_at_last
    first = Begun(channel, WHOLE, message(), metadata(server))
    server.wait_until(asked.is_set)
    first.rpc.cancel()
    wait_until_left(server)
    second = Begun(channel, WHOLE, message(), metadata(server))
    wait_for_joined(server, 2)
    server.loop.call_soon_threadsafe(counted.set)
    outcome = second.end()
    assert (outcome.code, replayed(outcome)) == (code, True)
    assert len(server.engine.requests) == len(server.charges()) == (code == "OK")


@FORMS
def test_a_refusal_keeps_nothing_so_a_corrected_message_may_use_its_key(server, channel, path):
    refused = Begun(channel, path, message("no-such-model"), metadata(server)).end()
    assert (refused.code, kept_answers(server)) == ("NOT_FOUND", 0)
    corrected = tell(server, path, message())
    assert (corrected.code, replayed(corrected)) == ("OK", False)


@FORMS
def test_those_who_wait_for_a_call_that_fails_hear_of_it_and_the_retry_runs(server, channel, path):
    def breaks(request: ChatRequest) -> Iterable[Step]:
        *steps, _ = slow_echo(request)
        return *steps, EngineFailed("It broke.")

    server.engine.scripts = SCRIPTS | {"slow": breaks}
    begun = [Begun(channel, path, message("slow"), metadata(server)) for _ in range(3)]
    wait_for_joined(server, 3)
    release(server)
    outcomes = [one.end() for one in begun]
    assert {(outcome.code, outcome.details) for outcome in outcomes} == {("INTERNAL", "It broke.")}
    assert len({outcome.messages for outcome in outcomes}) == 1
    assert len({outcome.trailing["x-request-id"] for outcome in outcomes}) == 1
    wait_until_quiet(server)
    assert (server.charges(), server.balance().held_ticks, kept_answers(server)) == ([], 0, 0)
    server.engine.scripts = SCRIPTS | {"slow": echo}
    retried = tell(server, path, message("slow"))
    assert (retried.code, replayed(retried)) == ("OK", False)
    [charge] = server.charges()
    assert charge.request_id == retried.trailing["x-request-id"]


@FORMS
@pytest.mark.parametrize("crashes", [False, True], ids=["stop", "crash"])
def test_what_a_stop_or_a_crash_cuts_short_costs_nothing_and_runs_anew(server, channel, path, crashes):
    running = Begun(channel, path, message("slow"), metadata(server))
    if path == STREAM:
        running.read(3)
        server.run(server.pipeline.running.tick())  # a checkpoint of what was made
    server.wait_until(lambda: server.engine.running == 1)
    if crashes:
        server.crash()
    else:
        server.restart(drains=False)
    assert running.end().code == "UNAVAILABLE"
    assert (server.charges(), server.balance().held_ticks, kept_answers(server)) == ([], 0, 0)
    release(server)
    retried = tell(server, path, message("slow"))
    assert (retried.code, replayed(retried)) == ("OK", False)
    assert len(server.charges()) == 1
    assert server.command("credits verify")["broken"] == []


def test_a_crash_after_the_charge_cannot_lose_the_answer(server):
    outcomes = {path: tell(server, path, message(), path) for path in (WHOLE, STREAM, DEFERRED)}
    wait_until_quiet(server)
    server.crash()
    for path, first in outcomes.items():
        again = tell(server, path, message(), path)
        assert (again.messages, replayed(again)) == (first.messages, True)
    assert len(server.charges()) == 3


def test_a_key_that_is_too_long_or_one_of_several_is_refused(server, channel):
    for keys in (["k" * 256], ["one", "two"], ["one", "one"]):
        sent = (*bearer(server.api_key), *(("idempotency-key", key) for key in keys))
        for path in PAID:
            refused = call(channel, path, questions()[path], sent)
            assert refused.code == "INVALID_ARGUMENT"
            assert "dempotency-" in refused.details
    assert server.engine.requests == []
    assert tell(server, WHOLE, message(), "k" * 255).code == "OK"


def test_an_empty_key_is_none_and_calls_that_cost_nothing_need_none(server, channel):
    outcomes = [call(channel, WHOLE, [message()], metadata(server, "")) for _ in range(2)]
    path = "/xai_api.Tokenize/TokenizeText"
    outcomes += [call(channel, path, questions()[path], metadata(server)) for _ in range(2)]
    assert {outcome.code for outcome in outcomes} == {"OK"}
    assert not any(map(replayed, outcomes))
    assert len(server.charges()) == 2


def test_xais_sdk_gets_its_answers_again(server):
    def client(key: str) -> Any:
        address = server.grpc_address
        return xai_sdk.Client(server.api_key, api_host=address, metadata=(("idempotency-key", key),))

    def streamed(chat: Any) -> Any:
        *_, (answer, _) = chat.stream()
        return answer

    for key, get in (("whole", lambda chat: chat.sample()), ("stream", streamed)):
        answers = []
        for _ in range(2):
            sdk = client(key)
            answers.append(get(sdk.chat.create("echo", messages=[user("tell me all")])))
            sdk.close()
        assert answers[0].proto == answers[1].proto
        assert (answers[1].content, answers[1].id) == ("tell me all", server.charges()[-1].request_id)
    assert len(server.charges()) == 2


def test_an_sdk_that_tries_again_by_itself_is_charged_once(server):
    tries = iter([Unavailable("The engine is busy.")])

    def shaky(request: ChatRequest) -> Iterable[Step]:
        error = next(tries, None)
        return echo(request) if error is None else (error,)

    server.engine.scripts = SCRIPTS | {"echo": shaky}
    sdk = xai_sdk.Client(server.api_key, api_host=server.grpc_address, metadata=(("idempotency-key", KEY),))
    assert sdk.chat.create("echo", messages=[user("at last")]).sample().content == "at last"
    sdk.close()
    assert (len(server.engine.requests), len(server.charges())) == (2, 1)


@pytest.mark.parametrize("sizes", [[], [1], [255, 256, 65_536], [3] * 50])
def test_messages_of_a_recorded_stream_keep_their_boundaries(sizes):
    class Sized:
        def encode(self, batch: Any) -> bytes:
            return b"x" * batch[0]

    encoder: Any = answers.framed(lambda _: Sized())(None)  # type: ignore[arg-type,return-value]
    frames = b"".join(encoder.encode((size,)) for size in (0, *sizes))
    assert [len(message) for message in answers.unframed(frames)] == sizes


@pytest.mark.slow
def test_of_many_keys_with_many_duplicates_each_is_charged_once_and_has_one_answer(tmp_path):
    """Clients cancel, and the server stops or crashes in the middle."""
    keys = count(suite=40, proof=400)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text(NO_LIMITS)
    server = ScriptedServer(tmp_path / "data")
    try:
        known: dict[str, set[Any]] = {f"key-{number}": set() for number in range(keys)}
        for first in range(0, keys, 10):
            round_of = [*known][first : first + 10]
            _cut_short(server, round_of, crashes=first % 20 == 0)
            with plain_channel(server.grpc_address) as channel:
                begun = [
                    (key, Begun(channel, *_asked_by(key), metadata(server, key)))
                    for key in round_of
                    for _ in range(DUPLICATES)
                ]
                release(server)
                for number, (key, one) in enumerate(begun):
                    if number % 7 == 3:
                        one.rpc.cancel()
                    else:
                        outcome = one.end()
                        known[key].add((outcome.code, outcome.messages, outcome.trailing["x-request-id"]))
                wait_until_quiet(server)
        server.restart()
        for key, outcomes in known.items():
            outcome = tell(server, *_asked_by(key), key)
            outcomes.add((outcome.code, outcome.messages, outcome.trailing["x-request-id"]))
        charged = sorted(charge.request_id for charge in server.charges())
        keep("idempotency, gRPC", keys=keys, duplicates_of_each=DUPLICATES, charges=len(charged))
        answered = [outcome for outcomes in known.values() for outcome in outcomes]
        assert {code for code, _, _ in answered} == {"OK"}
        assert sorted(request_id for _, _, request_id in answered) == charged
        assert len(charged) == keys
        assert server.command("credits verify")["broken"] == []
    finally:
        server.stop()


def _asked_by(key: str) -> tuple[str, Any]:
    """A method and its message: every other key streams, every fifth one waits."""
    number = int(key.removeprefix("key-"))
    return (STREAM if number % 2 else WHOLE), message("slow" if number % 5 == 0 else "echo", f"say {key}")


def _cut_short(server: ScriptedServer, keys: list[str], *, crashes: bool) -> None:
    """Cut the server short in the middle of the slow requests, whose clients have gone."""
    server.loop.call_soon_threadsafe(server.engine.release.clear)
    slow = [key for key in keys if int(key.removeprefix("key-")) % 5 == 0]
    with plain_channel(server.grpc_address) as channel:
        begun = [Begun(channel, *_asked_by(key), metadata(server, key)) for key in slow]
        server.wait_until(lambda: server.engine.running == len(slow))
        for one in begun:
            one.rpc.cancel()
        wait_until_left(server)
        if crashes:
            server.crash()
        else:
            server.restart(drains=False)
