"""xAI's deferred completions over HTTP: admitted at once, made without the client, fetched once."""

import asyncio
import json
import logging
from collections.abc import Iterable
from typing import Any

import pytest

from leadline.chat.request import ChatRequest
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.errors import EngineFailed
from tests.access_lines import access_lines, forget_access_lines
from tests.raw import Answer, post, request
from tests.scripted.engine import SCRIPTS, Stall, Step, echo
from tests.scripted.server import EMAIL, ScriptedServer

CHAT = "/v1/chat/completions"
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000
COST = 3 * PROMPT_TICKS + 3 * OUTPUT_TICKS


def ask(server: ScriptedServer, model: str = "echo", text: str = "tell me all", **more: Any) -> Answer:
    headers = {"idempotency_key": more.pop("key")} if "key" in more else {}
    api_key = more.pop("api_key", server.api_key)
    body = {"model": model, "messages": [{"role": "user", "content": text}], "deferred": True} | more
    return post(server.port, CHAT, api_key, json.dumps(body).encode(), **headers)


def fetch(server: ScriptedServer, request_id: str, api_key: str | None = None) -> Answer:
    path = f"/v1/chat/deferred-completion/{request_id}"
    return request(server.port, "GET", path, Authorization=f"Bearer {api_key or server.api_key}")


def wait(server: ScriptedServer) -> None:
    """Until nothing runs that was deferred."""
    server.wait_until(lambda: not server.pipeline.deferred._tasks and not server.pipeline.replays._tasks)


def release(server: ScriptedServer) -> None:
    server.loop.call_soon_threadsafe(server.engine.release.set)


def bobs_key(server: ScriptedServer) -> str:
    """The key of another organisation."""
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    key: str = server.command("keys create", name="bob", email="bob@southwind.example")["api_key"]
    return key


def test_a_deferred_request_is_answered_at_once_and_its_completion_is_fetched_once(server):
    answer = ask(server, "slow")
    assert (answer.status, list(answer.json)) == (200, ["request_id"])
    request_id = answer.json["request_id"]
    assert answer.headers["x-request-id"] == request_id
    assert answer.headers["x-ratelimit-limit-requests"] == "480"
    server.wait_until(lambda: server.engine.running == 1)
    pending = fetch(server, request_id)
    assert (pending.status, pending.body) == (202, b"")
    release(server)
    wait(server)
    done = fetch(server, request_id)
    assert (done.status, done.headers["content-type"]) == (200, "application/json")
    completion = done.json
    assert (completion["id"], completion["object"]) == (request_id, "chat.completion")
    assert completion["choices"][0]["message"]["content"] == "one two three"
    assert completion["usage"]["cost_in_usd_ticks"] == COST
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.request_id, charge.reason) == (COST, request_id, "")
    assert fetch(server, request_id).status == 404


def test_the_access_log_tells_the_status_that_was_sent(server, caplog):
    caplog.set_level(logging.INFO, "leadline.access")
    forget_access_lines(caplog)
    request_id = ask(server, "slow").json["request_id"]
    fetch(server, request_id)
    assert [line["status"] for line in access_lines(caplog) if "deferred-completion" in line["path"]] == [202]


def test_of_many_who_fetch_at_once_one_gets_it(server):
    request_id = ask(server).json["request_id"]
    wait(server)

    async def fetch_all() -> list[object]:
        take = server.pipeline.deferred.take
        results = (take(server.organisation_id, request_id) for _ in range(20))
        return list(await asyncio.gather(*results, return_exceptions=True))

    results = server.run(fetch_all())
    assert sum(not isinstance(result, Exception) for result in results) == 1


def test_it_is_found_in_any_spelling(server):
    for spell in (str, str.upper, lambda id_: id_.replace("-", ""), lambda id_: "resp_" + id_.replace("-", "")):
        request_id = ask(server).json["request_id"]
        wait(server)
        assert fetch(server, spell(request_id)).status == 200


def test_nobody_else_can_tell_that_it_exists(server):
    bob = bobs_key(server)
    request_id = ask(server, "slow").json["request_id"]
    unknown = fetch(server, "01a21215-e4a7-7b11-b415-5f93b6190a05", bob)
    assert fetch(server, request_id, bob).status == unknown.status == 404
    release(server)
    wait(server)
    assert fetch(server, request_id, bob).json == unknown.json
    assert fetch(server, request_id).status == 200


def test_what_is_refused_is_refused_at_once(server):
    assert ask(server, "no-such-model").status == 404
    assert ask(server, stream=True).json["error"]["param"] == "deferred"
    assert ask(server, api_key=bobs_key(server)).json["error"]["code"] == "insufficient_quota"
    assert fetch(server, "nonsense").status == 404
    assert server.engine.requests == []


@pytest.mark.parametrize(("model", "status"), [("broken-after", 502), ("busy", 503), ("crash", 500)])
def test_a_failure_costs_nothing_and_is_told_until_its_term(server, model, status):
    request_id = ask(server, model).json["request_id"]
    wait(server)
    for _ in range(2):
        failed = fetch(server, request_id)
        assert (failed.status, failed.headers["x-should-retry"]) == (status, "false")
        assert failed.json["error"]["message"]
        assert b"secret" not in failed.body
    assert (server.charges(), server.balance().held_ticks) == ([], 0)


def test_a_completion_that_is_too_large_to_be_kept_costs_nothing(server, monkeypatch):
    monkeypatch.setattr("leadline.serving.stored.LARGEST_BYTES", 1000)
    request_id = ask(server, text="word " * 500).json["request_id"]
    wait(server)
    assert fetch(server, request_id).status == 400
    assert server.charges() == []


def test_choices_and_tools_come_as_in_any_other_completion(server):
    request_id = ask(server, n=2).json["request_id"]
    wait(server)
    assert len(fetch(server, request_id).json["choices"]) == 2
    request_id = ask(server, "weather").json["request_id"]
    wait(server)
    assert fetch(server, request_id).json["choices"][0]["finish_reason"] == "tool_calls"


def test_a_completion_outlives_a_restart(server):
    request_id = ask(server).json["request_id"]
    wait(server)
    server.restart()
    assert fetch(server, request_id).json["choices"][0]["message"]["content"] == "tell me all"
    assert len(server.charges()) == 1


def test_what_a_stop_cuts_short_costs_nothing_and_says_so(server):
    request_id = ask(server, "slow").json["request_id"]
    server.wait_until(lambda: server.engine.running == 1)
    server.restart(drains=False)
    stopped = fetch(server, request_id)
    assert stopped.status == 503
    assert "The server was stopped" in stopped.json["error"]["message"]
    assert (server.charges(), server.balance().held_ticks) == ([], 0)


def test_what_a_crash_cuts_short_costs_nothing_and_never_was(server):
    request_id = ask(server, "slow").json["request_id"]
    server.wait_until(lambda: server.engine.running == 1)
    server.crash()
    assert fetch(server, request_id).status == 404
    assert (server.charges(), server.balance().held_ticks) == ([], 0)


def test_a_completion_is_kept_for_24_hours(server):
    now = server.pipeline.stored.clock()
    server.pipeline.stored.clock = lambda: now
    first, second = (ask(server).json["request_id"] for _ in range(2))
    wait(server)
    server.pipeline.stored.clock = lambda: now + MICROSECONDS_PER_DAY - 1
    assert fetch(server, first).status == 200
    server.pipeline.stored.clock = lambda: now + MICROSECONDS_PER_DAY
    assert fetch(server, second).status == 404


def test_a_revoked_key_ends_what_it_deferred(server):
    made = server.command("keys create", name="other", email=EMAIL)["api_key"]
    request_id = ask(server, "slow", api_key=made).json["request_id"]
    server.wait_until(lambda: server.engine.running == 1)
    server.command("keys revoke", key="other", email=EMAIL)
    server.run(server.pipeline.running.tick())
    wait(server)
    assert fetch(server, request_id).status == 401
    assert server.charges() == []


def test_with_an_idempotency_key_it_runs_once_and_all_get_its_id(server):
    first = ask(server, "slow", key="order-7")
    again = ask(server, "slow", key="order-7")
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] == first.json["request_id"]
    assert ask(server, "slow", text="something else", key="order-7").status == 409
    release(server)
    wait(server)
    server.restart()
    assert ask(server, "slow", key="order-7").body == first.body
    assert fetch(server, first.json["request_id"]).status == 200
    assert server.engine.requests == []
    assert len(server.charges()) == 1


def test_with_an_idempotency_key_a_failed_one_may_be_tried_again(server):
    def breaks(_: ChatRequest) -> Iterable[Step]:
        return (Stall(), EngineFailed("It broke."))

    server.engine.scripts["slow"] = breaks
    first = ask(server, "slow", key="order-7").json["request_id"]
    release(server)
    wait(server)
    assert fetch(server, first).status == 502
    server.engine.scripts = SCRIPTS | {"slow": echo}
    second = ask(server, "slow", key="order-7").json["request_id"]
    assert second != first
    wait(server)
    assert fetch(server, second).status == 200
    assert len(server.charges()) == 1


def test_what_is_kept_can_be_read_in_no_file(server):
    ask(server, text="Zebra-Quagga-Okapi")
    wait(server)
    assert server.run(server.instance.database.rows("SELECT kind FROM stored_answers")) == [("deferred",)]
    server.restart()
    for path in server.data.rglob("*"):
        assert not path.is_file() or b"Quagga" not in path.read_bytes(), path
