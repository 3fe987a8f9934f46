"""Any history of grants, requests and crashes against a ledger of plain numbers."""

import asyncio
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from leadline.chat.events import Usage
from leadline.errors import CreditsHeld, InsufficientCredits
from leadline.ledger.audit import audit
from leadline.ledger.ledger import Charge, Hold, Ledger
from leadline.money import Ticks
from leadline.storage.database import Database, Write

ALICE, CHARLIE = "org_alice", "org_charlie"
ORGANISATIONS = st.sampled_from((ALICE, CHARLIE))

some_running = precondition(lambda machine: machine.running)
some_ended = precondition(lambda machine: machine.ended)


class LedgerMachine(RuleBasedStateMachine):
    """`balances` is the model, `running` the holds of requests that run, `ended` those of requests that are over."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.runner = asyncio.Runner()
        self.balances = {ALICE: 0, CHARLIE: 0}
        self.entries = 0
        self.running: dict[str, Hold] = {}
        self.ended: dict[str, Hold] = {}
        self.do(self._begin())

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    async def _begin(self) -> None:
        await self._open()
        for organisation in self.balances:
            await self.database.commit(
                Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (organisation,)),
                self.ledger.opening(organisation),
            )
            self.ledger.opened(organisation)

    async def _open(self) -> int:
        self.database = Database(self.path)
        self.ledger = Ledger(self.database)
        return await self.ledger.load()

    def teardown(self) -> None:
        self.do(self.database.close())
        self.runner.close()

    @rule(organisation=ORGANISATIONS, ticks=st.integers(1, 1000))
    def grant(self, organisation: str, ticks: int) -> None:
        self.do(self.ledger.grant(organisation, Ticks(ticks), "test"))
        self.balances[organisation] += ticks
        self.entries += 1

    @rule(organisation=ORGANISATIONS, ticks=st.integers(0, 600))
    def reserve(self, organisation: str, ticks: int) -> None:
        hold = Hold(str(uuid.uuid4()), organisation, "key", "mock", Ticks(ticks))
        if ticks > self.balances[organisation]:
            with pytest.raises(InsufficientCredits):
                self.ledger.reserve(hold)
        elif ticks > self.balances[organisation] - self.held(organisation):
            with pytest.raises(CreditsHeld):
                self.ledger.reserve(hold)
        else:
            self.ledger.reserve(hold)
            self.running[hold.request_id] = hold

    @some_running
    @rule(data=st.data())
    def secure(self, data: st.DataObject) -> None:
        if unsecured := [hold for hold in self.running.values() if not hold.on_disk]:
            self.do(self.ledger.secure(data.draw(st.sampled_from(unsecured))))

    @some_running
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(list(self.running.values())))
        self.settle_all([(hold, data.draw(st.integers(0, hold.ticks)))])

    @some_running
    @rule(data=st.data())
    def settle_several_at_once(self, data: st.DataObject) -> None:
        holds = data.draw(st.lists(st.sampled_from(list(self.running.values())), unique_by=id))
        self.settle_all([(hold, data.draw(st.integers(0, hold.ticks))) for hold in holds])

    @some_running
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(list(self.running.values())))
        self.do(self.ledger.release(hold))
        self.ended[hold.request_id] = self.running.pop(hold.request_id)

    @some_ended
    @rule(data=st.data(), end_again=st.sampled_from(("settle", "release")))
    def end_one_that_is_over(self, data: st.DataObject, end_again: str) -> None:
        hold = data.draw(st.sampled_from(list(self.ended.values())))
        self.do(self.ledger.release(hold) if end_again == "release" else self.ledger.settle(hold, charge(hold.ticks)))

    @rule()
    def crash(self) -> None:
        on_disk = sum(hold.on_disk for hold in self.running.values())
        self.do(self.database.close())
        assert self.do(self._open()) == on_disk
        self.running.clear()
        self.ended.clear()

    @invariant()
    def memory_agrees(self) -> None:
        for organisation, expected in self.balances.items():
            balance = self.ledger.balance(organisation)
            assert (balance.balance_ticks, balance.held_ticks) == (expected, self.held(organisation))
            assert balance.available_ticks >= 0

    @invariant()
    def the_database_agrees(self) -> None:
        sums, holds, audited = self.do(self._read())
        assert sums == {organisation: (ticks, ticks) for organisation, ticks in self.balances.items()}
        assert holds == {hold.request_id: hold.ticks for hold in self.running.values() if hold.on_disk}
        assert (audited.broken, audited.checked) == ((), self.entries)

    async def _read(self) -> tuple[dict[str, tuple[int, int]], dict[str, int], Any]:
        sums = await self.database.rows(
            "SELECT a.organisation_id, a.balance_ticks, COALESCE(SUM(e.amount_ticks), 0) FROM accounts a"
            " LEFT JOIN entries e ON e.organisation_id = a.organisation_id GROUP BY a.organisation_id"
        )
        holds = await self.database.rows("SELECT request_id, reserved_ticks FROM holds")
        return {row[0]: (row[1], row[2]) for row in sums}, dict(holds), await audit(self.database)

    def held(self, organisation: str) -> int:
        return sum(hold.ticks for hold in self.running.values() if hold.organisation_id == organisation)

    def settle_all(self, charges: list[tuple[Hold, int]]) -> None:
        async def at_once() -> None:
            await asyncio.gather(*(self.ledger.settle(hold, charge(ticks)) for hold, ticks in charges))

        self.do(at_once())
        for hold, ticks in charges:
            self.balances[hold.organisation_id] -= ticks
            self.entries += 1
            self.ended[hold.request_id] = self.running.pop(hold.request_id)


def charge(ticks: int) -> Charge:
    return Charge(Ticks(ticks), Usage(prompt_tokens=1), "/v1/chat/completions")


def test_the_books_balance_after_every_step_of_any_history(tmp_path: Path) -> None:
    def new_machine() -> LedgerMachine:
        return LedgerMachine(tmp_path / f"{uuid.uuid4().hex}.db")

    run_state_machine_as_test(
        new_machine,
        # Each step waits for the disk, so fewer histories than other examples: 30 in the suite, 600 for the proof.
        settings=settings(max_examples=settings().max_examples * 3 // 10),
    )
