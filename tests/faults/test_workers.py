"""Three workers behind one model, of which one is killed, hangs, is slow or lies: what was not begun succeeds
elsewhere, the rest ends with the dialect's error, and is charged as delivered."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from leadline.engines.pool.engine import Members, PoolEngine
from tests.raw import open_post
from tests.scripted.server import ScriptedServer
from tests.scripted.upstream import Reply, ScriptedUpstream, delta, finish, refusal, sse

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
DIALECTS = pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000
ALL = sse(delta(content="one "), delta(content="two"), finish("stop", prompt_tokens=9, completion_tokens=2))
GOOD = Reply(pieces=(ALL,))
SLOW = Reply(pieces=tuple(bytes([byte]) for byte in ALL))
BEGINS = Reply(pieces=(sse(delta(content="one "), delta(content="two "), done=False),), ends="never")
HANGS = Reply(ends="never")
CHARGE = 9 * PROMPT_TICKS + 2 * OUTPUT_TICKS


class Scene:
    """A server whose model `tiny` runs on three workers."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.workers = [stack.enter_context(ScriptedUpstream(GOOD).aside()) for _ in range(3)]
        self.pool = PoolEngine("pool", "openai", Members(tuple(worker.url for worker in self.workers)))
        self.server = ScriptedServer(folder / "data", engines={"tiny": self.pool})
        stack.callback(self.server.stop)
        self.server.wait_until(lambda: sum(one.state == "ready" for one in self.pool.status.workers) == 3)

    def open(self, path: str, *, stream: bool) -> Any:
        ask = {"input": "hi"} if path == RESPONSES else {"messages": [{"role": "user", "content": "hi"}]}
        limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
        body = {"model": "tiny", limit: 50, "stream": stream} | ask
        return open_post(self.server.port, path, self.server.api_key, body)

    def asked(self, path: str) -> ScriptedUpstream:
        """The worker that such a request goes to."""
        before = [len(worker.bodies) for worker in self.workers]
        self.open(path, stream=False).read_to_end()
        self.server.wait_until(lambda: self.server.instance.ledger.balance(self.server.organisation_id).held_ticks == 0)
        return next(one for one, count in zip(self.workers, before, strict=True) if len(one.bodies) > count)

    def charged(self) -> list[int]:
        """The charges after the first one."""
        self.server.wait_until(lambda: self.server.instance.ledger.balance(self.server.organisation_id).held_ticks == 0)
        return [-entry.amount_ticks for entry in self.server.charges()][1:]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


@DIALECTS
@pytest.mark.parametrize(
    "wrong",
    [
        Reply(head=b" ", ends="broken"),
        Reply(pieces=(b"<html>their words",), content_type="text/html"),
        refusal(500, {"error": "their words"}),
        refusal(429, {}),
    ],
)
def test_what_was_not_begun_succeeds_elsewhere_and_costs_once(scene: Scene, path: str, wrong: Reply) -> None:
    first = scene.asked(path)
    first.reply, before = wrong, len(first.bodies)
    for stream in (False, True):
        received = scene.open(path, stream=stream).read_to_end()
        assert received.startswith(b"HTTP/1.1 200 "), received[:300]
        assert b"two" in received
        assert b"their words" not in received
    assert len(first.bodies) > before
    assert scene.charged() == [CHARGE] * 2


@DIALECTS
def test_a_killed_worker_is_not_missed(scene: Scene, path: str) -> None:
    scene.asked(path).kill()
    for stream in (False, True):
        assert b"two" in scene.open(path, stream=stream).read_to_end()
    assert scene.charged() == [CHARGE] * 2


@DIALECTS
def test_a_worker_that_hangs_is_given_up_for_another(scene: Scene, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scene.asked(path)
    monkeypatch.setattr("leadline.engines.pool.engine.BEGIN_SECONDS", 2.0)
    first.reply = HANGS
    assert b"two" in scene.open(path, stream=True).read_to_end()
    assert scene.charged() == [CHARGE]


def test_a_slow_worker_is_waited_for(scene: Scene) -> None:
    first = scene.asked(CHAT)
    first.reply, before = SLOW, len(first.bodies)
    assert b"[DONE]" in scene.open(CHAT, stream=True).read_to_end()
    assert len(first.bodies) == before + 1
    assert scene.charged() == [CHARGE]


@pytest.mark.parametrize(
    ("path", "ending"),
    [(CHAT, b'"error"'), (MESSAGES, b"event: error"), (RESPONSES, b"response.failed")],
)
def test_a_worker_killed_in_the_middle_ends_its_streams_in_their_dialect(
    scene: Scene, path: str, ending: bytes
) -> None:
    first = scene.asked(path)
    first.reply = BEGINS
    raw = scene.open(path, stream=True)
    raw.read_until(b"two")
    first.kill()
    received = raw.read_to_end()
    assert ending in received
    assert b"[DONE]" not in received
    assert b"message_stop" not in received
    # What the prompt took was never told, so it is estimated: a token for each four bytes, at least one.
    assert scene.charged() == [1 * PROMPT_TICKS + 2 * OUTPUT_TICKS]
    assert b"two" in scene.open(path, stream=True).read_to_end()


@pytest.mark.parametrize(
    "lie", [b"data: [1]\n\n", b"data: \xff\xfe\n\n", b"data: " + b"x" * 2_000_000, sse({"error": "x"})]
)
def test_a_worker_that_lies_in_the_middle_is_charged_as_delivered(scene: Scene, lie: bytes) -> None:
    first = scene.asked(CHAT)
    first.reply = BEGINS
    raw = scene.open(CHAT, stream=True)
    raw.read_until(b"two")
    first.go_on(lie)
    received = raw.read_to_end()
    assert b'"error"' in received
    assert b"[DONE]" not in received
    assert scene.charged() == [1 * PROMPT_TICKS + 2 * OUTPUT_TICKS]


def test_a_whole_answer_that_breaks_off_costs_nothing_of_the_worker_that_lost_it(scene: Scene) -> None:
    first = scene.asked(CHAT)
    first.reply = Reply(
        pieces=(b'{"choices": [{"message": {"content": "one',), content_type="application/json", ends="broken"
    )
    assert b"two" in scene.open(CHAT, stream=False).read_to_end()
    assert scene.charged() == [CHARGE]


def test_where_no_worker_is_left_it_is_unavailable_and_free(scene: Scene) -> None:
    scene.asked(CHAT)
    for worker in scene.workers:
        worker.kill()
    received = scene.open(CHAT, stream=True).read_to_end()
    assert received.startswith(b"HTTP/1.1 503 "), received[:300]
    assert b"retry-after" in received.lower()
    assert scene.charged() == []
