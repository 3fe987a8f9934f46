"""What each key has spent in this day, week and month, for its cap, and each organisation in this month, for its limit.
Kept in memory; the sums on disk restore it."""

from dataclasses import dataclass
from typing import Literal

from leadline.clock import Period, date_of, day_of, first_day, next_first_day
from leadline.errors import CreditsHeld, KeyCapSpent, SpendLimitReached
from leadline.ledger.books import Hold
from leadline.money import SpendCap, Ticks, show_usd
from leadline.storage.database import Database

_PERIODS: tuple[Period, ...] = ("day", "week", "month")


@dataclass(slots=True)
class _Spent:
    """Ticks spent in the periods that hold `day`, and ticks that running requests have reserved."""

    day: int
    ticks: dict[Period, int]
    held: int = 0

    def on(self, day: int) -> "_Spent":
        """As of `day`: what was spent in periods that are over is forgotten."""
        if day > self.day:
            for period in self.ticks:
                if first_day(period, day) > self.day:
                    self.ticks[period] = 0
            self.day = day
        return self

    def left(self, cap: SpendCap) -> int:
        return cap.ticks - self.ticks[cap.period] - self.held

    def settle(self, held_ticks: int, cost_ticks: int) -> None:
        self.held -= held_ticks
        for period in self.ticks:
            self.ticks[period] += cost_ticks

    def refund(self, ticks: int) -> None:
        for period, spent in self.ticks.items():
            self.ticks[period] = max(0, spent - ticks)


class _Spenders:
    """By the id of who spends. A clock that steps back opens no past period again."""

    def __init__(self, column: Literal["key_id", "organisation_id"], periods: tuple[Period, ...]) -> None:
        self._column, self._periods = column, periods
        self._spent: dict[str, _Spent] = {}

    async def load(self, database: Database, today: int) -> None:
        self._spent = {}
        for period in self._periods:
            rows = await database.rows(
                f"SELECT {self._column}, SUM(cost_ticks) FROM meters JOIN usage_days ON meter_id = id WHERE day >= $1"
                f" GROUP BY {self._column}",
                first_day(period, today),
            )
            for spender, ticks in rows:
                self.of(spender, today).ticks[period] = ticks

    def of(self, spender: str, day: int) -> _Spent:
        spent = self._spent.get(spender)
        if spent is None:
            spent = self._spent[spender] = _Spent(day, dict.fromkeys(self._periods, 0))
        return spent.on(day) if day != spent.day else spent


class Spending:
    """A key's cap comes with each hold, the limits of organisations are kept here. `now` is microseconds."""

    def __init__(self) -> None:
        self._keys = _Spenders("key_id", _PERIODS)
        self._organisations = _Spenders("organisation_id", ("month",))
        self._limits: dict[str, SpendCap] = {}

    async def load(self, database: Database, now: int) -> None:
        today = day_of(now)
        await self._keys.load(database, today)
        await self._organisations.load(database, today)
        rows = await database.rows("SELECT organisation_id, hard_ticks FROM spend_limits WHERE hard_ticks IS NOT NULL")
        self._limits = {organisation_id: SpendCap(ticks, "month") for organisation_id, ticks in rows}

    def limit(self, organisation_id: str, ticks: Ticks | None) -> None:
        """What the organisation may spend in a month from now on; None: all that it has."""
        if ticks is None:
            self._limits.pop(organisation_id, None)
        else:
            self._limits[organisation_id] = SpendCap(ticks, "month")

    def limit_of(self, organisation_id: str) -> Ticks | None:
        limit = self._limits.get(organisation_id)
        return None if limit is None else limit.ticks

    def spent_in_month(self, organisation_id: str, now: int) -> Ticks:
        return Ticks(self._organisations.of(organisation_id, day_of(now)).ticks["month"])

    def spent_by_key(self, key_id: str, period: Period, now: int) -> Ticks:
        return Ticks(self._keys.of(key_id, day_of(now)).ticks[period])

    def available_ticks(self, hold: Hold, most: int, now: int) -> int:
        """What cap and limit leave of `most` for the request of `hold`."""
        limit = self._limits.get(hold.organisation_id)
        if hold.cap is not None:
            most = min(most, self._keys.of(hold.key_id, day_of(now)).left(hold.cap))
        if limit is not None:
            most = min(most, self._organisations.of(hold.organisation_id, day_of(now)).left(limit))
        return most

    def reserve(self, hold: Hold, now: int) -> None:
        """Set `hold.ticks` aside within the key's cap and the organisation's limit, or raise KeyCapSpent or
        SpendLimitReached; CreditsHeld where waiting is enough."""
        day = day_of(now)
        key, organisation = self._keys.of(hold.key_id, day), self._organisations.of(hold.organisation_id, day)
        limit = self._limits.get(hold.organisation_id)
        if hold.cap is not None and key.left(hold.cap) < hold.ticks:
            raise _over_cap(hold, hold.cap, key)
        if limit is not None and organisation.left(limit) < hold.ticks:
            raise _over_limit(hold, limit, organisation)
        key.held += hold.ticks
        organisation.held += hold.ticks

    def settle(self, hold: Hold, cost_ticks: int, at: int) -> None:
        """What was held is free again, and what it cost is spent."""
        day = day_of(at)
        self._keys.of(hold.key_id, day).settle(hold.ticks, cost_ticks)
        self._organisations.of(hold.organisation_id, day).settle(hold.ticks, cost_ticks)

    def refund(self, hold: Hold, ticks: int, at: int) -> None:
        """A part of what was spent then came back."""
        day = day_of(at)
        self._keys.of(hold.key_id, day).refund(ticks)
        self._organisations.of(hold.organisation_id, day).refund(ticks)


def _over_cap(hold: Hold, cap: SpendCap, spent: _Spent) -> KeyCapSpent | CreditsHeld:
    used = spent.ticks[cap.period]
    if used + hold.ticks > cap.ticks:
        return KeyCapSpent(
            f"The API key “{hold.key_name}” may spend {show_usd(cap.ticks)} a {cap.period} and has spent "
            f"{show_usd(used)}; this request can cost up to {show_usd(hold.ticks)}. Raise the key's cap, use "
            f"another key, or wait for the next {cap.period} (UTC)."
        )
    return CreditsHeld(
        f"This request can cost up to {show_usd(hold.ticks)}; of the {show_usd(cap.ticks)} a {cap.period} "
        f"that the API key “{hold.key_name}” may spend, {show_usd(used)} is spent and "
        f"{show_usd(spent.held)} is held by its own running requests. Try again when one of them has ended."
    )


def _over_limit(hold: Hold, limit: SpendCap, spent: _Spent) -> SpendLimitReached | CreditsHeld:
    used = spent.ticks[limit.period]
    if used + hold.ticks > limit.ticks:
        anew = date_of(next_first_day(limit.period, spent.day))
        return SpendLimitReached(
            f"Your organisation's limit is {show_usd(limit.ticks)} a {limit.period}, and {show_usd(used)} is spent; "
            f"this request can cost up to {show_usd(hold.ticks)}. Raise the limit under Billing, or wait: it begins "
            f"anew on {anew.day} {anew:%B %Y} (UTC)."
        )
    return CreditsHeld(
        f"This request can cost up to {show_usd(hold.ticks)}; of the {show_usd(limit.ticks)} a {limit.period} that "
        f"your organisation may spend, {show_usd(used)} is spent and {show_usd(spent.held)} is held by its own running "
        "requests. Try again when one of them has ended."
    )
