from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.config import Limit
from leadline.errors import RateLimited
from leadline.limits.limiter import Admission, Limiter

SECOND = 1_000_000_000
UNLIMITED = Limit(requests_per_second=0, requests_per_minute=0, tokens_per_minute=0, concurrent_requests=0)


@dataclass
class Clock:
    """Monotonic nanoseconds that stand still until somebody moves them."""

    now: int = 123_456_789_012_345

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admit(limiter: Limiter, tokens: int = 1, organisation: str = "alice", model: str = "mock") -> Admission:
    return limiter.admit(organisation, model, tokens)


def try_to_admit(limiter: Limiter, tokens: int) -> RateLimited | None:
    """Why the request was refused, if it was."""
    try:
        admit(limiter, tokens)
    except RateLimited as refused:
        return refused
    return None


def refusal(limiter: Limiter, tokens: int = 1) -> RateLimited:
    refused = try_to_admit(limiter, tokens)
    assert refused is not None
    return refused


@given(st.integers(1, 400), st.integers(0, 2**60))
def test_exactly_a_whole_windows_worth_passes_in_one_burst(limit: int, now: int) -> None:
    limiter = Limiter(Limit(requests_per_minute=limit, tokens_per_minute=0), Clock(now))

    for _ in range(limit):
        admit(limiter)

    assert f"Requests per Minute (actual/limit): {limit + 1}/{limit}." in str(refusal(limiter))


def test_a_place_comes_back_after_its_share_of_the_window(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=6, tokens_per_minute=0), clock)
    for _ in range(6):
        admit(limiter)

    clock.advance(9.999_999_999)
    too_early = refusal(limiter)
    clock.advance(0.000_000_001)
    admit(limiter)

    assert too_early.retry_after_seconds == 1
    assert refusal(limiter).retry_after_seconds == 10


def test_requests_per_second_have_a_window_of_their_own(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_second=2, requests_per_minute=480, tokens_per_minute=0), clock)
    for _ in range(2):
        admit(limiter)

    assert "Requests per Second (actual/limit): 3/2." in str(refusal(limiter))
    clock.advance(0.5)
    admit(limiter)


@given(
    st.integers(1, 3_000),
    st.lists(st.tuples(st.integers(0, 100 * SECOND), st.integers(1, 3_000)), min_size=1, max_size=40),
)
def test_tokens_never_pass_faster_than_a_burst_and_the_refill_since(
    limit: int, arrivals: list[tuple[int, int]]
) -> None:
    clock = Clock()
    limiter = Limiter(Limit(requests_per_minute=0, tokens_per_minute=limit), clock)
    began, passed = clock.now, 0

    for wait, tokens in arrivals:
        clock.now += wait
        passed += 0 if try_to_admit(limiter, tokens) else tokens
        assert (passed - limit) * 60 * SECOND <= limit * (clock.now - began)


@given(st.integers(1, 5_000), st.data())
def test_waiting_as_long_as_it_was_told_lets_a_request_in(limit: int, data: st.DataObject) -> None:
    clock = Clock()
    limiter = Limiter(Limit(requests_per_minute=0, tokens_per_minute=limit), clock)

    for tokens in data.draw(st.lists(st.integers(1, limit), min_size=1, max_size=20)):
        if refused := try_to_admit(limiter, tokens):
            assert refused.retry_after_seconds in range(1, 61)
            clock.advance(refused.retry_after_seconds)
            admit(limiter, tokens)


def test_a_refused_request_takes_nothing(clock: Clock) -> None:
    limiter = Limiter(
        Limit(requests_per_second=0, requests_per_minute=2, tokens_per_minute=100, concurrent_requests=2), clock
    )
    admit(limiter, 60)

    for _ in range(10):
        assert "Too many tokens" in str(refusal(limiter, 41))

    admit(limiter, 40)


def test_tokens_that_were_not_used_come_back_once(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=0, tokens_per_minute=100), clock)
    admission = admit(limiter, 100)

    admission.close(used_tokens=30)
    admission.close(used_tokens=0)

    assert "Tokens per Minute (actual/limit): 101/100." in str(refusal(limiter, 71))
    admit(limiter, 70)


def test_tokens_that_come_back_never_make_more_than_a_whole_window(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=0, tokens_per_minute=100), clock)
    admission = admit(limiter, 100)
    clock.advance(59)
    admission.close(used_tokens=0)

    admit(limiter, 100)

    assert refusal(limiter).retry_after_seconds == 1


def test_a_request_larger_than_a_whole_window_is_told_both_numbers_and_never_to_retry(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=0, tokens_per_minute=100), clock)

    refused = refusal(limiter, 101)

    assert (refused.should_retry, refused.retry_after_seconds) == (False, None)
    assert "may use 101 tokens" in str(refused)
    assert "Tokens per Minute: 100." in str(refused)


def test_a_place_among_those_running_is_free_again_when_one_ends(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=0, tokens_per_minute=0, concurrent_requests=2), clock)
    first, _ = admit(limiter), admit(limiter)

    refused = refusal(limiter)
    first.close(used_tokens=1)
    first.close(used_tokens=1)
    admit(limiter)

    assert "Concurrent Requests (actual/limit): 3/2." in str(refused)
    assert (refused.should_retry, refused.retry_after_seconds) == (None, 1)
    refusal(limiter)


def test_zero_means_no_limit(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)

    for _ in range(1000):
        admit(limiter, 10**9).close(used_tokens=10**9)


def test_a_limit_is_one_organisations_and_one_models(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=1, tokens_per_minute=0), clock)

    for organisation in ("alice", "charlie"):
        for model in ("mock", "other"):
            admit(limiter, 1, organisation, model)

    refusal(limiter)
