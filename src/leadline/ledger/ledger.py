"""Prepaid credits: reserved before work starts, settled once when it ends.

Memory is the gate: `reserve` tests and changes the balance with no await between, so requests cannot race. The
database is the truth: an amount comes back to its account only after the commit of what was spent. A request's
charge has the request's id, so it happens once, however often it is tried.
"""

import time
from dataclasses import dataclass

from leadline.chat.events import Usage
from leadline.errors import CreditsHeld, InsufficientCredits, LeadlineError
from leadline.ids import new_uuid
from leadline.money import NOTHING, Ticks, show_usd
from leadline.storage.database import Database, Write


@dataclass(frozen=True, slots=True)
class Balance:
    """`balance` is what the entries sum to, `held` what running requests have reserved of it."""

    balance_ticks: Ticks
    held_ticks: Ticks

    @property
    def available_ticks(self) -> Ticks:
        return Ticks(self.balance_ticks - self.held_ticks)


@dataclass(slots=True, eq=False)
class Hold:
    """Credits set aside for one request."""

    request_id: str
    organisation_id: str
    key_id: str
    model: str
    ticks: Ticks
    on_disk: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request used in the end. `reason` is empty for one that ended well."""

    ticks: Ticks
    usage: Usage
    endpoint: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger. `at` is in microseconds, `amount_ticks` signed: what is given +, what is spent -."""

    id: str
    at: int
    kind: str
    amount_ticks: int
    request_id: str | None
    key_id: str | None
    model: str | None
    reason: str


class Ledger:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._balances: dict[str, int] = {}
        self._held: dict[str, int] = {}

    async def load(self) -> int:
        """Read the balances and release what a crash left held. Returns how many holds that were."""
        left = [request_id for (request_id,) in await self._database.rows("SELECT request_id FROM holds")]
        for request_id in left:
            await self._database.commit(_delete_hold(request_id))
        accounts = await self._database.rows("SELECT organisation_id, balance_ticks FROM accounts")
        self._balances = dict(accounts)
        self._held = dict.fromkeys(self._balances, 0)
        return len(left)

    def balance(self, organisation_id: str) -> Balance:
        return Balance(Ticks(self._balances[organisation_id]), Ticks(self._held[organisation_id]))

    def reserve(self, hold: Hold) -> None:
        """Set `hold.ticks` aside, or raise InsufficientCredits; CreditsHeld where waiting is enough."""
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
        self._held[hold.organisation_id] = held + hold.ticks

    async def secure(self, hold: Hold) -> None:
        """Make the hold durable, so that a crash cannot forget that its request ran."""
        hold.on_disk = True
        await self._database.commit(
            Write(
                "INSERT INTO holds (request_id, organisation_id, key_id, model, reserved_ticks, opened_at)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                (hold.request_id, hold.organisation_id, hold.key_id, hold.model, hold.ticks, _now()),
            )
        )

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """Charge what was used and give the rest back. A second call changes nothing."""
        assert 0 <= charge.ticks <= hold.ticks, "a charge never exceeds its reservation"
        if hold.settled:
            return
        writes = [_charge_entry(hold, charge), _add_to_balance(hold.organisation_id, -charge.ticks)]
        if hold.on_disk:
            writes.append(_delete_hold(hold.request_id))
        await self._commit_end(hold, *writes)
        self._balances[hold.organisation_id] -= charge.ticks
        self._held[hold.organisation_id] -= hold.ticks

    async def release(self, hold: Hold) -> None:
        """Give all of it back, with no entry: nothing was run for this request."""
        if hold.settled:
            return
        await self._commit_end(hold, *([_delete_hold(hold.request_id)] if hold.on_disk else []))
        self._held[hold.organisation_id] -= hold.ticks

    async def _commit_end(self, hold: Hold, *writes: Write) -> None:
        """`hold` ends with these writes, once. Where they are refused it has not ended, and may be tried again."""
        hold.settled = True
        try:
            if writes:
                await self._database.commit(*writes)
        except LeadlineError:
            hold.settled = False
            raise

    def opening(self, organisation_id: str) -> Write:
        """The write that opens an account; `opened` follows its commit."""
        return Write("INSERT INTO accounts (organisation_id, balance_ticks) VALUES ($1, 0)", (organisation_id,))

    def opened(self, organisation_id: str) -> None:
        self._balances[organisation_id] = NOTHING
        self._held[organisation_id] = NOTHING

    async def grant(self, organisation_id: str, ticks: Ticks, reason: str) -> Balance:
        """Add credits."""
        assert ticks > 0
        await self._database.commit(
            Write(
                "INSERT INTO entries (id, organisation_id, at, kind, amount_ticks, reason)"
                " VALUES ($1, $2, $3, 'grant', $4, $5)",
                (str(new_uuid()), organisation_id, _now(), ticks, reason),
            ),
            _add_to_balance(organisation_id, ticks),
        )
        self._balances[organisation_id] += ticks
        return self.balance(organisation_id)

    async def entries(self, organisation_id: str, limit: int | None = None) -> list[Entry]:
        """The entries, newest last; with `limit`, only the newest ones."""
        rows = await self._database.rows(
            "SELECT id, at, kind, amount_ticks, request_id, key_id, model, reason FROM entries"
            " WHERE organisation_id = $1 ORDER BY at DESC, id DESC LIMIT $2",
            organisation_id,
            -1 if limit is None else limit,
        )
        return [Entry(*row) for row in reversed(rows)]


def _charge_entry(hold: Hold, charge: Charge) -> Write:
    usage = charge.usage
    return Write(
        "INSERT INTO entries (id, organisation_id, at, kind, amount_ticks, reason, request_id, key_id, model, endpoint,"
        " reserved_ticks, prompt_tokens, cached_tokens, image_tokens, output_tokens, reasoning_tokens)"
        " VALUES ($1, $2, $3, 'charge', $4, $5, $1, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        (
            hold.request_id,
            hold.organisation_id,
            _now(),
            -charge.ticks,
            charge.reason,
            hold.key_id,
            hold.model,
            charge.endpoint,
            hold.ticks,
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.image_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        ),
    )


def _add_to_balance(organisation_id: str, ticks: int) -> Write:
    return Write(
        "UPDATE accounts SET balance_ticks = balance_ticks + $1 WHERE organisation_id = $2", (ticks, organisation_id)
    )


def _delete_hold(request_id: str) -> Write:
    return Write("DELETE FROM holds WHERE request_id = $1", (request_id,), rows=None)


def _now() -> int:
    return time.time_ns() // 1000
