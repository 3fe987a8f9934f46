"""Idempotency-Key over HTTP: the same request sent again gets the same answer, and is charged once, whatever happens
between the two."""

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from leadline.chat.request import ChatRequest
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.errors import EngineFailed
from leadline.serving.replays import Recording, Replays
from tests.access_lines import access_lines, forget_access_lines
from tests.proof import count, keep
from tests.raw import Answer, Raw, head, parse
from tests.scripted.engine import SCRIPTS, Step, broken_after, echo, slow_echo
from tests.scripted.server import EMAIL, ScriptedServer

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
PATHS = pytest.mark.parametrize("path", [CHAT, MESSAGES])
FORMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000
KEY = "order-7f3a-retry"
JOINED: list[Recording] = []
DUPLICATES = 20
NO_LIMITS = "[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n"


def body(model: str = "echo", text: str = "tell me all", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]} | more


def begin(server: ScriptedServer, path: str, body: dict[str, Any], key: str = KEY, api_key: str | None = None) -> Raw:
    """Send a request with an Idempotency-Key and leave the answer to the caller."""
    raw, encoded = Raw(server.port), json.dumps(body).encode()
    headers = {"content_type": "application/json", "idempotency_key": key}
    raw.send(head(path, api_key or server.api_key, len(encoded), **headers) + encoded)
    return raw


def end(raw: Raw) -> Answer:
    return parse(raw.read_to_end())


def ask(server: ScriptedServer, path: str, body: dict[str, Any], key: str = KEY, api_key: str | None = None) -> Answer:
    return end(begin(server, path, body, key, api_key))


def replayed(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


@pytest.fixture(autouse=True)
def note_who_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request that got as far as to find a recording."""
    find = Replays.find
    JOINED.clear()

    async def noted_find(*asked: Any) -> tuple[Recording, bool]:
        found = await find(*asked)
        JOINED.append(found[0])
        return found

    monkeypatch.setattr(Replays, "find", noted_find)


def wait_for_requests(server: ScriptedServer, count: int) -> None:
    """Wait until so many requests are being answered, and have found what they wait for."""
    server.wait_until(lambda: len(server.server.server_state.tasks) == count and len(JOINED) >= count)


def wait_until_settled(server: ScriptedServer) -> None:
    server.wait_until(lambda: not server.instance.ledger.running())


def release(server: ScriptedServer) -> None:
    server.loop.call_soon_threadsafe(server.engine.release.set)


def kept_answers(server: ScriptedServer) -> int:
    [(count,)] = server.run(server.instance.database.rows("SELECT COUNT(*) FROM replays"))
    return int(count)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@PATHS
@FORMS
def test_the_same_request_again_gets_the_same_bytes_and_is_charged_once(server, path, stream):
    first, again = (ask(server, path, body(stream=stream)) for _ in range(2))
    assert (first.status, replayed(first)) == (200, False)
    assert (again.status, replayed(again)) == (200, True)
    assert b"all" in again.body
    assert again.body == first.body
    assert again.headers["content-type"] == first.headers["content-type"]
    assert len(server.engine.requests) == 1
    [charge] = server.charges()
    assert -charge.amount_ticks == 3 * PROMPT_TICKS + 3 * OUTPUT_TICKS
    for answer in (first, again):
        assert answer.headers["x-request-id"] == answer.headers["request-id"] == charge.request_id


@PATHS
def test_another_body_with_the_key_is_a_conflict_that_is_not_worth_a_retry(server, path):
    ask(server, path, body())
    refused = ask(server, path, body(text="tell me more"))
    assert (refused.status, refused.headers["x-should-retry"]) == (409, "false")
    if path == CHAT:
        assert refused.json["error"]["code"] == refused.json["error"]["type"] == "idempotency_conflict"
    else:
        assert refused.json["error"]["type"] == "invalid_request_error"
    assert not replayed(refused)
    assert len(server.engine.requests) == len(server.charges()) == 1


def test_another_path_with_the_key_is_a_conflict_even_with_the_same_body(server):
    ask(server, CHAT, body())
    assert ask(server, MESSAGES, body()).status == 409
    assert len(server.engine.requests) == len(server.charges()) == 1


def test_another_body_is_a_conflict_while_the_first_one_still_runs(server):
    first = begin(server, CHAT, body("slow"))
    server.wait_until(lambda: server.engine.running == 1)
    assert ask(server, CHAT, body("slow", text="tell me more")).status == 409
    release(server)
    assert end(first).status == 200
    assert len(server.engine.requests) == len(server.charges()) == 1


def test_the_same_idempotency_key_with_another_api_key_is_another_request(server):
    other = server.command("keys create", name="other", email=None)["api_key"]
    mine, theirs = ask(server, CHAT, body()), ask(server, CHAT, body(text="and you"), api_key=other)
    assert (mine.status, theirs.status, replayed(theirs)) == (200, 200, False)
    assert theirs.json["choices"][0]["message"]["content"] == "and you"
    assert len(server.charges()) == 2
    assert ask(server, CHAT, body(text="and you"), api_key=other).body == theirs.body


def test_a_rotated_api_key_still_finds_its_answers(server):
    first = ask(server, CHAT, body())
    rotated = server.command("keys rotate", key="first-key", email=None, overlap="0s")["api_key"]
    assert ask(server, CHAT, body(), api_key=rotated).body == first.body
    assert len(server.charges()) == 1


@PATHS
@FORMS
def test_duplicates_wait_for_the_first_and_all_get_its_answer(server, path, stream):
    raws = [begin(server, path, body("slow", stream=stream)) for _ in range(DUPLICATES)]
    wait_for_requests(server, DUPLICATES)
    release(server)
    answers = [end(raw) for raw in raws]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert [replayed(answer) for answer in answers].count(False) == 1
    assert len(server.engine.requests) == 1
    [charge] = server.charges()
    assert {answer.headers["x-request-id"] for answer in answers} == {charge.request_id}


@PATHS
def test_a_duplicate_in_the_middle_of_a_stream_gets_it_from_its_start(server, path):
    first = begin(server, path, body("slow", stream=True))
    first.read_until(b"three")
    second = begin(server, path, body("slow", stream=True))
    assert b"one" in second.read_until(b"three")
    assert server.engine.running == 1
    release(server)
    assert end(second).body == end(first).body
    assert len(server.engine.requests) == len(server.charges()) == 1


@PATHS
@FORMS
def test_a_client_that_hangs_up_does_not_stop_the_work_and_its_retry_gets_all_of_it(server, path, stream):
    first = begin(server, path, body("slow", stream=stream))
    server.wait_until(lambda: server.engine.running == 1)
    first.hang_up()
    wait_for_requests(server, 0)
    assert (server.engine.running, server.engine.aborted) == (1, [])
    release(server)
    wait_until_settled(server)
    again = ask(server, path, body("slow", stream=stream))
    assert (again.status, replayed(again)) == (200, True)
    assert b"three" in again.body
    assert (server.engine.aborted, len(server.engine.requests)) == ([], 1)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (3 * PROMPT_TICKS + 3 * OUTPUT_TICKS, "")


def test_of_duplicates_that_wait_any_may_hang_up(server):
    raws = [begin(server, CHAT, body("slow")) for _ in range(5)]
    wait_for_requests(server, 5)
    for raw in raws[:4]:
        raw.hang_up()
    wait_for_requests(server, 1)
    release(server)
    assert end(raws[4]).status == 200
    assert len(server.charges()) == 1


@PATHS
def test_a_request_that_was_refused_for_its_credits_runs_once_there_are_some(server, path):
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    bob = server.command("keys create", name="bob", email="bob@southwind.example")["api_key"]
    assert ask(server, path, body(), api_key=bob).status in (402, 429)
    server.command("credits grant", email="bob@southwind.example", amount="1", reason="paid")
    answer = ask(server, path, body(), api_key=bob)
    assert (answer.status, replayed(answer)) == (200, False)


@PATHS
def test_a_refused_request_keeps_nothing_so_a_corrected_one_may_use_its_key(server, path):
    assert ask(server, path, body("no-such-model")).status == 404
    assert kept_answers(server) == 0
    answer = ask(server, path, body())
    assert (answer.status, replayed(answer)) == (200, False)


def test_those_who_wait_for_a_request_that_is_refused_are_refused_too(server):
    """The tokenizer decides, and it stalls: all wait for the first one's admission."""
    asked, answer = asyncio.Event(), asyncio.Event()
    server.engine.context_tokens = 50

    async def counts_at_last(_: object) -> int:
        asked.set()
        await answer.wait()
        return 50

    server.engine.count_prompt_tokens = counts_at_last
    raws = [begin(server, CHAT, body()) for _ in range(5)]
    wait_for_requests(server, 5)
    server.wait_until(asked.is_set)
    server.loop.call_soon_threadsafe(answer.set)
    answers = [end(raw) for raw in raws]
    assert {each.status for each in answers} == {400}
    assert len({each.headers["x-request-id"] for each in answers}) == 1
    assert server.engine.requests == []


@FORMS
@pytest.mark.parametrize("model", ["broken-before", "broken-in-prompt", "broken-after", "crash"])
def test_a_failure_of_ours_costs_nothing_and_the_retry_runs_and_is_charged_once(server, stream, model):
    failed = ask(server, CHAT, body(model, stream=stream))
    # Only a stream that has begun has no status left to fail with.
    assert failed.status == (200 if stream and model == "broken-after" else 500 if model == "crash" else 502)
    assert b"error" in failed.body
    wait_until_settled(server)
    assert (server.charges(), server.balance().held_ticks, kept_answers(server)) == ([], 0, 0)
    server.engine.scripts = SCRIPTS | {model: echo}
    retried, again = (ask(server, CHAT, body(model, stream=stream)) for _ in range(2))
    assert (retried.status, replayed(retried), replayed(again)) == (200, False, True)
    assert again.body == retried.body
    [charge] = server.charges()
    assert charge.request_id == retried.headers["x-request-id"] != failed.headers["x-request-id"]


@FORMS
def test_those_who_wait_for_a_request_that_fails_hear_of_it_too(server, stream):
    def breaks(request: ChatRequest) -> Iterable[Step]:
        *steps, _ = slow_echo(request)
        return *steps, EngineFailed("It broke.")

    server.engine.scripts = SCRIPTS | {"slow": breaks}
    raws = [begin(server, CHAT, body("slow", stream=stream)) for _ in range(3)]
    wait_for_requests(server, 3)
    release(server)
    answers = [end(raw) for raw in raws]
    assert {answer.status for answer in answers} == {200 if stream else 502}
    assert len({answer.body for answer in answers}) == 1
    assert b"It broke." in answers[0].body
    wait_until_settled(server)
    assert server.charges() == []


@PATHS
@FORMS
def test_an_answer_is_kept_across_a_restart_for_all_who_ask_at_once(server, path, stream):
    first = ask(server, path, body(stream=stream))
    server.restart()
    answers = [end(raw) for raw in [begin(server, path, body(stream=stream)) for _ in range(DUPLICATES)]]
    assert {answer.body for answer in answers} == {first.body}
    assert {answer.headers["x-request-id"] for answer in answers} == {first.headers["x-request-id"]}
    assert all(map(replayed, answers))
    assert server.engine.requests == []
    assert len(server.charges()) == 1


def test_of_those_who_ask_at_once_for_a_kept_answer_only_the_wrong_ones_are_refused(server):
    first = ask(server, CHAT, body())
    raws = [begin(server, CHAT, body(text="tell me more" if number % 2 else "tell me all")) for number in range(10)]
    answers = [end(raw) for raw in raws]
    assert [answer.status for answer in answers] == [200, 409] * 5
    assert {answer.body for answer in answers[::2]} == {first.body}


@FORMS
def test_a_stop_in_the_middle_costs_nothing_and_the_retry_after_it_runs(server, stream):
    first = begin(server, CHAT, body("slow", stream=stream))
    server.wait_until(lambda: server.engine.running == 1)
    first.hang_up()
    wait_for_requests(server, 0)
    server.restart(drains=False)
    assert (server.charges(), server.balance().held_ticks, kept_answers(server)) == ([], 0, 0)
    release(server)
    retried = ask(server, CHAT, body("slow", stream=stream))
    assert (retried.status, replayed(retried)) == (200, False)
    assert len(server.charges()) == 1


@PATHS
@FORMS
def test_who_waits_when_the_drain_ends_is_told_so(server, path, stream):
    raws = [begin(server, path, body("slow", stream=stream)) for _ in range(2)]
    wait_for_requests(server, 2)
    server.wait_until(lambda: server.engine.running == 1)
    if stream:
        for raw in raws:
            raw.read_until(b"three")

    def cut_short() -> None:
        for task in server.server.server_state.tasks:
            task.cancel()

    server.loop.call_soon_threadsafe(cut_short)
    for raw in raws:
        answer = end(raw)
        assert answer.status == (200 if stream else 503 if path == CHAT else 529)
        assert b"The server is stopping" in answer.body
    server.restart(drains=False)
    assert (server.charges(), server.balance().held_ticks) == ([], 0)


@FORMS
def test_a_crash_in_the_middle_costs_nothing_and_the_retry_after_it_runs(server, stream):
    first = begin(server, CHAT, body("slow", stream=stream))
    server.wait_until(lambda: server.engine.running == 1)
    if stream:
        first.read_until(b"three")
        server.run(server.pipeline.running.tick())  # a checkpoint of what was delivered
    server.crash()
    first.hang_up()
    assert (server.charges(), server.balance().held_ticks) == ([], 0)
    release(server)
    retried = ask(server, CHAT, body("slow", stream=stream))
    assert (retried.status, replayed(retried)) == (200, False)
    assert len(server.charges()) == 1
    assert server.command("credits verify")["broken"] == []


@FORMS
def test_a_crash_after_the_charge_cannot_lose_the_answer(server, stream):
    first = ask(server, CHAT, body(stream=stream))
    server.crash()
    again = ask(server, CHAT, body(stream=stream))
    assert (again.body, replayed(again)) == (first.body, True)
    assert len(server.charges()) == 1


def test_after_24_hours_the_request_is_a_new_one(server):
    now = server.pipeline.replays.clock()
    server.pipeline.replays.clock = lambda: now
    first = ask(server, CHAT, body())
    server.pipeline.replays.clock = lambda: now + MICROSECONDS_PER_DAY - 1
    assert ask(server, CHAT, body()).body == first.body
    server.pipeline.replays.clock = lambda: now + MICROSECONDS_PER_DAY
    later = ask(server, CHAT, body(text="tell me more"))
    assert (later.status, replayed(later)) == (200, False)
    assert ask(server, CHAT, body(text="tell me more")).body == later.body
    assert len(server.engine.requests) == len(server.charges()) == 2


def test_what_was_kept_is_deleted_at_its_term(server):
    now = server.pipeline.replays.clock()
    server.pipeline.replays.clock = lambda: now
    ask(server, CHAT, body())
    server.run(server.pipeline.replays.prune())
    assert kept_answers(server) == 1
    server.pipeline.replays.clock = lambda: now + MICROSECONDS_PER_DAY
    server.run(server.pipeline.replays.prune())
    assert kept_answers(server) == 0
    assert len(server.charges()) == 1


@FORMS
def test_what_is_kept_can_be_read_in_no_file(server, stream):
    secret = "Zebra-Quagga-Okapi"
    answer = ask(server, CHAT, body(text=f"{secret} {secret}", stream=stream))
    assert secret.encode() in answer.body
    assert kept_answers(server) == 1
    server.restart()
    content = files(server.data)
    assert {"leadline.db", "leadline.db-wal"} <= content.keys()
    for name, data in content.items():
        for word in (secret, "Quagga", KEY):
            assert word.encode() not in data, name


def test_the_key_is_never_logged_and_the_log_names_the_one_request(server, caplog):
    caplog.set_level("DEBUG")
    forget_access_lines(caplog)
    answers = [ask(server, CHAT, body()), ask(server, CHAT, body()), ask(server, CHAT, body(text="tell me more"))]
    assert [answer.status for answer in answers] == [200, 200, 409]
    wait_for_requests(server, 0)
    for record in caplog.records:
        assert KEY not in f"{record.getMessage()} {vars(record)}"
    lines = access_lines(caplog)
    assert [line["status"] for line in lines] == [200, 200, 409]
    [charge] = server.charges()
    assert lines[0]["request_id"] == lines[1]["request_id"] == charge.request_id != lines[2]["request_id"]


@PATHS
def test_a_key_that_is_too_long_is_refused_by_name(server, path):
    refused = ask(server, path, body(), key="k" * 256)
    assert refused.status == 400
    assert "Idempotency-Key" in refused.json["error"]["message"]
    assert server.engine.requests == []
    assert ask(server, path, body(), key="k" * 255).status == 200


def test_an_empty_key_is_none(server):
    answers = [ask(server, CHAT, body(), key="") for _ in range(2)]
    assert not any(map(replayed, answers))
    assert len(server.charges()) == 2


def test_a_whole_answer_that_takes_long_gets_no_keep_alive_before_it(server, monkeypatch):
    monkeypatch.setattr("leadline.dialects.answers.KEEP_ALIVE_SECONDS", 0.0)
    raws = [begin(server, CHAT, body("slow")) for _ in range(2)]
    server.wait_until(lambda: server.engine.running == 1)
    assert ask(server, CHAT, body(), key="another").status == 200  # the loop has turned many times
    release(server)
    for answer in map(end, raws):
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json["choices"][0]["message"]["content"] == "one two three"


def test_a_streams_keep_alive_already_names_the_request(server, monkeypatch):
    monkeypatch.setattr("leadline.dialects.answers.KEEP_ALIVE_SECONDS", 0.0)
    raws = [begin(server, CHAT, body("stall", stream=True)) for _ in range(2)]
    for raw in raws:
        raw.read_until(b": ")
        raw.read_until(b"\r\n\r\n")
    release(server)
    ids = {end(raw).headers["x-request-id"] for raw in raws}
    wait_until_settled(server)
    [record] = server.command("usage log", limit=10, before=None, email=EMAIL)["records"]
    assert ids == {record["request_id"]}


@FORMS
def test_the_openai_sdk_gets_its_answer_again(server, stream):
    ask = {"model": "echo", "messages": body()["messages"], "extra_headers": {"Idempotency-Key": KEY}}
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0) as client:
        if stream:
            answers = []
            for _ in range(2):
                with client.chat.completions.stream(**ask) as events:
                    answers.append(events.get_final_completion())
        else:
            answers = [client.chat.completions.create(**ask) for _ in range(2)]
        with pytest.raises(openai.ConflictError) as refused:
            client.chat.completions.create(**ask | {"model": "slow"})
    assert answers[0] == answers[1]
    assert answers[1].choices[0].message.content == "tell me all"
    assert refused.value.code == "idempotency_conflict"
    [charge] = server.charges()
    assert answers[1].id == charge.request_id
    assert -charge.amount_ticks == answers[1].usage.cost_in_usd_ticks


@FORMS
def test_the_anthropic_sdk_gets_its_message_again(server, stream):
    ask = body() | {"extra_headers": {"Idempotency-Key": KEY}}
    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client:
        if stream:
            messages = []
            for _ in range(2):
                with client.messages.stream(**ask) as events:
                    messages.append(events.get_final_message())
        else:
            messages = [client.messages.create(**ask) for _ in range(2)]
        with pytest.raises(anthropic.ConflictError) as refused:
            client.messages.create(**ask | {"max_tokens": 5})
    assert messages[0] == messages[1]
    assert messages[1].content[0].text == "tell me all"
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert len(server.charges()) == 1


def test_an_sdk_that_retries_by_itself_is_charged_once(server):
    tries = iter([broken_after, echo])

    def shaky(request: ChatRequest) -> Iterable[Step]:
        return next(tries)(request)

    server.engine.scripts = SCRIPTS | {"echo": shaky}
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=1) as client:
        answer = client.chat.completions.create(
            model="echo", messages=body()["messages"], extra_headers={"Idempotency-Key": KEY}
        )
    assert answer.choices[0].message.content == "tell me all"
    assert len(server.engine.requests) == 2
    [charge] = server.charges()
    assert charge.request_id == answer.id


def test_of_many_keys_with_many_duplicates_each_is_charged_once_and_has_one_answer(tmp_path):
    """SCORECARD, A5. Clients hang up, and the server stops or crashes in the middle."""
    keys = count(suite=50, proof=1_000)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text(NO_LIMITS)
    server = ScriptedServer(tmp_path / "data")
    try:
        answers = {f"key-{number}": set() for number in range(keys)}
        for first in range(0, keys, 10):
            batch = {key: _asked_by(key) for key in [*answers][first : first + 10]}
            _cut_short(server, batch, server.crash if first % 20 else lambda: server.restart(drains=False))
            raws = [(key, begin(server, CHAT, asked, key)) for key, asked in batch.items() for _ in range(DUPLICATES)]
            release(server)
            for number, (key, raw) in enumerate(raws):
                if number % 7 == 3:
                    raw.hang_up()
                else:
                    answers[key].add(end(raw).body)
        server.restart()
        for key, known in answers.items():
            known.add(ask(server, CHAT, _asked_by(key), key).body)
        bodies = [body for known in answers.values() for body in known]
        charges = {charge.request_id: -charge.amount_ticks for charge in server.charges()}
        costs = {answer["id"]: answer["usage"]["cost_in_usd_ticks"] for answer in map(json.loads, bodies)}
        keep("idempotency", keys=keys, duplicates_of_each=DUPLICATES, charges=len(server.charges()), bodies=len(bodies))
        assert len(bodies) == len(server.charges()) == keys
        assert charges == costs
        assert server.command("credits verify")["broken"] == []
    finally:
        server.stop()


def _asked_by(key: str) -> dict[str, Any]:
    return body("slow" if key.endswith("5") else "echo", text=f"say {key}")


def _cut_short(server: ScriptedServer, batch: dict[str, dict[str, Any]], cut: Callable[[], None]) -> None:
    """Cut the server short in the middle of the batch's slow requests, whose clients have gone."""
    server.loop.call_soon_threadsafe(server.engine.release.clear)
    slow = [begin(server, CHAT, asked, key) for key, asked in batch.items() if asked["model"] == "slow"]
    server.wait_until(lambda: server.engine.running == len(slow))
    for raw in slow:
        raw.hang_up()
    cut()
