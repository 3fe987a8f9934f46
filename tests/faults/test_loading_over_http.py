"""Requests to a model that is not loaded: they wait or are refused before the first byte, and hold no money then."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from leadline.engines.embedded.loader import Loader, Policy
from leadline.engines.embedded.memory import Memory
from tests.raw import Answer, open_post, parse
from tests.scripted.server import ScriptedServer

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
ALL = pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])


def ask(path: str, **more: object) -> dict[str, object]:
    if path == RESPONSES:
        return {"model": "echo", "max_output_tokens": 16, "input": "one two"} | more
    return {"model": "echo", "max_tokens": 16, "messages": [{"role": "user", "content": "one two"}]} | more


def post(port: int, path: str, key: str, body: dict[str, object]) -> Answer:
    return parse(open_post(port, path, key, body).read_to_end())


@dataclass
class Loading:
    """The scripted engine, which has to be loaded first."""

    server: ScriptedServer
    loads: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str | None = None

    def begin(self, policy: Policy, memory_bytes: int = 10) -> None:
        async def start() -> None:
            self.loader = Loader("scripted", policy, Memory(memory_bytes), self._run)
            self.task = asyncio.create_task(self.loader.keep(10))
            self.server.engine.take = self.loader.take  # type: ignore[method-assign]
            await asyncio.sleep(0)

        self.server.run(start())

    def let_go(self) -> None:
        self.server.loop.call_soon_threadsafe(self.go.set)

    def end(self) -> None:
        self.server.loop.call_soon_threadsafe(self.task.cancel)

    async def _run(self) -> str:
        self.loads += 1
        await self.go.wait()
        if self.failure is not None:
            return self.failure
        self.loader.loaded("runs")
        await asyncio.Event().wait()
        raise AssertionError

    def held_ticks(self) -> int:
        return self.server.balance().held_ticks


@pytest.fixture
def loading(server: ScriptedServer) -> Iterator[Loading]:
    loading = Loading(server)
    yield loading
    loading.end()


@ALL
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_waits_for_its_model_and_holds_no_money_meanwhile(server, loading, path, stream):
    loading.begin(Policy(at_start=False, wait_seconds=30))
    raw = open_post(server.port, path, server.api_key, ask(path, stream=stream))
    server.wait_until(lambda: loading.loads == 1)
    assert loading.held_ticks() == 0
    loading.let_go()
    received = raw.read_to_end()
    assert received.startswith(b"HTTP/1.1 200 ")
    server.wait_until(lambda: loading.loader.unneeded_since is not None)
    assert len(server.charges()) == 1
    assert loading.held_ticks() == 0


@ALL
def test_a_request_that_may_not_wait_is_told_when_to_come_again(server, loading, path):
    loading.begin(Policy(at_start=False))
    answer = post(server.port, path, server.api_key, ask(path, stream=True))
    assert answer.status == (529 if path == MESSAGES else 503)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "loading" in answer.json["error"]["message"]
    assert server.charges() == []
    loading.let_go()
    server.wait_until(lambda: loading.loader.state == "loaded")
    assert post(server.port, path, server.api_key, ask(path)).status == 200
    assert loading.loads == 1


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/v1/messages/count_tokens"])
def test_a_client_that_hangs_up_while_it_waits_leaves_nothing(server, loading, path):
    loading.begin(Policy(at_start=False, wait_seconds=30))
    raw = open_post(server.port, path, server.api_key, ask(path))
    server.wait_until(lambda: loading.loader._waiting == 1)
    raw.hang_up()
    server.wait_until(lambda: (loading.loader._waiting, loading.loader._uses) == (0, 0))
    assert server.charges() == []
    assert loading.held_ticks() == 0
    assert server.engine.requests == []


def test_a_request_that_runs_keeps_its_model_until_it_ends(server, loading):
    loading.begin(Policy(at_start=False, wait_seconds=30, idle_seconds=0.01))
    loading.let_go()
    raw = open_post(server.port, CHAT, server.api_key, ask(CHAT, model="slow", stream=True))
    raw.read_until(b"three")
    assert loading.loader._uses == 1
    raw.hang_up()
    server.wait_until(lambda: loading.loader.state == "unloaded")


@pytest.mark.parametrize("path", [CHAT, "/v1/messages/count_tokens"])
def test_a_model_that_does_not_load_is_a_503_with_its_reason(server, loading, path):
    loading.begin(Policy(at_start=False, wait_seconds=30))
    loading.failure = "the engine could not load the model"
    loading.let_go()
    for _ in range(2):
        answer = post(server.port, path, server.api_key, ask(path))
        assert answer.status in (503, 529)
        assert "could not load the model" in answer.json["error"]["message"]
        assert "retry-after" in answer.headers
    assert loading.loads == 1


def test_memory_that_is_too_small_is_a_503_that_says_so(server, loading):
    loading.begin(Policy(at_start=False, wait_seconds=30), memory_bytes=5)
    answer = post(server.port, CHAT, server.api_key, ask(CHAT))
    assert answer.status == 503
    assert "memory" in answer.json["error"]["message"]
    assert loading.loads == 0


def test_whoever_cannot_pay_makes_nothing_load(tmp_path):
    server = ScriptedServer(tmp_path / "poor", usd="0")
    loading = Loading(server)
    try:
        loading.begin(Policy(at_start=False, wait_seconds=30))
        answer = post(server.port, CHAT, server.api_key, ask(CHAT))
        assert (answer.status, answer.json["error"]["code"], loading.loads) == (429, "insufficient_quota", 0)
        loading.end()
    finally:
        server.stop()
