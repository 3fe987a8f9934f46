"""Mails about money: credits run low, each threshold once until the next grant; a soft limit is reached, once a month.

What is looked at is in memory, and only of organisations whose balance changed.
"""

import asyncio
from dataclasses import dataclass, replace

from leadline.accounts.mail import Outbox
from leadline.accounts.organisations import Organisations
from leadline.billing.payers import payers
from leadline.clock import Clock, date_of, day_of, now_microseconds
from leadline.errors import InvalidRequest
from leadline.ledger.ledger import Ledger
from leadline.ledger.overview import burn
from leadline.ledger.spend_limits import NO_MONTH, soft_limits, told_of_soft_limit
from leadline.money import Ticks, show_usd
from leadline.storage.database import Database, Write

THRESHOLDS = (20, 5, 0)
MOST_THRESHOLDS = 3
# So many organisations are told in one round, and looked at before others have their turn.
_MOST_TOLD = 100
_LOOKED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class LowCredits:
    """The thresholds of an organisation in percent, falling, and the one of which it was told last, after the grant
    with the number `told_number`."""

    thresholds: tuple[int, ...] = THRESHOLDS
    told_percent: int = 100
    told_number: int = 0

    def reached(self, balance_ticks: int, full_ticks: int) -> int | None:
        """The lowest threshold that the balance is at. That of 0 is reached with less than one percent."""
        hundredfold = balance_ticks * 100
        return min(
            (
                percent
                for percent in self.thresholds
                if (hundredfold <= percent * full_ticks if percent else hundredfold < full_ticks)
            ),
            default=None,
        )


_DEFAULT = LowCredits()


@dataclass(frozen=True, slots=True)
class _SoftLimit:
    ticks: Ticks
    told_month: int


@dataclass(frozen=True, slots=True)
class _Due:
    """What an organisation has to be told."""

    percent: int | None
    limit: _SoftLimit | None


class Alerts:
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
        self._low: dict[str, LowCredits] = {}
        self._soft: dict[str, _SoftLimit] = {}
        # Who is still to be looked at, or to be told.
        self._waiting: dict[str, None] = {}

    async def load(self) -> None:
        rows = await self._database.rows(
            "SELECT organisation_id, thresholds, told_percent, told_number FROM low_credits"
        )
        self._low = {
            organisation_id: LowCredits(_thresholds(text), percent, number)
            for organisation_id, text, percent, number in rows
        }
        limits = await soft_limits(self._database)
        self._soft = {organisation_id: _SoftLimit(*limit) for organisation_id, limit in limits.items()}

    def thresholds(self, organisation_id: str) -> tuple[int, ...]:
        return self._known(organisation_id).thresholds

    async def change_thresholds(self, organisation_id: str, thresholds: tuple[int, ...], *also: Write) -> None:
        """In one commit with `also`. None at all: nobody is told."""
        if len(thresholds) > MOST_THRESHOLDS or any(not 0 <= percent < 100 for percent in thresholds):
            raise InvalidRequest(
                f"Write up to {MOST_THRESHOLDS} percentages from 0 to 99, such as 20, 5, 0.", "thresholds"
            )
        falling = tuple(sorted(set(thresholds), reverse=True))

        async def both() -> None:
            await self._database.commit(_put_thresholds(organisation_id, falling), *also)
            self._low[organisation_id] = replace(self._known(organisation_id), thresholds=falling)
            self._waiting[organisation_id] = None

        await asyncio.shield(asyncio.ensure_future(both()))

    def soft_limit_changed(self, organisation_id: str, ticks: Ticks | None) -> None:
        """A new limit is told of in this month again."""
        known = self._soft.get(organisation_id)
        if ticks is None:
            self._soft.pop(organisation_id, None)
        elif known is None or known.ticks != ticks:
            self._soft[organisation_id] = _SoftLimit(ticks, NO_MONTH)
        self._waiting[organisation_id] = None

    async def look(self, base_url: str) -> int:
        """Tell those whose balance fell to a threshold, or whose spending reached its soft limit. Called about once a
        minute; returns how many were told. Whoever could not be told now is told next time."""
        self._waiting |= dict.fromkeys(self._ledger.take_changed())
        told = 0
        for number, organisation_id in enumerate(list(self._waiting)):
            if number % _LOOKED_AT_ONCE == _LOOKED_AT_ONCE - 1:
                await asyncio.sleep(0)
            if told == _MOST_TOLD:
                break
            # To the end of the line: one who cannot be told keeps nobody waiting.
            self._waiting.pop(organisation_id, None)
            due = self._due(organisation_id)
            if due is not None:
                self._waiting[organisation_id] = None
                await self._tell(organisation_id, due, base_url)
                self._waiting.pop(organisation_id, None)
                told += 1
        return told

    def _known(self, organisation_id: str) -> LowCredits:
        return self._low.get(organisation_id, _DEFAULT)

    def _due(self, organisation_id: str) -> _Due | None:
        ledger, low = self._ledger, self._known(organisation_id)
        meter, limit = ledger.meter(organisation_id), self._soft.get(organisation_id)
        percent = None
        if meter.of_ticks > 0:
            percent = low.reached(ledger.balance(organisation_id).balance_ticks, meter.of_ticks)
        if percent is not None and low.told_number == meter.number and low.told_percent <= percent:
            percent = None
        if limit is not None and (
            limit.told_month == self._month() or ledger.spent_in_month(organisation_id) < limit.ticks
        ):
            limit = None
        return None if percent is None and limit is None else _Due(percent, limit)

    async def _tell(self, organisation_id: str, due: _Due, base_url: str) -> None:
        """The mails and that they were written, in one commit."""
        people, organisation = await payers(self._organisations, organisation_id)
        number, month = self._ledger.meter(organisation_id).number, self._month()
        writes: list[Write] = []
        if due.percent is not None:
            subject, text = await self._low_mail(organisation_id, organisation, base_url)
            writes += [_put_told(organisation_id, due.percent, number)]
            writes += [self._outbox.putting(email, subject, text, "low credits") for email in people]
        if due.limit is not None:
            subject, text = self._limit_mail(organisation_id, organisation, due.limit, base_url)
            writes += [told_of_soft_limit(organisation_id, month)]
            writes += [self._outbox.putting(email, subject, text, "spending limit") for email in people]
        await self._database.commit(*writes)
        self._outbox.look()
        # What was changed meanwhile stays changed.
        if due.percent is not None:
            low = self._known(organisation_id)
            self._low[organisation_id] = replace(low, told_percent=due.percent, told_number=number)
        if due.limit is not None and self._soft.get(organisation_id) is due.limit:
            self._soft[organisation_id] = replace(due.limit, told_month=month)

    async def _low_mail(self, organisation_id: str, organisation: str, base_url: str) -> tuple[str, str]:
        balance, meter = self._ledger.balance(organisation_id), self._ledger.meter(organisation_id)
        left, of = balance.balance_ticks, meter.of_ticks
        percent = left * 100 // of
        days = (await burn(self._database, organisation_id, left, self._clock())).days_left
        last = "" if days is None else f" At the pace of the last seven days that is {about_days(days)}."
        thresholds = ", ".join(f"{one} %" for one in self.thresholds(organisation_id))
        return (
            f"{organisation}: {show_usd(left)} of credits left",
            f"{organisation} has {show_usd(left)} of credits left: {percent or 'less than 1'} % of the {show_usd(of)}"
            f" that there were after the last top-up.{last}\n\nWithout credits requests are refused. Add some:\n"
            f"{base_url}/billing\n\nYou are told at {thresholds}, once each until the next top-up. Change that on the"
            " same page.\n",
        )

    def _limit_mail(self, organisation_id: str, organisation: str, limit: _SoftLimit, base_url: str) -> tuple[str, str]:
        hard = self._ledger.limit_of(organisation_id)
        stops = (
            "Requests go on."
            if hard is None
            else f"Requests go on until {show_usd(hard)} are spent, and are refused from there on."
        )
        spent = show_usd(self._ledger.spent_in_month(organisation_id))
        month = date_of(day_of(self._clock()))
        return (
            f"{organisation} has spent {spent} this month",
            f"{organisation} has spent {spent} in {month:%B %Y} (UTC), which is at or above the {show_usd(limit.ticks)}"
            f" at which you wanted to be told. {stops}\n\nUsage: {base_url}/usage\nLimits: {base_url}/billing\n",
        )

    def _month(self) -> int:
        """Since 1970."""
        today = date_of(day_of(self._clock()))
        return (today.year - 1970) * 12 + today.month


def about_days(days: int) -> str:
    """As people say it."""
    if days == 0:
        return "less than a day"
    return f"about {days:,} day{'' if days == 1 else 's'}"


def _thresholds(text: str) -> tuple[int, ...]:
    return tuple(int(percent) for percent in text.split(",") if percent)


def _put_thresholds(organisation_id: str, thresholds: tuple[int, ...]) -> Write:
    return Write(
        "INSERT INTO low_credits (organisation_id, thresholds) VALUES ($1, $2)"
        " ON CONFLICT (organisation_id) DO UPDATE SET thresholds = excluded.thresholds",
        (organisation_id, ",".join(map(str, thresholds))),
    )


def _put_told(organisation_id: str, percent: int, number: int) -> Write:
    return Write(
        "INSERT INTO low_credits (organisation_id, told_percent, told_number) VALUES ($1, $2, $3)"
        " ON CONFLICT (organisation_id) DO UPDATE SET told_percent = excluded.told_percent,"
        " told_number = excluded.told_number",
        (organisation_id, percent, number),
    )
