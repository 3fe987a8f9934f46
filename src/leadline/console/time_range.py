"""The time that a page looks at: one of those that people ask for most, or from one day to another, in UTC."""

from dataclasses import dataclass
from datetime import date, timedelta

from leadline.clock import date_of, day_of

PRESETS = (
    ("today", "Today"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("month", "This month"),
    ("last-month", "Last month"),
)
CUSTOM = "custom"
_DAYS = {"today": 1, "7d": 7, "30d": 30}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """`since` and `until` are days as 2027-03-31, both whole; empty: from the beginning, until now."""

    name: str
    label: str
    since: str
    until: str


def time_range(name: str, since: str, until: str, now: int) -> TimeRange | None:
    """What a URL asks for; None where it names no time. Days that are none stay as they were written: whoever reads
    them refuses them."""
    if since or until:
        return TimeRange(CUSTOM, _written(since, until), since, until)
    today = date_of(day_of(now))
    if name in _DAYS:
        first, last = today - timedelta(_DAYS[name] - 1), today
    elif name == "month":
        first, last = today.replace(day=1), today
    elif name == "last-month":
        last = today.replace(day=1) - timedelta(1)
        first = last.replace(day=1)
    else:
        return None
    return TimeRange(name, dict(PRESETS)[name], first.isoformat(), last.isoformat())


def days_between(since: str, until: str, now: int) -> int:
    """How many days that are, both counted; 1 where one of them is no day."""
    today = date_of(day_of(now))
    try:
        last = min(date.fromisoformat(until), today) if until else today
        return max(1, (last - date.fromisoformat(since)).days + 1)
    except ValueError:
        return 1


def words(first: date, last: date) -> str:
    """From one day to another, the month and the year once where they are the same."""
    if first == last:
        return f"{last.day} {last:%b %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {last.day} {last:%b %Y}"
    year = "" if first.year == last.year else f" {first.year}"
    return f"{first.day} {first:%b}{year} to {last.day} {last:%b %Y}"


def _written(since: str, until: str) -> str:
    try:
        if since and until:
            return words(date.fromisoformat(since), date.fromisoformat(until))
        first = date.fromisoformat(since or until)
    except ValueError:
        return "Other dates"
    return f"{'Since' if since else 'Until'} {first.day} {first:%b %Y}"
