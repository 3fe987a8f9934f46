"""Time. Durations are taken from a monotonic clock in nanoseconds; dates are microseconds since 1970 in UTC.

Whoever needs the time takes a clock as an argument, so that tests can step it.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Literal

Clock = Callable[[], int]
Period = Literal["day", "week", "month"]

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_HOUR = 3600 * MICROSECONDS_PER_SECOND
MICROSECONDS_PER_DAY = 24 * MICROSECONDS_PER_HOUR
_MICROSECONDS = {"s": MICROSECONDS_PER_SECOND, "m": 60 * MICROSECONDS_PER_SECOND, "h": MICROSECONDS_PER_HOUR}
_MICROSECONDS["d"] = MICROSECONDS_PER_DAY


def now_microseconds() -> int:
    """The wall clock: microseconds since 1970 in UTC."""
    return time.time_ns() // 1000


def day_of(microseconds: int) -> int:
    """Days since 1970."""
    return microseconds // MICROSECONDS_PER_DAY


def first_day(period: Period, day: int) -> int:
    """The day on which the period that holds `day` began. Weeks begin on Monday; the days are UTC's."""
    match period:
        case "day":
            return day
        case "week":
            return day - (day + 3) % 7  # day 0, 1 January 1970, was a Thursday
        case "month":
            return day - datetime.fromtimestamp(day * 86400, UTC).day + 1


def next_first_day(period: Period, day: int) -> int:
    """The day on which the period begins that follows the one of `day`."""
    longest = {"day": 1, "week": 7, "month": 31}[period]
    return first_day(period, first_day(period, day) + longest)


def date_of(day: int) -> date:
    """The date of a day since 1970."""
    return datetime.fromtimestamp(day * 86400, UTC).date()


def duration(text: str) -> int:
    """A duration such as `2s`, `15m`, `24h` or `90d`, in microseconds. ValueError where it is none."""
    written = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if written is None:
        raise ValueError(f"{text!r} is not a duration. Write it as 30s, 15m, 24h or 90d")
    return int(written.group(1)) * _MICROSECONDS[written.group(2)]


def rfc3339(microseconds: int) -> str:
    """A date as the APIs show it: RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(microseconds // MICROSECONDS_PER_SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds % MICROSECONDS_PER_SECOND // 1000:03d}Z"
