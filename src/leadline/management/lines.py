"""What was used, as lines of an invoice: for each model what its tokens of each type cost, exactly."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from leadline.ledger.analytics import Cell
from leadline.ledger.token_costs import TOKEN_CLASSES
from leadline.ledger.usage import COUNTS

_AT = {name: place for place, name in enumerate(COUNTS)}
_SERVICES = {"embed": "Embed", "/v1/completions": "Sample", "/v1/complete": "Sample", "sample": "Sample"}


@dataclass(frozen=True, slots=True)
class TokenType:
    """How many tokens of a type the counts of a cell have, and what they cost."""

    units: Callable[[Sequence[int]], int]
    ticks: Callable[[Sequence[int], Sequence[int]], int]


def _ticks(name: str) -> Callable[[Sequence[int], Sequence[int]], int]:
    place = TOKEN_CLASSES.index(name)
    return lambda _, class_ticks: class_ticks[place]


def _units(name: str) -> Callable[[Sequence[int]], int]:
    return lambda counts: counts[_AT[name]]


# In the words of xAI's invoices. The last one is what was charged at prices that nobody knows any more.
TOKEN_TYPES = {
    "Prompt text tokens": TokenType(
        lambda counts: counts[_AT["prompt_tokens"]] - counts[_AT["cached_tokens"]] - counts[_AT["image_tokens"]],
        _ticks("input"),
    ),
    "Cached prompt text tokens": TokenType(_units("cached_tokens"), _ticks("cached")),
    "Prompt image tokens": TokenType(_units("image_tokens"), _ticks("image")),
    "Completion text tokens": TokenType(_units("output_tokens"), _ticks("output")),
    "Reasoning tokens": TokenType(_units("reasoning_tokens"), _ticks("reasoning")),
    "Unpriced": TokenType(lambda _: 0, lambda counts, class_ticks: counts[_AT["cost_ticks"]] - sum(class_ticks)),
}


@dataclass(frozen=True, slots=True)
class Line:
    """`unit_ticks` is the price of a unit where all units had one, else their average, rounded."""

    description: str
    unit_type: str
    units: int
    ticks: int

    @property
    def unit_ticks(self) -> int:
        return (2 * self.ticks + self.units) // (2 * self.units) if self.units else 0


def description_of(endpoint: str, model: str) -> str:
    """Such as `Chat grok-beta`."""
    lower = endpoint.lower()
    service = next((name for part, name in _SERVICES.items() if part in lower), "Chat")
    return f"{service} {model}"


def lines_of(cells: Iterable[Cell]) -> list[Line]:
    """The lines add up to what the cells cost."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for cell in cells:
        for unit_type, kind in TOKEN_TYPES.items():
            line = sums[description_of(cell.endpoint, cell.model), unit_type]
            line[0] += kind.units(cell.counts)
            line[1] += kind.ticks(cell.counts, cell.class_ticks)
    return [Line(*place, units, ticks) for place, (units, ticks) in sorted(sums.items()) if units or ticks]
