"""A circuit breaker: a worker that fails again and again gets no requests for a while, and then one, to see."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Circuit = Literal["closed", "open", "half-open"]

# So many failures without a success between them open it.
_MOST_FAILURES = 5
# How long it stays open: doubled each time that the one request fails too.
_OPEN_SECONDS, _MOST_OPEN_SECONDS = 5.0, 60.0


@dataclass(slots=True)
class Breaker:
    """`clock` is monotonic, in seconds."""

    clock: Callable[[], float]
    _failures: int = 0
    _openings: int = 0
    _open_until: float = 0.0
    _paused_until: float = 0.0
    _trying: bool = False

    @property
    def circuit(self) -> Circuit:
        if not self._openings:
            return "closed"
        return "open" if self.clock() < self._open_until else "half-open"

    @property
    def permits(self) -> bool:
        """Whether a request may go there now. Half-open, one may at a time."""
        if self.clock() < self._paused_until:
            return False
        return self.circuit == "closed" or (self.circuit == "half-open" and not self._trying)

    def begin(self) -> bool:
        """A request goes there. True: it is the one that is let in to see."""
        self._trying = self._trying or self.circuit == "half-open"
        return self._trying

    def succeed(self) -> None:
        self._failures = self._openings = 0
        self._trying = False

    def fail(self) -> None:
        self._failures += 1
        self._trying = False
        # Others that began before it opened, and fail later, do not open it again.
        if self._failures >= _MOST_FAILURES and self.circuit != "open":
            self._openings += 1
            seconds = min(_MOST_OPEN_SECONDS, _OPEN_SECONDS * 2 ** (self._openings - 1))
            self._open_until = self.clock() + seconds

    def see_another(self) -> None:
        """The one that was let in to see has ended, and may have shown nothing, as by a hang-up."""
        self._trying = False

    def pause(self, seconds: float) -> None:
        """The worker said that it is busy, which is no failure."""
        self._paused_until = self.clock() + seconds
