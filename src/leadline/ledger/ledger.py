"""Prepaid credits: reserved before work starts, settled once when it ends.

Memory is the gate: `reserve` tests and changes the balance with no await between, so requests cannot race. The
database is the truth: an amount comes back to its account only after the commit of what was spent. A request's
charge has the request's id, so it happens once, however often it is tried.

A request reserves the most it can cost, so nothing is ever overspent: whatever engine runs it, charge <= reservation
<= balance.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from leadline.chat.events import Usage
from leadline.clock import Clock, Period, now_microseconds
from leadline.errors import CreditsHeld, InsufficientCredits
from leadline.ids import new_uuid
from leadline.ledger.books import (
    Added,
    Books,
    Checkpointed,
    Entry,
    Expired,
    Full,
    Hold,
    Item,
    Noted,
    Outcome,
    Settled,
    index_entries,
)
from leadline.ledger.recovery import interrupted, seal_entries
from leadline.ledger.spending import Spending
from leadline.ledger.totals import Totals
from leadline.ledger.usage import UsageRecord, index_records
from leadline.money import NOTHING, Ticks, show_usd
from leadline.storage.database import Database, DatabaseUnusable, Write

# A settlement that the disk refused is tried again so often, and a stop waits so long for it.
RETRY_SECONDS = 0.5
CLOSE_SECONDS = 5
# Refused requests are noted once in a while. More of them than this are counted by nobody: a flood must not fill the
# disk.
MOST_NOTED = 1_000
_log = logging.getLogger("leadline.ledger")


@dataclass(frozen=True, slots=True)
class Balance:
    """`balance` is what the entries sum to, `held` what running requests have reserved of it."""

    balance_ticks: Ticks
    held_ticks: Ticks

    @property
    def available_ticks(self) -> Ticks:
        return Ticks(self.balance_ticks - self.held_ticks)


@dataclass(frozen=True, slots=True)
class CreditMeter:
    """How much of its credits an organisation has left: of what there was right after its last grant, which was the
    entry `number`."""

    available_ticks: Ticks
    of_ticks: Ticks
    number: int

    @property
    def percent(self) -> int:
        """Rounded down, 0 to 100."""
        return max(0, min(100, self.available_ticks * 100 // self.of_ticks)) if self.of_ticks > 0 else 0


class Ledger:
    """`clock` is the wall clock in microseconds."""

    def __init__(self, database: Database, clock: Clock = now_microseconds) -> None:
        self.totals = Totals()
        self._database = database
        self._clock = clock
        self._books = Books()
        self._balances: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._full: dict[str, Full] = {}
        # Whose balance changed since somebody asked.
        self._changed: set[str] = set()
        # Of what is held: what is set aside to end with its grants.
        self._ending: dict[str, int] = {}
        # The next date of each organisation's grants, and the dates of those that are being written.
        self._expires_at: dict[str, int] = {}
        self._dates_coming: dict[str, list[int | None]] = {}
        self._open: dict[str, Hold] = {}
        self._spending = Spending()
        self._settlements: dict[str, asyncio.Future[None]] = {}
        self._additions: set[asyncio.Task[None]] = set()
        self._noted: list[UsageRecord] = []
        self._indexes_lag = False
        self._closing = False

    async def load(self) -> int:
        """Read the balances, and settle what a crash left held at its last checkpoint. Returns how many holds that
        were."""
        await seal_entries(self._database)
        holds = await self._database.rows(
            "SELECT request_id, organisation_id, key_id, model, endpoint, reserved_ticks, opened_at, replayable,"
            " used_ticks, prompt_tokens, cached_tokens, image_tokens, output_tokens, reasoning_tokens FROM holds"
        )
        await asyncio.gather(*(self._write(interrupted(row, self._clock())) for row in holds))
        accounts = await self._database.rows(
            "SELECT organisation_id, balance_ticks, full_ticks, full_number FROM accounts"
        )
        self._balances = {organisation_id: balance for organisation_id, balance, *_ in accounts}
        self._full = {organisation_id: Full(*full) for organisation_id, _, *full in accounts}
        self._changed = set(self._balances)
        self._held = dict.fromkeys(self._balances, 0)
        self._expires_at = dict(
            await self._database.rows(
                "SELECT organisation_id, MIN(expires_at) FROM expiring_grants GROUP BY organisation_id"
            )
        )
        await self._spending.load(self._database, self._clock())
        return len(holds)

    async def close(self) -> None:
        """Give settlements that the disk refused a last chance. A stream's hold that stays is settled at the next
        start."""
        self._closing = True
        if open_ends := [*self._settlements.values(), *self._additions]:
            _, late = await asyncio.wait(open_ends, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def balance(self, organisation_id: str) -> Balance:
        return Balance(Ticks(self._balances[organisation_id]), Ticks(self._held[organisation_id]))

    def meter(self, organisation_id: str) -> CreditMeter:
        full = self._full[organisation_id]
        return CreditMeter(self.balance(organisation_id).available_ticks, full.ticks, full.number)

    def take_changed(self) -> set[str]:
        """The organisations whose balance changed since this was asked last; at first all."""
        changed, self._changed = self._changed, set()
        return changed

    def available_ticks(self, hold: Hold) -> int:
        """What credits, the key's cap and the organisation's limit leave for the request of `hold`."""
        available = self.balance(hold.organisation_id).available_ticks
        return self._spending.available_ticks(hold, available, self._clock())

    def spent_in_month(self, organisation_id: str) -> Ticks:
        """In the present month (UTC)."""
        return self._spending.spent_in_month(organisation_id, self._clock())

    def spent_by_key(self, key_id: str, period: Period) -> Ticks:
        """What a key spent in the present period."""
        return self._spending.spent_by_key(key_id, period, self._clock())

    def limit_of(self, organisation_id: str) -> Ticks | None:
        """What the organisation may spend in a month; None: all that it has."""
        return self._spending.limit_of(organisation_id)

    async def change_limit(self, organisation_id: str, ticks: Ticks | None, *writes: Write) -> None:
        """Holds from the next request on; `writes` make it durable."""

        async def both() -> None:
            await self._database.commit(*writes)
            self._spending.limit(organisation_id, ticks)

        await asyncio.shield(asyncio.ensure_future(both()))

    def reserve(self, hold: Hold) -> None:
        """Set `hold.ticks` aside. Raises InsufficientCredits, KeyCapSpent or SpendLimitReached; CreditsHeld where
        waiting is enough; DatabaseUnusable while the disk takes no writes."""
        if not self._database.writable:
            raise DatabaseUnusable("The books cannot be written now, so nothing can be run. Try again in a moment.")
        balance, held = self._balances[hold.organisation_id], self._held[hold.organisation_id]
        if hold.ticks > balance:
            raise InsufficientCredits(
                f"This request can cost up to {show_usd(hold.ticks)}, and {show_usd(balance)} of credits are left. "
                "Add credits or ask for fewer tokens (max_tokens)."
            )
        if hold.ticks > balance - held:
            raise CreditsHeld(
                f"This request can cost up to {show_usd(hold.ticks)}; {show_usd(held)} of your {show_usd(balance)} "
                "are held by your own running requests. Try again when one of them has ended."
            )
        self._spending.reserve(hold, self._clock())
        self._held[hold.organisation_id] = held + hold.ticks
        self._open[hold.request_id] = hold

    def checkpoint(self, progress: Sequence[tuple[Hold, int, Usage]]) -> "asyncio.Future[None]":
        """Remember what running streams have used: (hold, ticks, usage). A crash settles them at that. Those whose end
        is being written are left out."""
        open_ids = self._open.keys() - self._settlements.keys()
        running = [one for one in progress if one[0].request_id in open_ids]
        for hold, _, _ in running:
            hold.on_disk = True
        return self._write(Checkpointed(running))

    def settle(self, hold: Hold, outcome: Callable[[], Outcome]) -> "asyncio.Future[None]":
        """Charge what was used and give the rest back, once; done when that is durable. While the disk refuses, the
        ledger tries on, whether or not somebody waits, and asks for the `outcome` each time. A hold that is settled
        already stays as it is. The future belongs to all who wait: shield it where a waiter may be cancelled."""
        request_id = hold.request_id
        settlement = self._settlements.get(request_id)
        if settlement is None:
            settlement = asyncio.get_running_loop().create_future()
            if request_id not in self._open:
                settlement.set_result(None)
                return settlement
            self._settlements[request_id] = settlement
            self._try_to_settle(hold, outcome, settlement)
        return settlement

    def _try_to_settle(self, hold: Hold, outcome: Callable[[], Outcome], settlement: "asyncio.Future[None]") -> None:
        try:
            item = Settled(hold, outcome(), hold.organisation_id in self._expires_at)
            record = item.outcome.record
            assert 0 <= record.cost_ticks <= hold.ticks, "a charge never exceeds its reservation"
        except Exception as error:
            self._end(hold, settlement, error)
            return

        def written(error: Exception | None) -> None:
            if isinstance(error, DatabaseUnusable) and not self._closing:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try_to_settle, hold, outcome, settlement)
                return
            cost_ticks = record.cost_ticks if item.kept_ticks is None else item.kept_ticks
            if error is None:
                self._balances[hold.organisation_id] -= cost_ticks
                self._held[hold.organisation_id] -= hold.ticks
                self._changed.add(hold.organisation_id)
                self._spending.settle(hold, cost_ticks, record.at)
                self._indexes_lag = True
                del self._open[hold.request_id]
                if not item.outcome.again:
                    self.totals.add(record, cost_ticks)
            self._end(hold, settlement, error)
            if error is None:
                self._give_back(hold, cost_ticks - outcome().record.cost_ticks, record.at)

        self._database.submit(self._books.write, item, written)

    def _give_back(self, hold: Hold, ticks: int, at: int) -> None:
        """What was under way to the disk when its client was told of an error costs what the client had: the rest is a
        refund. `at` is when it was charged."""
        if ticks <= 0:
            return
        self._spending.refund(hold, ticks, at)
        entry = Entry(str(new_uuid()), self._clock(), "refund", ticks, "the answer did not arrive", hold.request_id)
        self._add_surely(Added(hold.organisation_id, entry))

    def _add_surely(self, item: Added, set_aside: int = 0) -> "asyncio.Task[None]":
        """Whatever the disk says, and whether or not somebody waits, until the ledger is closed. `set_aside` is free
        again at its end."""

        async def added() -> None:
            try:
                await self._add_until_written(item)
            finally:
                self._set_aside(item.organisation_id, -set_aside)

        addition = asyncio.get_running_loop().create_task(added())
        self._additions.add(addition)
        addition.add_done_callback(self._additions.discard)
        return addition

    def _set_aside(self, organisation_id: str, ticks: int) -> None:
        self._held[organisation_id] += ticks
        self._ending[organisation_id] = self._ending.get(organisation_id, 0) + ticks

    async def _add_until_written(self, item: Added) -> None:
        while True:
            try:
                return await self._add(item)
            except DatabaseUnusable:
                if self._closing:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    def _end(self, hold: Hold, settlement: "asyncio.Future[None]", error: BaseException | None) -> None:
        del self._settlements[hold.request_id]
        if settlement.done():
            return  # nobody waits any more
        if error is None:
            settlement.set_result(None)
        else:
            settlement.set_exception(error)

    def note(self, record: UsageRecord) -> None:
        """Remember a request that was refused, for the usage page. It is written at the next tick."""
        self.totals.add(record, 0)
        if len(self._noted) < MOST_NOTED:
            self._noted.append(record)

    async def write_noted(self) -> None:
        if self._noted:
            noted = tuple(self._noted)
            await self._write(Noted(noted))
            del self._noted[: len(noted)]

    async def tick(self) -> None:
        """What falls due with time; called about once a second. Raises DatabaseUnusable while the disk is away."""
        if not self._database.writable:
            await self._database.commit(Write("UPDATE facts SET value = $1 WHERE name = 'heartbeat'", (self._clock(),)))
        await self.write_noted()
        if self._indexes_lag:
            self._indexes_lag = False
            await self._database.together(index_entries, None)
            await self._database.together(index_records, None)
        now = self._clock()
        for organisation_id in [one for one, expires_at in self._expires_at.items() if expires_at <= now]:
            await self.expire(organisation_id)

    def opening(self, organisation_id: str) -> Write:
        """The write that opens an account; `opened` follows its commit."""
        return Write("INSERT INTO accounts (organisation_id, balance_ticks) VALUES ($1, 0)", (organisation_id,))

    def opened(self, organisation_id: str) -> None:
        self._balances[organisation_id] = NOTHING
        self._held[organisation_id] = NOTHING
        self._full[organisation_id] = Full(NOTHING, 0)

    async def grant(
        self,
        organisation_id: str,
        ticks: Ticks,
        reason: str,
        expires_at: int | None = None,
        also: tuple[Write, ...] = (),
    ) -> Balance:
        """Add credits, for ever or until `expires_at` (microseconds), when what is left of them goes. `also` is in the
        same commit."""
        assert ticks > 0
        entry = Entry(str(new_uuid()), self._clock(), "grant", ticks, reason)
        await asyncio.shield(asyncio.ensure_future(self._add(Added(organisation_id, entry, expires_at, also=also))))
        return self.balance(organisation_id)

    async def credit(
        self, organisation_id: str, entry: Entry, once: Write, *also: Write, expires_at: int | None = None
    ) -> bool:
        """Add what was paid, for ever or until `expires_at`. Whatever the disk says, it is tried on; False where `once`
        says that it came before, in which case nothing is written."""
        item = Added(organisation_id, entry, expires_at, also=also, once=once)
        await asyncio.shield(self._add_surely(item))
        return not item.came_before

    async def take_back(
        self, organisation_id: str, ticks: int, reason: str, once: Write, also: Callable[[int], Sequence[Write]]
    ) -> int | None:
        """Take up to `ticks`, but nothing that running requests hold, in an adjustment. `also` is asked with how much
        it was, `once` is as of `credit`. None where it came before."""
        taken = min(ticks, self.balance(organisation_id).available_ticks)
        entry = Entry(str(new_uuid()), self._clock(), "adjustment", -taken, reason)
        self._set_aside(organisation_id, taken)
        item = Added(organisation_id, entry, also=tuple(also(taken)), once=once)
        await asyncio.shield(self._add_surely(item, taken))
        return None if item.came_before else taken

    async def _add(self, item: Added) -> None:
        organisation_id, expires_at = item.organisation_id, item.expires_at
        coming = self._dates_coming.setdefault(organisation_id, [])
        coming.append(expires_at)
        # Known before it is there, since from its commit on charges take from it.
        self._await_date(organisation_id, self._expires_at.get(organisation_id))
        try:
            await self._write(item)
        finally:
            coming.remove(expires_at)
        if item.came_before:
            return
        self._balances[organisation_id] += item.entry.amount_ticks
        self._full[organisation_id] = item.full or self._full[organisation_id]
        self._changed.add(organisation_id)

    def _await_date(self, organisation_id: str, written: int | None) -> None:
        """The next date is that of the grants that are `written`, or of one that is being written."""
        coming = self._dates_coming.get(organisation_id, [])
        dates = [date for date in (written, *coming) if date is not None]
        if dates:
            self._expires_at[organisation_id] = min(dates)
        else:
            self._expires_at.pop(organisation_id, None)

    async def expire(self, organisation_id: str) -> None:
        """End the grants that are due, as far as running requests do not hold them; the rest at the next tick."""
        await asyncio.shield(asyncio.ensure_future(self._expire(organisation_id)))

    async def _expire(self, organisation_id: str) -> None:
        set_aside = self.balance(organisation_id).available_ticks
        self._set_aside(organisation_id, set_aside)
        item = Expired(organisation_id, self._clock(), str(new_uuid()), set_aside)
        try:
            await self._write(item)
            self._balances[organisation_id] -= item.ended_ticks
            self._changed.add(organisation_id)
            self._await_date(organisation_id, item.next_at)
        finally:
            self._set_aside(organisation_id, -set_aside)

    def discrepancies(self) -> list[str]:
        """Where memory contradicts itself: what each organisation's running requests hold against its sum."""
        sums = dict.fromkeys(self._held, 0) | self._ending
        for hold in self._open.values():
            sums[hold.organisation_id] += hold.ticks
        return [
            f"I2: {organisation_id} has {held} ticks held, its running requests {sums[organisation_id]}"
            for organisation_id, held in self._held.items()
            if held != sums[organisation_id]
        ]

    def running(self) -> frozenset[str]:
        """The ids of the requests whose holds are open."""
        return frozenset(self._open)

    async def entries(self, organisation_id: str, limit: int | None = None) -> list[Entry]:
        """The entries, newest last; with `limit`, only the newest ones. While the disk takes no writes, the last ones
        may be missing."""
        with suppress(DatabaseUnusable):
            await self._database.together(index_entries, None)
        rows = await self._database.rows(
            "SELECT e.id, e.at, e.kind, e.amount_ticks, e.reason, e.request_id, e.key_id, e.model, e.reserved_ticks"
            " FROM entries_of o JOIN entries e ON e.number = o.number WHERE o.organisation_id = $1"
            " ORDER BY o.number DESC LIMIT $2",
            organisation_id,
            2**62 if limit is None else limit,
        )
        return [Entry(*row) for row in reversed(rows)]

    def _write(self, item: Item) -> "asyncio.Future[None]":
        return self._database.together(self._books.write, item)
