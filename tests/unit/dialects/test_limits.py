"""How the limits are told in the headers of an answer."""

import pytest

from leadline.dialects import limits as openai
from leadline.dialects.anthropic import limits as anthropic
from leadline.errors import RateLimit, RateLimits

# 25 November 2026, 07:57:59.400 UTC.
NOW_MICROSECONDS = 1_795_593_479_400_000
BOTH = RateLimits(RateLimit(480, 479, 125), RateLimit(2_000_000, 1_993_213, 1_500))


def test_openai_tells_durations() -> None:
    assert openai.encode_limits(BOTH, NOW_MICROSECONDS) == [
        (b"x-ratelimit-limit-requests", b"480"),
        (b"x-ratelimit-remaining-requests", b"479"),
        (b"x-ratelimit-reset-requests", b"125ms"),
        (b"x-ratelimit-limit-tokens", b"2000000"),
        (b"x-ratelimit-remaining-tokens", b"1993213"),
        (b"x-ratelimit-reset-tokens", b"1.5s"),
    ]


def test_anthropic_tells_dates_by_which_the_limit_is_whole_again() -> None:
    assert anthropic.encode_limits(BOTH, NOW_MICROSECONDS) == [
        (b"anthropic-ratelimit-requests-limit", b"480"),
        (b"anthropic-ratelimit-requests-remaining", b"479"),
        (b"anthropic-ratelimit-requests-reset", b"2026-11-25T07:58:00Z"),
        (b"anthropic-ratelimit-tokens-limit", b"2000000"),
        (b"anthropic-ratelimit-tokens-remaining", b"1993213"),
        (b"anthropic-ratelimit-tokens-reset", b"2026-11-25T07:58:01Z"),
    ]


@pytest.mark.parametrize("dialect", [openai, anthropic])
def test_a_limit_that_there_is_not_has_no_headers(dialect) -> None:
    def names(limits: RateLimits) -> str:
        return " ".join(name.decode() for name, _ in dialect.encode_limits(limits, NOW_MICROSECONDS))

    requests, tokens = names(RateLimits(BOTH.requests, None)), names(RateLimits(None, BOTH.tokens))

    assert (requests.count("requests"), requests.count("tokens")) == (3, 0)
    assert (tokens.count("requests"), tokens.count("tokens")) == (0, 3)
    assert names(RateLimits(None, None)) == ""


@pytest.mark.parametrize(
    ("milliseconds", "duration"),
    [
        (0, b"0s"),
        (1, b"1ms"),
        (12, b"12ms"),
        (999, b"999ms"),
        (1_000, b"1s"),
        (1_001, b"1.001s"),
        (1_500, b"1.5s"),
        (10_000, b"10s"),
        (59_999, b"59.999s"),
        (60_000, b"1m0s"),
        (90_250, b"1m30.25s"),
        (360_000, b"6m0s"),
    ],
)
def test_openais_durations_are_written_as_go_writes_them(milliseconds: int, duration: bytes) -> None:
    limits = RateLimits(RateLimit(1, 1, milliseconds), None)

    assert openai.encode_limits(limits, NOW_MICROSECONDS)[2] == (b"x-ratelimit-reset-requests", duration)


def test_an_anthropic_date_on_a_whole_second_is_not_rounded_up() -> None:
    limits = RateLimits(None, RateLimit(1, 0, 600))

    assert anthropic.encode_limits(limits, NOW_MICROSECONDS)[2][1] == b"2026-11-25T07:58:00Z"
