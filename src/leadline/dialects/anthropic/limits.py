"""The limits in the headers of an answer, in Anthropic's words."""

from datetime import UTC, datetime
from functools import lru_cache

from leadline.errors import RateLimits


def encode_limits(limits: RateLimits, now_microseconds: int) -> list[tuple[bytes, bytes]]:
    """Nothing for a limit that there is not. A reset is a date, rounded up: by then the limit is whole again."""
    headers: list[tuple[bytes, bytes]] = []
    if limits.requests is not None:
        limit = limits.requests
        headers += (
            (b"anthropic-ratelimit-requests-limit", b"%d" % limit.limit),
            (b"anthropic-ratelimit-requests-remaining", b"%d" % limit.remaining),
            (b"anthropic-ratelimit-requests-reset", _date(now_microseconds, limit.reset_milliseconds)),
        )
    if limits.tokens is not None:
        limit = limits.tokens
        headers += (
            (b"anthropic-ratelimit-tokens-limit", b"%d" % limit.limit),
            (b"anthropic-ratelimit-tokens-remaining", b"%d" % limit.remaining),
            (b"anthropic-ratelimit-tokens-reset", _date(now_microseconds, limit.reset_milliseconds)),
        )
    return headers


def _date(now_microseconds: int, milliseconds: int) -> bytes:
    return _second(-(-(now_microseconds + milliseconds * 1000) // 1_000_000))


# A limit is whole again within a minute, so that few seconds are ever asked for.
@lru_cache(maxsize=128)
def _second(seconds: int) -> bytes:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}".encode()
