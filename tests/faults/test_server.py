"""The whole server with the real model, as a process: first run, drain, and a kill in the middle of a stream."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.process import EMAIL, Serving, init, leadline
from tests.raw import open_post, post, request
from tests.weights import FOLDER, default_weights

pytestmark = pytest.mark.model
CHAT = "/v1/chat/completions"
ASK = {"model": "grok-beta", "messages": [{"role": "user", "content": "Tell me a story about a fox."}]}
DEADLINE_SECONDS = 120


@pytest.fixture
def data(tmp_path: Path) -> Path:
    default_weights()
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "models").symlink_to(FOLDER)
    return folder


def port_of(serving: dict[str, str]) -> int:
    return int(serving["base_url"].rpartition(":")[2])


async def test_a_first_run_makes_a_key_and_asks_a_real_question_and_a_second_run_does_not(data):
    server = await Serving.start(data, "--quickstart")
    result = await server.event("quickstart")
    assert "Paris" in result["answer"]
    assert result["usage"]["completion_tokens"] > 0
    assert await server.stop() == 0
    [grant, charge] = leadline("credits", "ledger", result["email"], "--json", "--data", str(data)).json["entries"]
    assert grant["amount_ticks"] == 5 * 10**10
    assert charge["amount_ticks"] == -result["usage"]["cost_in_usd_ticks"]
    server = await Serving.start(data, "--quickstart")
    await server.event("ready")
    assert await server.stop() == 0
    keys = leadline("keys", "list", "--json", "--data", str(data)).json["keys"]
    assert len(keys) == 1


async def test_the_key_of_a_first_run_is_in_no_file(data):
    server = await Serving.start(data, "--quickstart")
    result = await server.event("quickstart")
    assert await server.stop() == 0
    for path in data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert result["api_key"].encode() not in content
            assert b"capital of France" not in content


async def test_http_answers_before_the_model_is_ready_and_says_why_not_yet(data):
    server = await Serving.start(data)
    port = port_of(await server.event("serving"))
    live = await asyncio.to_thread(request, port, "GET", "/health/live")
    assert live.status == 200
    ready = await asyncio.to_thread(request, port, "GET", "/health/ready")
    assert ready.status in (200, 503)
    assert ready.status == 200 or ready.json["detail"]
    await server.event("ready")
    ready = await asyncio.to_thread(request, port, "GET", "/health/ready")
    assert ready.status == 200
    assert await server.stop() == 0


async def test_a_stop_lets_a_running_stream_end_and_exits_with_0(data):
    key = init(data).json["api_key"]
    server = await Serving.start(data)
    port = port_of(await server.event("serving"))
    await server.event("ready")
    stream = await asyncio.to_thread(open_post, port, CHAT, key, ASK | {"stream": True, "max_tokens": 12})
    await asyncio.to_thread(stream.read_until, b'"content":"')
    server.process.terminate()
    received = await asyncio.to_thread(stream.read_to_end)
    assert b"data: [DONE]" in received
    assert await server.stop() == 0
    entries = leadline("credits", "ledger", EMAIL, "--json", "--data", str(data)).json["entries"]
    assert [entry["reason"] for entry in entries if entry["kind"] == "charge"] == [""]


async def test_a_kill_in_the_middle_of_a_stream_leaves_no_orphan_and_books_that_add_up(data):
    key = init(data).json["api_key"]
    server = await Serving.start(data)
    port = port_of(await server.event("serving"))
    await server.event("ready")
    child = _child_of(server.process.pid)
    stream = await asyncio.to_thread(open_post, port, CHAT, key, ASK | {"stream": True, "max_tokens": 400})
    await asyncio.to_thread(stream.read_until, b'"content":"')
    server.process.kill()
    await server.process.communicate()
    stream.hang_up()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while _child_runs(child):
            await asyncio.sleep(0.01)
    server = await Serving.start(data)
    port = port_of(await server.event("serving"))
    await server.event("ready")
    answer = await asyncio.to_thread(post, port, CHAT, key, json.dumps(ASK | {"max_tokens": 4}).encode())
    assert answer.status == 200
    balance = leadline("credits", "balance", EMAIL, "--json", "--data", str(data)).json
    assert balance["held_ticks"] == 0
    assert leadline("credits", "verify", "--data", str(data)).code == 0
    assert await server.stop() == 0


async def test_a_hang_up_over_http_stops_the_real_engine_and_is_charged(data):
    key = init(data).json["api_key"]
    server = await Serving.start(data)
    port = port_of(await server.event("serving"))
    await server.event("ready")
    stream = await asyncio.to_thread(open_post, port, CHAT, key, ASK | {"stream": True, "max_tokens": 2000})
    await asyncio.to_thread(stream.read_until, b'"content":"')
    stream.hang_up()

    async def settled() -> dict[str, int]:
        done = await asyncio.to_thread(leadline, "credits", "balance", EMAIL, "--json", "--data", str(data))
        balance: dict[str, int] = done.json
        return balance

    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await settled())["held_ticks"]:
            await asyncio.sleep(0.05)
    entries = leadline("credits", "ledger", EMAIL, "--json", "--data", str(data)).json["entries"]
    [charge] = [entry for entry in entries if entry["kind"] == "charge"]
    assert charge["reason"] == "interrupted"
    assert 0 < -charge["amount_ticks"] < 2000 * 4000
    assert await server.stop() == 0


def _child_of(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _child_runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
