"""xAI's batches over HTTP: what is handed in, what becomes of it under stops and refusals, and what goes first."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from leadline.chat.events import ChatEvent
from leadline.chat.request import ChatRequest
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.engines.engine import Engine
from leadline.serving import batch_rows, batch_runner
from leadline.serving.batch_runner import BatchRunner
from tests.raw import DEADLINE_SECONDS, Answer, Raw, open_post, post, request
from tests.scripted.engine import ScriptedEngine, Stall, Step, echo, words
from tests.scripted.server import EMAIL, ScriptedServer

CHAT = "/v1/chat/completions"
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000
COST = 2 * PROMPT_TICKS + 2 * OUTPUT_TICKS


def asked(model: str = "echo", text: str = "hi there", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]} | more


def entry(model: str = "echo", text: str = "hi there", name: str | None = None, **more: Any) -> dict[str, Any]:
    named = {} if name is None else {"batch_request_id": name}
    return {"batch_request": {"chat_get_completion": asked(model, text, **more)}} | named


def send(server: ScriptedServer, path: str, body: Any, api_key: str | None = None) -> Answer:
    return post(server.port, path, api_key or server.api_key, json.dumps(body).encode())


def fetch(server: ScriptedServer, path: str, api_key: str | None = None) -> Answer:
    return request(server.port, "GET", path, x_api_key=api_key or server.api_key)


def create(server: ScriptedServer, *entries: dict[str, Any], api_key: str | None = None) -> str:
    """The path of a new batch with these requests."""
    path = f"/v1/batches/{send(server, '/v1/batches', {'name': 'all of them'}, api_key).json['batch_id']}"
    if entries:
        assert send(server, f"{path}/requests", {"batch_requests": entries}, api_key).status == 200
    return path


def state(server: ScriptedServer, path: str) -> dict[str, int]:
    """How many requests are in each state; they always add up."""
    told: dict[str, int] = fetch(server, path).json["state"]
    requests = told.pop("num_requests")
    assert sum(told.values()) == requests
    return {name.removeprefix("num_"): number for name, number in told.items() if number}


def wait(server: ScriptedServer, path: str, **wanted: int) -> None:
    """Until the states are so; without any, until nothing is pending."""
    until = time.monotonic() + DEADLINE_SECONDS
    while (now := state(server, path)) != wanted and (wanted or "pending" in now):
        assert time.monotonic() < until, now


def results(server: ScriptedServer, path: str) -> dict[str, Any]:
    """By their names: what was said, or the code of the error."""
    told = {}
    for one in fetch(server, f"{path}/results").json["results"]:
        result = one["batch_result"]
        told[one["batch_request_id"]] = (
            result["error"]["code"]
            if "error" in result
            else result["response"]["chat_get_completion"]["choices"][0]["message"]["content"]
        )
    return told


def release(server: ScriptedServer) -> None:
    server.loop.call_soon_threadsafe(server.engine.release.set)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put off is tried again at once."""
    monkeypatch.setattr(batch_runner, "PUT_OFF_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(batch_runner, "LOOK_SECONDS", 0.01)


def test_requests_are_answered_and_charged_once(server):
    path = create(server, entry(name="a"), entry("weather", "look", name="b"), entry("broken-after", name="c"))
    wait(server, path, success=2, error=1)
    assert results(server, path) == {"a": "hi there", "b": "Let me look.", "c": "api_error"}
    told = fetch(server, f"{path}/results").json["results"]
    ids = [one["batch_result"]["response"]["chat_get_completion"]["id"] for one in told[:2]]
    charges = {charge.request_id: -charge.amount_ticks for charge in server.charges()}
    assert charges.keys() == set(ids)
    assert fetch(server, path).json["cost_breakdown"]["total_cost_usd_ticks"] == sum(charges.values())
    listed = fetch(server, f"{path}/requests").json["batch_request_metadata"]
    assert [(one["batch_request_id"], one["model"], one["state"]) for one in listed] == [
        ("a", "echo", "succeeded"),
        ("b", "weather", "succeeded"),
        ("c", "broken-after", "failed"),
    ]
    assert server.command("credits verify")["ok"]


def test_functions_are_answered_in_their_own_words(server):
    functions = [{"name": "weather"}, {"name": "clock"}]
    path = create(server, entry("weather", name="a", functions=functions))
    wait(server, path)
    [told] = fetch(server, f"{path}/results").json["results"]
    [choice] = told["batch_result"]["response"]["chat_get_completion"]["choices"]
    assert choice["message"]["function_call"]["name"] == "weather"


def test_what_is_kept_is_sealed(server):
    path = create(server, entry(text="a very secret question", name="a"))
    wait(server, path)
    rows = server.run(server.instance.database.rows("SELECT request, result FROM batch_requests"))
    assert not any(b"secret" in content for row in rows for content in row)


# What is added, and the field that is to blame.
WRONG = [
    ({}, "batch_requests"),
    ({"batch_requests": []}, "batch_requests"),
    ({"batch_requests": [entry()] * 1001}, "batch_requests"),
    ({"batch_requests": [entry(), 3]}, "batch_requests[1]"),
    ({"batch_requests": [entry(), {}]}, "batch_requests[1].batch_request"),
    ({"batch_requests": [{"batch_request": {}}]}, "batch_requests[0].batch_request.chat_get_completion"),
    ({"batch_requests": [{"batch_request": {"image": {}}}]}, "batch_requests[0].batch_request.image"),
    ({"batch_requests": [entry(temperature=9)]}, "temperature"),
    ({"batch_requests": [entry(stream=True)]}, "stream"),
    ({"batch_requests": [entry(deferred=True)]}, "deferred"),
    ({"batch_requests": [entry("nobody")]}, "model"),
    ({"batch_requests": [entry(), entry(messages=[{"role": "assistant"}])]}, "messages[0]"),
    ({"batch_requests": [entry(name="a"), entry(name="a")]}, "batch_requests[1].batch_request_id"),
    ({"batch_requests": [entry(name="")]}, "batch_requests[0].batch_request_id"),
    ({"batch_requests": [entry(name="a\nb")]}, "batch_requests[0].batch_request_id"),
]


def test_what_is_wrong_is_named_and_nothing_is_added(server):
    path = create(server)
    for body, param in WRONG:
        refused = send(server, f"{path}/requests", body)
        entries = body.get("batch_requests")
        inside = f"batch_requests[{len(entries or ()) - 1}].batch_request.chat_get_completion.{param}"
        at = param if param.startswith("batch_requests") else inside
        assert (refused.status, refused.json["error"]["param"]) == (400, at)
    assert state(server, path) == {}


def test_a_batch_needs_a_name(server):
    for body in ({}, {"name": ""}, {"name": 3}, {"name": "x" * 201}):
        refused = send(server, "/v1/batches", body)
        assert (refused.status, refused.json["error"]["param"]) == (400, "name")


def test_openai_s_form_is_refused_by_name(server):
    body = {"input_file_id": "file_1", "endpoint": CHAT, "completion_window": "24h"}
    refused = send(server, "/v1/batches", body)
    assert (refused.status, refused.json["error"]["param"]) == (400, "endpoint")


def test_bounds_are_told(server, monkeypatch):
    path = create(server, entry(name="a"))
    wait(server, path)
    monkeypatch.setattr(batch_rows, "MOST_REQUESTS", 2)
    assert send(server, f"{path}/requests", {"batch_requests": [entry(), entry()]}).status == 400
    monkeypatch.setattr(batch_rows, "MOST_BYTES", 10)
    assert send(server, f"{path}/requests", {"batch_requests": [entry()]}).status == 400
    monkeypatch.setattr(batch_rows, "MOST_BYTES", 10**6)
    monkeypatch.setattr(batch_rows, "MOST_ORGANISATION_BYTES", 10)
    full = send(server, f"{path}/requests", {"batch_requests": [entry()]})
    assert (full.status, full.headers["x-should-retry"]) == (429, "false")
    monkeypatch.setattr(batch_rows, "MOST_BATCHES", 1)
    full = send(server, "/v1/batches", {"name": "one more"})
    assert (full.status, full.headers["x-should-retry"]) == (429, "false")
    large = send(server, f"{path}/requests", {"batch_requests": [entry(text="x" * 5_000_000)]})
    assert large.json["error"]["param"] == "batch_requests[0]"
    assert state(server, path) == {"success": 1}


def test_pages_follow_each_other(server):
    paths = [create(server, *(entry(name=f"{number}") for number in range(5))) for _ in range(3)]
    for path in paths:
        wait(server, path)
    for first, entries, names in (
        ("/v1/batches", "batches", [path.rpartition("/")[2] for path in reversed(paths)]),
        (f"{paths[0]}/requests", "batch_request_metadata", ["0", "1", "2", "3", "4"]),
        (f"{paths[0]}/results", "results", ["0", "1", "2", "3", "4"]),
    ):
        found, token, id_name = [], "", "batch_id" if entries == "batches" else "batch_request_id"
        while token is not None:
            page = fetch(server, f"{first}?limit=2&pagination_token={token}").json
            found += [one[id_name] for one in page[entries]]
            assert page["has_more"] == (page["pagination_token"] is not None)
            token = page["pagination_token"]
        assert found == names
        assert fetch(server, f"{first}?limit=0").json["error"]["param"] == "limit"
        assert fetch(server, f"{first}?pagination_token=nonsense").json["error"]["param"] == "pagination_token"


def test_nobody_else_can_tell_that_it_exists(server):
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    bob = server.command("keys create", name="bob", email="bob@southwind.example")["api_key"]
    path, unknown = create(server, entry()), "/v1/batches/batch_01a21215-e4a7-7b11-b415-5f93b6190a05"
    wait(server, path)
    for end in ("", "/requests", "/results"):
        foreign, none = fetch(server, path + end, bob), fetch(server, unknown + end, bob)
        assert (foreign.status, foreign.json) == (404, none.json)
    for end, body in ((":cancel", {}), ("/requests", {"batch_requests": [entry()]})):
        foreign, none = send(server, path + end, body, bob), send(server, unknown + end, body, bob)
        assert (foreign.status, foreign.json) == (404, none.json)
    batch_id = path.rpartition("/")[2]
    assert fetch(server, f"/v1/batches?pagination_token={batch_id}", bob).json["batches"] == []


def test_a_key_needs_the_scopes(server):
    path = create(server)
    for endpoints, creates, adds in ((["batch"], 200, 403), (["batch", "chat"], 200, 200), (["chat"], 403, 403)):
        options, name = {"endpoints": endpoints}, "+".join(endpoints)
        key = server.command("keys create", name=name, email=EMAIL, options=options)["api_key"]
        assert send(server, "/v1/batches", {"name": "x"}, key).status == creates
        assert send(server, f"{path}/requests", {"batch_requests": [entry()]}, key).status == adds


def test_a_batch_is_not_counted_in_the_limits(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "leadline.toml").write_text("[limits.default]\nrequests_per_minute = 1\nconcurrent_requests = 1\n")
    server = ScriptedServer(data)
    path = create(server, *(entry() for _ in range(20)))
    wait(server, path)
    assert state(server, path) == {"success": 20}
    assert send(server, CHAT, asked()).status == 200
    assert send(server, CHAT, asked()).status == 429
    server.stop()


def test_cancelling_ends_what_has_not_begun(server):
    path = create(server, *(entry("stall") for _ in range(20)))
    server.wait_until(lambda: server.engine.running == batch_runner.MOST_AT_ONCE)
    told = send(server, f"{path}:cancel", {}).json
    assert told["cancel_time"] is not None
    assert told["cancel_by_xai_message"] is None
    assert state(server, path) == {"pending": 8, "cancelled": 12}
    refused = send(server, f"{path}/requests", {"batch_requests": [entry()]})
    assert refused.status == 400
    release(server)
    wait(server, path)
    assert state(server, path) == {"success": 8, "cancelled": 12}
    assert len(server.charges()) == len(server.engine.requests) == 8
    assert send(server, f"{path}:cancel", {}).json["cancel_time"] == told["cancel_time"]


@pytest.mark.parametrize("drains", [True, False])
def test_a_restart_goes_on_where_the_server_stopped(server, drains):
    path = create(server, *(entry("stall", name=f"slow {number}") for number in range(3)), entry(name="quick"))
    server.wait_until(lambda: server.engine.running == 3)
    wait(server, path, pending=3, success=1)
    server.restart(drains=drains)
    assert len(server.charges()) == 1
    server.wait_until(lambda: server.engine.running == 3)
    release(server)
    wait(server, path)
    assert state(server, path) == {"success": 4}
    server.run(server.instance.ledger.tick())
    records = server.run(server.instance.database.rows("SELECT status, COUNT(*) FROM usage_records GROUP BY status"))
    assert records == [("finished", 4)]
    assert len({charge.request_id for charge in server.charges()}) == len(server.charges()) == 4


def test_what_a_crash_left_running_when_its_batch_was_cancelled_is_cancelled_too(server):
    path = create(server, *(entry("stall") for _ in range(3)))
    server.wait_until(lambda: server.engine.running == 3)
    send(server, f"{path}:cancel", {})
    assert state(server, path) == {"pending": 3}
    server.restart(drains=False)
    wait(server, path, cancelled=3)
    assert server.charges() == []


def test_after_its_day_a_batch_is_cancelled(server):
    path = create(server, *(entry("stall") for _ in range(10)))
    server.wait_until(lambda: server.engine.running == 8)
    # Where the runner and the rows look.
    clock = server.pipeline.clock
    store = server.pipeline.batches.store
    store.clock = lambda: clock() + MICROSECONDS_PER_DAY
    object.__setattr__(server.pipeline, "clock", store.clock)
    wait(server, path, pending=8, cancelled=2)
    told = fetch(server, path).json
    assert "24 hours" in told["cancel_by_xai_message"]
    assert send(server, f"{path}/requests", {"batch_requests": [entry()]}).status == 400
    release(server)
    wait(server, path, success=8, cancelled=2)


def test_a_batch_is_deleted_after_thirty_days(server):
    path = create(server, entry())
    wait(server, path)
    store = server.pipeline.batches.store
    server.run(store.prune())
    assert fetch(server, path).status == 200
    clock = store.clock
    store.clock = lambda: clock() + 30 * MICROSECONDS_PER_DAY
    server.run(store.prune())
    assert fetch(server, path).status == 404
    assert server.run(server.instance.database.rows("SELECT COUNT(*) FROM batch_requests")) == [(0,)]
    assert len(server.charges()) == 1


def test_the_requests_of_a_revoked_key_fail(server):
    key = server.command("keys create", name="other", email=EMAIL)["api_key"]
    path = create(server, entry("stall", name="runs"), *(entry("stall") for _ in range(9)), api_key=key)
    server.wait_until(lambda: server.engine.running == 8)
    server.command("keys revoke", key="other", email=EMAIL)
    wait(server, path)
    assert set(results(server, path).values()) == {"invalid_api_key"}
    assert server.charges() == []


def test_the_requests_of_a_suspended_organisation_fail(server):
    path = create(server, *(entry("stall") for _ in range(9)))
    server.wait_until(lambda: server.engine.running == 8)
    server.command("accounts suspend", email=EMAIL)
    release(server)

    async def ended() -> None:
        while await server.instance.database.rows("SELECT 1 FROM batch_requests WHERE state = 'pending' LIMIT 1"):
            await asyncio.sleep(0.002)

    server.run(ended())
    server.command("accounts resume", email=EMAIL)
    assert sorted(results(server, path).values()) == [""] * 8 + ["permission_denied"]


def test_credits_that_ran_out_end_a_request_and_credits_that_are_held_put_it_off(tmp_path, impatient):
    server = ScriptedServer(tmp_path / "data", usd="0.0001")  # a million ticks
    dear = {"max_tokens": 30}  # 620,000 ticks at most
    path = create(server, entry("slow", name="first", **dear), entry("slow", name="second", **dear))
    server.wait_until(lambda: server.engine.running == 1)
    server.wait_until(lambda: _put_off(server) > 2)
    assert state(server, path) == {"pending": 2}
    release(server)
    wait(server, path)
    assert state(server, path) == {"success": 2}
    path = create(server, entry("slow", name="third", max_tokens=100))
    wait(server, path)
    assert results(server, path) == {"third": "insufficient_quota"}
    assert server.command("credits verify")["ok"]
    refused = "SELECT COUNT(*) FROM usage_records WHERE status = 'refused'"
    server.run(server.instance.ledger.write_noted())
    assert server.run(server.instance.database.rows(refused)) == [(1,)]
    server.stop()


def _put_off(server: ScriptedServer) -> int:
    """How often its requests were put off in a row."""
    return max((queue.put_off for queue in server.batches._known.values()), default=0)


def test_a_request_waits_for_an_engine_that_is_not_ready(server, impatient):
    server.engine.ready = False
    path = create(server, entry(name="a"))
    server.wait_until(lambda: _put_off(server) > 2)
    assert state(server, path) == {"pending": 1}
    server.engine.ready = True
    wait(server, path)
    assert results(server, path) == {"a": "hi there"}


def test_of_two_batches_none_waits_for_the_other(server):
    first = create(server, *(entry("stall") for _ in range(100)))
    server.wait_until(lambda: server.engine.running == 8)
    second = create(server, entry("stall"))
    release(server)
    wait(server, second)
    assert "pending" in state(server, first)
    wait(server, first)


def test_a_quick_model_keeps_no_other_waiting(server):
    path = create(server, *(entry() for _ in range(100)), entry("weather", "look"))
    wait(server, path)
    assert [asked.model for asked in server.engine.requests].index("weather") < 50


def lines(*entries: Any) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in entries)


def upload(server: ScriptedServer, content: bytes) -> str:
    body = (
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="requests.jsonl"\r\n\r\n'
        + content
        + b"\r\n--x--"
    )
    told = post(server.port, "/v1/files", server.api_key, body, content_type="multipart/form-data; boundary=x")
    return str(told.json["id"])


def test_a_file_of_lines_becomes_a_batch(server):
    openai = {"custom_id": "b", "method": "POST", "url": CHAT, "body": asked()}
    file_id = upload(server, lines(entry(name="a"), openai, b"", *(entry(name=f"{n}") for n in range(100)), b""))
    made = send(server, "/v1/batches", {"name": "from a file", "input_file_id": file_id}).json
    assert (made["input_file_id"], made["state"]["num_requests"]) == (file_id, 102)
    path = f"/v1/batches/{made['batch_id']}"
    wait(server, path)
    assert state(server, path) == {"success": 102}
    assert send(server, f"{path}/requests", {"batch_requests": [entry()]}).status == 400


WRONG_LINES: list[tuple[Any, str]] = [
    (b"{", "line 41"),
    (entry("nobody"), "line 41.batch_request.chat_get_completion.model"),
    (entry(temperature=9), "line 41.batch_request.chat_get_completion.temperature"),
    (entry(name="7"), "line 41.batch_request_id"),
    ({"custom_id": "b", "url": "/v1/embeddings", "body": {}}, "line 41.url"),
]


def test_of_a_file_with_a_wrong_line_nothing_is_kept_and_nothing_begins(server):
    for wrong, told in WRONG_LINES:
        file_id = upload(server, lines(*(entry(name=f"{number}") for number in range(40)), wrong))
        refused = send(server, "/v1/batches", {"name": "from a file", "input_file_id": file_id})
        assert (refused.status, refused.json["error"]["param"]) == (400, "input_file_id")
        assert refused.json["error"]["message"].startswith(told)
    assert fetch(server, "/v1/batches").json["batches"] == []
    assert server.run(server.instance.database.rows("SELECT COUNT(*) FROM batch_requests")) == [(0,)]
    assert server.engine.requests == []


# Live requests go first.


@dataclass
class Roomy(ScriptedEngine):
    """An engine with four places. Who finds none waits, as in a real one."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    free: int = 4
    waiting: int = 0
    looks: int = 0

    def leaves_room(self, request: ChatRequest) -> bool:
        self.looks += 1
        return 2 * (self.free - request.choices) >= 4

    async def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        self.waiting += 1
        async with self.places:
            self.waiting -= 1
            self.free -= 1
            try:
                async for one in super().generate(request):
                    yield one
            finally:
                self.free += 1


def patient(request: ChatRequest) -> Iterable[Step]:
    """Stalls, unless it is asked to be quick."""
    if "quick" not in words(request.messages[-1].content):
        yield Stall()
    yield from echo(request)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> Roomy:
    monkeypatch.setattr(batch_runner, "LOOK_SECONDS", 0.005)
    return Roomy({"roomy": patient})


@pytest.fixture
def busy(tmp_path: Path, roomy: Roomy) -> Iterator[ScriptedServer]:
    """A server with that engine."""
    engines: dict[str, Engine] = {"roomy": roomy}
    server = ScriptedServer(tmp_path / "data", engines=engines)
    yield server
    server.loop.call_soon_threadsafe(roomy.release.set)
    server.stop()


def looked(server: ScriptedServer, roomy: Roomy) -> None:
    """Until the runner has looked for room some times more."""
    looks = roomy.looks
    server.wait_until(lambda: roomy.looks > looks + 3)


def test_a_live_request_finds_room_beside_a_batch(busy, roomy):
    path = create(busy, *(entry("roomy") for _ in range(10)))
    busy.wait_until(lambda: roomy.running == 2)
    looked(busy, roomy)
    assert roomy.running == 2
    # Nothing of the batch has ended or will.
    assert send(busy, CHAT, asked("roomy", "be quick")).status == 200
    assert state(busy, path) == {"pending": 10}


def test_a_batch_waits_while_live_requests_take_the_room(busy, roomy):
    live = [open_post(busy.port, CHAT, busy.api_key, asked("roomy")) for _ in range(4)]
    busy.wait_until(lambda: roomy.running == 4)
    path = create(busy, entry("roomy", "be quick"))
    looked(busy, roomy)
    assert len(roomy.requests) == 4
    busy.loop.call_soon_threadsafe(roomy.release.set)
    answered(live)
    wait(busy, path)
    assert state(busy, path) == {"success": 1}


def answered(live: list[Raw]) -> None:
    assert all(b" 200 OK" in one.read_to_end() for one in live)


def test_beside_many_live_requests_none_of_a_batch_begins(busy, roomy, monkeypatch):
    monkeypatch.setattr(batch_runner, "MOST_LIVE", 1)
    [live] = [open_post(busy.port, CHAT, busy.api_key, asked("roomy"))]
    busy.wait_until(lambda: roomy.running == 1)
    path = create(busy, entry("roomy", "be quick"))
    turns = count_turns(monkeypatch)
    busy.wait_until(lambda: turns[0] > 3)
    assert state(busy, path) == {"pending": 1}
    busy.loop.call_soon_threadsafe(roomy.release.set)
    answered([live])
    wait(busy, path)


def count_turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    turns, turn = [0], BatchRunner._turn

    async def counted(runner: BatchRunner) -> None:
        await turn(runner)
        turns[0] += 1

    monkeypatch.setattr(BatchRunner, "_turn", counted)
    return turns


def test_a_batch_that_waited_long_has_a_turn_beside_live_requests(busy, roomy, monkeypatch):
    monkeypatch.setattr(batch_runner, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(batch_runner, "MOST_LIVE", 1)
    live = [open_post(busy.port, CHAT, busy.api_key, asked("roomy")) for _ in range(3)]
    busy.wait_until(lambda: roomy.running == 3)
    path = create(busy, entry("roomy", "be quick"), entry("roomy"), entry("roomy"))
    wait(busy, path, success=1, pending=2)
    turns = count_turns(monkeypatch)
    busy.wait_until(lambda: turns[0] > 3)
    assert len(roomy.requests) == 5
    busy.loop.call_soon_threadsafe(roomy.release.set)
    answered(live)
    wait(busy, path)


def test_a_runner_that_does_not_ask_for_room_is_found_out(busy, roomy, monkeypatch):
    monkeypatch.setattr(BatchRunner, "_leaves_room", lambda *_: True)
    create(busy, *(entry("roomy") for _ in range(10)))
    busy.wait_until(lambda: roomy.running == 4 and roomy.waiting == 4)
    live = open_post(busy.port, CHAT, busy.api_key, asked("roomy", "be quick"))
    busy.wait_until(lambda: roomy.waiting == 5)
    busy.loop.call_soon_threadsafe(roomy.release.set)
    answered([live])
