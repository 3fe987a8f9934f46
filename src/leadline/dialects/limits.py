"""The limits as OpenAI and xAI tell them, in the headers of an answer."""

from leadline.errors import RateLimits


def encode_limits(limits: RateLimits, now_microseconds: int) -> list[tuple[bytes, bytes]]:
    """Nothing for a limit that there is not. A reset is a duration, whatever time it is now."""
    headers: list[tuple[bytes, bytes]] = []
    if limits.requests is not None:
        limit = limits.requests
        headers += (
            (b"x-ratelimit-limit-requests", b"%d" % limit.limit),
            (b"x-ratelimit-remaining-requests", b"%d" % limit.remaining),
            (b"x-ratelimit-reset-requests", _duration(limit.reset_milliseconds)),
        )
    if limits.tokens is not None:
        limit = limits.tokens
        headers += (
            (b"x-ratelimit-limit-tokens", b"%d" % limit.limit),
            (b"x-ratelimit-remaining-tokens", b"%d" % limit.remaining),
            (b"x-ratelimit-reset-tokens", _duration(limit.reset_milliseconds)),
        )
    return headers


def _duration(milliseconds: int) -> bytes:
    """As Go writes it: `0s`, `12ms`, `1.5s`, `6m0s`."""
    if 0 < milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = b"%d.%03d" % divmod(rest, 1000)
    seconds = seconds.rstrip(b"0").rstrip(b".")
    return b"%dm%bs" % (minutes, seconds) if minutes else seconds + b"s"
