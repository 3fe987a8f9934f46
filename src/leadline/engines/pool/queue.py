"""Who waits for a worker. Each organisation has its turn, and the one that had the fewest tokens has the next."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from leadline.errors import Unavailable

MOST_WAITING = 256

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """`tokens` is what it takes of its organisation's share. `turn` brings what it waits for."""

    scope: str
    tokens: int
    turn: "asyncio.Future[T]"
    # Whether what is free would do for it, and which of it; None: it goes on waiting.
    claim: Callable[[], T | None]


@dataclass(slots=True)
class FairQueue(Generic[T]):
    """First come, first served within an organisation. Between them, each time that of the fewest tokens since it
    began to wait: so many small requests of one have the same share as few large ones of another."""

    most: int = MOST_WAITING
    # By scope: those that wait, and how many tokens it has had, counted from the level of all.
    _lines: dict[str, deque[Waiting[T]]] = field(default_factory=dict)
    _had: dict[str, int] = field(default_factory=dict)
    _level: int = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, waiting: Waiting[T]) -> None:
        """Unavailable where the queue is full. One that holds less of it than another takes the other's last place."""
        if len(self) >= self.most:
            longest = max(self._lines.values(), key=len)
            if len(longest) <= len(self._lines.get(waiting.scope, ())) + 1:
                raise too_many()
            last = longest[-1]
            self.remove(last)
            if not last.turn.done():
                last.turn.set_exception(too_many())
        if waiting.scope not in self._lines:
            self._lines[waiting.scope] = deque()
            # Whoever comes has no claim to turns that it did not wait for.
            self._had[waiting.scope] = max(self._level, self._had.get(waiting.scope, 0))
        self._lines[waiting.scope].append(waiting)

    def remove(self, waiting: Waiting[T]) -> None:
        """It waits no more. Twice is harmless."""
        line = self._lines.get(waiting.scope)
        if line is None or waiting not in line:
            return
        line.remove(waiting)
        if line:
            return
        del self._lines[waiting.scope]
        # Of those who wait no more it is remembered while they are ahead of others.
        ahead = {scope: had for scope, had in self._had.items() if scope in self._lines or had > self._level}
        self._had = ahead if self._lines else {}

    def let_in(self) -> None:
        """Give what is free to those whose turn it is. One that has no use for it is passed over."""
        while True:
            for scope in sorted(self._lines, key=self._had.__getitem__):
                first = self._lines[scope][0]
                claimed = None if first.turn.done() else first.claim()
                if first.turn.done() or claimed is not None:
                    break
            else:
                return
            if claimed is not None:
                self._level = max(self._level, self._had[scope])
                self._had[scope] += first.tokens
                first.turn.set_result(claimed)
            self.remove(first)


def too_many() -> Unavailable:
    return Unavailable("The model has more requests waiting than it can serve. Try again in a moment.")
