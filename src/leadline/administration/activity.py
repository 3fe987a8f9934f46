"""What a running server does at this moment, as far as whoever looks after it is told."""

from typing import Protocol


class Activity(Protocol):
    """By the model's name."""

    def running(self, model: str) -> int:
        """How many requests run on it."""

    def streams(self, model: str) -> int:
        """How many of them are streams."""

    def tokens_per_second(self, model: str) -> float:
        """What it made lately."""

    def tokens_by_second(self, model: str) -> tuple[int, ...]:
        """The same, second by second, the last one last."""
