"""How many tokens each model makes: looked up once a second from what its requests count anyway."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

LOOKS = 10


@dataclass(slots=True)
class _Model:
    """`ended` are the tokens of requests that have ended, `seen` those of all at the last look."""

    ended: int = 0
    seen: int = 0
    made: deque[int] = field(default_factory=lambda: deque([0] * LOOKS, LOOKS))


@dataclass(slots=True)
class Pace:
    """Of the last LOOKS looks, which are a second apart."""

    now: Callable[[], float] = time.monotonic
    _models: dict[str, _Model] = field(default_factory=dict)
    _looks: deque[float] = field(default_factory=lambda: deque(maxlen=LOOKS + 1))

    def ended(self, model: str, tokens: int) -> None:
        """A request of `model` ended, which made so many tokens."""
        self._models.setdefault(model, _Model()).ended += tokens

    def tick(self, running: Iterable[tuple[str, int]]) -> None:
        """Look: `running` are the model of each request and what it made so far."""
        made: dict[str, int] = defaultdict(int)
        for model, tokens in running:
            made[model] += tokens
        for model in made.keys() - self._models.keys():
            self._models[model] = _Model()
        for model, pace in self._models.items():
            total = pace.ended + made[model]
            # The engine's own count at the end may be lower than ours before it.
            pace.made.append(max(0, total - pace.seen))
            pace.seen = total
        self._looks.append(self.now())

    def by_second(self, model: str) -> tuple[int, ...]:
        """What was made between each look and the one before it, the last one last."""
        pace = self._models.get(model)
        return (0,) * LOOKS if pace is None else tuple(pace.made)

    def per_second(self, model: str) -> float:
        """The mean of the last looks."""
        if len(self._looks) < 2:
            return 0.0
        seconds = self._looks[-1] - self._looks[0]
        made = self.by_second(model)[-(len(self._looks) - 1) :]
        return sum(made) / seconds if seconds > 0 else 0.0
