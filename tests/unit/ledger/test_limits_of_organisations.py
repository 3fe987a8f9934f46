"""The monthly limits of organisations: part of admission, as exact as the caps of keys."""

import asyncio

import pytest

from leadline.errors import CreditsHeld, InsufficientCredits, KeyCapSpent, SpendLimitReached
from leadline.ledger.ledger import Ledger
from leadline.money import SpendCap, Ticks, usd
from leadline.storage.database import Database, Write
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import SteppedClock, at, balance, finished, hold, record

LIMIT = (
    "INSERT INTO spend_limits (organisation_id, hard_ticks) VALUES ($1, $2)"
    " ON CONFLICT (organisation_id) DO UPDATE SET hard_ticks = excluded.hard_ticks"
)


@pytest.fixture
async def ledger(ledger: Ledger) -> Ledger:
    """Credits enough for everything here."""
    await ledger.grant("org_alice", usd("1000"), "welcome")
    return ledger


async def limit(ledger: Ledger, ticks: int | None) -> None:
    amount = None if ticks is None else Ticks(ticks)
    await ledger.change_limit("org_alice", amount, Write(LIMIT, ("org_alice", ticks)))


async def spend(ledger: Ledger, clock: SteppedClock, ticks: int, key: str = "key-1") -> None:
    running = hold(ticks, key=key)
    ledger.reserve(running)
    await ledger.settle(running, finished(running, ticks, at=clock.now))


async def test_an_organisation_at_its_limit_is_told_the_limit_and_when_it_begins_anew(
    ledger: Ledger, clock: SteppedClock
) -> None:
    await limit(ledger, usd("2"))
    await spend(ledger, clock, usd("1.50"))

    with pytest.raises(SpendLimitReached) as refused:
        ledger.reserve(hold(usd("0.75")))

    assert isinstance(refused.value, InsufficientCredits)
    assert str(refused.value) == (
        "Your organisation's limit is $2.00 a month, and $1.50 is spent; this request can cost up to $0.75. Raise the "
        "limit under Billing, or wait: it begins anew on 1 February 2027 (UTC)."
    )
    assert ledger.balance("org_alice") == balance(usd("998.50"))


async def test_all_keys_of_an_organisation_spend_of_one_limit_to_the_last_tick(
    ledger: Ledger, clock: SteppedClock
) -> None:
    await limit(ledger, 100)
    await spend(ledger, clock, 30, "key-1")
    await spend(ledger, clock, 30, "key-2")

    with pytest.raises(SpendLimitReached):
        ledger.reserve(hold(41, key="key-3"))
    ledger.reserve(hold(40, key="key-3"))

    assert ledger.available_ticks(hold(1)) == 0


async def test_a_limit_counts_what_was_spent_before_it_was_set(ledger: Ledger, clock: SteppedClock) -> None:
    await spend(ledger, clock, 60)

    await limit(ledger, 100)

    assert (ledger.available_ticks(hold(1)), ledger.spent_in_month("org_alice")) == (40, 60)


async def test_what_running_requests_hold_of_a_limit_is_waited_for(ledger: Ledger, clock: SteppedClock) -> None:
    await limit(ledger, 100)
    running = hold(70)
    ledger.reserve(running)

    with pytest.raises(CreditsHeld, match=r"that your organisation may spend, .* is held by its own running requests"):
        ledger.reserve(hold(31))
    await ledger.settle(running, finished(running, 5, at=clock.now))

    ledger.reserve(hold(95))


async def test_a_key_with_a_cap_is_bound_by_whatever_is_less(ledger: Ledger, clock: SteppedClock) -> None:
    await limit(ledger, 100)
    await spend(ledger, clock, 60)

    with pytest.raises(KeyCapSpent):
        ledger.reserve(hold(20, key="key-2", cap=SpendCap(Ticks(10), "day")))
    with pytest.raises(SpendLimitReached):
        ledger.reserve(hold(50, key="key-2", cap=SpendCap(Ticks(200), "day")))

    assert ledger.available_ticks(hold(1, key="key-2", cap=SpendCap(Ticks(10), "day"))) == 10
    assert ledger.available_ticks(hold(1, key="key-2", cap=SpendCap(Ticks(200), "day"))) == 40


async def test_a_limit_that_is_taken_away_binds_nobody(ledger: Ledger, clock: SteppedClock) -> None:
    await limit(ledger, 100)
    await limit(ledger, None)

    await spend(ledger, clock, 101)

    assert ledger.limit_of("org_alice") is None


async def test_a_limit_holds_for_all_of_its_month_and_begins_anew_with_the_next(
    ledger: Ledger, clock: SteppedClock
) -> None:
    clock.now = at(2027, 12, 1)
    await limit(ledger, 100)
    await spend(ledger, clock, 100)
    clock.now = at(2027, 12, 31, 23, 59, 59)
    with pytest.raises(SpendLimitReached, match=r"begins anew on 1 January 2028 \(UTC\)"):
        ledger.reserve(hold(1))

    clock.now = at(2028, 1, 1)

    ledger.reserve(hold(100))


async def test_a_limit_and_what_was_spent_of_it_survive_a_restart(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    await limit(ledger, 100)
    clock.now = at(2026, 12, 31)
    await spend(ledger, clock, 50)
    clock.now = at(2027, 1, 31)
    await spend(ledger, clock, 30, "key-1")
    await spend(ledger, clock, 30, "key-2")

    again = Ledger(database, clock)
    await again.load()

    assert again.available_ticks(hold(1)) == 40
    with pytest.raises(SpendLimitReached):
        again.reserve(hold(41))


async def test_a_limit_that_does_not_reach_the_disk_does_not_hold(ledger: Ledger, commits: Commits) -> None:
    commits.refusals = 1

    with pytest.raises(Exception, match="cannot be written"):
        await limit(ledger, 1)

    assert ledger.limit_of("org_alice") is None


async def test_what_is_given_back_can_be_spent_again(ledger: Ledger, commits: Commits, clock: SteppedClock) -> None:
    await limit(ledger, 100)
    running = hold(70)
    ledger.reserve(running)
    commits.let_wait()
    ended = finished(running, 50, at=clock.now)
    settling = ledger.settle(running, ended)
    await commits.one_waits()

    ended.record = record(running, 20, at=clock.now)
    commits.let_go()
    await settling

    assert ledger.available_ticks(hold(1)) == 80


async def test_of_500_requests_at_once_no_more_are_let_in_than_the_limit_covers(
    ledger: Ledger, clock: SteppedClock
) -> None:
    await limit(ledger, 10_000)
    await spend(ledger, clock, 50)
    most = 0

    async def one(number: int) -> bool:
        nonlocal most
        await asyncio.sleep(0)
        running = hold(100, key=f"key-{number % 7}")
        try:
            ledger.reserve(running)
        except (SpendLimitReached, CreditsHeld):
            return False
        most = max(most, ledger.spent_in_month("org_alice") + ledger.balance("org_alice").held_ticks)
        await asyncio.sleep(0)
        await ledger.settle(running, finished(running, 100 if number % 2 else 37, at=clock.now))
        return True

    let_in = await asyncio.gather(*(one(number) for number in range(500)))

    assert 99 <= sum(let_in) < 500
    assert most <= 10_000
    assert ledger.spent_in_month("org_alice") <= 10_000
    assert ledger.available_ticks(hold(1)) == 10_000 - ledger.spent_in_month("org_alice")
