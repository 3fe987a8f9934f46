"""A disk that is full, broken, or taken by another process, under a running server: what costs money is refused, the
rest goes on, and once the disk is back everything is settled, without a restart.
"""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import pytest

from leadline.chat.events import ChoiceFinished, Finished, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest
from leadline.ledger.books import Hold, Outcome, Settled
from leadline.ledger.ledger import Ledger
from leadline.storage.database import Database, DatabaseUnusable, Write
from tests.proof import CHAT, MESSAGES
from tests.raw import DEADLINE_SECONDS, Answer, Raw, open_post, parse, post, request
from tests.scripted.engine import Pause, Stall, Step, echo, prompt_tokens, slow_echo
from tests.scripted.server import ScriptedServer
from tests.unit.storage.conftest import Disk

BOTH = pytest.mark.parametrize("path", [CHAT, MESSAGES])
FAILURES = {
    "full": ("xWrite", apsw.FullError("database or disk is full")),
    "cannot be written": ("xWrite", apsw.IOError("disk I/O error")),
    "cannot be synced": ("xSync", apsw.IOError("disk I/O error")),
}
FAILS = pytest.mark.parametrize("failure", FAILURES)
# What is refused: status, and OpenAI's code or Anthropic's type.
UNAVAILABLE = {CHAT: (503, "overloaded"), MESSAGES: (529, "overloaded_error")}
ERROR_EVENT = {CHAT: b'data: {"error":', MESSAGES: b"event: error"}
LAST_EVENT = {CHAT: b"data: [DONE]", MESSAGES: b"message_stop"}
# Words of the inside, which no client may read.
INSIDE = (b"disk", b"database", b"locked", b"sqlite", b"i/o")
PROMPT_TICKS, OUTPUT_TICKS = 3 * 10_000, 20_000
THREE_WORDS_TICKS = PROMPT_TICKS + 3 * OUTPUT_TICKS


pytestmark = pytest.mark.slow

# Takes the database for itself as soon as it can, says so, and gives it back at the next line.
LOCK = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(30_000)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


class Three:
    """Says three words and waits; `ended` counts how often it has come to its end."""

    def __init__(self) -> None:
        self.ended = 0

    def __call__(self, request: ChatRequest) -> Iterable[Step]:
        *steps, last = slow_echo(request)
        yield from steps
        self.ended += 1
        yield last


def two(request: ChatRequest) -> Iterable[Step]:
    """Says one word and waits. The other one comes with the end."""
    prompt = prompt_tokens(request)
    yield (Started(prompt, 0),)
    yield (TextDelta("one"),)
    yield Stall()
    yield (TextDelta(" omega"), ChoiceFinished("stop"), Finished(Usage(prompt, output_tokens=2)))


class Chatter:
    """Numbered words without an end, until it is hushed."""

    def __init__(self) -> None:
        self.words = 0
        self.hushed = threading.Event()

    def __call__(self, request: ChatRequest) -> Iterable[Step]:
        prompt = prompt_tokens(request)
        yield (Started(prompt, 0),)
        while not self.hushed.is_set():
            self.words += 1
            yield (TextDelta(f" w{self.words};"),)
            yield Pause(0.005)
        yield (ChoiceFinished("stop"), Finished(Usage(prompt, output_tokens=self.words)))


class StickingDisk(Disk):
    """Syncs stand still while it does not move."""

    def __init__(self) -> None:
        self.moves = threading.Event()
        self.moves.set()
        super().__init__()

    def may_fail(self, operation: str) -> None:
        if operation == "xSync":
            self.moves.wait(DEADLINE_SECONDS)
        super().may_fail(operation)


@pytest.fixture
def disk() -> Iterator[StickingDisk]:
    failing = StickingDisk()
    yield failing
    failing.unregister()
    apsw.set_default_vfs("unix")


@pytest.fixture
def chatter() -> Chatter:
    return Chatter()


@pytest.fixture
def three() -> Three:
    return Three()


@pytest.fixture
def server(
    tmp_path: Path, disk: StickingDisk, chatter: Chatter, three: Three, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedServer]:
    """On a disk that can fail, and quicker to try again than outside of tests."""
    monkeypatch.setattr("leadline.ledger.ledger.RETRY_SECONDS", 0.02)
    monkeypatch.setattr("leadline.serving.running.TICK_SECONDS", 0.05)
    scripts = {"echo": echo, "three": three, "two": two, "chatter": chatter}
    server = ScriptedServer(tmp_path / "data", scripts=scripts, like_serve=True)
    yield server
    disk.fails = ""
    disk.moves.set()
    chatter.hushed.set()
    server.stop()


@contextmanager
def failing(disk: StickingDisk, failure: str) -> Iterator[None]:
    disk.fails, disk.error = FAILURES[failure]
    yield
    disk.fails = ""


def ask(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "max_tokens": 900, "messages": [{"role": "user", "content": "tell me all"}]} | more


def answered(server: ScriptedServer, path: str, body: dict[str, object]) -> Answer:
    return post(server.port, path, server.api_key, json.dumps(body).encode())


def late(patch: pytest.MonkeyPatch) -> None:
    """The final event waits shortly, and no try is under way when its time is over."""
    patch.setattr("leadline.serving.generation.COMMIT_SECONDS", 0.3)
    patch.setattr("leadline.ledger.ledger.RETRY_SECONDS", 1.5)


def three_streams(server: ScriptedServer, path: str) -> list[Raw]:
    """In flight: each has three words."""
    streams = [open_post(server.port, path, server.api_key, ask("three", stream=True)) for _ in range(3)]
    for stream in streams:
        stream.read_until(b"three")
    return streams


def assert_new_work_is_refused(server: ScriptedServer, path: str) -> None:
    """From the first write on that the disk refused."""
    beat = server.instance.database.commit(Write("UPDATE facts SET value = 1 WHERE name = 'heartbeat'"))
    with pytest.raises(DatabaseUnusable):
        asyncio.run_coroutine_threadsafe(beat, server.loop).result(DEADLINE_SECONDS)
    for stream in (True, False, True):
        refused = answered(server, path, ask("echo", stream=stream))
        status, why = UNAVAILABLE[path]
        assert refused.status == status
        assert refused.json["error"]["code" if path == CHAT else "type"] == why
        assert refused.headers["retry-after"] == "1"
        assert not any(word in refused.body.lower() for word in INSIDE)
    ready = request(server.port, "GET", "/health/ready")
    assert (ready.status, ready.json["status"]) == (503, "degraded")


def assert_the_rest_goes_on(server: ScriptedServer) -> None:
    assert request(server.port, "GET", "/health/live").status == 200
    models = request(server.port, "GET", "/v1/models", authorization=f"Bearer {server.api_key}")
    assert "three" in [model["id"] for model in models.json["data"]]


def assert_it_works_again(server: ScriptedServer, path: str, charges: list[tuple[int, str]]) -> None:
    """Without a restart: all is settled as expected, and new work is run."""
    server.wait_until(lambda: not server.instance.ledger.running())
    assert [(-entry.amount_ticks, entry.reason) for entry in server.charges()] == charges
    assert answered(server, path, ask("echo")).status == 200
    assert request(server.port, "GET", "/health/ready").status == 200
    assert server.command("credits verify")["broken"] == []
    assert server.balance().held_ticks == 0


@FAILS
@BOTH
def test_what_cannot_be_paid_for_is_refused_and_the_rest_goes_on(
    server: ScriptedServer, disk: StickingDisk, path: str, failure: str
) -> None:
    with failing(disk, failure):
        assert_new_work_is_refused(server, path)
        assert_the_rest_goes_on(server)

    assert_it_works_again(server, path, [])


@FAILS
@BOTH
def test_streams_in_flight_end_well_where_the_disk_is_back_in_time(
    server: ScriptedServer, disk: StickingDisk, three: Three, path: str, failure: str
) -> None:
    streams = three_streams(server, path)
    with failing(disk, failure):
        assert_new_work_is_refused(server, path)
        server.loop.call_soon_threadsafe(server.engine.release.set)
        server.wait_until(lambda: three.ended == 3)

    assert all(LAST_EVENT[path] in stream.read_to_end() for stream in streams)
    assert_it_works_again(server, path, [(THREE_WORDS_TICKS, "")] * 3)


@FAILS
@BOTH
def test_streams_in_flight_end_with_an_error_where_it_is_not_and_pay_for_what_they_got(
    server: ScriptedServer, disk: StickingDisk, path: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late(monkeypatch)
    streams = three_streams(server, path)
    with failing(disk, failure):
        assert_new_work_is_refused(server, path)
        server.loop.call_soon_threadsafe(server.engine.release.set)
        received = [stream.read_to_end() for stream in streams]

    assert all(ERROR_EVENT[path] in one and LAST_EVENT[path] not in one for one in received)
    assert not any(word in one.lower() for one in received for word in INSIDE)
    assert_it_works_again(server, path, [(THREE_WORDS_TICKS, "interrupted")] * 3)


@FAILS
@BOTH
def test_a_whole_answer_that_finds_the_disk_gone_at_its_end_costs_nothing(
    server: ScriptedServer, disk: StickingDisk, path: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late(monkeypatch)
    with failing(disk, failure):
        refused = answered(server, path, ask("echo"))

    assert (refused.status, refused.headers["retry-after"]) == (UNAVAILABLE[path][0], "1")
    assert_it_works_again(server, path, [])


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@BOTH
def test_a_commit_that_stands_still_until_the_client_was_told_of_an_error_charges_what_he_got(
    server: ScriptedServer, disk: StickingDisk, path: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.serving.generation.COMMIT_SECONDS", 0.3)
    raw = open_post(server.port, path, server.api_key, ask("two", stream=stream))
    server.wait_until(lambda: server.engine.running == 1)
    if stream:
        raw.read_until(b"one")
    disk.moves.clear()
    server.loop.call_soon_threadsafe(server.engine.release.set)
    received = raw.read_to_end()
    disk.moves.set()

    assert b"omega" not in received
    assert b"error" in received
    due = PROMPT_TICKS + OUTPUT_TICKS if stream else 0
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).balance_ticks == 10**10 - due)
    [charge] = server.charges()
    [refund] = [entry for entry in server.entries() if entry.kind == "refund"]
    assert -charge.amount_ticks - refund.amount_ticks == due
    assert refund.request_id == charge.request_id


def test_a_write_that_touches_nothing_does_not_say_that_the_disk_is_back(
    server: ScriptedServer, disk: StickingDisk
) -> None:
    with failing(disk, "full"):
        assert_new_work_is_refused(server, CHAT)
        server.run(server.instance.database.commit(Write("DELETE FROM holds WHERE request_id = 'nobody'", rows=None)))
        assert_new_work_is_refused(server, CHAT)

    assert_it_works_again(server, CHAT, [])


@pytest.mark.parametrize("failure", ["cannot be written", "cannot be synced"])
def test_a_broken_connection_to_the_disk_is_given_up_for_a_new_one(
    server: ScriptedServer, disk: StickingDisk, failure: str
) -> None:
    before = server.instance.database._driver._writer
    with failing(disk, failure):
        assert_new_work_is_refused(server, CHAT)

    assert_it_works_again(server, CHAT, [])
    assert server.instance.database._driver._writer is not before


@contextmanager
def locked(server: ScriptedServer) -> Iterator[None]:
    """Another process keeps the database for itself."""
    arguments = [sys.executable, "-c", LOCK, str(server.data / "leadline.db")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            other.communicate(b"\n")


class Talk:
    """A stream that goes on; `goes_on` waits for words that were made after the call."""

    def __init__(self, server: ScriptedServer, chatter: Chatter, path: str) -> None:
        self._chatter = chatter
        self._raw = open_post(server.port, path, server.api_key, ask("chatter", stream=True))
        self._raw.read_until(b" w1;")

    def goes_on(self) -> None:
        self._raw.read_until(b" w%d;" % (self._chatter.words + 10))

    def hush(self) -> bytes:
        self._chatter.hushed.set()
        return self._raw.read_to_end()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadline.storage.sqlite.BUSY_TIMEOUT_MILLISECONDS", 20)


@BOTH
def test_a_database_that_another_process_keeps_too_long_is_refused_while_streams_go_on(
    impatient: None, server: ScriptedServer, chatter: Chatter, path: str
) -> None:
    talk = Talk(server, chatter, path)
    with locked(server):
        assert_new_work_is_refused(server, path)
        assert_the_rest_goes_on(server)
        talk.goes_on()

    assert LAST_EVENT[path] in talk.hush()
    assert_it_works_again(server, path, [(PROMPT_TICKS + chatter.words * OUTPUT_TICKS, "")])


@BOTH
def test_a_lock_is_waited_for_while_streams_go_on(server: ScriptedServer, chatter: Chatter, path: str) -> None:
    talk = Talk(server, chatter, path)
    with locked(server):
        waiting = open_post(server.port, path, server.api_key, ask("echo", stream=True))
        server.wait_until(lambda: len(server.engine.requests) == 2)
        talk.goes_on()

    assert parse(waiting.read_to_end()).status == 200
    assert LAST_EVENT[path] in talk.hush()
    charges = [(PROMPT_TICKS + 3 * OUTPUT_TICKS, ""), (PROMPT_TICKS + chatter.words * OUTPUT_TICKS, "")]
    assert_it_works_again(server, path, charges)


def test_a_ledger_that_does_not_try_again_is_found_out(
    server: ScriptedServer, disk: StickingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle_once(ledger: Ledger, hold: Hold, outcome: Callable[[], Outcome]) -> "asyncio.Future[None]":
        async def settle() -> None:
            with suppress(DatabaseUnusable):
                await ledger._write(Settled(hold, outcome()))
            if ledger._open.pop(hold.request_id, None):
                ledger._held[hold.organisation_id] -= hold.ticks

        return asyncio.ensure_future(settle())

    monkeypatch.setattr(Ledger, "settle", settle_once)
    streams = three_streams(server, CHAT)
    with failing(disk, "full"):
        assert_new_work_is_refused(server, CHAT)
        server.loop.call_soon_threadsafe(server.engine.release.set)
        for stream in streams:
            stream.read_to_end()

    with pytest.raises(AssertionError):
        assert_it_works_again(server, CHAT, [(THREE_WORDS_TICKS, "")] * 3)


def test_a_server_that_does_not_say_that_its_disk_is_full_is_found_out(
    server: ScriptedServer, disk: StickingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "writable", property(lambda _: True))
    monkeypatch.setattr("leadline.serving.generation.COMMIT_SECONDS", 0.2)
    with failing(disk, "full"), pytest.raises(AssertionError):
        assert_new_work_is_refused(server, CHAT)
