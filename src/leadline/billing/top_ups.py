"""Credits that are paid for: what somebody set out to pay, what was paid of it, and what was lost of it again.

A payment is credited by one commit of its top-up, entry, receipt and audit row, so it is credited once, whatever comes
twice, late, at once or in another order. What a crash cut short is done when the payment is told again.
"""

import logging
from dataclasses import dataclass
from typing import Literal

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.accounts.mail import Outbox
from leadline.accounts.organisations import Organisations
from leadline.billing.payers import payers
from leadline.billing.receipts import written_receipt
from leadline.clock import MICROSECONDS_PER_HOUR, Clock, now_microseconds
from leadline.errors import InvalidRequest, NotFound, RateLimited
from leadline.ids import new_id, new_uuid
from leadline.ledger.books import Entry
from leadline.ledger.expiring import end_after
from leadline.ledger.ledger import Ledger
from leadline.money import TICKS_PER_USD, Ticks, show_usd, usd
from leadline.storage.database import Database, Value, Write

CURRENCY = "usd"
LEAST_CENTS, MOST_CENTS = 500, 1_000_000
TICKS_PER_CENT = TICKS_PER_USD // 100
PROVIDER = Actor("stripe", "Stripe")
# Of one organisation in an hour: each one is a row here and a payment page there.
_MOST_BEGUN = 30
# Payment pages close after a day, and so long they are found again.
_OPEN_FOR = 23 * MICROSECONDS_PER_HOUR
_log = logging.getLogger("leadline.billing")


class PaymentMismatch(InvalidRequest):
    """What was paid is not what the top-up asked for, so nothing was credited."""


@dataclass(frozen=True, slots=True)
class TopUp:
    """`payment` and `credited_at` (microseconds) are None until it was paid."""

    id: str
    organisation_id: str
    user_id: str
    cents: int
    created_at: int
    session_id: str | None = None
    payment: str | None = None
    credited_at: int | None = None
    lost_cents: int = 0


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment as its provider tells it."""

    top_up_id: str
    organisation_id: str
    session_id: str
    payment: str
    cents: int
    currency: str


@dataclass(frozen=True, slots=True)
class Lost:
    """What was paid back of a payment until now (`id` is the charge's), or is disputed (the dispute's)."""

    id: str
    payment: str
    cents: int
    because: str


class TopUps:
    """`clock` is the wall clock in microseconds."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        organisations: Organisations,
        outbox: Outbox,
        clock: Clock = now_microseconds,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._organisations = organisations
        self._outbox = outbox
        self._clock = clock
        # 0: what is bought never ends. The instance sets it.
        self.expire_after_days = 0

    async def begin(self, organisation_id: str, cents: int, actor: Actor) -> TopUp:
        """Somebody sets out to pay. RateLimited where that was begun too often."""
        now = self._clock()
        [(begun,)] = await self._database.rows(
            "SELECT COUNT(*) FROM top_ups WHERE organisation_id = $1 AND created_at > $2",
            *(organisation_id, now - MICROSECONDS_PER_HOUR),
        )
        if begun >= _MOST_BEGUN:
            raise RateLimited("Credits were begun to be bought too often in the last hour. Try again later.", 3600)
        top_up = TopUp(new_id("top"), organisation_id, actor.user_id, cents, now)
        await self._database.commit(
            Write(
                "INSERT INTO top_ups (id, organisation_id, user_id, cents, created_at) VALUES ($1, $2, $3, $4, $5)",
                (top_up.id, organisation_id, top_up.user_id, cents, now),
            )
        )
        return top_up

    async def pending(self, organisation_id: str, cents: int) -> TopUp | None:
        """The newest of this amount that is begun and not paid, whose payment page, if it has one, is still open for a
        while."""
        rows = await self._database.rows(
            f"{_TOP_UPS} WHERE organisation_id = $1 AND cents = $2 AND credited_at IS NULL AND created_at > $3"
            " ORDER BY created_at DESC, id DESC LIMIT 1",
            *(organisation_id, cents, self._clock() - _OPEN_FOR),
        )
        return TopUp(*rows[0]) if rows else None

    async def remember_session(self, top_up: TopUp, session_id: str) -> None:
        await self._database.commit(
            Write("UPDATE top_ups SET session_id = $1 WHERE id = $2", (session_id, top_up.id), rows=None)
        )

    async def get(self, organisation_id: str, top_up_id: str) -> TopUp:
        """NotFound also where it is another organisation's."""
        top_up = await self._find("id", top_up_id)
        if top_up is None or top_up.organisation_id != organisation_id:
            raise NotFound("There is no such payment.")
        return top_up

    async def credit(self, paid: Paid, base_url: str) -> bool:
        """Credit a payment, and mail where its receipt is. False where that was done, or where it is for nothing of
        ours; PaymentMismatch where it is not what was asked for."""
        top_up = await self._find("id", paid.top_up_id)
        if top_up is None:
            return False
        _refuse_other(top_up, paid)
        entry = Entry(
            *(str(new_uuid()), self._clock(), "grant", paid.cents * TICKS_PER_CENT, f"top-up, payment {paid.payment}")
        )
        once = Write(
            "UPDATE top_ups SET payment = $1, credited_at = $2, entry_id = $3, session_id = $4 WHERE id = $5"
            " AND credited_at IS NULL AND NOT EXISTS (SELECT 1 FROM top_ups o WHERE o.payment = $1)",
            (paid.payment, entry.at, entry.id, paid.session_id, top_up.id),
        )
        credited = await self._ledger.credit(
            top_up.organisation_id,
            entry,
            once,
            written_receipt(top_up.organisation_id, entry.at, paid.cents, paid.payment),
            audited(
                *(entry.at, PROVIDER, "credits top-up", top_up.id),
                ({}, {"granted_ticks": entry.amount_ticks, "payment": paid.payment}),
                top_up.organisation_id,
            ),
            *await self._receipt_mails(top_up, paid, base_url),
            expires_at=end_after(self.expire_after_days, entry.at),
        )
        self._outbox.look()
        await self._take_back(paid.payment, "refund or dispute")
        return credited

    async def lose(self, lost: Lost) -> None:
        """Take back what was lost of a payment, as far as there is credit. Of a payment that was not credited yet, it
        is taken back when it is."""
        await self._database.commit(
            Write(
                "INSERT INTO payment_losses (id, payment, cents, at) VALUES ($1, $2, $3, $4) ON CONFLICT (id)"
                " DO UPDATE SET cents = excluded.cents WHERE payment_losses.cents < excluded.cents",
                (lost.id, lost.payment, lost.cents, self._clock()),
                rows=None,
            )
        )
        await self._take_back(lost.payment, lost.because)

    async def take_rest_back(self) -> None:
        """What running requests held when it was lost. Called about once a minute."""
        rows = await self._database.rows(
            "SELECT t.payment FROM top_ups t JOIN (SELECT payment, SUM(cents) AS cents FROM payment_losses"
            " GROUP BY payment) lost ON lost.payment = t.payment"
            " WHERE t.lost_cents < t.cents AND t.lost_cents < lost.cents"
        )
        for (payment,) in rows:
            await self._take_back(payment, "refund or dispute")

    async def _take_back(self, payment: str, because: str) -> None:
        """Until the top-up knows of all that was lost of its payment, or what is left of that is held."""
        while True:
            top_up = await self._find("payment", payment)
            if top_up is None or top_up.credited_at is None:
                return
            [(lost,)] = await self._database.rows(
                "SELECT COALESCE(SUM(cents), 0) FROM payment_losses WHERE payment = $1", payment
            )
            cents = self._within_reach(top_up, min(lost, top_up.cents) - top_up.lost_cents)
            if cents <= 0:
                return
            await self._adjust(top_up, top_up.lost_cents + cents, f"{because} of payment {payment}")

    def _within_reach(self, top_up: TopUp, cents: int) -> int:
        """As much of it as can be settled now. What running requests hold has to wait for their end; what is not there
        at all will never come back."""
        balance = self._ledger.balance(top_up.organisation_id)
        if balance.available_ticks < min(cents * TICKS_PER_CENT, balance.balance_ticks):
            return balance.available_ticks // TICKS_PER_CENT
        return cents

    async def _adjust(self, top_up: TopUp, lost_cents: int, reason: str) -> None:
        ticks = (lost_cents - top_up.lost_cents) * TICKS_PER_CENT
        once = Write(
            "UPDATE top_ups SET lost_cents = $1 WHERE id = $2 AND lost_cents = $3",
            (lost_cents, top_up.id, top_up.lost_cents),
        )

        def row(taken_ticks: int) -> list[Write]:
            changes: dict[str, Value] = {"lost_ticks": ticks, "taken_ticks": taken_ticks, "reason": reason}
            organisation_id = top_up.organisation_id
            return [audited(self._clock(), PROVIDER, "credits take-back", top_up.id, ({}, changes), organisation_id)]

        taken = await self._ledger.take_back(top_up.organisation_id, ticks, reason, once, row)
        if taken is not None and taken < ticks:
            _log.warning(
                "a payment was lost that is spent", extra={"top_up": top_up.id, "missing_ticks": ticks - taken}
            )

    async def _receipt_mails(self, top_up: TopUp, paid: Paid, base_url: str) -> list[Write]:
        subject = f"Payment received: {show_usd(ticks_of(paid.cents))}"
        people, organisation = await payers(self._organisations, top_up.organisation_id)
        text = (
            f"{organisation} was credited with {show_usd(ticks_of(paid.cents))}.\n\n"
            f"Receipt: {base_url}/billing/receipts/{paid.payment}\n"
        )
        return [self._outbox.putting(email, subject, text, "receipt") for email in people]

    async def _find(self, column: Literal["id", "payment"], value: str) -> TopUp | None:
        rows = await self._database.rows(f"{_TOP_UPS} WHERE {column} = $1", value)
        return TopUp(*rows[0]) if rows else None


_TOP_UPS = (
    "SELECT id, organisation_id, user_id, cents, created_at, session_id, payment, credited_at, lost_cents FROM top_ups"
)


def cents_of(amount: str) -> int:
    """Dollars as somebody wrote them, in cents, or InvalidRequest."""
    try:
        ticks = usd(amount.strip().removeprefix("$").replace(",", ""))
    except ValueError:
        raise InvalidRequest("Write the amount in US dollars, such as 20 or 20.50.", "amount") from None
    cents, rest = divmod(ticks, TICKS_PER_CENT)
    if rest:
        raise InvalidRequest("Write the amount in whole cents, such as 20.50.", "amount")
    if not LEAST_CENTS <= cents <= MOST_CENTS:
        raise InvalidRequest(f"Add ${LEAST_CENTS // 100} to ${MOST_CENTS // 100:,} at once.", "amount")
    return cents


def ticks_of(cents: int) -> Ticks:
    return Ticks(cents * TICKS_PER_CENT)


def _refuse_other(top_up: TopUp, paid: Paid) -> None:
    """Where the payment is not what this top-up asked for."""
    asked = (top_up.organisation_id, top_up.session_id or paid.session_id, top_up.cents, CURRENCY)
    if (paid.organisation_id, paid.session_id, paid.cents, paid.currency.lower()) != asked:
        _log.error("a payment differs from its top-up", extra={"top_up": top_up.id, "payment": paid.payment})
        raise PaymentMismatch("What was paid is not what the top-up asked for, so nothing was credited.")
