"""What somebody should look at: keys that are wider than they need to be, and limits that are near."""

from collections.abc import Iterator
from dataclasses import dataclass

from leadline.accounts.api_key import ApiKey
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.console.formats import usd2
from leadline.console.visit import Visit
from leadline.ledger.overview import LastDay

UNUSED_DAYS = 30
EXPIRES_SOON_DAYS = 7
NEAR_PERCENT = 80
_MOST_NEWS = 6


@dataclass(frozen=True, slots=True)
class News:
    """A limit that is near, or was met, and where to do something about it."""

    text: str
    path: str
    is_met: bool = False


def needs(key: ApiKey, last_used_at: int | None, now: int) -> tuple[str, ...]:
    """Why a key that works should be looked at, in words for a list."""
    if key.state(now) != "active":
        return ()
    idle = now - max(key.created_at, last_used_at or 0) > UNUSED_DAYS * MICROSECONDS_PER_DAY
    told = (
        (key.cap is None, "No spend cap"),
        (key.expires_at is None, "Never expires"),
        (idle, f"Unused for {UNUSED_DAYS} days"),
    )
    return tuple(words for holds, words in told if holds)


def news(visit: Visit, day: LastDay) -> list[News]:
    """Those of the visitor's organisation, what is met before what is near."""
    found = [*_of_month(visit), *_of_keys(visit)]
    if day.limited:
        count = f"{day.limited:,} request{'' if day.limited == 1 else 's'}"
        found.append(News(f"{count} went beyond a rate limit in the last 24 hours", "/limits"))
    return sorted(found, key=lambda one: not one.is_met)[:_MOST_NEWS]


def _of_month(visit: Visit) -> Iterator[News]:
    ledger, organisation_id = visit.instance.ledger, visit.organisation_id
    limit = ledger.limit_of(organisation_id)
    if limit is not None and (percent := ledger.spent_in_month(organisation_id) * 100 // limit) >= NEAR_PERCENT:
        told = f"{min(100, percent)} % of the month's limit of {usd2(limit)} are spent"
        yield News(told, "/billing", percent >= 100)


def _of_keys(visit: Visit) -> Iterator[News]:
    keys, ledger = visit.instance.keys, visit.instance.ledger
    now = keys.clock()
    for key in keys.of(visit.organisation_id):
        path = f"/keys/{key.id}"
        if key.state(now) != "active":
            continue
        if key.cap is not None:
            percent = ledger.spent_by_key(key.id, key.cap.period) * 100 // key.cap.ticks
            if percent >= NEAR_PERCENT:
                cap = f"{usd2(key.cap.ticks)} a {key.cap.period}"
                yield News(f"{key.name} has used {min(100, percent)} % of its cap of {cap}", path, percent >= 100)
        if key.expires_at is not None and key.expires_at - now < EXPIRES_SOON_DAYS * MICROSECONDS_PER_DAY:
            days = (key.expires_at - now) // MICROSECONDS_PER_DAY
            soon = "today" if days < 1 else "tomorrow" if days == 1 else f"in {days} days"
            yield News(f"{key.name} expires {soon}", path)
