"""How fast an organisation may use a model, and how fast one of its keys may be used. Requests take from buckets; what
they did not use comes back.

Each bucket is a generic cell rate algorithm (ITU-T I.371): one number, the time at which it is full again. A whole
window's worth may come in one burst. Times are monotonic nanoseconds.
"""

import math
import sys
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from leadline.clock import Clock
from leadline.config import Limit
from leadline.errors import RateLimit, RateLimited, RateLimits

_SECOND = 1_000_000_000
_MILLISECOND = 1_000_000
# So many windows are kept before any is dropped.
_FEW_WINDOWS = 1024
_NO_LIMIT = Limit(requests_per_second=0, requests_per_minute=0, tokens_per_minute=0, concurrent_requests=0)


@dataclass(slots=True)
class _Bucket:
    """Holds `capacity` units and refills over `window_seconds`. Time is counted in steps, `rate` of them a nanosecond:
    so fine that a unit takes a whole number, and no rounding costs anybody the last request."""

    name: str
    capacity: int
    window_seconds: int
    # In steps.
    full_at: int = 0
    # Units that were ever taken, those that came back included.
    taken: int = 0
    rate: int = field(init=False)
    steps_per_unit: int = field(init=False)
    steps_in_all: int = field(init=False)

    def __post_init__(self) -> None:
        common = math.gcd(self.capacity, self.window_seconds * _SECOND)
        self.rate = self.capacity // common
        self.steps_per_unit = self.window_seconds * _SECOND // common
        self.steps_in_all = self.capacity * self.steps_per_unit

    def take(self, units: int, now: int) -> int | None:
        """None: so many are not there, and none was taken. Otherwise the mark for `give_back`."""
        step = now * self.rate
        full_at = self.full_at
        full_at = (full_at if full_at > step else step) + units * self.steps_per_unit
        if full_at - step > self.steps_in_all:
            if self.full_at - step <= self.steps_in_all:
                return None
            # The clock stepped back. That costs a window at most, however far it went.
            self.full_at = step + self.steps_in_all
            return self.take(units, now)
        self.full_at = full_at
        self.taken = mark = self.taken + units
        return mark

    def untake(self, units: int) -> None:
        """As if they had not been taken. Only in the same instant; later it is `give_back`."""
        self.full_at -= units * self.steps_per_unit
        self.taken -= units

    def give_back(self, unused: int, units: int, mark: int, taken_at: int, now: int) -> None:
        """`unused` of the `units` that were taken at `taken_at` come back. `mark` is what `take` returned then.

        Afterwards the bucket stands as if only the rest had been taken. What the refill has brought back since cannot
        come back a second time, so it is given no more than was missing at every moment since then. That is not
        recorded, but two numbers are never above it, and the larger one counts: the units less all refill since then,
        and what is missing now less all that others took since then. So the units that were not given back never
        passed faster than a burst and the refill, each counted at the time at which it was taken.
        """
        missing = self.full_at - now * self.rate
        if missing <= 0:
            return
        alone = units * self.steps_per_unit - (now - taken_at) * self.rate
        since = missing - (self.taken - mark) * self.steps_per_unit
        most = alone if alone > since else since
        back = unused * self.steps_per_unit
        back = back if back < most else most
        if back > 0:
            self.full_at -= back

    def missing(self, now: int) -> int:
        """Steps until it is full."""
        missing = self.full_at - now * self.rate
        if missing <= 0:
            return 0
        return missing if missing < self.steps_in_all else self.steps_in_all

    def remaining(self, now: int) -> int:
        """Whole units that can be taken."""
        return (self.steps_in_all - self.missing(now)) // self.steps_per_unit

    def seconds_until(self, units: int, now: int) -> int:
        """How long until `units` are there, in whole seconds; at most the window, where they are no more than it."""
        steps = self.missing(now) + (units - self.capacity) * self.steps_per_unit
        return max(0, -(-steps // (self.rate * _SECOND)))

    def limit(self, now: int) -> RateLimit:
        """How it stands."""
        missing = self.missing(now)
        remaining = (self.steps_in_all - missing) // self.steps_per_unit
        return RateLimit(self.capacity, remaining, -(-missing // (self.rate * _MILLISECOND)))

    def resize(self, capacity: int, now: int) -> None:
        """Another capacity, with as many units used of it as of the old one."""
        missing, steps_per_unit = self.missing(now), self.steps_per_unit
        self.capacity = capacity
        self.__post_init__()
        missing = -(-missing * self.steps_per_unit // steps_per_unit)
        self.full_at = now * self.rate + min(missing, self.steps_in_all)


# From which bucket a request took, and its mark there.
_Shares = Sequence[tuple[_Bucket, int]]


@dataclass(slots=True)
class _Window:
    """What a limit leaves: of an organisation's use of a model, or of a key's. `name` is the model's or the key's."""

    name: str
    limit: Limit
    of_key: bool = False
    requests: tuple[_Bucket, ...] = ()
    tokens: tuple[_Bucket, ...] = ()
    places: int = 0
    running: int = 0

    def __post_init__(self) -> None:
        self.change(self.limit, 0)  # there is no bucket yet to which the time would matter

    def change(self, limit: Limit, now: int) -> None:
        """Another limit from now on. What was used stays used, and who runs stays counted."""
        old = {bucket.name: bucket for bucket in (*self.requests, *self.tokens)}

        def bucket(name: str, capacity: int, window_seconds: int) -> tuple[_Bucket, ...]:
            if capacity == 0:
                return ()
            if name not in old:
                return (_Bucket(name, capacity, window_seconds),)
            if capacity != old[name].capacity:
                old[name].resize(capacity, now)
            return (old[name],)

        self.limit = limit
        self.requests = bucket("Requests per Second", limit.requests_per_second, 1) + bucket(
            "Requests per Minute", limit.requests_per_minute, 60
        )
        self.tokens = bucket("Tokens per Minute", limit.tokens_per_minute, 60)
        self.places = limit.concurrent_requests or sys.maxsize

    def is_as_new(self, now: int) -> bool:
        return self.running == 0 and not any(bucket.missing(now) for bucket in (*self.requests, *self.tokens))

    @property
    def subject(self) -> str:
        return f"API key “{self.name}”" if self.of_key else f"model {self.name}"

    @property
    def whose_limit(self) -> str:
        return "The key's limit" if self.of_key else "Your limit"


@dataclass(frozen=True, slots=True)
class LimitNow:
    """How one limit stands: `used` of `limit` units, of a model's limit or of a key's own. None of the requests that
    run has a time at which it ends, so their limit resets in 0."""

    name: str
    used: int
    limit: int
    reset_milliseconds: int
    of_key: bool

    @property
    def percent(self) -> int:
        return min(100, self.used * 100 // self.limit)


@dataclass(slots=True)
class _Windows:
    """Windows by whom they limit. Memory is bounded: each time there are twice as many as were left the last time,
    those that are as new are dropped."""

    known: dict[Hashable, _Window] = field(default_factory=dict)
    most: int = _FEW_WINDOWS

    def add(self, key: Hashable, window: _Window, now: int) -> _Window:
        if len(self.known) >= self.most:
            self.known = {key: window for key, window in self.known.items() if not window.is_as_new(now)}
            self.most = max(_FEW_WINDOWS, 2 * len(self.known))
        self.known[key] = window
        return window


@dataclass(slots=True)
class Admission:
    """One request that entered. Take its tokens when its size is known, and close it when it has ended."""

    _clock: Clock
    _windows: tuple[_Window, ...]
    _entered_at: int
    _requests: _Shares
    _tokens: _Shares = ()
    _tokens_taken_at: int = 0
    _reserved_tokens: int = 0
    _closed: bool = False

    def take_tokens(self, tokens: int) -> None:
        """Take the most `tokens` that the request can use. RateLimited: it is closed, and was never counted."""
        now, windows = self._clock(), self._windows
        shares = _take(_token_buckets(windows), tokens, now)
        if shares is None:
            self.close()
            for bucket, mark in self._requests:
                bucket.give_back(1, 1, mark, self._entered_at, now)
            raise _too_many_tokens(windows, tokens, now)
        self._tokens, self._tokens_taken_at, self._reserved_tokens = shares, now, tokens

    def close(self, used_tokens: int = 0) -> None:
        """Free the place, and give back the tokens that were taken and not used. The request stays counted. Closing
        twice is harmless."""
        if self._closed:
            return
        self._closed = True
        for window in self._windows:
            window.running -= 1
        reserved = self._reserved_tokens
        if used_tokens < reserved:
            now = self._clock()
            for bucket, mark in self._tokens:
                bucket.give_back(reserved - used_tokens, reserved, mark, self._tokens_taken_at, now)

    @property
    def limits(self) -> RateLimits:
        """What is left now, where least is left: of requests and of tokens, to the organisation and to the key."""
        return _limits(self._windows, self._clock())


@dataclass(slots=True)
class Limiter:
    """`default` limits each organisation's use of each model. A key may have a limit of its own beside that, over all
    models together."""

    default: Limit
    clock: Clock = time.monotonic_ns
    _of_models: _Windows = field(default_factory=_Windows)
    _of_keys: _Windows = field(default_factory=_Windows)

    def enter(self, organisation_id: str, model: str, key_id: str, key_name: str, key_limit: Limit | None) -> Admission:
        """Count one request, which runs until the admission is closed. RateLimited: it was counted nowhere. Another
        `key_limit` than before holds from here on."""
        now = self.clock()
        window = self._of_models.known.get((organisation_id, model))
        if window is None:
            window = self._of_models.add((organisation_id, model), _Window(model, self.default), now)
        windows: tuple[_Window, ...] = (window,)
        buckets = window.requests
        if key_limit is not None:
            key_window = self._key_window(key_id, key_name, key_limit, now)
            windows, buckets = (window, key_window), buckets + key_window.requests
        for window in windows:
            if window.running >= window.places:
                raise _too_many_at_once(windows, window, now)
        shares = _take(buckets, 1, now)
        if shares is None:
            raise _too_many_requests(windows, now)
        for window in windows:
            window.running += 1
        return Admission(self.clock, windows, now, shares)

    def exempt(self) -> Admission:
        """Of a request that nothing limits and that counts nowhere."""
        return Admission(self.clock, (_Window("", _NO_LIMIT),), 0, ())

    def look(
        self, organisation_id: str, model: str, key_id: str = "", key_limit: Limit | None = None
    ) -> tuple[LimitNow, ...]:
        """How all limits stand that a request would meet, the model's first. Counts nothing, and keeps nothing."""
        now = self.clock()
        windows = [self._of_models.known.get((organisation_id, model)) or _Window(model, self.default)]
        if key_limit is not None:
            known = self._of_keys.known.get(key_id)
            if known is None or known.limit != key_limit:
                known = _Window("", key_limit, of_key=True, running=known.running if known is not None else 0)
            windows.append(known)
        return tuple(limit for window in windows for limit in _stand(window, now))

    def _key_window(self, key_id: str, key_name: str, limit: Limit, now: int) -> _Window:
        window = self._of_keys.known.get(key_id)
        if window is None:
            return self._of_keys.add(key_id, _Window(key_name, limit, of_key=True), now)
        window.name = key_name
        if window.limit is not limit:
            window.change(limit, now)
        return window


def _take(buckets: tuple[_Bucket, ...], units: int, now: int) -> _Shares | None:
    """`units` from each bucket, or None and nothing from any."""
    shares: list[tuple[_Bucket, int]] = []
    for bucket in buckets:
        mark = bucket.take(units, now)
        if mark is None:
            for other, _ in shares:
                other.untake(units)
            return None
        shares.append((bucket, mark))
    return shares


def _request_buckets(windows: tuple[_Window, ...]) -> tuple[_Bucket, ...]:
    return windows[0].requests if len(windows) == 1 else windows[0].requests + windows[1].requests


def _token_buckets(windows: tuple[_Window, ...]) -> tuple[_Bucket, ...]:
    return windows[0].tokens if len(windows) == 1 else windows[0].tokens + windows[1].tokens


def _limits(windows: tuple[_Window, ...], now: int) -> RateLimits:
    return RateLimits(_least(_request_buckets(windows), now), _least(_token_buckets(windows), now))


def _stand(window: _Window, now: int) -> Iterator[LimitNow]:
    for bucket in (*window.requests, *window.tokens):
        limit = bucket.limit(now)
        yield LimitNow(bucket.name, limit.limit - limit.remaining, limit.limit, limit.reset_milliseconds, window.of_key)
    if window.limit.concurrent_requests:
        yield LimitNow("Concurrent Requests", window.running, window.limit.concurrent_requests, 0, window.of_key)


def _least(buckets: tuple[_Bucket, ...], now: int) -> RateLimit | None:
    """The limit with the fewest units left, and of equals the one with the longest window."""
    if len(buckets) < 2:
        return buckets[0].limit(now) if buckets else None
    least, fewest = buckets[0], buckets[0].remaining(now)
    for bucket in buckets[1:]:
        remaining = bucket.remaining(now)
        if remaining < fewest or (remaining == fewest and bucket.window_seconds > least.window_seconds):
            least, fewest = bucket, remaining
    return least.limit(now)


def _too_many_at_once(windows: tuple[_Window, ...], window: _Window, now: int) -> RateLimited:
    return RateLimited(
        f"Too many requests at once for {window.subject}. {window.whose_limit} is: Concurrent Requests (actual/limit): "
        f"{window.running + 1}/{window.places}. Try again when one of them has ended.",
        1,
        _limits(windows, now),
    )


def _too_many_requests(windows: tuple[_Window, ...], now: int) -> RateLimited:
    lacking = [(window, bucket) for window in windows for bucket in window.requests]
    return _too_many("requests", lacking, 1, now, _limits(windows, now))


def _too_many_tokens(windows: tuple[_Window, ...], tokens: int, now: int) -> RateLimited:
    limits = _limits(windows, now)
    buckets = [(window, bucket) for window in windows for bucket in window.tokens]
    for window, bucket in buckets:
        if tokens > bucket.capacity:
            return RateLimited(
                f"This request may use {tokens} tokens, more than a whole window for {window.subject}. "
                f"{window.whose_limit} is: {bucket.name}: {bucket.capacity}. "
                "Send a shorter prompt or ask for fewer tokens (max_tokens).",
                None,
                limits,
            )
    return _too_many("tokens", buckets, tokens, now, limits)


def _too_many(
    what: str, buckets: list[tuple[_Window, _Bucket]], units: int, now: int, limits: RateLimits
) -> RateLimited:
    """Names the limit that lets the request in last."""
    wait_seconds, window, bucket = max(
        ((bucket.seconds_until(units, now), window, bucket) for window, bucket in buckets), key=lambda each: each[0]
    )
    actual = bucket.capacity - bucket.remaining(now) + units
    return RateLimited(
        f"Too many {what} for {window.subject}. {window.whose_limit} is: {bucket.name} (actual/limit): "
        f"{actual}/{bucket.capacity}. Try again in {wait_seconds} s.",
        wait_seconds,
        limits,
    )
