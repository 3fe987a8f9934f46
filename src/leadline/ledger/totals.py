"""What was asked and charged since the server started, for whoever watches over the server. Nothing here is written.

Everything is counted once a request, when the ledger has settled it: nothing is added to the path of a token.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from leadline.histogram import Histogram
from leadline.ledger.usage import UsageRecord

# Whoever watches keeps series for each of these: there are never more than so many, and a few for the others.
MOST_PLACES = 200
MOST_ENDS = 1_000
OTHERS = "(others)"
TOKEN_KINDS = ("prompt", "cached", "image", "output", "reasoning")

# Those that OpenTelemetry's conventions for generative AI ask for, in tokens and milliseconds.
TOKENS = tuple(4**power for power in range(14))
REQUEST_MILLISECONDS = tuple(10 * 2**power for power in range(14))
FIRST_TOKEN_MILLISECONDS = (1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000)
TOKEN_MILLISECONDS = (10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 2_500)


class Place(NamedTuple):
    """What is counted apart."""

    model: str
    endpoint: str


class End(NamedTuple):
    """How a request ended; `error` names the fact that ended it, where one did."""

    model: str
    endpoint: str
    status: str
    error: str


@dataclass(slots=True)
class Charged:
    """What was charged at one place. `tokens` are in the order of TOKEN_KINDS; `inputs` and `outputs` are the tokens of
    each request. `first_token` and `per_token` are of streams that finished, in milliseconds: of a whole answer nobody
    sees when its tokens come."""

    cost_ticks: int = 0
    tokens: list[int] = field(default_factory=lambda: [0] * len(TOKEN_KINDS))
    inputs: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    outputs: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_MILLISECONDS))
    per_token: Histogram = field(default_factory=lambda: Histogram(TOKEN_MILLISECONDS))


@dataclass(slots=True)
class Ended:
    """How many requests ended in one way, and how long they took from their admission on, in milliseconds. One that was
    refused took no time."""

    charged: Charged
    requests: int = 0
    durations: Histogram = field(default_factory=lambda: Histogram(REQUEST_MILLISECONDS))


@dataclass(slots=True)
class Totals:
    """`told` hears of each record, too."""

    ends: dict[End, Ended] = field(default_factory=dict)
    places: dict[Place, Charged] = field(default_factory=dict)
    told: Callable[[UsageRecord], None] | None = None

    def add(self, record: UsageRecord, cost_ticks: int) -> None:
        """A request ended, or was refused."""
        ended = self.ends.get((record.model, record.endpoint, record.status, record.error))  # type: ignore[call-overload]
        if ended is None:
            ended = self._ended(End(record.model, record.endpoint, record.status, record.error))
        ended.requests += 1
        if record.status != "refused":
            ended.durations.add(record.total_milliseconds)
        ended.charged.cost_ticks += cost_ticks
        if record.usage.prompt_tokens:
            _count(ended.charged, record)
        if self.told is not None:
            self.told(record)

    def _ended(self, end: End) -> Ended:
        """The place of an end that was not seen yet, or that of the others."""
        place = Place(end.model, end.endpoint)
        if place not in self.places and len(self.places) >= MOST_PLACES:
            place = Place(OTHERS, OTHERS)
        charged = self.places.setdefault(place, Charged())
        many = len(self.ends) >= MOST_ENDS
        end = End(*place, end.status, OTHERS if many and end.error else end.error)
        return self.ends.setdefault(end, Ended(charged))


def _count(charged: Charged, record: UsageRecord) -> None:
    usage, tokens = record.usage, charged.tokens
    made = usage.output_tokens + usage.reasoning_tokens
    tokens[0] += usage.prompt_tokens
    tokens[1] += usage.cached_tokens
    tokens[2] += usage.image_tokens
    tokens[3] += usage.output_tokens
    tokens[4] += usage.reasoning_tokens
    charged.inputs.add(usage.prompt_tokens)
    charged.outputs.add(made)
    first = record.first_token_milliseconds
    if first is not None and record.streamed and record.status == "finished":
        charged.first_token.add(first)
        if made > 1:
            charged.per_token.add((record.total_milliseconds - first) / (made - 1))
