import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from leadline.chat.events import Usage
from leadline.errors import CreditsHeld, InsufficientCredits
from leadline.ledger.audit import audit
from leadline.ledger.books import Replay
from leadline.ledger.ledger import Balance, Ledger
from leadline.ledger.usage import UsageBook
from leadline.money import Ticks, usd
from leadline.storage import postgres, sqlite
from leadline.storage.database import Conflict, Database, DatabaseUnusable, Write
from tests.unit.conftest import HANGS_SECONDS, Commits
from tests.unit.ledger.scenes import (
    HOUR,
    NOON,
    USAGE,
    SteppedClock,
    balance,
    failed,
    finished,
    hold,
    interrupted,
    record,
)


async def settled_books(database: Database) -> Balance:
    """What a server that starts now would find."""
    again = Ledger(database)
    await again.load()
    return again.balance("org_alice")


async def test_a_request_is_charged_what_it_used_and_the_rest_comes_back(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)

    ledger.reserve(running)
    while_running = ledger.balance("org_alice")
    await ledger.settle(running, finished(running, 30))

    assert while_running == balance(100, held_ticks=80)
    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)


async def test_an_entry_tells_the_request_its_key_and_its_model(ledger: Ledger, clock: SteppedClock) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80, key="key-7", model="grok-beta")
    ledger.reserve(running)
    await ledger.settle(running, interrupted(running, 30, at=NOON + HOUR))

    [given, spent] = await ledger.entries("org_alice")

    assert (given.at, given.kind, given.amount_ticks, given.reason) == (clock.now, "grant", 100, "welcome")
    assert (given.request_id, given.key_id, given.model, given.reserved_ticks) == (None, None, None, None)
    assert (spent.at, spent.kind, spent.amount_ticks, spent.reason) == (NOON + HOUR, "charge", -30, "interrupted")
    assert (spent.id, spent.request_id) == (running.request_id, running.request_id)
    assert (spent.key_id, spent.model, spent.reserved_ticks) == ("key-7", "grok-beta", 80)


@pytest.mark.parametrize(("end", "reason"), [(finished, ""), (interrupted, "interrupted")])
async def test_a_request_leaves_a_record_of_its_tokens_beside_its_charge(
    ledger: Ledger, database: Database, end: Any, reason: str
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    ended = end(running, 30, streamed=True, first_token_milliseconds=12, total_milliseconds=345)

    await ledger.settle(running, ended)

    assert await UsageBook(database).records("org_alice") == [ended.record]
    assert [(entry.id, entry.reason) for entry in await ledger.entries("org_alice", limit=1)] == [
        (running.request_id, reason)
    ]


async def test_a_request_that_can_cost_more_than_is_left_is_refused_with_both_amounts(ledger: Ledger) -> None:
    await ledger.grant("org_alice", usd("0.50"), "welcome")

    with pytest.raises(InsufficientCredits, match=r"up to \$0\.75, and \$0\.50 of credits are left"):
        ledger.reserve(hold(usd("0.75")))

    assert ledger.balance("org_alice") == balance(usd("0.50"))


async def test_a_request_that_only_has_to_wait_for_another_is_told_so(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ledger.reserve(hold(60))

    with pytest.raises(CreditsHeld) as refused:
        ledger.reserve(hold(41))
    ledger.reserve(hold(40))

    assert refused.value.retry_after_seconds == 1
    assert ledger.balance("org_alice") == balance(100, held_ticks=100)


async def test_what_is_available_is_what_neither_was_spent_nor_is_held(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ended = hold(50)
    ledger.reserve(ended)
    ledger.reserve(hold(20))
    await ledger.settle(ended, finished(ended, 30))

    assert ledger.available_ticks(hold(1)) == ledger.balance("org_alice").available_ticks == 50


async def test_a_free_request_runs_at_balance_zero_and_leaves_an_entry(ledger: Ledger) -> None:
    free = hold(0)

    ledger.reserve(free)
    await ledger.settle(free, finished(free, 0))

    assert [(entry.kind, entry.amount_ticks) for entry in await ledger.entries("org_alice")] == [("charge", 0)]


async def test_settling_again_and_again_charges_once(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    await ledger.checkpoint([(running, 0, Usage())])

    ends = [finished(running, 30) for _ in range(5)] + [failed(running)]
    async with asyncio.timeout(HANGS_SECONDS):
        await asyncio.gather(*(ledger.settle(running, end) for end in ends))
        await ledger.settle(running, finished(running, 80))

    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)
    assert len(await ledger.entries("org_alice")) == 2


async def test_a_failed_request_costs_nothing_and_leaves_only_its_record(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running, secured = hold(30), hold(40)
    ledger.reserve(running)
    ledger.reserve(secured)
    await ledger.checkpoint([(secured, 0, Usage())])

    await ledger.settle(running, failed(running))
    await ledger.settle(secured, failed(secured, "unavailable"))

    assert ledger.balance("org_alice") == balance(100)
    assert [entry.kind for entry in await ledger.entries("org_alice")] == ["grant"]
    assert await database.rows("SELECT * FROM holds") == []
    records = await UsageBook(database).records("org_alice")
    assert {(one.request_id, one.status, one.error, one.cost_ticks) for one in records} == {
        (running.request_id, "failed", "engine_failed", 0),
        (secured.request_id, "failed", "unavailable", 0),
    }


async def test_a_charge_above_its_reservation_is_impossible(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)

    for wrong in (81, -1):
        with pytest.raises(AssertionError, match="never exceeds its reservation"):
            await ledger.settle(running, finished(running, wrong))

    assert ledger.balance("org_alice") == balance(100, held_ticks=80)
    assert await settled_books(database) == balance(100)


async def test_credits_come_back_only_once_the_charge_is_durable(ledger: Ledger, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    settling = asyncio.ensure_future(ledger.settle(running, finished(running, 30)))
    await commits.one_waits()

    with pytest.raises(CreditsHeld):
        ledger.reserve(hold(21))
    commits.let_go()
    await settling

    ledger.reserve(hold(70))


@pytest.mark.parametrize("secured", [False, True])
async def test_a_charge_that_the_disk_refused_is_tried_again_until_it_is_written(
    ledger: Ledger, database: Database, commits: Commits, clock: SteppedClock, secured: bool
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    if secured:
        await ledger.checkpoint([(running, 0, Usage())])
    commits.refusals = 3

    await ledger.settle(running, finished(running, 30))

    assert commits.refusals == 0
    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)
    assert (await audit(database, ledger, clock)).broken == ()


async def test_how_a_request_ended_is_asked_anew_for_each_try(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    commits.refusals = 1
    ended = finished(running, 30)
    settling = asyncio.ensure_future(ledger.settle(running, ended))
    await commits.one_waits()

    ended.record = record(running, 25, status="interrupted")
    commits.let_go()
    await settling

    assert ledger.balance("org_alice") == await settled_books(database) == balance(75)
    assert [entry.amount_ticks for entry in await ledger.entries("org_alice")] == [100, -25]
    assert await UsageBook(database).records("org_alice") == [ended.record]


async def test_what_was_on_its_way_to_the_disk_when_its_client_heard_of_an_error_is_given_back(
    ledger: Ledger, database: Database, commits: Commits, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    ended = finished(running, 30)
    settling = ledger.settle(running, ended)
    await commits.one_waits()

    ended.record = record(running, 25, status="interrupted")
    commits.spared, commits.refusals = 1, 2
    commits.let_go()
    await settling
    async with asyncio.timeout(HANGS_SECONDS):
        while ledger.balance("org_alice") != balance(75):
            await asyncio.sleep(0)

    assert await settled_books(database) == balance(75)
    entries = await ledger.entries("org_alice")
    assert [(entry.kind, entry.amount_ticks) for entry in entries[1:]] == [("charge", -30), ("refund", 5)]
    assert {entry.request_id for entry in entries[1:]} == {running.request_id}
    assert (await audit(database, ledger, clock)).broken == ()


async def test_a_charge_that_was_written_never_grows(ledger: Ledger, database: Database, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    ended = finished(running, 30)
    settling = ledger.settle(running, ended)
    await commits.one_waits()

    ended.record = record(running, 40)
    commits.let_go()
    await settling
    await ledger.close()

    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)
    assert len(await ledger.entries("org_alice")) == 2


async def test_the_first_who_settles_tells_the_outcome_however_many_wait(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    first, second = finished(running, 30), finished(running, 40)

    async with asyncio.timeout(HANGS_SECONDS):
        await asyncio.gather(ledger.settle(running, first), ledger.settle(running, second))

    assert second.asked == 0
    assert ledger.balance("org_alice") == balance(70)


@pytest.mark.parametrize("others_wait", [False, True])
async def test_a_settlement_goes_on_when_its_waiter_is_cancelled(
    ledger: Ledger, database: Database, commits: Commits, others_wait: bool
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)

    async def wait() -> None:
        await asyncio.shield(ledger.settle(running, finished(running, 30)))

    commits.let_wait()
    commits.refusals = 1
    gone, stays = asyncio.create_task(wait()), asyncio.create_task(wait())
    await commits.one_waits()
    gone.cancel()
    if not others_wait:
        stays.cancel()
    await asyncio.wait([gone])
    commits.let_go()
    async with asyncio.timeout(HANGS_SECONDS):
        await asyncio.wait([stays])
        await ledger.settle(running, finished(running, 30))

    assert (gone.cancelled(), stays.cancelled()) == (True, not others_wait)
    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)


async def test_a_charge_is_written_even_if_the_future_of_its_settlement_is_cancelled(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    commits.refusals = 1
    settling = ledger.settle(running, finished(running, 30))
    await commits.one_waits()

    settling.cancel()
    commits.let_go()
    async with asyncio.timeout(HANGS_SECONDS):
        while ledger.running():
            await asyncio.sleep(0)

    assert complaints == []
    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)


async def test_closing_waits_for_what_is_about_to_be_settled(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    settling = ledger.settle(running, finished(running, 30))
    await commits.one_waits()

    closing = asyncio.ensure_future(ledger.close())
    await asyncio.sleep(0)
    commits.let_go()
    await closing

    assert settling.done()
    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)


async def test_closing_gives_a_refused_settlement_one_more_chance(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    await ledger.checkpoint([(running, 0, Usage())])
    commits.let_wait()
    commits.refusals = 1_000_000
    settling = ledger.settle(running, finished(running, 30))
    await commits.one_waits()

    closing = asyncio.ensure_future(ledger.close())
    commits.let_go()
    await closing

    with pytest.raises(DatabaseUnusable):
        await settling
    commits.refusals = 0
    assert [row for (row,) in await database.rows("SELECT request_id FROM holds")] == [running.request_id]


async def test_closing_does_not_wait_for_a_disk_that_never_answers(
    ledger: Ledger, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.ledger.ledger.CLOSE_SECONDS", 0)
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    settling = ledger.settle(running, finished(running, 30))
    await commits.one_waits()

    await ledger.close()

    await asyncio.wait([settling])
    assert settling.cancelled()


async def test_a_grant_that_the_disk_refused_gives_nothing(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    commits.refusals = 1

    with pytest.raises(DatabaseUnusable):
        await ledger.grant("org_alice", Ticks(100), "welcome")

    assert ledger.balance("org_alice") == await settled_books(database) == balance(0)


async def test_a_grant_counts_even_if_whoever_gave_it_has_gone(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    commits.let_wait()
    granting = asyncio.ensure_future(ledger.grant("org_alice", Ticks(100), "welcome"))
    await commits.one_waits()
    granting.cancel()
    await asyncio.wait([granting])
    commits.let_go()
    await ledger.grant("org_alice", Ticks(1), "a tip")

    assert ledger.balance("org_alice") == await settled_books(database) == balance(101)


async def test_nothing_is_begun_while_the_disk_takes_no_writes(ledger: Ledger, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await ledger.grant("org_alice", Ticks(1), "refused")

    with pytest.raises(DatabaseUnusable) as refused:
        ledger.reserve(hold(0))

    assert refused.value.retry_after_seconds == 1
    assert ledger.balance("org_alice") == balance(100)


async def test_a_tick_finds_out_that_the_disk_takes_writes_again(
    ledger: Ledger, database: Database, commits: Commits, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    commits.refusals = 2
    with pytest.raises(DatabaseUnusable):
        await ledger.grant("org_alice", Ticks(1), "refused")

    with pytest.raises(DatabaseUnusable):
        await ledger.tick()
    still_away = database.writable
    await ledger.tick()

    ledger.reserve(hold(100))
    assert not still_away
    assert await database.rows("SELECT value FROM facts WHERE name = 'heartbeat'") == [(clock.now,)]


async def test_a_tick_with_nothing_due_leaves_the_disk_alone(ledger: Ledger, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    before = commits.count

    await ledger.tick()

    assert commits.count == before


def note_rows(monkeypatch: pytest.MonkeyPatch, statement: str, note: Callable[[tuple[Any, ...]], None]) -> None:
    """Tells each row that a statement which begins so is given, on either database."""
    for writes in (sqlite.SqliteTransaction, postgres.PostgresTransaction):
        monkeypatch.setattr(writes, "write_many", _noting(writes.write_many, statement, note))


def _noting(write_many: Any, statement: str, note: Callable[[tuple[Any, ...]], None]) -> Any:
    def noted(transaction: Any, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if sql.startswith(statement):
            for row in rows:
                note(row)
        write_many(transaction, sql, rows)

    return noted


async def test_a_hold_that_begins_and_ends_within_one_commit_never_touches_the_disk(
    ledger: Ledger, database: Database, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[tuple[Any, ...]] = []
    note_rows(monkeypatch, "INSERT INTO holds", lambda row: touched.append((row[0], row[8])))
    await ledger.grant("org_alice", Ticks(100), "welcome")
    quick, slow = hold(30), hold(40)
    for running in (quick, slow):
        ledger.reserve(running)
    commits.let_wait()
    first = asyncio.ensure_future(ledger.grant("org_alice", Ticks(1), "the one before"))
    await commits.one_waits()

    everything = [
        ledger.checkpoint([(quick, 5, Usage())]),
        ledger.checkpoint([(quick, 10, USAGE), (slow, 10, USAGE)]),
        ledger.settle(quick, finished(quick, 20)),
    ]
    await asyncio.sleep(0)
    commits.let_go()
    await asyncio.gather(first, *everything)

    assert touched == [(slow.request_id, 10)]
    assert await database.rows("SELECT request_id, used_ticks FROM holds") == [(slow.request_id, 10)]
    assert ledger.balance("org_alice") == balance(81, held_ticks=40)


async def test_an_account_changes_once_however_many_of_its_requests_end_together(
    ledger: Ledger, database: Database, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[int] = []
    note_rows(monkeypatch, "UPDATE accounts SET balance_ticks", lambda row: touched.append(row[0]))
    await ledger.grant("org_alice", Ticks(100), "welcome")
    several = [hold(10) for _ in range(5)]
    for running in several:
        ledger.reserve(running)
    commits.let_wait()
    first = asyncio.ensure_future(ledger.grant("org_alice", Ticks(1), "the one before"))
    await commits.one_waits()

    settling = [ledger.settle(running, finished(running, 4)) for running in several]
    await asyncio.sleep(0)
    commits.let_go()
    await asyncio.gather(first, *settling)

    assert touched == [100, 1, -20]
    assert await database.rows("SELECT balance_ticks FROM accounts") == [(81,)]


async def test_all_that_changes_an_account_in_one_commit_adds_up(
    ledger: Ledger, database: Database, commits: Commits, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    first = asyncio.ensure_future(ledger.grant("org_alice", Ticks(1), "the one before"))
    await commits.one_waits()

    granting = [asyncio.ensure_future(ledger.grant("org_alice", Ticks(ticks), "more")) for ticks in (2, 4)]
    for _ in range(3):
        await asyncio.sleep(0)
    settling = ledger.settle(running, finished(running, 30))
    granting.append(asyncio.ensure_future(ledger.grant("org_alice", Ticks(8), "more")))
    for _ in range(3):
        await asyncio.sleep(0)
    commits.let_go()
    await asyncio.gather(first, settling, *granting)

    assert ledger.balance("org_alice") == await settled_books(database) == balance(85)
    assert [entry.amount_ticks for entry in await ledger.entries("org_alice")] == [100, 1, 2, 4, -30, 8]
    assert (await audit(database, ledger, clock)).broken == ()


async def test_what_the_disk_refuses_together_is_written_one_by_one_in_the_same_order(
    ledger: Ledger, database: Database, commits: Commits, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    several = [hold(10, name=f"request-{number}") for number in range(5)]
    for running in several:
        ledger.reserve(running)
    commits.let_wait()
    first = asyncio.ensure_future(ledger.grant("org_alice", Ticks(1), "the one before"))
    await commits.one_waits()

    everything = [ledger.checkpoint([(running, 0, Usage())]) for running in several]
    everything += [ledger.settle(running, finished(running, 4)) for running in several]
    await asyncio.sleep(0)
    commits.spared, commits.refusals = 1, 1
    commits.let_go()
    await asyncio.gather(first, *everything)

    entries = await ledger.entries("org_alice")
    assert [entry.request_id for entry in entries[2:]] == [running.request_id for running in several]
    assert commits.refusals == 0
    assert ledger.balance("org_alice") == await settled_books(database) == balance(81)
    assert (await audit(database, ledger, clock)).broken == ()


async def test_an_answer_to_be_repeated_is_kept_with_its_charge(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80, replayable=True)
    ledger.reserve(running)
    ended = finished(running, 30)
    ended.replay = Replay("key digest", "body digest", b"sealed", NOON + HOUR)

    await ledger.settle(running, ended)

    assert await database.rows("SELECT * FROM replays") == [
        ("org_alice", "key digest", "body digest", running.request_id, b"sealed", NOON + HOUR)
    ]


async def test_a_kept_answer_that_has_expired_is_replaced_by_the_next_one(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    for body, answer, until in (("first body", b"first", NOON), ("second body", b"second", NOON + HOUR)):
        running = hold(10, replayable=True)
        ledger.reserve(running)
        ended = finished(running, 3)
        ended.replay = Replay("key digest", body, answer, until)

        await ledger.settle(running, ended)

    assert await database.rows("SELECT body_digest, request_id, answer, expires_at FROM replays") == [
        ("second body", running.request_id, b"second", NOON + HOUR)
    ]


async def test_an_answer_is_not_kept_without_its_charge(ledger: Ledger, database: Database, commits: Commits) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80, replayable=True)
    ledger.reserve(running)
    commits.let_wait()
    commits.refusals = 1
    ended = finished(running, 30)
    ended.replay = Replay("key digest", "body digest", b"sealed", NOON + HOUR)
    settling = ledger.settle(running, ended)
    await commits.one_waits()

    # It was too late for the client, which got an error instead.
    ended.replay, ended.record = None, record(running, 25, status="interrupted")
    commits.let_go()
    await settling

    assert await database.rows("SELECT * FROM replays") == []
    assert ledger.balance("org_alice") == balance(75)


async def test_the_ids_of_running_requests_are_known(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ended, running = hold(10, name="ended"), hold(10, name="running")
    ledger.reserve(ended)
    ledger.reserve(running)

    await ledger.settle(ended, finished(ended, 3))

    assert ledger.running() == {"running"}


async def test_the_newest_entries_are_shown_last(ledger: Ledger) -> None:
    for number in range(1, 6):
        await ledger.grant("org_alice", Ticks(number), f"grant {number}")

    everything = [entry.reason for entry in await ledger.entries("org_alice")]
    newest = [entry.reason for entry in await ledger.entries("org_alice", limit=2)]

    assert everything == [f"grant {number}" for number in range(1, 6)]
    assert newest == ["grant 4", "grant 5"]


async def test_an_organisation_sees_only_its_own_entries(ledger: Ledger, database: Database) -> None:
    await database.commit(
        Write("INSERT INTO organisations (id, name, created_at) VALUES ('org_charlie', 'Charlie', 1)"),
        ledger.opening("org_charlie"),
    )
    ledger.opened("org_charlie")
    for number in range(1, 5):
        await ledger.grant("org_alice" if number % 2 else "org_charlie", Ticks(number), f"grant {number}")

    assert [entry.reason for entry in await ledger.entries("org_alice")] == ["grant 1", "grant 3"]
    assert [entry.reason for entry in await ledger.entries("org_charlie", limit=1)] == ["grant 4"]


async def test_entries_keep_the_order_of_their_writing_when_the_clock_steps_back(
    ledger: Ledger, clock: SteppedClock
) -> None:
    await ledger.grant("org_alice", Ticks(1), "first")
    clock.step(-HOUR)
    await ledger.grant("org_alice", Ticks(2), "second")

    assert [entry.reason for entry in await ledger.entries("org_alice")] == ["first", "second"]


def kept_and_yet_refused(monkeypatch: pytest.MonkeyPatch, database: Database, times: int) -> None:
    """The next commits reach the disk, and then the disk says that they did not."""
    left = times
    transact = database._transact

    def transact_and_refuse(units: Any) -> Exception | None:
        nonlocal left
        error = transact(units)
        if left:
            left -= 1
            return DatabaseUnusable("disk error")
        return error

    monkeypatch.setattr(database, "_transact", transact_and_refuse)


async def test_a_charge_whose_commit_was_kept_though_the_disk_refused_it_is_not_written_again(
    ledger: Ledger, database: Database, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running, other = hold(80), hold(10)
    ledger.reserve(running)
    ledger.reserve(other)
    kept_and_yet_refused(monkeypatch, database, times=2)

    async with asyncio.timeout(HANGS_SECONDS):
        await asyncio.gather(ledger.settle(running, finished(running, 30)), ledger.settle(other, finished(other, 4)))

    assert ledger.balance("org_alice") == await settled_books(database) == balance(66)
    assert [entry.amount_ticks for entry in await ledger.entries("org_alice")] == [100, -30, -4]
    assert (await audit(database, ledger, clock)).broken == ()


async def test_what_a_kept_charge_was_too_much_comes_back(
    ledger: Ledger, database: Database, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk kept the first try and said that it did not; when it is tried again, less is due."""
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    ended = finished(running, 30)
    kept_and_yet_refused(monkeypatch, database, times=1)
    settling = ledger.settle(running, ended)
    ended.record = record(running, 25, status="interrupted")

    async with asyncio.timeout(HANGS_SECONDS):
        await settling
        await ledger.close()

    assert ledger.balance("org_alice") == await settled_books(database) == balance(75)
    assert [entry.amount_ticks for entry in await ledger.entries("org_alice")] == [100, -30, 5]
    assert (await audit(database, ledger, clock)).broken == ()


async def test_what_is_written_beside_a_grant_is_in_its_commit(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    beside = Write("UPDATE facts SET value = 7 WHERE name = 'heartbeat'")
    nothing = Write("UPDATE facts SET value = 8 WHERE name = 'nothing'")
    count = commits.count

    await ledger.grant("org_alice", Ticks(100), "welcome", also=(beside,))
    commits_of_one = commits.count - count
    with pytest.raises(Conflict):
        await ledger.grant("org_alice", Ticks(50), "welcome", also=(nothing,))

    assert commits_of_one == 1
    assert await database.rows("SELECT value FROM facts WHERE name = 'heartbeat'") == [(7,)]
    assert ledger.balance("org_alice").balance_ticks == 100
    assert len(await ledger.entries("org_alice")) == 1
