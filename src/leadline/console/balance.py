"""The balance in the rail of every page. It costs a page a look into memory, and once a minute a look into the sums."""

from collections import OrderedDict
from dataclasses import dataclass

from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.ledger.ledger import CreditMeter
from leadline.ledger.overview import burn

_KEPT = 60 * MICROSECONDS_PER_SECOND
_MOST_KEPT = 2_000
# What is left where it is less than this share of the last fill is low.
_LOW_PERCENT = 5


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left of the credits; `days_left` is None where nothing was spent lately."""

    meter: CreditMeter
    days_left: int | None

    @property
    def available_ticks(self) -> int:
        return self.meter.available_ticks

    @property
    def of_ticks(self) -> int:
        return self.meter.of_ticks

    @property
    def percent(self) -> int:
        return self.meter.percent

    @property
    def low(self) -> bool:
        return self.meter.percent < _LOW_PERCENT


class Balances:
    """Of all organisations, as pages ask for them."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._ticks_per_day: OrderedDict[str, tuple[int, int]] = OrderedDict()

    async def of(self, organisation_id: str) -> Balance:
        ledger, now = self._instance.ledger, self._instance.keys.clock()
        available = ledger.balance(organisation_id).available_ticks
        at, ticks_per_day = self._ticks_per_day.get(organisation_id, (0, 0))
        if now - at > _KEPT:
            ticks_per_day = (await burn(self._instance.database, organisation_id, available, now)).ticks_per_day
            self._ticks_per_day[organisation_id] = now, ticks_per_day
            self._ticks_per_day.move_to_end(organisation_id)
            if len(self._ticks_per_day) > _MOST_KEPT:
                self._ticks_per_day.popitem(last=False)
        days_left = available // ticks_per_day if ticks_per_day else None
        return Balance(ledger.meter(organisation_id), days_left)
