"""What was used at a glance."""

import pytest

from leadline.chat.events import Usage
from leadline.ledger.ledger import Ledger
from leadline.ledger.overview import (
    HOURS,
    SPARK_DAYS,
    Burn,
    LastDay,
    LimitedHours,
    burn,
    last_day,
    limited_by_hour,
    sparks,
)
from leadline.money import Ticks
from leadline.storage.database import Database
from tests.unit.ledger.scenes import DAY, HOUR, NOON, failed, finished, hold, id_at, record


@pytest.fixture
async def ledger(ledger: Ledger) -> Ledger:
    await ledger.grant("org_alice", Ticks(1_000_000), "welcome")
    return ledger


async def spend(ledger: Ledger, ticks: int, when: int, key: str = "key-1") -> None:
    running = hold(ticks, name=id_at(when, ticks), opened_at=when, key=key)
    ledger.reserve(running)
    await ledger.settle(running, finished(running, ticks, usage=Usage(7, 3, 1, 5, 2)))


async def test_the_last_day_is_24_hours_with_the_present_one(ledger: Ledger, database: Database) -> None:
    for hours in (0, 23, 24):
        await spend(ledger, 10 + hours, NOON - hours * HOUR)
    broken = hold(1, name=id_at(NOON, 900))
    ledger.reserve(broken)
    await ledger.settle(broken, failed(broken))
    for number, error in enumerate(("rate_limited", "credits_held", "permission_denied")):
        one = hold(0, name=id_at(NOON, 901 + number))
        ledger.note(record(one, status="refused", error=error, usage=Usage()))
    await ledger.tick()

    assert await last_day(database, "org_alice", NOON + HOUR - 1) == LastDay(6, 28, 43, 1, 3, 2)
    assert await last_day(database, "org_charlie", NOON) == LastDay(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(("most", "expected"), [(10_000, 4), (4, 3)])
async def test_rate_limited_requests_are_counted_by_the_hour(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch, most: int, expected: int
) -> None:
    """Where there are very many, not all of an hour are counted."""
    monkeypatch.setattr("leadline.ledger.overview.MOST_LIMITED", most)
    monkeypatch.setattr("leadline.ledger.overview.MOST_LIMITED_AN_HOUR", 2)
    errors = ("rate_limited", "permission_denied", "credits_held")
    for number, hours in enumerate((0, 1, 1, 1, 1, 1, 23, 24)):
        one = hold(0, name=id_at(NOON - hours * HOUR, number), key=f"key-{number % 2}")
        error = "permission_denied" if number == 1 else errors[number % 2 * 2]
        ledger.note(record(one, status="refused", error=error, usage=Usage()))
    await ledger.tick()

    limited = await limited_by_hour(database, "org_alice", NOON)
    assert limited == LimitedHours((1, *[0] * (HOURS - 3), expected, 1), all=most > 4)
    assert await limited_by_hour(database, "org_charlie", NOON) == LimitedHours((0,) * HOURS)


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        ([], Burn(0, None)),
        ([(700, 7 * DAY)], Burn(0, None)),
        ([(700, 0)], Burn(700, 10)),
        ([(700, 2 * DAY)], Burn(280, 25)),
        ([(100, 4 * DAY), (300, 2 * DAY)], Burn(88, 78)),
        ([(1, 6 * DAY)], Burn(0, 45_500)),
    ],
)
async def test_credits_last_as_long_as_the_last_seven_days_say(
    ledger: Ledger, database: Database, spent: list[tuple[int, int]], expected: Burn
) -> None:
    """Who began less than seven days ago is measured since that day, for a day at least."""
    for ticks, ago in spent:
        await spend(ledger, ticks, NOON - ago)

    assert await burn(database, "org_alice", 7000, NOON) == expected


async def test_each_key_has_its_last_two_weeks(ledger: Ledger, database: Database) -> None:
    for ticks, days in ((1, 0), (2, 0), (4, 13), (8, 14)):
        await spend(ledger, ticks, NOON - days * DAY)
    await spend(ledger, 16, NOON - 14 * DAY, key="key-2")

    found = await sparks(database, "org_alice", NOON)

    assert list(found) == ["key-1"]
    assert found["key-1"].cost_ticks == (4, *[0] * (SPARK_DAYS - 2), 3)
    assert found["key-1"].requests == (1, *[0] * (SPARK_DAYS - 2), 2)
