"""What the next start makes of a crash."""

import pytest

from leadline.chat.events import Usage
from leadline.ledger.audit import audit
from leadline.ledger.books import Hold
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import UsageBook, UsageRecord
from leadline.money import Ticks
from leadline.storage.database import Database
from tests.unit.ledger.scenes import HOUR, NOON, SECOND, USAGE, SteppedClock, balance, finished, hold


@pytest.fixture
async def running(ledger: Ledger) -> Hold:
    """A stream that holds 80 of 100 ticks, on disk."""
    await ledger.grant("org_alice", Ticks(100), "welcome")
    stream = hold(80)
    ledger.reserve(stream)
    await ledger.checkpoint([(stream, 0, Usage())])
    return stream


async def restarted(database: Database, clock: SteppedClock, recovered: int) -> Ledger:
    again = Ledger(database, clock)
    assert await again.load() == recovered
    return again


async def test_what_a_crash_left_held_is_charged_as_of_its_last_checkpoint(
    ledger: Ledger, running: Hold, database: Database, clock: SteppedClock
) -> None:
    await ledger.checkpoint([(running, 10, Usage(7))])
    await ledger.checkpoint([(running, 30, USAGE)])

    again = await restarted(database, clock, recovered=1)

    assert again.balance("org_alice") == balance(70)
    [_, charge] = await again.entries("org_alice")
    assert (charge.request_id, charge.amount_ticks, charge.reason) == (running.request_id, -30, "interrupted")
    assert charge.reserved_ticks == 80
    assert (await audit(database, again, clock)).broken == ()


async def test_a_crash_is_made_good_exactly_once(
    ledger: Ledger, running: Hold, database: Database, clock: SteppedClock
) -> None:
    await ledger.checkpoint([(running, 30, USAGE)])

    await restarted(database, clock, recovered=1)
    again = await restarted(database, clock, recovered=0)

    assert again.balance("org_alice") == balance(70)
    assert len(await again.entries("org_alice")) == 2


async def test_the_record_of_what_a_crash_cut_says_so(
    ledger: Ledger, running: Hold, database: Database, clock: SteppedClock
) -> None:
    await ledger.checkpoint([(running, 30, USAGE)])
    clock.step(90 * SECOND)

    await restarted(database, clock, recovered=1)

    assert await UsageBook(database).records("org_alice") == [
        UsageRecord(
            *("org_alice", running.request_id, NOON, NOON + 90 * SECOND, "key-1", "mock", "/v1/chat/completions"),
            status="interrupted",
            error="server_stopped",
            streamed=True,
            usage=USAGE,
            cost_ticks=30,
            total_milliseconds=90_000,
        )
    ]


async def test_a_clock_that_stepped_back_over_a_crash_makes_no_negative_duration(
    ledger: Ledger, running: Hold, database: Database, clock: SteppedClock
) -> None:
    await ledger.checkpoint([(running, 30, USAGE)])
    clock.step(-HOUR)

    await restarted(database, clock, recovered=1)

    [record] = await UsageBook(database).records("org_alice")
    assert record.total_milliseconds == 0


async def test_a_stream_that_a_crash_cut_before_its_first_checkpoint_costs_nothing(
    running: Hold, database: Database, clock: SteppedClock
) -> None:
    again = await restarted(database, clock, recovered=1)

    assert again.balance("org_alice") == balance(100)
    assert [entry.kind for entry in await again.entries("org_alice")] == ["grant"]
    [record] = await UsageBook(database).records("org_alice")
    assert (record.status, record.error, record.usage) == ("failed", "server_stopped", Usage())


async def test_a_request_that_its_client_will_send_again_costs_nothing_when_a_crash_cuts_it(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80, replayable=True)
    ledger.reserve(running)
    await ledger.checkpoint([(running, 0, Usage())])
    await ledger.checkpoint([(running, 30, USAGE)])

    again = await restarted(database, clock, recovered=1)

    assert again.balance("org_alice") == balance(100)
    [record] = await UsageBook(database).records("org_alice")
    assert (record.status, record.usage, record.cost_ticks) == ("failed", Usage(), 0)


async def test_all_that_a_crash_left_held_is_free_again(
    ledger: Ledger, database: Database, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    for running in (hold(10), hold(20), hold(30)):
        ledger.reserve(running)
        await ledger.checkpoint([(running, 0, Usage())])
    ledger.reserve(hold(40))

    again = await restarted(database, clock, recovered=3)

    assert again.balance("org_alice") == balance(100)
    assert await database.rows("SELECT * FROM holds") == []


async def test_a_request_that_was_settled_before_the_crash_is_left_alone(
    ledger: Ledger, running: Hold, database: Database, clock: SteppedClock
) -> None:
    await ledger.settle(running, finished(running, 30))

    again = await restarted(database, clock, recovered=0)

    assert again.balance("org_alice") == balance(70)


async def test_a_checkpoint_that_comes_after_the_end_does_not_open_the_request_again(
    ledger: Ledger, running: Hold, database: Database, clock: SteppedClock
) -> None:
    settling = ledger.settle(running, finished(running, 30))
    late = ledger.checkpoint([(running, 40, USAGE)])
    await settling
    await late
    await ledger.checkpoint([(running, 50, USAGE)])

    again = await restarted(database, clock, recovered=0)

    assert again.balance("org_alice") == balance(70)
