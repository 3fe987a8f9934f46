"""What every model costs and has cost. Prices are dated and only ever added: an old request keeps its price."""

import asyncio
from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, field
from typing import Literal

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited, differences
from leadline.catalog.prices import FREE, Prices, configured_prices
from leadline.clock import Clock, now_microseconds, rfc3339
from leadline.config import ModelSection
from leadline.errors import InvalidRequest, LeadlineError
from leadline.storage.database import Database, Write

Source = Literal["file", "command"]


@dataclass(frozen=True, slots=True, order=True)
class PriceChange:
    """What a model costs from `effective_from` on, in microseconds, until the next change. Of two with one date, the
    one that was recorded last counts."""

    effective_from: int
    recorded_at: int
    source: Source = field(compare=False)
    prices: Prices = field(compare=False)


class DatedPrices:
    """All prices that one model ever had or will have. Before the first of them it costs nothing."""

    def __init__(self) -> None:
        self.changes: list[PriceChange] = []
        self._effective_from: list[int] = []
        self._prices = [FREE]

    def at(self, microseconds: int) -> Prices:
        """The prices of a request that was admitted then."""
        return self._prices[bisect_right(self._effective_from, microseconds)]

    def add(self, change: PriceChange) -> None:
        insort(self.changes, change)
        self._index()

    def remove(self, change: PriceChange) -> None:
        self.changes.remove(change)
        self._index()

    def _index(self) -> None:
        self._effective_from = [change.effective_from for change in self.changes]
        self._prices = [FREE, *(change.prices for change in self.changes)]


class PriceBook:
    """The dated prices of all models, in memory and on disk."""

    def __init__(self, database: Database, clock: Clock = now_microseconds) -> None:
        self._database = database
        self.clock = clock
        self._models: dict[str, DatedPrices] = {}

    async def load(self) -> None:
        """Read what was recorded."""
        self._models = {}
        for model, effective_from, recorded_at, source, *prices in await self._database.rows(_SELECT):
            self.of(model).add(PriceChange(effective_from, recorded_at, source, Prices(*prices)))

    def of(self, model: str) -> DatedPrices:
        """The prices of this model, which follow what is recorded later."""
        return self._models.setdefault(model, DatedPrices())

    def at(self, model: str, microseconds: int) -> Prices:
        """The prices of a request to this model that was admitted then; FREE where the book has none."""
        known = self._models.get(model)
        return FREE if known is None else known.at(microseconds)

    def history(self, model: str) -> list[PriceChange]:
        """Every change, by the date from which it counts, those to come included."""
        known = self._models.get(model)
        return [] if known is None else list(known.changes)

    async def record(
        self, model: str, prices: Prices, effective_from: int | None, source: Source, actor: Actor | None = None
    ) -> PriceChange:
        """Change what a model costs, from that moment (microseconds; None: now) on. InvalidRequest where it has
        passed: the requests of then were charged already. What an actor changes is in the audit log; what the file
        says is not."""
        now = self.clock()
        if effective_from is not None and effective_from < now:
            raise InvalidRequest("Prices cannot be changed for the past.", "from")
        known = self.of(model)
        # Later than what is there, even where the clock went back: what is recorded last counts.
        recorded_at = max([now, *(other.recorded_at + 1 for other in known.changes)])
        change = PriceChange(now if effective_from is None else effective_from, recorded_at, source, prices)
        # In memory first: each request sees one price, whether it is asked for at its start or long after. Writes
        # reach the disk in order, so no charge at the new price gets there before the price.
        before = known.at(change.effective_from)
        known.add(change)
        try:
            values = (model, change.effective_from, change.recorded_at, change.source, *astuple(prices))
            rows = () if actor is None else (_audited(actor, model, before, change),)
            await self._database.commit(Write(_INSERT, values), *rows)
        except LeadlineError:
            known.remove(change)
            raise
        return change

    async def follow(self, sections: Iterable[ModelSection]) -> None:
        """Record the file's prices where the file changed since they were last recorded. A price that was set by
        command stays until then. ConfigurationError where a price cannot be."""
        wanted = {section.name: configured_prices(section) for section in sections}
        changed = [(model, prices) for model, prices in wanted.items() if self._newest_of_file(model) != prices]
        await asyncio.gather(*(self.record(model, prices, None, "file") for model, prices in changed))

    def _newest_of_file(self, model: str) -> Prices | None:
        of_file = [change for change in self.history(model) if change.source == "file"]
        return max(of_file, key=lambda change: change.recorded_at).prices if of_file else None


def _audited(actor: Actor, model: str, before: Prices, change: PriceChange) -> Write:
    old, new = differences(asdict(before), asdict(change.prices))
    since = {"effective_from": rfc3339(change.effective_from)}
    return audited(change.recorded_at, actor, "prices change", model, (old, {**new, **since}))


# The prices stand in the order of the fields of `Prices`.
_SELECT = (
    "SELECT model, effective_from, recorded_at, source, input_ticks, cached_input_ticks, image_ticks, output_ticks,"
    " reasoning_ticks, long_context_threshold, input_long_context_ticks, cached_input_long_context_ticks,"
    " image_long_context_ticks, output_long_context_ticks, reasoning_long_context_ticks FROM prices"
)
_INSERT = (
    "INSERT INTO prices (model, effective_from, recorded_at, source, input_ticks, cached_input_ticks, image_ticks,"
    " output_ticks, reasoning_ticks, long_context_threshold, input_long_context_ticks,"
    " cached_input_long_context_ticks, image_long_context_ticks, output_long_context_ticks,"
    " reasoning_long_context_ticks) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
)
