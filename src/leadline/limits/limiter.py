"""How fast an organisation may use a model. Admission takes from buckets; what was not used comes back.

Each bucket is a generic cell rate algorithm (ITU-T I.371): one number, the time at which it is full again. A whole
window's worth may come in one burst.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from leadline.config import Limit
from leadline.errors import RateLimited

_NANOSECONDS = 1_000_000_000


@dataclass(slots=True)
class _Bucket:
    """Holds `capacity` units and refills over `window_seconds`. Times are monotonic nanoseconds. `full_at` is one,
    times `capacity`: so counted, a unit takes a whole number, and no rounding costs anybody the last request."""

    capacity: int
    window_seconds: int
    full_at: int = 0

    def used(self, now: int) -> int:
        """Units that have not come back yet, the started one included."""
        return -(-max(0, self.full_at - now * self.capacity) // self._unit)

    def take(self, units: int, now: int) -> None:
        """Negative units give back."""
        self.full_at = max(self.full_at, now * self.capacity) + units * self._unit

    def seconds_until(self, units: int, now: int) -> int:
        """How long until `units` fit, in whole seconds. 0: now."""
        missing = max(self.full_at - now * self.capacity, 0) + (units - self.capacity) * self._unit
        return max(0, -(-missing // (self.capacity * _NANOSECONDS)))

    @property
    def _unit(self) -> int:
        return self.window_seconds * _NANOSECONDS


@dataclass(slots=True)
class _Window:
    requests_second: _Bucket | None
    requests_minute: _Bucket | None
    tokens_minute: _Bucket | None
    running: int = 0


@dataclass(slots=True)
class Admission:
    """One admitted request. `close` frees its place and gives back the tokens that it did not use."""

    _window: _Window
    _reserved_tokens: int
    _clock: Callable[[], int]
    _closed: bool = False

    def close(self, used_tokens: int) -> None:
        if self._closed:
            return
        self._closed = True
        self._window.running -= 1
        if self._window.tokens_minute is not None:
            self._window.tokens_minute.take(min(0, used_tokens - self._reserved_tokens), self._clock())


@dataclass(slots=True)
class Limiter:
    """One limit for each pair of organisation and model."""

    limit: Limit
    clock: Callable[[], int] = time.monotonic_ns
    _windows: dict[tuple[str, str], _Window] = field(default_factory=dict)

    def admit(self, organisation_id: str, model: str, tokens: int) -> Admission:
        """Take one request of at most `tokens`, or raise RateLimited and take nothing."""
        window = self._windows.get((organisation_id, model))
        if window is None:
            window = self._windows[organisation_id, model] = self._new_window()
        now, limit = self.clock(), self.limit
        if limit.concurrent_requests and window.running >= limit.concurrent_requests:
            raise RateLimited(
                f"Too many requests at once for model {model}. Your limit is: Concurrent Requests (actual/limit): "
                f"{window.running + 1}/{limit.concurrent_requests}. Try again when one of them has ended.",
                1,
            )
        wanted: list[tuple[str, _Bucket, int]] = []
        if window.requests_second is not None:
            wanted.append(("Requests per Second", window.requests_second, 1))
        if window.requests_minute is not None:
            wanted.append(("Requests per Minute", window.requests_minute, 1))
        if window.tokens_minute is not None:
            wanted.append(("Tokens per Minute", window.tokens_minute, tokens))
        for name, bucket, units in wanted:
            _refuse_if_over(model, name, bucket, units, now)
        for _, bucket, units in wanted:
            bucket.take(units, now)
        window.running += 1
        return Admission(window, tokens, self.clock)

    def _new_window(self) -> _Window:
        def bucket(capacity: int, window_seconds: int) -> _Bucket | None:
            return _Bucket(capacity, window_seconds) if capacity else None

        limit = self.limit
        return _Window(
            bucket(limit.requests_per_second, 1),
            bucket(limit.requests_per_minute, 60),
            bucket(limit.tokens_per_minute, 60),
        )


def _refuse_if_over(model: str, name: str, bucket: _Bucket, units: int, now: int) -> None:
    what = name.split(maxsplit=1)[0].lower()
    if units > bucket.capacity:
        raise RateLimited(
            f"This request may use {units} tokens, more than a whole window of your limit for model {model}: "
            f"{name}: {bucket.capacity}. Send a shorter prompt or ask for fewer tokens (max_tokens).",
            None,
        )
    wait_seconds = bucket.seconds_until(units, now)
    if wait_seconds > 0:
        actual = bucket.used(now) + units
        raise RateLimited(
            f"Too many {what} for model {model}. Your limit is: {name} (actual/limit): {actual}/{bucket.capacity}. "
            f"Try again in {wait_seconds} s.",
            min(60, wait_seconds),
        )
