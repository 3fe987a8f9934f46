"""`kill -9` of the server under hundreds of streams, again and again on one folder: nothing that a client was told is
lost, nothing is charged twice, and nobody pays for more than the engine made for him.
"""

import asyncio
import json
import random
import shutil
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest
import uvloop

from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.operations import control
from tests.cli.process import environment
from tests.postgres import ask as query_postgres
from tests.postgres import new_database
from tests.proof import CHAT, MESSAGES, Asked, ask, count, keep, spread
from tests.raw import request as http
from tests.scripted.process import MODEL, Journal

pytestmark = [pytest.mark.slow, pytest.mark.alone]


STREAMS = 200
RECOVERY_SECONDS = 5
CYCLES_PER_FOLDER = 25
DEADLINE_SECONDS = 60
PROMPT_TOKENS, PROMPT_TICKS, OUTPUT_TICKS = 5, 10_000, 20_000
MAX_TOKENS = 200
CONFIGURATION = """
[limits.default]
requests_per_minute = 0
tokens_per_minute = 0
[credits]
starter_usd = 0
"""
# Clients by what they ask for, at any time one request each. The poor run dry.
CLIENTS = {"stream": 230, "whole": 20, "stream with a key": 20, "whole with a key": 10, "poor": 20}
OUT_OF_CREDITS = (402, 429)
RICH, POOR = ("alice", "bob"), ("charlie", "dora")
CREDITS = dict.fromkeys(RICH, "1000") | dict.fromkeys(POOR, "0.003")


@dataclass(eq=False)
class Request:
    """What one client asks for, once or, with an Idempotency-Key, until it is answered."""

    number: int
    path: str
    api_key: str
    stream: bool
    idempotency_key: str | None
    told: tuple[str, int] | None = None
    refusal: int | None = None
    attempts: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.idempotency_key is None else {"idempotency_key": self.idempotency_key}

    @property
    def body(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"number {self.number} of very many"}]
        return {"model": MODEL, "stream": self.stream, "max_tokens": MAX_TOKENS, "messages": messages}

    def hear(self, asked: Asked) -> None:
        """What its client knows now that the connection has ended."""
        if not asked.begun:
            return
        answer, ticks = asked.answer, asked.acknowledged_ticks
        self.refusal = answer.status if answer.status != 200 else None
        if self.refusal is None and ticks is not None:
            self.told = answer.headers["x-request-id"], ticks


@dataclass(frozen=True)
class Record:
    """What the books say of a request that was charged."""

    ticks: int
    reserved_ticks: int
    status: str
    error: str
    prompt_tokens: int
    output_tokens: int
    cost_ticks: int

    @property
    def adds_up(self) -> bool:
        tokens_ticks = self.prompt_tokens * PROMPT_TICKS + self.output_tokens * OUTPUT_TICKS
        return self.ticks == self.cost_ticks == tokens_ticks and self.prompt_tokens == PROMPT_TOKENS


_CHARGED = (
    "SELECT e.request_id, -e.amount_ticks, e.reserved_ticks, u.status, u.error, u.prompt_tokens, u.output_tokens,"
    " u.cost_ticks FROM entries e JOIN usage_records u ON u.request_id = e.request_id WHERE e.kind = 'charge'"
)


@dataclass
class Server:
    """The server's process. `recovery_seconds` is from its start to the first answer of /health/live; by then it has
    settled what the last one left."""

    process: asyncio.subprocess.Process
    port: int
    recovery_seconds: float

    @classmethod
    async def start(cls, folder: Path, plant: str | None) -> "Server":
        began = time.monotonic()
        arguments = [str(folder / "data"), str(folder / "journal"), *([plant] if plant else [])]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.scripted.process", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            env=environment(),
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)
        port = json.loads(line)["port"]
        live = await asyncio.to_thread(http, port, "GET", "/health/live")
        assert live.status == 200
        return cls(process, port, time.monotonic() - began)

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@dataclass
class History:
    """One folder, and all that was ever asked of the servers that lived on it."""

    folder: Path
    rng: random.Random
    plant: str | None = None
    # Where the books are, if not in the folder.
    url: str | None = None
    requests: list[Request] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    in_flight: list[int] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)
    charged: dict[str, Record] = field(default_factory=dict)
    audited: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    _open: set[Asked] = field(default_factory=set)
    _unanswered: dict[str, list[Request]] = field(default_factory=lambda: defaultdict(list))

    async def live(self, cycles: int) -> None:
        """So many kills, each followed by a start and a look into the books. With a planted bug, until it shows."""
        await self._open_accounts()
        self.journal = Journal(self.folder / "journal")
        server = await Server.start(self.folder, self.plant)
        try:
            for _ in range(cycles):
                await self._ask_until_the_kill(server)
                server = await Server.start(self.folder, self.plant)
                self.recovery_seconds.append(server.recovery_seconds)
                await self._look()
                if self.plant is not None and self.found:
                    return
        finally:
            await server.kill()

    async def _open_accounts(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True)
        database = f'[database]\nurl = "{self.url}"\n' if self.url else ""
        (data / "leadline.toml").write_text(CONFIGURATION + database, "utf-8")
        instance = await Instance.open(data)
        for name, dollars in CREDITS.items():
            who = {"email": f"{name}@{name}.example"}
            await run(instance, "accounts create", who | {"org": name, "password": "correct horse"})
            await run(instance, "credits grant", who | {"amount": dollars, "reason": "welcome"})
            self.keys[name] = (await run(instance, "keys create", who | {"name": "test"}))["api_key"]
        await instance.close()

    async def _ask_until_the_kill(self, server: Server) -> None:
        clients = [self._client(server, kind) for kind, number in CLIENTS.items() for _ in range(number)]
        asking = [asyncio.create_task(client) for client in clients]
        not_before = time.monotonic() + self.rng.uniform(0, 0.6)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self._streams() < STREAMS or time.monotonic() < not_before:
                await asyncio.sleep(0.005)
        self.in_flight.append(self._streams())
        await server.kill()
        await asyncio.wait_for(asyncio.gather(*asking), DEADLINE_SECONDS)

    def _streams(self) -> int:
        """How many streams have begun and not ended."""
        return sum(asked.begun and b"event-stream" in asked.received for asked in self._open)

    async def _client(self, server: Server, kind: str) -> None:
        while True:
            request = self._unanswered[kind].pop() if self._unanswered[kind] else self._new(kind)
            try:
                asked = await ask(server.port, request.path, request.api_key, request.body, **request.headers)
            except OSError:
                self._hear(kind, request, None)
                return
            request.attempts += 1
            self._open.add(asked)
            await asked.ended
            self._open.discard(asked)
            self._hear(kind, request, asked)
            if request.refusal is not None:
                await asyncio.sleep(0.05)

    def _new(self, kind: str) -> Request:
        number, rng = len(self.requests), self.rng
        api_key = self.keys[rng.choice(POOR if kind == "poor" else RICH)]
        idempotency_key = f"key {number}" if "key" in kind else None
        stream = "whole" not in kind
        request = Request(number, rng.choice((CHAT, MESSAGES)), api_key, stream, idempotency_key)
        self.requests.append(request)
        return request

    def _hear(self, kind: str, request: Request, asked: Asked | None) -> None:
        if asked is not None:
            request.hear(asked)
        if request.idempotency_key is not None and request.told is None:
            self._unanswered[kind].append(request)

    async def _look(self) -> None:
        """Add what is wrong with the books now."""
        rows, [(held,)] = self._rows(_CHARGED), self._rows("SELECT COUNT(*) FROM holds")
        charged = {request_id: Record(*row) for request_id, *row in rows}
        audited = await control.call(self.folder / "data", "credits verify", {})
        self.audited += audited["broken"]
        self.found += [f"holds left: {held}"] * (held > 0)
        self.found += [f"doubled: {len(rows) - len(charged)}"] * (len(rows) > len(charged))
        self.found += [f"changed: {one}" for one, record in self.charged.items() if charged.get(one) != record]
        self.found += self._lost(charged) + self._overcharged(charged)
        self.found += [f"wrongly refused: {one}" for one in self.requests if one.refusal not in (None, *OUT_OF_CREDITS)]
        self.charged = charged

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        if self.url is not None:
            return query_postgres(self.url, query)
        connection = apsw.Connection(str(self.folder / "data" / "leadline.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(connection.execute(query))
        finally:
            connection.close()

    def _lost(self, charged: dict[str, Record]) -> list[str]:
        told = {request.told[0]: request.told[1] for request in self.requests if request.told is not None}
        wrong = [one for one, ticks in told.items() if one not in charged or charged[one].ticks != ticks]
        return [f"lost: {one}, {told[one]} ticks, charged {charged.get(one)}" for one in wrong]

    def _overcharged(self, charged: dict[str, Record]) -> list[str]:
        numbers, found = self.journal.numbers(), list[str]()
        charges = Counter(numbers.get(request_id, -1) for request_id in charged)
        found += [f"doubled: number {number}" for number, times in charges.items() if times > 1 or number < 0]
        for request_id, record in charged.items():
            request = self.requests[numbers[request_id]]
            made, sent = self.journal.made[request.number], self.journal.sent[request.number]
            most = made if record.status == "finished" else sent
            if not record.adds_up or record.ticks > record.reserved_ticks or record.output_tokens > most:
                found.append(f"overcharged: {record}, {made} made, {sent} sent")
            if record.status == "finished" and record.output_tokens != made:
                found.append(f"miscounted: {record}, {made} made")
            if request.refusal is not None or (request.idempotency_key and record.status != "finished"):
                found.append(f"charged for nothing: {record}, {request}")
        return found

    @property
    def figures(self) -> Counter[str]:
        recovered = [record for record in self.charged.values() if record.error == "server_stopped"]
        return Counter(
            kills=len(self.in_flight),
            requests=sum(request.attempts > 0 for request in self.requests),
            acknowledged=sum(request.told is not None for request in self.requests),
            of_these_asked_again_after_a_kill=sum(one.told is not None and one.attempts > 1 for one in self.requests),
            charges=len(self.charged),
            recovered_from_a_checkpoint=len(recovered),
            refused=sum(request.refusal is not None for request in self.requests),
            wrong=len(self.found) + len(self.audited),
        )


def live(folder: Path, cycles: int, plant: str | None = None, url: str | None = None) -> History:
    history = History(folder, random.Random(f"{folder.name} {plant}"), plant, url)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(history.live(cycles))
    return history


def test_no_kill_loses_or_doubles_what_was_acknowledged(tmp_path: Path) -> None:
    cycles, figures, histories = count(30, 200), Counter[str](), list[History]()
    for first in range(0, cycles, CYCLES_PER_FOLDER):
        folder = tmp_path / f"{first}"
        histories.append(live(folder, min(CYCLES_PER_FOLDER, cycles - first)))
        figures.update(histories[-1].figures)
        shutil.rmtree(folder)
    in_flight = [streams for history in histories for streams in history.in_flight]
    recovery_seconds = [seconds for history in histories for seconds in history.recovery_seconds]
    keep("kill", **figures, streams_at_the_kill=spread(in_flight), recovery_seconds=spread(recovery_seconds))

    assert [fault for history in histories for fault in history.found] == []
    assert [sentence for history in histories for sentence in history.audited] == []
    assert max(recovery_seconds) < RECOVERY_SECONDS
    assert all(
        figures[name] > 0 for name in ("recovered_from_a_checkpoint", "of_these_asked_again_after_a_kill", "refused")
    )


def test_no_kill_loses_or_doubles_what_postgresql_acknowledged(tmp_path: Path) -> None:
    with new_database() as url:
        history = live(tmp_path / "postgresql", count(5, 100), url=url)
    keep("kill over PostgreSQL", **history.figures, recovery_seconds=spread(history.recovery_seconds))

    assert (history.found, history.audited) == ([], [])
    assert history.figures["recovered_from_a_checkpoint"] > 0


def test_a_server_that_acknowledges_before_the_commit_is_found_out(tmp_path: Path) -> None:
    history = live(tmp_path / "early", 12, plant="acknowledge_early")

    assert any(fault.startswith("lost: ") for fault in history.found)


def test_a_server_that_charges_twice_what_a_crash_cut_is_found_out(tmp_path: Path) -> None:
    history = live(tmp_path / "twice", 12, plant="recover_twice")

    assert any("I4: request " in sentence for sentence in history.audited)
    assert any(fault.startswith("doubled: ") for fault in history.found)


def test_a_server_that_leaves_what_a_crash_held_is_found_out(tmp_path: Path) -> None:
    history = live(tmp_path / "left", 12, plant="leave_holds")

    assert any(fault.startswith("holds left: ") for fault in history.found)
