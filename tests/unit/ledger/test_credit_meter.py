"""How much of the credits is left, against what there was right after the last grant."""

import asyncio

import pytest

from leadline.ledger.audit import audit
from leadline.ledger.books import Entry
from leadline.ledger.ledger import CreditMeter, Ledger
from leadline.money import Ticks
from leadline.storage.database import Database, Write
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import DAY, NOON, SteppedClock, balance, finished, hold

NOTE = "INSERT INTO facts (name, value) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING"


async def spend(ledger: Ledger, ticks: int) -> None:
    running = hold(ticks)
    ledger.reserve(running)
    await ledger.settle(running, finished(running, ticks))


def meter(available: int, of: int, number: int) -> CreditMeter:
    return CreditMeter(Ticks(available), Ticks(of), number)


async def again(database: Database, clock: SteppedClock) -> Ledger:
    opened = Ledger(database, clock)
    await opened.load()
    return opened


async def test_what_is_left_is_measured_against_what_there_was_after_the_last_grant(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    seen = [ledger.meter("org_alice")]
    await ledger.grant("org_alice", Ticks(100), "welcome")
    seen.append(ledger.meter("org_alice"))
    await spend(ledger, 30)
    seen.append(ledger.meter("org_alice"))
    await ledger.grant("org_alice", Ticks(10), "more")
    seen.append(ledger.meter("org_alice"))

    assert seen == [meter(0, 0, 0), meter(100, 100, 1), meter(70, 100, 1), meter(80, 80, 3)]
    assert (await again(database, clock)).meter("org_alice") == seen[-1]


async def test_what_running_requests_hold_is_not_left(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ledger.reserve(hold(25))

    assert ledger.meter("org_alice").percent == 75


@pytest.mark.parametrize(
    ("left", "of", "percent"), [(0, 0, 0), (0, 7, 0), (199, 200, 99), (1, 200, 0), (300, 200, 100)]
)
def test_percents_are_rounded_down_and_stay_between_0_and_100(left: int, of: int, percent: int) -> None:
    assert meter(left, of, 1).percent == percent


async def test_charges_of_the_same_commit_count_as_they_were_written(
    ledger: Ledger, database: Database, commits: Commits, clock: SteppedClock
) -> None:
    """Memory says what the disk says, and so what the next start says."""
    await ledger.grant("org_alice", Ticks(100), "welcome")
    before, after = hold(10), hold(10)
    ledger.reserve(before)
    ledger.reserve(after)
    commits.let_wait()
    first = asyncio.ensure_future(ledger.grant("org_alice", Ticks(1), "the one before"))
    await commits.one_waits()
    waiting = [
        ledger.settle(before, finished(before, 4)),
        asyncio.ensure_future(ledger.grant("org_alice", Ticks(50), "more")),
    ]
    await asyncio.sleep(0)
    waiting.append(ledger.settle(after, finished(after, 8)))
    commits.let_go()
    await asyncio.gather(first, *waiting)

    assert ledger.balance("org_alice") == balance(139)
    assert ledger.meter("org_alice").of_ticks in (147, 139)
    assert (await again(database, clock)).meter("org_alice") == ledger.meter("org_alice")


async def test_only_grants_fill_the_meter(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(100), "for ever")
    await ledger.grant("org_alice", Ticks(50), "soon", NOON + DAY)

    clock.step(2 * DAY)
    await ledger.tick()

    assert ledger.meter("org_alice") == meter(100, 150, 2)


async def test_those_whose_balance_changed_are_told_once_and_all_after_a_start(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    at_start = ledger.take_changed()
    unchanged = ledger.take_changed()
    await ledger.grant("org_alice", Ticks(100), "welcome")
    granted = ledger.take_changed()
    await spend(ledger, 10)

    assert (at_start, unchanged, granted) == ({"org_alice"}, set(), {"org_alice"})
    assert ledger.take_changed() == {"org_alice"}
    assert (await again(database, clock)).take_changed() == {"org_alice"}


async def credit(ledger: Ledger, ticks: int, payment: str = "pi_1") -> bool:
    entry = Entry(f"entry-{ticks}-{payment}", NOON, "grant", ticks, "paid")
    return await ledger.credit("org_alice", entry, Write(NOTE, (payment,)))


async def test_a_payment_is_credited_once_however_often_and_at_once(ledger: Ledger, database: Database) -> None:
    credited = await asyncio.gather(*(credit(ledger, 100 + number) for number in range(50)))
    once_more = await credit(ledger, 100)
    other = await credit(ledger, 1, "pi_2")

    assert (sum(credited), once_more, other) == (1, False, True)
    [(amount, _)] = [(entry.amount_ticks, entry.id) for entry in (await ledger.entries("org_alice"))[:1]]
    assert ledger.balance("org_alice") == balance(amount + 1)
    assert (await audit(database, ledger)).broken == ()


async def test_a_payment_is_credited_once_though_the_disk_refuses_for_a_while(
    ledger: Ledger, database: Database, commits: Commits, clock: SteppedClock
) -> None:
    commits.refusals = 5

    assert await credit(ledger, 100)

    assert ledger.balance("org_alice") == (await again(database, clock)).balance("org_alice") == balance(100)
    assert ledger.meter("org_alice") == meter(100, 100, 1)


def taken(_: int) -> list[Write]:
    return []


async def take_back(ledger: Ledger, ticks: int, name: str = "refund") -> int | None:
    return await ledger.take_back("org_alice", ticks, "refunded", Write(NOTE, (name,)), taken)


async def test_what_is_taken_back_is_an_adjustment_once_and_never_below_zero(
    ledger: Ledger, database: Database
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    await spend(ledger, 30)

    steps = [await take_back(ledger, 50, "one"), await take_back(ledger, 50, "one"), await take_back(ledger, 50, "two")]

    assert steps == [50, None, 20]
    assert ledger.balance("org_alice") == balance(0)
    kinds = [(entry.kind, entry.amount_ticks) for entry in await ledger.entries("org_alice")]
    assert kinds == [("grant", 100), ("charge", -30), ("adjustment", -50), ("adjustment", -20)]
    assert (await audit(database, ledger)).broken == ()


async def test_what_running_requests_hold_is_not_taken_back(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(40)
    ledger.reserve(running)

    assert await take_back(ledger, 100) == 60
    await ledger.settle(running, finished(running, 15))

    assert ledger.balance("org_alice") == balance(25)
    assert (await audit(database, ledger)).broken == ()


async def test_what_is_taken_back_comes_from_what_has_no_date(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "for ever")
    await ledger.grant("org_alice", Ticks(50), "soon", NOON + DAY)

    await take_back(ledger, 70, "one")
    first = await database.rows("SELECT SUM(left_ticks) FROM expiring_grants")
    await take_back(ledger, 70, "two")

    assert (first, await database.rows("SELECT SUM(left_ticks) FROM expiring_grants")) == ([(50,)], [(10,)])
    assert ledger.balance("org_alice") == balance(10)
    assert (await audit(database, ledger)).broken == ()


async def test_what_is_being_taken_back_cannot_be_spent_meanwhile(ledger: Ledger, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    commits.let_wait()
    taking = asyncio.ensure_future(take_back(ledger, 80))
    await commits.one_waits()

    available = ledger.meter("org_alice").available_ticks
    honest = ledger.discrepancies()
    commits.let_go()
    await taking

    assert (available, honest) == (20, [])
    assert ledger.balance("org_alice") == balance(20)
