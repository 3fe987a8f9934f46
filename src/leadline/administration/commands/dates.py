"""Dates as somebody wrote them: a day in UTC such as 2027-03-31, or a duration such as 90d. Times are microseconds."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from leadline.clock import MICROSECONDS_PER_DAY, duration
from leadline.errors import InvalidRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def first_moment(day: str) -> int:
    """When a day begins. ValueError where it is none."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day):
        raise ValueError(f"{day!r} is not a date. Write it as 2027-03-31")
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * MICROSECONDS_PER_DAY


def last_moment(day: str) -> int:
    """A day's last microsecond, so that what ends then is shown with that day. ValueError where it is none."""
    return first_moment(day) + MICROSECONDS_PER_DAY - 1


def end(text: str, now: int) -> int:
    """When a day ends, or a duration from now on. ValueError where it is neither."""
    with suppress(ValueError):
        return last_moment(text)
    return now + duration(text)


def beginning(text: str, now: int) -> int:
    """When a day begins, or a duration until now. ValueError where it is neither."""
    with suppress(ValueError):
        return first_moment(text)
    return now - duration(text)


def moment(text: str) -> int:
    """When a day begins, or a time with its offset (RFC 3339). ValueError where it is neither."""
    with suppress(ValueError):
        return first_moment(text)
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no offset. Write it as 2027-01-01T12:00:00Z")
    return (time - _EPOCH) // timedelta(microseconds=1)


def expiry(text: str, now: int) -> int:
    """As `end`, for what has not ended yet: InvalidRequest."""
    try:
        at = end(text, now)
    except ValueError:
        raise InvalidRequest(
            f"{text!r} is not an expiry. Write a duration such as 90d, or a date such as 2027-03-31.", "expires"
        ) from None
    if at <= now:
        raise InvalidRequest(f"{text} is over already. Write a later expiry, such as 90d.", "expires")
    return at
