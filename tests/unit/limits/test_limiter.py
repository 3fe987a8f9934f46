from dataclasses import dataclass
from itertools import combinations_with_replacement

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leadline.config import Limit
from leadline.errors import RateLimit, RateLimited, RateLimits
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


def requests(per_minute: int = 0, *, per_second: int = 0, at_once: int = 0) -> Limit:
    return Limit(
        requests_per_second=per_second,
        requests_per_minute=per_minute,
        tokens_per_minute=0,
        concurrent_requests=at_once,
    )


def tokens(per_minute: int) -> Limit:
    return Limit(requests_per_minute=0, tokens_per_minute=per_minute)


def enter(
    limiter: Limiter,
    organisation: str = "alice",
    model: str = "mock",
    *,
    key: str = "key_1",
    key_name: str = "laptop",
    key_limit: Limit | None = None,
) -> Admission:
    return limiter.enter(organisation, model, key, key_name, key_limit)


def admit(limiter: Limiter, tokens: int = 1, key_limit: Limit | None = None) -> Admission:
    admission = enter(limiter, key_limit=key_limit)
    admission.take_tokens(tokens)
    return admission


def try_to_admit(limiter: Limiter, tokens: int, key_limit: Limit | None = None) -> Admission | RateLimited:
    """The admission, or why there is none."""
    try:
        return admit(limiter, tokens, key_limit)
    except RateLimited as refused:
        return refused


def refusal(limiter: Limiter, tokens: int = 1, key_limit: Limit | None = None) -> RateLimited:
    refused = try_to_admit(limiter, tokens, key_limit)
    assert isinstance(refused, RateLimited)
    return refused


def remaining(limit: RateLimit | None) -> int:
    assert limit is not None
    return limit.remaining


def tokens_left(limiter: Limiter, clock: Clock) -> int:
    """As a request that takes none is told."""
    return remaining(admit(limiter, 0).limits.tokens)


# A burst, the refill, and how long to wait


@given(st.integers(1, 400), st.integers(0, 2**60))
def test_exactly_a_whole_windows_worth_passes_in_one_burst(limit: int, now: int) -> None:
    limiter = Limiter(requests(limit), Clock(now))

    for _ in range(limit):
        admit(limiter)

    assert f"Requests per Minute (actual/limit): {limit + 1}/{limit}." in str(refusal(limiter))


def test_a_place_comes_back_after_its_share_of_the_window(clock: Clock) -> None:
    limiter = Limiter(requests(6), clock)
    for _ in range(6):
        admit(limiter)

    clock.advance(9.999_999_999)
    too_early = refusal(limiter)
    clock.advance(0.000_000_001)
    admit(limiter)

    assert too_early.retry_after_seconds == 1
    assert refusal(limiter).retry_after_seconds == 10


def test_requests_per_second_have_a_window_of_their_own(clock: Clock) -> None:
    limiter = Limiter(requests(480, per_second=2), clock)
    for _ in range(2):
        admit(limiter)

    assert "Requests per Second (actual/limit): 3/2." in str(refusal(limiter))
    clock.advance(0.5)
    admit(limiter)


def test_the_message_is_in_xais_words(clock: Clock) -> None:
    limiter = Limiter(requests(60), clock)
    for _ in range(60):
        admit(limiter)

    assert str(refusal(limiter)) == (
        "Too many requests for model mock. Your limit is: Requests per Minute (actual/limit): 61/60. Try again in 1 s."
    )


@given(
    st.integers(1, 3_000),
    st.lists(st.tuples(st.integers(0, 100 * SECOND), st.integers(1, 3_000)), min_size=1, max_size=40),
)
def test_tokens_never_pass_faster_than_a_burst_and_the_refill_since(
    limit: int, arrivals: list[tuple[int, int]]
) -> None:
    clock = Clock()
    limiter = Limiter(tokens(limit), clock)
    began, passed = clock.now, 0

    for wait, size in arrivals:
        clock.now += wait
        passed += size if isinstance(try_to_admit(limiter, size), Admission) else 0
        assert (passed - limit) * 60 * SECOND <= limit * (clock.now - began)


@given(st.integers(1, 5_000), st.data())
def test_waiting_as_long_as_it_was_told_lets_a_request_in(limit: int, data: st.DataObject) -> None:
    clock = Clock()
    limiter = Limiter(tokens(limit), clock)

    for size in data.draw(st.lists(st.integers(1, limit), min_size=1, max_size=20)):
        if isinstance(refused := try_to_admit(limiter, size), RateLimited):
            assert refused.retry_after_seconds in range(1, 61)
            clock.advance(refused.retry_after_seconds)
            admit(limiter, size)


@given(st.tuples(*[st.integers(1, 20)] * 4), st.lists(st.integers(0, 20 * SECOND), min_size=5, max_size=60))
def test_the_limit_that_lets_it_in_last_says_how_long_to_wait(rates: tuple[int, ...], waits: list[int]) -> None:
    clock = Clock()
    limiter = Limiter(requests(rates[0], per_second=rates[1]), clock)
    key_limit = requests(rates[2], per_second=rates[3])

    for wait in waits:
        clock.now += wait
        if isinstance(refused := try_to_admit(limiter, 1, key_limit), RateLimited):
            assert refused.retry_after_seconds is not None
            clock.advance(refused.retry_after_seconds)
            admit(limiter, 1, key_limit)


def test_a_request_larger_than_a_whole_window_is_told_both_numbers_and_never_to_retry(clock: Clock) -> None:
    limiter = Limiter(tokens(100), clock)
    admit(limiter, 60)

    refused = refusal(limiter, 101)

    assert (refused.should_retry, refused.retry_after_seconds) == (False, None)
    assert "may use 101 tokens" in str(refused)
    assert "Your limit is: Tokens per Minute: 100." in str(refused)


def test_zero_means_no_limit(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)

    for _ in range(1000):
        admit(limiter, 10**9, UNLIMITED).close(used_tokens=10**9)


def test_a_limit_is_one_organisations_and_one_models(clock: Clock) -> None:
    limiter = Limiter(requests(1), clock)

    for organisation in ("alice", "charlie"):
        for model in ("mock", "other"):
            enter(limiter, organisation, model)

    refusal(limiter)


# What counts


def test_a_refusal_for_its_requests_counts_nowhere(clock: Clock) -> None:
    limiter, key_limit = Limiter(requests(4), clock), requests(3, per_second=2)
    for _ in range(2):
        admit(limiter, 1, key_limit)

    for _ in range(10):
        assert "Requests per Second (actual/limit): 3/2." in str(refusal(limiter, 1, key_limit))

    clock.advance(1)
    admit(limiter, 1, key_limit)
    admit(limiter)


def test_a_refusal_for_its_tokens_counts_nowhere(clock: Clock) -> None:
    limiter = Limiter(
        Limit(requests_per_second=0, requests_per_minute=2, tokens_per_minute=100, concurrent_requests=2), clock
    )
    admit(limiter, 60)

    for _ in range(10):
        assert "Tokens per Minute (actual/limit): 101/100." in str(refusal(limiter, 41))

    admit(limiter, 40)


def test_a_refusal_for_the_keys_tokens_takes_none_from_the_organisation(clock: Clock) -> None:
    limiter = Limiter(tokens(100), clock)

    for _ in range(10):
        assert "The key's limit is: Tokens per Minute: 20." in str(refusal(limiter, 21, tokens(20)))

    admit(limiter, 100)


def test_a_refusal_for_its_tokens_counts_nowhere_however_long_it_was_sized(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=60, tokens_per_minute=1), clock)
    admit(limiter, 1)
    for _ in range(58):
        enter(limiter)

    for _ in range(20):
        slow = enter(limiter)
        clock.advance(0.5)
        with pytest.raises(RateLimited, match="Too many tokens"):
            slow.take_tokens(1)

    assert remaining(enter(limiter).limits.requests) == 60 - 59 + 10 - 1


def test_a_request_that_was_refused_for_its_tokens_is_closed(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=0, tokens_per_minute=10, concurrent_requests=2), clock)
    admit(limiter, 10)
    refused = enter(limiter)
    with pytest.raises(RateLimited):
        refused.take_tokens(1)

    refused.close(used_tokens=0)

    enter(limiter)
    assert "Concurrent Requests (actual/limit): 3/2." in str(refusal(limiter))


def test_a_request_that_others_refuse_stays_counted(clock: Clock) -> None:
    limiter = Limiter(requests(2, at_once=1), clock)

    for _ in range(2):
        enter(limiter).close()

    assert "Requests per Minute (actual/limit): 3/2." in str(refusal(limiter))


def test_a_place_among_those_running_is_free_again_when_one_ends(clock: Clock) -> None:
    limiter = Limiter(requests(at_once=2), clock)
    first, _ = admit(limiter), admit(limiter)

    refused = refusal(limiter)
    first.close(used_tokens=1)
    first.close(used_tokens=1)
    admit(limiter)

    assert "Too many requests at once for model mock." in str(refused)
    assert "Your limit is: Concurrent Requests (actual/limit): 3/2." in str(refused)
    assert (refused.should_retry, refused.retry_after_seconds) == (None, 1)
    refusal(limiter)


# What comes back


def test_tokens_that_were_not_used_come_back_once(clock: Clock) -> None:
    limiter = Limiter(tokens(100), clock)
    admission = admit(limiter, 100)

    admission.close(used_tokens=30)
    admission.close(used_tokens=0)

    assert "Tokens per Minute (actual/limit): 101/100." in str(refusal(limiter, 71))
    admit(limiter, 70)


def test_tokens_used_beyond_what_was_taken_are_not_taken_late(clock: Clock) -> None:
    limiter = Limiter(tokens(100), clock)

    admit(limiter, 40).close(used_tokens=90)

    admit(limiter, 60)


def test_tokens_that_come_back_never_make_more_than_a_whole_window(clock: Clock) -> None:
    limiter = Limiter(tokens(100), clock)
    admission = admit(limiter, 100)
    clock.advance(59)
    admission.close(used_tokens=0)

    admit(limiter, 100)

    assert refusal(limiter).retry_after_seconds == 1


def test_what_the_refill_brought_back_does_not_come_back_a_second_time(clock: Clock) -> None:
    limiter = Limiter(tokens(100), clock)
    slow = [admit(limiter, 100)]
    for _ in range(3):
        clock.advance(60)
        slow.append(admit(limiter, 100))

    for admission in slow[:-1]:
        admission.close(used_tokens=0)

    assert "Tokens per Minute (actual/limit): 101/100." in str(refusal(limiter))


@given(st.data())
def test_kept_tokens_never_pass_faster_than_a_burst_and_the_refill_in_any_span(data: st.DataObject) -> None:
    """Each counts at the time at which it was taken, so the rest may come back whenever it likes. A span of one window
    thus never has more than two windows' worth."""
    limit = data.draw(st.integers(1, 200))
    clock = Clock()
    limiter = Limiter(tokens(limit), clock)
    open_admissions: list[tuple[int, Admission]] = []
    taken: list[tuple[int, int]] = []  # when, and how many of them were kept

    for _ in range(data.draw(st.integers(2, 30))):
        clock.advance(data.draw(st.sampled_from((0, 0, 1, 7, 30, 60))))
        if open_admissions and data.draw(st.booleans()):
            index, admission = open_admissions.pop(data.draw(st.integers(0, len(open_admissions) - 1)))
            when, reserved = taken[index]
            used = data.draw(st.integers(0, reserved))
            taken[index] = (when, used)
            admission.close(used)
        else:
            size = data.draw(st.sampled_from((limit, limit // 2 + 1, limit // 3 + 1)))
            if isinstance(admission := try_to_admit(limiter, size), Admission):
                open_admissions.append((len(taken), admission))
                taken.append((clock.now, size))

    for first, last in combinations_with_replacement(range(len(taken)), 2):
        kept = sum(tokens for _, tokens in taken[first : last + 1])
        assert (kept - limit) * 60 * SECOND <= limit * (taken[last][0] - taken[first][0])


@given(st.integers(1, 1000), st.data())
def test_one_request_at_a_time_leaves_what_it_would_have_left_had_it_taken_only_what_it_used(
    limit: int, data: st.DataObject
) -> None:
    clock = Clock()
    reserving, knowing = Limiter(tokens(limit), clock), Limiter(tokens(limit), clock)

    for _ in range(data.draw(st.integers(1, 10))):
        used = data.draw(st.integers(0, tokens_left(reserving, clock)))
        admission = admit(reserving, data.draw(st.integers(used, tokens_left(reserving, clock))))
        admit(knowing, used)
        # The tokens that it uses take longer to flow back than it takes.
        clock.now += data.draw(st.integers(0, 60 * SECOND * used // limit))
        admission.close(used)
        assert admission.limits.tokens == admit(knowing, 0).limits.tokens
        clock.now += data.draw(st.integers(0, 10 * SECOND))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=10), st.randoms())
def test_requests_that_run_side_by_side_give_all_back_in_whichever_order_they_end(sizes, random) -> None:
    clock = Clock()
    limiter = Limiter(tokens(1000), clock)
    running = [(admit(limiter, size), min(size, used)) for size, used in sizes]
    random.shuffle(running)

    for admission, used in running:
        admission.close(used)

    assert tokens_left(limiter, clock) == 1000 - sum(used for _, used in running)


def test_under_steady_load_all_that_was_not_used_comes_back_though_the_refill_was_faster(clock: Clock) -> None:
    limiter = Limiter(tokens(6000), clock)
    admit(limiter, 5000)
    running: list[Admission] = []

    for _ in range(100):
        clock.advance(1)
        running.append(admit(limiter, 200))
        if len(running) > 5:
            running.pop(0).close(used_tokens=100)

    assert tokens_left(limiter, clock) == 6000 - 5000 - 5 * 100


# Keys


def test_a_key_has_a_limit_of_its_own_over_all_models(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)
    enter(limiter, model="mock", key_limit=requests(2))
    enter(limiter, model="other", key_limit=requests(2))

    with pytest.raises(RateLimited, match="actual/limit"):
        enter(limiter, model="third", key_limit=requests(2))

    enter(limiter, key="key_2", key_limit=requests(2))
    enter(limiter, key="key_1", key_limit=None)


def test_a_keys_refusal_says_that_it_is_the_keys_limit(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)
    limit = Limit(requests_per_second=2, requests_per_minute=0, tokens_per_minute=10, concurrent_requests=0)
    admit(limiter, 5, limit)

    assert str(refusal(limiter, 6, limit)) == (
        "Too many tokens for API key “laptop”. The key's limit is: Tokens per Minute (actual/limit): 11/10. "
        "Try again in 6 s."
    )
    admit(limiter, 5, limit)
    assert str(refusal(limiter, 1, limit)) == (
        "Too many requests for API key “laptop”. The key's limit is: Requests per Second (actual/limit): 3/2. "
        "Try again in 1 s."
    )


def test_a_key_is_called_as_it_is_named_now(clock: Clock) -> None:
    limiter, limit = Limiter(UNLIMITED, clock), requests(at_once=1)
    enter(limiter, key_name="laptop", key_limit=limit)

    with pytest.raises(RateLimited, match="Too many requests at once for API key “build server”"):
        enter(limiter, key_name="build server", key_limit=limit)


def test_a_keys_own_limit_does_not_widen_the_organisations(clock: Clock) -> None:
    limiter = Limiter(requests(1), clock)
    admit(limiter, 1, requests(100))

    assert "for model mock. Your limit is: Requests per Minute (actual/limit): 2/1." in str(
        refusal(limiter, 1, requests(100))
    )


def test_tokens_that_were_not_used_come_back_to_the_key_too(clock: Clock) -> None:
    limiter, limit = Limiter(tokens(200), clock), tokens(100)

    admit(limiter, 100, limit).close(used_tokens=30)

    admit(limiter, 70, limit)
    assert "API key “laptop”" in str(refusal(limiter, 1, limit))


def test_another_limit_of_a_key_holds_from_the_next_request_and_keeps_what_was_used(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)
    for _ in range(4):
        admit(limiter, 10, Limit(requests_per_minute=5, tokens_per_minute=50))

    raised = admit(limiter, 10, Limit(requests_per_minute=10, tokens_per_minute=100)).limits

    assert (raised.requests, raised.tokens) == (RateLimit(10, 5, 30_000), RateLimit(100, 50, 30_000))


def test_a_lower_limit_of_a_key_never_asks_for_more_than_a_windows_wait(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)
    for _ in range(50):
        admit(limiter, 1, requests(100))

    lowered = refusal(limiter, 1, requests(5))

    assert "Requests per Minute (actual/limit): 6/5." in str(lowered)
    assert lowered.retry_after_seconds == 12


def test_a_lower_limit_of_a_key_is_whole_again_after_a_window(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)
    admit(limiter, 50, tokens(100))

    admission = enter(limiter, key_limit=tokens(5))
    assert admission.limits.tokens == RateLimit(5, 0, 60_000)
    clock.advance(60)
    admission.take_tokens(5)


def test_the_same_limit_read_anew_changes_nothing(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)
    admit(limiter, 1, requests(3, per_second=7))

    assert admit(limiter, 1, requests(3, per_second=7)).limits.requests == RateLimit(3, 1, 40_000)


@pytest.mark.parametrize("between", [requests(at_once=5), requests(7), UNLIMITED, None])
def test_who_runs_stays_counted_while_the_keys_limit_changes(clock: Clock, between: Limit | None) -> None:
    limiter = Limiter(UNLIMITED, clock)
    running = enter(limiter, key_limit=requests(at_once=2))
    enter(limiter, key_limit=between).close()
    enter(limiter, key_limit=requests(at_once=2))

    assert "Concurrent Requests (actual/limit): 3/2." in str(refusal(limiter, 1, requests(at_once=2)))
    running.close()
    enter(limiter, key_limit=requests(at_once=2))


def test_a_request_gives_its_tokens_back_to_the_limit_that_holds_when_it_ends(clock: Clock) -> None:
    limiter = Limiter(UNLIMITED, clock)
    admission = admit(limiter, 60, tokens(100))

    assert remaining(admit(limiter, 0, tokens(300)).limits.tokens) == 240
    admission.close(used_tokens=20)

    assert remaining(admit(limiter, 0, tokens(300)).limits.tokens) == 280


# What the headers tell


def test_an_admission_tells_what_is_left_and_when_it_is_whole_again(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=480, tokens_per_minute=60_000), clock)

    admission = admit(limiter, 1_500)
    at_first = admission.limits
    admission.close(used_tokens=500)
    clock.advance(0.1)

    assert at_first == RateLimits(RateLimit(480, 479, 125), RateLimit(60_000, 58_500, 1_500))
    assert admission.limits == RateLimits(RateLimit(480, 479, 25), RateLimit(60_000, 59_600, 400))


def test_a_started_millisecond_counts(clock: Clock) -> None:
    admission = admit(Limiter(requests(480), clock))
    clock.now += 1

    assert admission.limits.requests == RateLimit(480, 479, 125)


def test_no_limit_is_told_where_there_is_none(clock: Clock) -> None:
    assert admit(Limiter(UNLIMITED, clock)).limits == RateLimits(None, None)
    assert admit(Limiter(UNLIMITED, clock), 1, tokens(10)).limits == RateLimits(None, RateLimit(10, 9, 6_000))


@pytest.mark.parametrize(
    ("organisations", "keys", "told"),
    [
        (requests(10, per_second=4), requests(6, per_second=5), RateLimit(4, 3, 250)),
        (requests(3, per_second=4), requests(6, per_second=5), RateLimit(3, 2, 20_000)),
        (requests(10, per_second=4), requests(6, per_second=2), RateLimit(2, 1, 500)),
        (requests(10, per_second=4), requests(3), RateLimit(3, 2, 20_000)),
        (requests(3, per_second=3), UNLIMITED, RateLimit(3, 2, 20_000)),
    ],
)
def test_of_several_limits_the_one_with_the_fewest_left_is_told(
    clock: Clock, organisations: Limit, keys: Limit, told: RateLimit
) -> None:
    assert admit(Limiter(organisations, clock), 1, keys).limits.requests == told


def test_of_two_limits_on_tokens_the_one_with_fewer_left_is_told(clock: Clock) -> None:
    assert admit(Limiter(tokens(100), clock), 30, tokens(60)).limits.tokens == RateLimit(60, 30, 30_000)
    assert admit(Limiter(tokens(60), clock), 30, tokens(100)).limits.tokens == RateLimit(60, 30, 30_000)


def test_a_refusal_tells_the_limits_without_the_refused_request(clock: Clock) -> None:
    limiter = Limiter(Limit(requests_per_minute=2, tokens_per_minute=100, concurrent_requests=2), clock)
    admit(limiter, 60)

    too_many_tokens = refusal(limiter, 41)
    enter(limiter)
    too_many_at_once = refusal(limiter)

    assert too_many_tokens.limits == RateLimits(RateLimit(2, 1, 30_000), RateLimit(100, 40, 36_000))
    assert too_many_at_once.limits == RateLimits(RateLimit(2, 0, 60_000), RateLimit(100, 40, 36_000))


# A clock that is not as it should be


@given(
    st.lists(
        st.tuples(st.integers(-1000 * SECOND, 1000 * SECOND), st.integers(0, 120), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
@example([(-1, 90, False), (0, 0, False)])
def test_whatever_the_clock_does_nothing_is_below_zero_or_above_the_limit(steps: list[tuple[int, int, bool]]) -> None:
    clock = Clock()
    limiter = Limiter(Limit(requests_per_second=3, requests_per_minute=20, tokens_per_minute=100), clock)
    running: list[Admission] = []

    for step, size, ends in steps:
        outcome = try_to_admit(limiter, size, tokens(90))
        if isinstance(outcome, Admission):
            running.append(outcome)
        elif size <= 90:
            assert outcome.retry_after_seconds in range(1, 61)
        if ends and running:
            running.pop(0).close(used_tokens=size // 2)
        clock.now += step
        for limits in (outcome.limits, *(admission.limits for admission in running)):
            assert limits is not None
            for limit in (limits.requests, limits.tokens):
                assert limit is not None
                assert 0 <= limit.remaining <= limit.limit
                assert 0 <= limit.reset_milliseconds <= 60_000


def test_a_clock_that_steps_back_costs_no_more_than_a_window(clock: Clock) -> None:
    limiter = Limiter(requests(6), clock)
    admit(limiter)

    clock.advance(-3600)
    refused = refusal(limiter)
    clock.advance(10)

    assert "Requests per Minute (actual/limit): 7/6." in str(refused)
    assert refused.retry_after_seconds == 10
    admit(limiter)


def test_a_clock_that_steps_back_gives_nothing_back_twice(clock: Clock) -> None:
    limiter = Limiter(tokens(100), clock)
    early, late = admit(limiter, 50), admit(limiter, 50)
    clock.advance(-30)

    for admission in (late, early):
        admission.close(used_tokens=0)

    clock.advance(30)
    admit(limiter, 100)
    refusal(limiter)


# Memory


def test_what_nobody_uses_any_more_is_forgotten(clock: Clock) -> None:
    limiter = Limiter(requests(60), clock)

    for number in range(20_000):
        enter(limiter, f"org_{number}", key=f"key_{number}", key_limit=requests(30)).close()
        clock.advance(0.01)

    assert len(limiter._of_models.known) <= 2048
    assert len(limiter._of_keys.known) <= 2048


def test_what_somebody_uses_is_not_forgotten(clock: Clock) -> None:
    limiter = Limiter(requests(2, at_once=1), clock)
    enter(limiter, "runs")
    clock.advance(3600)
    enter(limiter, "used").close()
    enter(limiter, "used", key_limit=requests(1)).close()

    for number in range(20_000):
        enter(limiter, f"org_{number}", key=f"other_{number}", key_limit=requests(1)).close()

    with pytest.raises(RateLimited, match="Concurrent Requests"):
        enter(limiter, "runs")
    with pytest.raises(RateLimited, match="Requests per Minute"):
        enter(limiter, "used")
    with pytest.raises(RateLimited, match="The key's limit"):
        enter(limiter, "charlie", key_limit=requests(1))
