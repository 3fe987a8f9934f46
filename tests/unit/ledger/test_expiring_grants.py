"""Grants that have a date: spent first, and what is left of them ends."""

import asyncio

import pytest

from leadline.chat.events import Usage
from leadline.errors import CreditsHeld, InsufficientCredits
from leadline.ledger.audit import audit
from leadline.ledger.ledger import Ledger
from leadline.money import Ticks
from leadline.storage.database import Database, DatabaseUnusable
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import DAY, HOUR, NOON, USAGE, SteppedClock, balance, failed, finished, hold

SOON, LATER = NOON + 1 * DAY, NOON + 2 * DAY


async def spend(ledger: Ledger, ticks: int) -> None:
    running = hold(ticks)
    ledger.reserve(running)
    await ledger.settle(running, finished(running, ticks))


async def left(database: Database) -> dict[int, int]:
    """What is left of the grants that have a date, by date."""
    return dict(await database.rows("SELECT expires_at, SUM(left_ticks) FROM expiring_grants GROUP BY expires_at"))


async def lines(ledger: Ledger) -> list[tuple[str, int]]:
    return [(entry.kind, entry.amount_ticks) for entry in await ledger.entries("org_alice")]


async def test_what_has_a_date_is_spent_first_and_the_earliest_date_first(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "for ever")
    await ledger.grant("org_alice", Ticks(50), "later", LATER)
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)

    steps = []
    for ticks in (10, 25, 50):
        await spend(ledger, ticks)
        steps.append(await left(database))

    assert steps == [{SOON: 20, LATER: 50}, {LATER: 45}, {}]
    assert ledger.balance("org_alice") == balance(95)


async def test_two_grants_of_one_date_are_both_spent_and_both_end(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(30), "one", SOON)
    await ledger.grant("org_alice", Ticks(30), "other", SOON)
    await spend(ledger, 40)
    after_spending = await left(database)

    clock.now = SOON
    await ledger.tick()

    assert after_spending == {SOON: 20}
    assert ledger.balance("org_alice") == balance(0)


async def test_the_rest_of_a_grant_ends_on_its_date(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(100), "for ever")
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    await spend(ledger, 20)

    clock.now = SOON - 1
    await ledger.tick()
    the_moment_before = ledger.balance("org_alice")
    clock.now = SOON
    await ledger.tick()

    assert the_moment_before == balance(130)
    assert ledger.balance("org_alice") == balance(100)
    assert await lines(ledger) == [("grant", 100), ("grant", 50), ("charge", -20), ("expiry", -30)]


async def test_a_grant_that_was_spent_ends_without_an_entry(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(100), "for ever")
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    await spend(ledger, 60)

    clock.now = SOON
    await ledger.tick()

    assert ledger.balance("org_alice") == balance(90)
    assert [kind for kind, _ in await lines(ledger)] == ["grant", "grant", "charge"]


async def test_all_that_is_due_ends_in_one_entry(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)
    await ledger.grant("org_alice", Ticks(50), "later", LATER)

    clock.now = LATER
    await ledger.tick()

    assert await lines(ledger) == [("grant", 30), ("grant", 50), ("expiry", -80)]


async def test_after_one_date_the_next_one_is_awaited(ledger: Ledger, clock: SteppedClock, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)
    await ledger.grant("org_alice", Ticks(50), "later", LATER)

    balances = []
    for moment in (SOON, LATER - 1, LATER):
        clock.now = moment
        await ledger.tick()
        balances.append(ledger.balance("org_alice"))
    writes = commits.count
    clock.step(DAY)
    await ledger.tick()

    assert balances == [balance(50), balance(50), balance(0)]
    assert commits.count == writes


async def test_a_date_that_comes_earlier_than_the_known_one_is_not_missed(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(50), "later", LATER)
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)

    clock.now = SOON
    await ledger.tick()

    assert ledger.balance("org_alice") == balance(50)


async def test_what_running_requests_hold_of_a_grant_ends_once_it_is_free(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    running = hold(40)
    ledger.reserve(running)

    clock.now = SOON
    await ledger.tick()
    while_running = ledger.balance("org_alice")
    await ledger.settle(running, finished(running, 15))
    await ledger.tick()

    assert while_running == balance(40, held_ticks=40)
    assert ledger.balance("org_alice") == balance(0)
    assert await lines(ledger) == [("grant", 50), ("expiry", -10), ("charge", -15), ("expiry", -25)]


async def test_a_grant_that_is_wholly_held_waits(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    running = hold(50)
    ledger.reserve(running)

    clock.now = SOON
    for _ in range(3):
        await ledger.tick()
    while_running = await lines(ledger)
    await ledger.settle(running, failed(running))
    await ledger.tick()

    assert while_running == [("grant", 50)]
    assert await lines(ledger) == [("grant", 50), ("expiry", -50)]


async def test_a_grant_whose_date_is_past_ends_at_the_next_tick(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(50), "too late", NOON - 1)

    await ledger.tick()

    assert ledger.balance("org_alice") == balance(0)


async def test_dates_survive_a_restart(ledger: Ledger, database: Database, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)
    await ledger.grant("org_alice", Ticks(50), "later", LATER)
    again = Ledger(database, clock)
    await again.load()

    balances = []
    for moment in (SOON, LATER):
        clock.now = moment
        await again.tick()
        balances.append(again.balance("org_alice"))

    assert balances == [balance(50), balance(0)]


async def test_what_a_crash_cut_is_spent_before_the_grant_ends(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    running = hold(40)
    ledger.reserve(running)
    await ledger.checkpoint([(running, 0, Usage())])
    await ledger.checkpoint([(running, 15, USAGE)])

    clock.now = LATER
    again = Ledger(database, clock)
    await again.load()
    await again.tick()

    assert await lines(again) == [("grant", 50), ("charge", -15), ("expiry", -35)]
    assert (await audit(database, again, clock)).broken == ()


async def test_an_account_never_owes_however_much_ends(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    running = [hold(20), hold(20)]
    for one in running:
        ledger.reserve(one)
    clock.now = SOON

    await asyncio.gather(
        ledger.tick(), *(ledger.settle(one, finished(one, 20)) for one in running), ledger.tick(), ledger.tick()
    )

    with pytest.raises(InsufficientCredits):
        ledger.reserve(hold(1))
    assert ledger.balance("org_alice") == balance(0)


async def test_what_is_about_to_end_cannot_be_reserved(ledger: Ledger, clock: SteppedClock, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    await ledger.grant("org_alice", Ticks(30), "for ever")
    clock.now = SOON
    commits.let_wait()
    ticking = asyncio.ensure_future(ledger.tick())
    await commits.one_waits()

    with pytest.raises(CreditsHeld):
        ledger.reserve(hold(31))
    commits.let_go()
    await ticking

    with pytest.raises(InsufficientCredits):
        ledger.reserve(hold(31))
    ledger.reserve(hold(30))


async def test_an_end_that_the_disk_refused_comes_with_the_next_tick(
    ledger: Ledger, clock: SteppedClock, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    clock.now = SOON
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await ledger.tick()
    in_between = ledger.balance("org_alice")

    await ledger.tick()

    assert in_between == balance(50)
    assert ledger.balance("org_alice") == balance(0)


async def test_an_end_counts_even_if_its_tick_is_cancelled(
    ledger: Ledger, database: Database, clock: SteppedClock, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    clock.now = SOON
    commits.let_wait()
    ticking = asyncio.ensure_future(ledger.tick())
    await commits.one_waits()

    ticking.cancel()
    await asyncio.wait([ticking])
    commits.let_go()
    await ledger.grant("org_alice", Ticks(1), "afterwards")

    assert ledger.balance("org_alice") == balance(1)
    assert await database.rows("SELECT balance_ticks FROM accounts") == [(1,)]


async def test_a_date_given_while_another_grant_ends_is_not_forgotten(
    ledger: Ledger, clock: SteppedClock, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)
    clock.now = SOON
    commits.let_wait()
    first = asyncio.ensure_future(ledger.grant("org_alice", Ticks(1), "the one before"))
    await commits.one_waits()
    ticking = asyncio.ensure_future(ledger.tick())
    granting = asyncio.ensure_future(ledger.grant("org_alice", Ticks(50), "later", LATER))
    for _ in range(3):
        await asyncio.sleep(0)
    commits.let_go()
    await asyncio.gather(first, ticking, granting)

    clock.now = LATER
    await ledger.tick()

    assert ledger.balance("org_alice") == balance(1)


async def test_a_grant_that_comes_while_another_one_ends_is_spent_first_from_its_commit_on(
    ledger: Ledger, database: Database, clock: SteppedClock, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)
    await ledger.grant("org_alice", Ticks(20), "for ever")
    running = hold(20)
    ledger.reserve(running)
    clock.now = SOON
    commits.let_wait()
    ticking = asyncio.ensure_future(ledger.tick())
    await commits.one_waits()
    granting = asyncio.ensure_future(ledger.grant("org_alice", Ticks(50), "later", LATER))
    for _ in range(3):
        await asyncio.sleep(0)

    commits.let_one_go()
    await commits.one_waits()
    await ticking
    settling = ledger.settle(running, finished(running, 20))
    commits.let_go()
    await asyncio.gather(granting, settling)

    assert await left(database) == {LATER: 30}
    assert ledger.balance("org_alice") == balance(50)


async def test_the_books_are_in_order_while_a_grant_ends(
    ledger: Ledger, database: Database, clock: SteppedClock, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(50), "soon", SOON)
    ledger.reserve(hold(20))
    clock.now = SOON
    commits.let_wait()
    ticking = asyncio.ensure_future(ledger.tick())
    await commits.one_waits()

    audited = await audit(database, ledger, clock)
    commits.let_go()
    await ticking

    assert audited.broken == ()


async def test_a_clock_that_steps_back_brings_nothing_back_and_ends_nothing_early(
    ledger: Ledger, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(30), "soon", SOON)
    await ledger.grant("org_alice", Ticks(50), "later", LATER)
    clock.now = SOON
    await ledger.tick()

    clock.step(-HOUR)
    await ledger.tick()

    assert ledger.balance("org_alice") == balance(50)
