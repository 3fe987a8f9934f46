"""`kill -9` of the server in the middle of batches, again and again on one folder: each request has one charge and one
result, and the sums of the batches are those of the ledger.
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest
import uvloop

from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.operations import control
from tests.faults.test_kill import CONFIGURATION, DEADLINE_SECONDS, Server
from tests.proof import count, keep
from tests.raw import post
from tests.raw import request as http
from tests.scripted.process import MODEL, Journal

# Of the batches, one that is cancelled soon after it began.
CANCELLED_EVERY = 3


@dataclass
class History:
    """One folder, and all batches that were handed to the servers that lived on it."""

    folder: Path
    rng: random.Random
    # How many requests a batch has.
    each: int
    plant: str | None = None
    key: str = ""
    paths: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    in_the_middle: int = 0
    run_again: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    async def live(self, kills: int) -> None:
        await self._open_account()
        Journal(self.folder / "journal").admit("none", 0)
        server = await Server.start(self.folder, self.plant)
        try:
            for number in range(kills):
                await self._hand_in(server, number)
                await self._until_some_ended(server)
                await server.kill()
                server = await Server.start(self.folder, self.plant)
            await self._until_all_ended(server)
            audited = await control.call(self.folder / "data", "credits verify", {})
            self.found += audited["broken"]
        finally:
            await server.kill()
        self._look()

    async def _open_account(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True)
        (data / "leadline.toml").write_text(CONFIGURATION, "utf-8")
        instance = await Instance.open(data)
        who = {"email": "alice@northwind.example"}
        await run(instance, "accounts create", who | {"org": "alice", "password": "correct horse"})
        await run(instance, "credits grant", who | {"amount": "1000", "reason": "welcome"})
        self.key = (await run(instance, "keys create", who | {"name": "test"}))["api_key"]
        await instance.close()

    async def _send(self, server: Server, path: str, body: Any) -> Any:
        answer = await asyncio.to_thread(post, server.port, path, self.key, json.dumps(body).encode())
        assert answer.status == 200, answer.body
        return answer.json

    async def _state(self, server: Server, path: str) -> dict[str, int]:
        told = (await asyncio.to_thread(http, server.port, "GET", path, x_api_key=self.key)).json["state"]
        if told["num_requests"] != sum(told.values()) - told["num_requests"]:
            self.found.append(f"does not add up: {told}")
        return dict(told)

    async def _hand_in(self, server: Server, number: int) -> None:
        batch_id = (await self._send(server, "/v1/batches", {"name": f"number {number}"}))["batch_id"]
        path = f"/v1/batches/{batch_id}"
        self.paths.append(path)
        first = number * self.each + 1
        asked = [
            {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": f"number {one} of very many"}]}
            for one in range(first, first + self.each)
        ]
        entries = [{"batch_request": {"chat_get_completion": one}} for one in asked]
        await self._send(server, f"{path}/requests", {"batch_requests": entries})

    async def _until_some_ended(self, server: Server) -> None:
        """Between the first and the last result of the newest batch."""
        path, wanted = self.paths[-1], self.rng.randint(1, self.each // 3)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (state := await self._state(server, path))["num_success"] < wanted:
                await asyncio.sleep(0.01)
        self.in_the_middle += state["num_pending"] > 0
        if len(self.paths) % CANCELLED_EVERY == 0:
            self.cancelled.add(path)
            await self._send(server, f"{path}:cancel", {})

    async def _until_all_ended(self, server: Server) -> None:
        async with asyncio.timeout(4 * DEADLINE_SECONDS):
            for path in self.paths:
                while (await self._state(server, path))["num_pending"]:
                    await asyncio.sleep(0.01)

    def _look(self) -> None:
        connection = apsw.Connection(str(self.folder / "data" / "leadline.db"), flags=apsw.SQLITE_OPEN_READONLY)
        rows = list(connection.execute("SELECT batch_id, request_id, state, cost_ticks, result FROM batch_requests"))
        charges: dict[str, list[int]] = {}
        for request_id, ticks in connection.execute(
            "SELECT request_id, -amount_ticks FROM entries WHERE kind = 'charge'"
        ):
            charges.setdefault(request_id, []).append(ticks)
        begun = Counter(line.split()[0] for line in (self.folder / "journal.ids").read_text("ascii").splitlines())
        connection.close()
        self.run_again = sum(times > 1 for times in begun.values())
        for batch_id, request_id, state, cost_ticks, result in rows:
            self.requests[state] += 1
            charged = charges.pop(request_id, [])
            if charged != ([cost_ticks] if state == "succeeded" else []):
                self.found.append(f"wrongly charged: {state} at {cost_ticks} ticks, {charged}")
            if (result is not None) != (state in ("succeeded", "failed")):
                self.found.append(f"wrong result: {state}")
            if state not in ("succeeded", "cancelled") or (
                state == "cancelled" and f"/v1/batches/{batch_id}" not in self.cancelled
            ):
                self.found.append(f"lost: {state}")
        self.found += [f"charged for nothing: {request_id}" for request_id in charges]
        if len(rows) != self.each * len(self.paths):
            self.found.append(f"requests: {len(rows)}")


def live(folder: Path, kills: int, plant: str | None = None, each: int = 30) -> History:
    history = History(folder, random.Random(f"{kills} {plant}"), each, plant)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(history.live(kills))
    return history


@pytest.mark.slow
def test_two_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    history = live(tmp_path / "batches", 2, each=14)

    assert history.found == []
    assert history.in_the_middle == 2
    assert history.run_again > 0


@pytest.mark.slow
def test_no_kill_loses_or_doubles_a_request_of_a_batch(tmp_path: Path) -> None:
    history = live(tmp_path / "batches", count(20, 100))
    middle, again = history.in_the_middle, history.run_again
    keep("batches", kills_in_the_middle=middle, run_again=again, wrong=len(history.found), **history.requests)

    assert history.found == []
    assert history.in_the_middle > 0
    assert history.run_again > 0
    assert history.requests["cancelled"] > 0


@pytest.mark.slow
def test_a_server_that_keeps_results_after_their_charge_is_found_out(tmp_path: Path) -> None:
    history = live(tmp_path / "later", 3, plant="keep_results_later")

    assert any(fault.startswith("wrongly charged: ") for fault in history.found)


@pytest.mark.slow
def test_a_server_that_gives_up_what_a_crash_cut_is_found_out(tmp_path: Path) -> None:
    history = live(tmp_path / "given up", 1, plant="give_up_what_was_cut")

    assert any(fault == "lost: failed" for fault in history.found)
