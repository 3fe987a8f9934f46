"""What was asked and charged since the server started, by model: for whoever watches over the server."""

from collections import Counter
from dataclasses import dataclass, field

from leadline.ledger.usage import UsageRecord

# Whoever watches keeps a series for each model: there are never more than so many.
MOST_MODELS = 200
OTHERS = "(others)"
TOKEN_KINDS = ("prompt", "cached", "image", "output", "reasoning")


@dataclass(slots=True)
class Total:
    """Of one model: requests by how they ended, tokens by kind, and charges."""

    requests: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    cost_ticks: int = 0


@dataclass(slots=True)
class Totals:
    """By model."""

    models: dict[str, Total] = field(default_factory=dict)

    def add(self, record: UsageRecord, cost_ticks: int) -> None:
        """A request ended, or was refused."""
        name = record.model if record.model in self.models or len(self.models) < MOST_MODELS else OTHERS
        total = self.models.setdefault(name, Total())
        total.requests[record.status] += 1
        total.cost_ticks += cost_ticks
        usage = record.usage
        for kind in TOKEN_KINDS:
            total.tokens[kind] += getattr(usage, f"{kind}_tokens")
