"""The spending caps of keys, by day, week and month in UTC."""

import pytest

from leadline.chat.events import Usage
from leadline.errors import CreditsHeld, InsufficientCredits, KeyCapSpent
from leadline.ledger.books import Hold
from leadline.ledger.ledger import Ledger
from leadline.money import SpendCap, Ticks, usd
from leadline.storage.database import Database
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import DAY, SECOND, SteppedClock, at, balance, finished, hold, record

PERIODS = [
    pytest.param("day", at(2027, 1, 13, 23, 59, 59), at(2027, 1, 14), id="midnight"),
    pytest.param("week", at(2027, 1, 17, 23, 59, 59), at(2027, 1, 18), id="Monday"),
    pytest.param("month", at(2027, 1, 31, 23, 59, 59), at(2027, 2, 1), id="first of February"),
    pytest.param("month", at(2028, 2, 29, 23, 59, 59), at(2028, 3, 1), id="first of March in a leap year"),
    pytest.param("month", at(2027, 12, 31, 23, 59, 59), at(2028, 1, 1), id="new year"),
]


@pytest.fixture
async def ledger(ledger: Ledger) -> Ledger:
    """Credits enough for everything here."""
    await ledger.grant("org_alice", Ticks(10_000), "welcome")
    return ledger


def capped(ticks: int, cap: int = 100, period: str = "day", **more: str) -> Hold:
    return hold(ticks, cap=SpendCap(Ticks(cap), period), **more)


async def spend(ledger: Ledger, clock: SteppedClock, ticks: int, key: str = "key-1") -> None:
    """A request without a cap, which counts for the key's cap all the same."""
    running = hold(ticks, key=key)
    ledger.reserve(running)
    await ledger.settle(running, finished(running, ticks, at=clock.now))


async def test_a_key_that_has_spent_its_cap_is_refused_with_all_amounts(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", usd("10"), "more")
    await spend(ledger, clock, usd("1.50"))

    with pytest.raises(KeyCapSpent) as refused:
        ledger.reserve(capped(usd("0.75"), usd("2"), "week"))

    assert str(refused.value) == (
        "The API key “laptop” may spend $2.00 a week and has spent $1.50; this request can cost up to $0.75. Raise the "
        "key's cap, use another key, or wait for the next week (UTC)."
    )


async def test_a_key_may_spend_its_cap_to_the_last_tick(ledger: Ledger, clock: SteppedClock) -> None:
    await spend(ledger, clock, 60)

    with pytest.raises(KeyCapSpent):
        ledger.reserve(capped(41))
    ledger.reserve(capped(40))


async def test_a_key_whose_cap_is_only_held_by_its_running_requests_is_told_to_wait(
    ledger: Ledger, clock: SteppedClock
) -> None:
    await spend(ledger, clock, 20)
    running = capped(50)
    ledger.reserve(running)

    with pytest.raises(CreditsHeld, match=r"is spent and .* is held by its own running requests") as refused:
        ledger.reserve(capped(31))
    ledger.reserve(capped(30))
    await ledger.settle(running, finished(running, 5, at=clock.now))
    ledger.reserve(capped(45))

    assert refused.value.retry_after_seconds == 1


async def test_a_refused_request_holds_nothing(ledger: Ledger, clock: SteppedClock) -> None:
    await spend(ledger, clock, 60)

    with pytest.raises(KeyCapSpent):
        ledger.reserve(capped(41))
    with pytest.raises(InsufficientCredits):
        ledger.reserve(capped(10_001, 100_000))

    assert ledger.balance("org_alice") == balance(9_940)
    assert ledger.available_ticks(capped(1)) == 40


async def test_what_is_available_is_bound_by_the_cap_or_by_the_credits(ledger: Ledger, clock: SteppedClock) -> None:
    await spend(ledger, clock, 20)
    ledger.reserve(capped(30))

    assert ledger.available_ticks(capped(1)) == 50
    assert ledger.available_ticks(capped(1, cap=1_000_000)) == 9_950


async def test_a_cap_does_not_bind_another_key(ledger: Ledger, clock: SteppedClock) -> None:
    await spend(ledger, clock, 100)

    ledger.reserve(capped(100, key="key-2"))


async def test_a_cap_that_changes_counts_what_was_spent_before(ledger: Ledger, clock: SteppedClock) -> None:
    await spend(ledger, clock, 60)

    ledger.reserve(capped(50, cap=110, period="month"))
    with pytest.raises(KeyCapSpent):
        ledger.reserve(capped(50, cap=109))


@pytest.mark.parametrize(("period", "last", "first"), PERIODS)
async def test_a_cap_begins_anew_with_its_period(
    ledger: Ledger, clock: SteppedClock, period: str, last: int, first: int
) -> None:
    clock.now = last
    await spend(ledger, clock, 100)
    with pytest.raises(KeyCapSpent):
        ledger.reserve(capped(1, period=period))

    clock.now = first

    assert ledger.available_ticks(capped(1, period=period)) == 100
    ledger.reserve(capped(100, period=period))


@pytest.mark.parametrize(
    ("period", "before", "after"),
    [
        pytest.param("week", at(2027, 3, 31, 12), at(2027, 4, 1, 12), id="the first within a week"),
        pytest.param("month", at(2027, 1, 17, 12), at(2027, 1, 18, 12), id="Monday within a month"),
        pytest.param("week", at(2027, 1, 18), at(2027, 1, 24, 23, 59, 59), id="Monday to Sunday"),
        pytest.param("month", at(2027, 1, 1), at(2027, 1, 31, 23, 59, 59), id="first to last"),
    ],
)
async def test_a_cap_stays_spent_for_all_of_its_period(
    ledger: Ledger, clock: SteppedClock, period: str, before: int, after: int
) -> None:
    clock.now = before
    await spend(ledger, clock, 100)

    clock.now = after

    with pytest.raises(KeyCapSpent):
        ledger.reserve(capped(1, period=period))


@pytest.mark.parametrize(("period", "last", "first"), PERIODS)
async def test_a_clock_that_steps_back_opens_no_past_period_again(
    ledger: Ledger, clock: SteppedClock, period: str, last: int, first: int
) -> None:
    clock.now = first
    await spend(ledger, clock, 60)

    clock.now = last
    await spend(ledger, clock, 40)
    spent_before = ledger.available_ticks(capped(1, period=period))
    clock.now = first

    assert spent_before == ledger.available_ticks(capped(1, period=period)) == 0


async def test_a_clock_that_jumps_far_ahead_opens_all_periods(ledger: Ledger, clock: SteppedClock) -> None:
    await spend(ledger, clock, 100)

    clock.step(400 * DAY)

    assert [ledger.available_ticks(capped(1, period=period)) for period in ("day", "week", "month")] == [100] * 3


async def test_what_runs_over_midnight_is_held_and_spent_on_the_new_day(ledger: Ledger, clock: SteppedClock) -> None:
    clock.now = at(2027, 1, 13, 23, 59, 59)
    running = capped(70)
    ledger.reserve(running)

    clock.step(SECOND)
    while_running = ledger.available_ticks(capped(1))
    await ledger.settle(running, finished(running, 30, at=clock.now))

    assert (while_running, ledger.available_ticks(capped(1))) == (30, 70)


async def test_what_keys_have_spent_survives_a_restart(ledger: Ledger, database: Database, clock: SteppedClock) -> None:
    for day, ticks in ((at(2026, 12, 31), 1), (at(2027, 1, 1), 2), (at(2027, 1, 11), 4), (at(2027, 1, 13), 8)):
        clock.now = day
        await spend(ledger, clock, ticks)
        await spend(ledger, clock, 10 * ticks, key="key-2")

    again = Ledger(database, clock)
    await again.load()

    for key, tenth in (("key-1", 1), ("key-2", 10)):
        left = [again.available_ticks(capped(1, 1000, period, key=key)) for period in ("day", "week", "month")]
        assert left == [1000 - 8 * tenth, 1000 - 12 * tenth, 1000 - 14 * tenth]


async def test_what_is_given_back_can_be_spent_again(ledger: Ledger, commits: Commits, clock: SteppedClock) -> None:
    running = capped(70)
    ledger.reserve(running)
    commits.let_wait()
    ended = finished(running, 50, at=clock.now)
    settling = ledger.settle(running, ended)
    await commits.one_waits()

    ended.record = record(running, 20, at=clock.now)
    commits.let_go()
    await settling

    assert [ledger.available_ticks(capped(1, period=period)) for period in ("day", "week", "month")] == [80] * 3


async def test_what_a_crash_cut_counts_for_its_keys_cap(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    running = capped(70)
    ledger.reserve(running)
    await ledger.checkpoint([(running, 0, Usage())])
    await ledger.checkpoint([(running, 30, finished(running, 30).record.usage)])

    again = Ledger(database, clock)
    await again.load()

    assert again.available_ticks(capped(1)) == 70
