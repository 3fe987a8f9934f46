"""Any history of grants, requests, clock steps, full disks and crashes against a ledger of plain numbers."""

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from leadline.chat.events import Usage
from leadline.clock import MICROSECONDS_PER_HOUR
from leadline.errors import CreditsHeld, InsufficientCredits
from leadline.ledger.audit import Audit, audit
from leadline.ledger.books import Entry, Hold, Outcome
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import UsageRecord
from leadline.money import Ticks
from leadline.storage.database import Database, DatabaseUnusable, Write

ALICE, CHARLIE = "org_alice", "org_charlie"
ORGANISATIONS = st.sampled_from((ALICE, CHARLIE))
HANGS_SECONDS = 10
CREDITS = 2000
START = 1_800_000_000_000_000

some_running = precondition(lambda machine: machine.running)
some_on_disk = precondition(lambda machine: any(request.hold.on_disk for request in machine.running.values()))
some_ended = precondition(lambda machine: machine.ended)


@dataclass
class Request:
    """One that runs, as the model knows it. `used` is what its last checkpoint says."""

    hold: Hold
    used: int | None = None


@dataclass
class Account:
    """The model: plain numbers. `dated` is what is left of grants by their date."""

    balance: int = 0
    entries: int = 0
    full: int = 0
    dated: dict[int, int] = field(default_factory=dict)

    def grant(self, ticks: int, expires_at: int | None) -> None:
        self.balance += ticks
        self.entries += 1
        self.full = self.balance
        if expires_at is not None:
            self.dated[expires_at] = self.dated.get(expires_at, 0) + ticks

    def take_back(self, ticks: int, held: int) -> None:
        self.balance -= min(ticks, self.balance - held)
        self.entries += 1
        self._take(max(0, sum(self.dated.values()) - self.balance), list(self.dated))

    def charge(self, ticks: int) -> None:
        self.balance -= ticks
        self.entries += 1
        self._take(ticks, list(self.dated))

    def expire(self, now: int, held: int) -> None:
        ended = self._take(self.balance - held, [date for date in self.dated if date <= now])
        self.balance -= ended
        self.entries += ended > 0

    def _take(self, ticks: int, dates: list[int]) -> int:
        left = ticks
        for date in sorted(dates):
            taken = min(left, self.dated[date])
            left -= taken
            self.dated[date] -= taken
            if self.dated[date] == 0:
                del self.dated[date]
        return ticks - left


class LedgerMachine(RuleBasedStateMachine):
    """`accounts` is the model, `running` the requests that run, `ended` the holds of those that are over."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.runner = asyncio.Runner()
        self.now = START
        self.accounts = {ALICE: Account(), CHARLIE: Account()}
        self.running: dict[str, Request] = {}
        self.ended: dict[str, Hold] = {}
        self.refusals = 0
        self.payments: set[int] = set()
        self.disk_away = False
        apsw.connection_hooks.append(self._watch)
        self.do(self._begin())

    def do(self, work: Awaitable[Any]) -> Any:
        async def done() -> Any:
            async with asyncio.timeout(HANGS_SECONDS):
                return await work

        return self.runner.run(done())

    def _watch(self, connection: apsw.Connection) -> None:
        connection.set_commit_hook(self._refuses)

    def _refuses(self) -> bool:
        if self.refusals:
            self.refusals -= 1
            raise apsw.FullError("database or disk is full")
        return False

    async def _begin(self) -> None:
        await self._open()
        for organisation in self.accounts:
            await self.database.commit(
                Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (organisation,)),
                self.ledger.opening(organisation),
            )
            self.ledger.opened(organisation)
            await self.ledger.grant(organisation, Ticks(CREDITS), "welcome")
            self.accounts[organisation].grant(CREDITS, None)

    async def _open(self) -> int:
        self.database = Database(self.path)
        self.ledger = Ledger(self.database, lambda: self.now)
        return await self.ledger.load()

    def teardown(self) -> None:
        self.do(self.database.close())
        self.runner.close()
        apsw.connection_hooks.remove(self._watch)

    @rule(organisation=ORGANISATIONS, ticks=st.integers(1, 1000), hours=st.sampled_from((None, -1, 0, 1, 30, 200)))
    def grant(self, organisation: str, ticks: int, hours: int | None) -> None:
        expires_at = None if hours is None else self.now + hours * MICROSECONDS_PER_HOUR
        self.do(self.ledger.grant(organisation, Ticks(ticks), "test", expires_at))
        self.accounts[organisation].grant(ticks, expires_at)
        self.disk_away = False

    @rule(
        organisation=ORGANISATIONS,
        ticks=st.integers(1, 1000),
        payment=st.integers(0, 5),
        refusals=st.integers(0, 2),
        times=st.integers(1, 3),
    )
    def credit(self, organisation: str, ticks: int, payment: int, refusals: int, times: int) -> None:
        """A payment, told several times at once, however often the disk refuses. It may have been credited before."""
        self.refusals = refusals
        once = Write(
            "INSERT INTO facts (name, value) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING", (f"payment {payment}",)
        )
        credited = self.do(self._credited(organisation, ticks, once, times))
        assert sum(credited) == (payment not in self.payments)
        if payment not in self.payments:
            self.accounts[organisation].grant(ticks, None)
        self.payments.add(payment)
        # A commit that wrote nothing did not ask the disk.
        self.refusals = 0
        self.disk_away = not self.database.writable

    async def _credited(self, organisation: str, ticks: int, once: Write, times: int) -> list[bool]:
        entries = [Entry(str(uuid.uuid4()), self.now, "grant", ticks, "paid") for _ in range(times)]
        return await asyncio.gather(*(self.ledger.credit(organisation, entry, once) for entry in entries))

    @rule(organisation=ORGANISATIONS, ticks=st.integers(1, 1000), refusals=st.integers(0, 2))
    def take_back(self, organisation: str, ticks: int, refusals: int) -> None:
        self.refusals = refusals
        once = Write("INSERT INTO facts (name, value) VALUES ($1, 0)", (f"refund {uuid.uuid4()}",))
        held = self.held(organisation)
        taken = self.do(self.ledger.take_back(organisation, ticks, "refunded", once, lambda _: []))
        assert taken == min(ticks, self.accounts[organisation].balance - held)
        self.accounts[organisation].take_back(ticks, held)
        self.disk_away = False

    @rule(organisation=ORGANISATIONS)
    def the_disk_refuses_a_grant(self, organisation: str) -> None:
        self.refusals = 1
        with pytest.raises(DatabaseUnusable):
            self.do(self.ledger.grant(organisation, Ticks(1), "test"))
        self.disk_away = True

    @rule(
        organisation=ORGANISATIONS,
        ticks=st.integers(0, 600),
        replayable=st.booleans(),
        secured=st.booleans(),
        used=st.none() | st.integers(0, 600),
    )
    def reserve(self, organisation: str, ticks: int, replayable: bool, secured: bool, used: int | None) -> None:
        """A stream is secured, and may have got to its first checkpoint."""
        hold = Hold(str(uuid.uuid4()), organisation, "key", "mock", "/v1/messages", Ticks(ticks), self.now)
        hold.replayable = replayable
        balance = self.accounts[organisation].balance
        if self.disk_away:
            with pytest.raises(DatabaseUnusable):
                self.ledger.reserve(hold)
        elif ticks > balance:
            with pytest.raises(InsufficientCredits):
                self.ledger.reserve(hold)
        elif ticks > balance - self.held(organisation):
            with pytest.raises(CreditsHeld):
                self.ledger.reserve(hold)
        else:
            self.ledger.reserve(hold)
            self.running[hold.request_id] = Request(hold)
            if secured:
                self.do(self.ledger.checkpoint([(hold, 0, Usage())]))
            if secured and used is not None:
                self.remember([self.running[hold.request_id]], [min(used, ticks)])

    @some_on_disk
    @rule(data=st.data())
    def checkpoint(self, data: st.DataObject) -> None:
        on_disk = [one for one in self.running.values() if one.hold.on_disk]
        several = data.draw(st.lists(st.sampled_from(on_disk), min_size=1, unique_by=id))
        self.remember(several, [data.draw(st.integers(one.used or 0, one.hold.ticks)) for one in several])
        self.disk_away = False

    @some_running
    @rule(data=st.data(), refusals=st.integers(0, 2), secure=st.booleans())
    def settle(self, data: st.DataObject, refusals: int, secure: bool) -> None:
        """Several at once, however often the disk refuses; with `secure` their holds are part of the same commit."""
        several = data.draw(st.lists(st.sampled_from(list(self.running.values())), min_size=1, unique_by=id))
        charges = [(one.hold, data.draw(st.integers(0, one.hold.ticks))) for one in several]
        self.refusals = 0 if secure else refusals
        self.end(charges, secure=secure)

    @some_running
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(list(self.running.values())))
        self.end([(one.hold, None)])

    @some_ended
    @rule(data=st.data(), ticks=st.sampled_from((None, 0)))
    def end_one_that_is_over(self, data: st.DataObject, ticks: int | None) -> None:
        hold = data.draw(st.sampled_from(list(self.ended.values())))
        self.do(self._ended([(hold, ticks)]))

    @rule(hours=st.sampled_from((1, 24, 24 * 7, -1, -25)))
    def step_the_clock(self, hours: int) -> None:
        self.now += hours * MICROSECONDS_PER_HOUR

    @rule()
    def tick(self) -> None:
        self.do(self.ledger.tick())
        for organisation, account in self.accounts.items():
            account.expire(self.now, self.held(organisation))
        self.disk_away = False

    @rule()
    def crash(self) -> None:
        on_disk = [one for one in self.running.values() if one.hold.on_disk]
        self.do(self.database.close())
        assert self.do(self._open()) == len(on_disk)
        for one in on_disk:
            if one.used is not None and not one.hold.replayable:
                self.accounts[one.hold.organisation_id].charge(one.used)
        self.running.clear()
        self.ended.clear()
        self.disk_away = False

    @invariant()
    def memory_agrees(self) -> None:
        for organisation, account in self.accounts.items():
            balance = self.ledger.balance(organisation)
            assert (balance.balance_ticks, balance.held_ticks) == (account.balance, self.held(organisation))
            assert balance.available_ticks >= 0
            assert self.ledger.meter(organisation).of_ticks == account.full
        assert self.ledger.running() == self.running.keys()
        assert self.database.writable != self.disk_away

    @invariant()
    def the_database_agrees(self) -> None:
        sums, dated, holds, audited = self.do(self._read())
        assert sums == {name: (account.balance, account.balance) for name, account in self.accounts.items()}
        assert dated == {name: account.dated for name, account in self.accounts.items()}
        assert holds == {
            one.hold.request_id: (one.hold.ticks, one.used or 0) for one in self.running.values() if one.hold.on_disk
        }
        assert audited == Audit(sum(account.entries for account in self.accounts.values()), ())

    async def _read(self) -> tuple[dict[str, Any], dict[str, dict[int, int]], dict[str, Any], Audit]:
        full = dict(await self.database.rows("SELECT organisation_id, full_ticks FROM accounts"))
        assert full == {name: account.full for name, account in self.accounts.items()}
        sums = await self.database.rows(
            "SELECT a.organisation_id, a.balance_ticks, COALESCE(SUM(e.amount_ticks), 0) FROM accounts a"
            " LEFT JOIN entries e ON e.organisation_id = a.organisation_id GROUP BY a.organisation_id"
        )
        dated: dict[str, dict[int, int]] = {name: {} for name in self.accounts}
        grants = "SELECT organisation_id, expires_at, SUM(left_ticks) FROM expiring_grants GROUP BY 1, 2"
        for name, date, left in await self.database.rows(grants):
            dated[name][date] = left
        holds = await self.database.rows("SELECT request_id, reserved_ticks, used_ticks FROM holds")
        audited = await audit(self.database, self.ledger, lambda: self.now)
        return {row[0]: row[1:] for row in sums}, dated, {row[0]: row[1:] for row in holds}, audited

    def held(self, organisation: str) -> int:
        return sum(one.hold.ticks for one in self.running.values() if one.hold.organisation_id == organisation)

    def remember(self, requests: Sequence[Request], used: Sequence[int]) -> None:
        for one, ticks in zip(requests, used, strict=True):
            one.used = ticks
        self.do(self.ledger.checkpoint([(one.hold, one.used or 0, Usage(prompt_tokens=1)) for one in requests]))

    def end(self, ends: Sequence[tuple[Hold, int | None]], *, secure: bool = False) -> None:
        """Each with what it costs; None: it failed."""
        self.do(self._ended(ends, secure=secure))
        for hold, ticks in ends:
            if ticks is not None:
                self.accounts[hold.organisation_id].charge(ticks)
            del self.running[hold.request_id]
            self.ended[hold.request_id] = hold
        self.disk_away = False

    async def _ended(self, ends: Sequence[tuple[Hold, int | None]], *, secure: bool = False) -> None:
        secured = [self.ledger.checkpoint([(hold, 0, Usage())]) for hold, _ in ends if secure and not hold.on_disk]
        settled = [self.ledger.settle(hold, partial(Outcome, self._record(hold, ticks))) for hold, ticks in ends]
        await asyncio.gather(*secured, *settled)

    def _record(self, hold: Hold, ticks: int | None) -> UsageRecord:
        return UsageRecord(
            *(hold.organisation_id, hold.request_id, hold.opened_at, self.now, hold.key_id, hold.model, hold.endpoint),
            status="failed" if ticks is None else "finished",
            usage=Usage() if ticks is None else Usage(prompt_tokens=1),
            cost_ticks=ticks or 0,
        )


def test_the_books_balance_after_every_step_of_any_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadline.ledger.ledger.RETRY_SECONDS", 0)
    monkeypatch.setattr(apsw, "connection_hooks", [])

    def new_machine() -> LedgerMachine:
        return LedgerMachine(tmp_path / f"{uuid.uuid4().hex}.db")

    run_state_machine_as_test(
        new_machine,
        # Each step waits for the disk, so fewer histories than other examples: 30 in the suite, 600 for the proof. They
        # are longer: much has to happen before a crash or a full disk tells something.
        settings=settings(max_examples=settings().max_examples * 3 // 10, stateful_step_count=60),
    )
