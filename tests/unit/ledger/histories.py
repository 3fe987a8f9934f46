"""Any history of priced requests through the real ledger, and what it must add up to, counted one by one."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from leadline.catalog.price_book import PriceBook
from leadline.catalog.prices import Prices
from leadline.chat.events import Usage
from leadline.ledger.books import Hold, Outcome
from leadline.ledger.explorer import TOKEN_CLASSES, UNPRICED
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import UsageRecord
from leadline.money import Ticks
from leadline.storage.database import Database, Write
from tests.unit.ledger.scenes import HOUR, SteppedClock, id_at

MODELS, KEYS, ENDPOINTS = ("grok-4", "tiny", "unpriced"), ("key-1", "key-2"), ("/v1/messages", "/v1/chat/completions")
STATUSES = ("finished", "finished", "finished", "interrupted", "interrupted", "failed", "refused")

_ticks = st.integers(0, 50)
_maybe = st.none() | _ticks
PRICES = st.builds(
    Prices, _ticks, _maybe, _maybe, _ticks, _maybe, st.sampled_from((0, 20, 60)), *(_ticks for _ in range(5))
)
USAGES = st.builds(
    lambda text, cached, image, output, reasoning: Usage(text + cached + image, cached, image, output, reasoning),
    *(st.integers(0, 40) for _ in range(5)),
)
_CHANGES = st.tuples(st.just("price"), st.sampled_from(MODELS[:2]), PRICES)
_REQUESTS = st.tuples(
    st.just("request"),
    st.tuples(st.sampled_from(MODELS), st.sampled_from(KEYS), st.sampled_from(ENDPOINTS)),
    st.tuples(st.sampled_from(STATUSES), USAGES, st.sampled_from((10**6, 900)), st.integers(0, 3)),
)
_WAITS = st.tuples(st.just("wait"), st.sampled_from((1, 5, 26, 24 * 4)), st.none())
_TICKS = st.tuples(st.just("tick"), st.none(), st.none())
# Most are requests, and the first ones have prices.
STEPS = st.builds(
    lambda *parts: [*parts[:2], *parts[2]],
    *(st.tuples(st.just("price"), st.just(model), PRICES) for model in MODELS[:2]),
    st.lists(
        st.sampled_from((*[_REQUESTS] * 6, _CHANGES, _WAITS, _TICKS)).flatmap(lambda what: what),
        min_size=8,
        max_size=25,
    ),
)


@dataclass
class History:
    """`records` are the requests, each with what it cost by class of token."""

    database: Database
    clock: SteppedClock
    ledger: Ledger
    prices: PriceBook
    records: list[tuple[UsageRecord, dict[str, int]]] = field(default_factory=list)

    @classmethod
    async def opened(cls, path: Path | str) -> "History":
        clock = SteppedClock()
        database = Database(path)
        ledger = Ledger(database, clock)
        await database.commit(
            Write("INSERT INTO organisations (id, name, created_at) VALUES ('org_alice', 'Alice', 1)"),
            ledger.opening("org_alice"),
        )
        await ledger.load()
        await ledger.grant("org_alice", Ticks(10**9), "welcome")
        return cls(database, clock, ledger, PriceBook(database, clock))

    async def play(self, steps: Sequence[tuple[Any, ...]]) -> None:
        for number, (what, first, second) in enumerate(steps):
            self.clock.step(1_000_000)
            match what:
                case "price":
                    await self.prices.record(first, second, None, "command")
                case "wait":
                    self.clock.step(first * HOUR)
                case "tick":
                    await self.ledger.tick()
                case "request":
                    await self._request(number, first, second)
        await self.ledger.write_noted()

    async def _request(self, number: int, place: tuple[str, str, str], how: tuple[str, Usage, int, int]) -> None:
        model, key, endpoint = place
        status, usage, reserved, hours = how
        began = self.clock.now
        prices = self.prices.at(model, began)
        paid = status in ("finished", "interrupted")
        usage = usage if paid else Usage()
        parts = by_class(prices, usage, reserved)
        cost = 77 if model == "unpriced" and paid else sum(parts.values())
        parts[UNPRICED] = cost - sum(parts.values())
        record = UsageRecord(
            *("org_alice", id_at(began, number), began, began + hours * HOUR, key, model, endpoint, status),
            error="rate_limited" if status == "refused" else "",
            usage=usage,
            cost_ticks=cost,
        )
        self.records.append((record, parts))
        if status == "refused":
            self.ledger.note(record)
            return
        hold = Hold(record.request_id, "org_alice", key, model, endpoint, Ticks(reserved), began)
        self.ledger.reserve(hold)
        await self.ledger.settle(hold, lambda: Outcome(record))

    async def charged_ticks(self) -> int:
        return -sum(one.amount_ticks for one in await self.ledger.entries("org_alice") if one.kind == "charge")


def by_class(prices: Prices, usage: Usage, reserved: int) -> dict[str, int]:
    """In the order of the classes, as far as what was reserved goes."""
    tier = prices.long if 0 < prices.long_context_threshold <= usage.prompt_tokens else prices.short
    parts, left = {}, reserved
    for name, tokens, ticks in zip(TOKEN_CLASSES, tokens_by_class(usage), astuple(tier), strict=True):
        parts[name] = min(left, tokens * ticks)
        left -= parts[name]
    return parts


def tokens_by_class(usage: Usage) -> tuple[int, ...]:
    text = usage.prompt_tokens - usage.cached_tokens - usage.image_tokens
    return text, usage.cached_tokens, usage.image_tokens, usage.output_tokens, usage.reasoning_tokens
