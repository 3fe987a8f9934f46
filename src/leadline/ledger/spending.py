"""What each key has spent in this day, week and month, for its cap. Kept in memory; the sums on disk restore it."""

from dataclasses import dataclass

from leadline.clock import Period, day_of, first_day
from leadline.errors import CreditsHeld, KeyCapSpent
from leadline.ledger.books import Hold
from leadline.money import SpendCap, show_usd
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
            for period in _PERIODS:
                if first_day(period, day) > self.day:
                    self.ticks[period] = 0
            self.day = day
        return self


class Spending:
    """By key id. `now` is microseconds; a clock that steps back opens no past period again."""

    def __init__(self) -> None:
        self._spent: dict[str, _Spent] = {}

    async def load(self, database: Database, now: int) -> None:
        self._spent, today = {}, day_of(now)
        for period in _PERIODS:
            rows = await database.rows(
                "SELECT key_id, SUM(cost_ticks) FROM meters JOIN usage_days ON meter_id = id WHERE day >= $1"
                " GROUP BY key_id",
                first_day(period, today),
            )
            for key_id, ticks in rows:
                self._of(key_id, today).ticks[period] = ticks

    def available_ticks(self, key_id: str, cap: SpendCap, now: int) -> int:
        """What the cap leaves for a further request."""
        spent = self._of(key_id, day_of(now))
        return cap.ticks - spent.ticks[cap.period] - spent.held

    def reserve(self, hold: Hold, now: int) -> None:
        """Set `hold.ticks` aside within the key's cap, or raise KeyCapSpent; CreditsHeld where waiting is enough."""
        spent, cap = self._of(hold.key_id, day_of(now)), hold.cap
        if cap is not None:
            used = spent.ticks[cap.period]
            if used + hold.ticks > cap.ticks:
                raise KeyCapSpent(
                    f"The API key “{hold.key_name}” may spend {show_usd(cap.ticks)} a {cap.period} and has spent "
                    f"{show_usd(used)}; this request can cost up to {show_usd(hold.ticks)}. Raise the key's cap, use "
                    f"another key, or wait for the next {cap.period} (UTC)."
                )
            if used + spent.held + hold.ticks > cap.ticks:
                raise CreditsHeld(
                    f"This request can cost up to {show_usd(hold.ticks)}; of the {show_usd(cap.ticks)} a {cap.period} "
                    f"that the API key “{hold.key_name}” may spend, {show_usd(used)} is spent and "
                    f"{show_usd(spent.held)} is held by its own running requests. Try again when one of them has ended."
                )
        spent.held += hold.ticks

    def settle(self, hold: Hold, cost_ticks: int, at: int) -> None:
        """What was held is free again, and what it cost is spent."""
        spent = self._of(hold.key_id, day_of(at))
        spent.held -= hold.ticks
        for period in _PERIODS:
            spent.ticks[period] += cost_ticks

    def refund(self, hold: Hold, ticks: int, at: int) -> None:
        """A part of what was spent then came back."""
        spent = self._of(hold.key_id, day_of(at))
        for period in _PERIODS:
            spent.ticks[period] = max(0, spent.ticks[period] - ticks)

    def _of(self, key_id: str, day: int) -> _Spent:
        spent = self._spent.get(key_id)
        if spent is None:
            spent = self._spent[key_id] = _Spent(day, dict.fromkeys(_PERIODS, 0))
        return spent.on(day) if day != spent.day else spent
