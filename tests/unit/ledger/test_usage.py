"""What was used: records and their sums, which agree with the ledger to the tick."""

import asyncio
import random
from collections import defaultdict
from dataclasses import fields
from typing import Any

import pytest

from leadline.chat.events import Usage
from leadline.ledger.audit import audit
from leadline.ledger.ledger import MOST_NOTED, Ledger
from leadline.ledger.usage import COUNTS, Group, UsageBook, UsageRecord, UsageSum
from leadline.money import Ticks
from leadline.storage.database import Database, DatabaseUnusable, Write
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import (
    DAY,
    HOUR,
    NOON,
    SECOND,
    Ended,
    SteppedClock,
    at,
    failed,
    finished,
    hold,
    id_at,
    record,
)

MIDNIGHT = at(2027, 1, 14)


@pytest.fixture
async def ledger(ledger: Ledger) -> Ledger:
    """Credits enough for everything here."""
    await ledger.grant("org_alice", Ticks(1_000_000), "welcome")
    return ledger


@pytest.fixture
def book(database: Database) -> UsageBook:
    return UsageBook(database)


def refused(number: int = 0, **more: Any) -> UsageRecord:
    one = hold(0, name=id_at(NOON, number))
    return record(one, status="refused", error="rate_limited", usage=Usage(), **more)


async def spend(ledger: Ledger, ticks: int, began: int, ended: int | None = None, **more: str) -> UsageRecord:
    """A request by its time: of when it is and ends."""
    running = hold(ticks, name=more.pop("name", id_at(began)), opened_at=began, **more)
    ledger.reserve(running)
    end = finished(running, ticks, at=began if ended is None else ended)
    await ledger.settle(running, end)
    return end.record


@pytest.mark.parametrize("seed", range(5))
async def test_the_sums_of_every_group_agree_with_the_records_and_the_charges(
    ledger: Ledger, book: UsageBook, seed: int
) -> None:
    chance = random.Random(seed)
    records = []
    for number in range(40):
        began = NOON + chance.randrange(3 * DAY)
        running = hold(
            *(chance.randrange(100),),
            name=id_at(began, number),
            key=chance.choice(["key-1", "key-2"]),
            model=chance.choice(["mock", "grok-beta", "echo"]),
            endpoint=chance.choice(["/v1/messages", "/v1/chat/completions"]),
        )
        usage = Usage(*(chance.randrange(1, 50) for _ in range(5)))
        status = chance.choice(["finished", "finished", "interrupted", "failed", "refused"])
        paid = status in ("finished", "interrupted")
        one = record(
            running, running.ticks if paid else 0, status=status, usage=usage if paid else Usage(), at=began + HOUR
        )
        records.append(one)
        if status == "refused":
            ledger.note(one)
        else:
            ledger.reserve(running)
            await ledger.settle(running, Ended(one))
    await ledger.tick()

    groups: dict[Group, Any] = {
        "model": lambda one: one.model,
        "key": lambda one: one.key_id,
        "endpoint": lambda one: one.endpoint,
        "day": lambda one: one.at // DAY,
        "hour": lambda one: one.at // HOUR,
    }
    entries = await ledger.entries("org_alice")
    charged = sum(-entry.amount_ticks for entry in entries if entry.kind == "charge")
    for by, group_of in groups.items():
        sums = await book.sums("org_alice", NOON, NOON + 4 * DAY, by)
        assert {one.group: one for one in sums} == summed(records, group_of)
        assert sum(one.cost_ticks for one in sums) == charged


def summed(records: list[UsageRecord], group_of: Any) -> dict[Any, UsageSum]:
    sums: dict[Any, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for one in records:
        tokens = (getattr(one.usage, field.name) for field in fields(Usage))
        counts = (1, one.status == "failed", one.status == "refused", *tokens, one.cost_ticks)
        sums[group_of(one)] = [a + b for a, b in zip(sums[group_of(one)], counts, strict=True)]
    return {group: UsageSum(group, *counts) for group, counts in sums.items()}


async def test_sums_by_time_begin_with_the_oldest_and_others_with_the_costliest(
    ledger: Ledger, book: UsageBook
) -> None:
    await spend(ledger, 10, NOON + DAY, model="a")
    await spend(ledger, 30, NOON, model="b")
    await spend(ledger, 20, NOON + 2 * DAY, model="c")
    await spend(ledger, 20, NOON + 3 * DAY, model="d")

    days = await book.sums("org_alice", NOON, NOON + 4 * DAY, "day")
    hours = await book.sums("org_alice", NOON, NOON + 4 * DAY, "hour")
    models = await book.sums("org_alice", NOON, NOON + 4 * DAY, "model")

    assert [one.cost_ticks for one in days] == [one.cost_ticks for one in hours] == [30, 10, 20, 20]
    assert [one.group for one in models] == ["b", "c", "d", "a"]


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        (MIDNIGHT, MIDNIGHT + DAY, [2, 4]),
        (MIDNIGHT + HOUR, MIDNIGHT + HOUR + 1, [2, 4]),
        (MIDNIGHT, MIDNIGHT + DAY + 1, [2, 4, 8]),
        (MIDNIGHT - 1, MIDNIGHT, [1]),
        (MIDNIGHT, MIDNIGHT, []),
    ],
)
async def test_sums_are_of_whole_days(ledger: Ledger, book: UsageBook, since: int, until: int, days: list[int]) -> None:
    moments = (MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + DAY - 1, MIDNIGHT + DAY)
    for number, (moment, ticks) in enumerate(zip(moments, (1, 2, 4, 8), strict=True)):
        await spend(ledger, ticks, moment, name=id_at(moment, number))

    sums = await book.sums("org_alice", since, until, "model")

    assert [one.cost_ticks for one in sums] == ([sum(days)] if days else [])


async def test_sums_by_hour_are_of_whole_hours(ledger: Ledger, book: UsageBook) -> None:
    for number, moment in enumerate((NOON - 1, NOON, NOON + HOUR - 1, NOON + HOUR)):
        await spend(ledger, 2**number, moment, name=id_at(moment, number))

    sums = await book.sums("org_alice", NOON + 1, NOON + HOUR, "hour")

    assert sums == [UsageSum(NOON // HOUR, 2, 0, 0, 14, 6, 2, 10, 4, 6)]


async def test_an_organisation_sees_only_its_own(ledger: Ledger, database: Database, book: UsageBook) -> None:
    await database.commit(
        Write("INSERT INTO organisations (id, name, created_at) VALUES ('org_charlie', 'Charlie', 1)"),
        ledger.opening("org_charlie"),
    )
    ledger.opened("org_charlie")
    await spend(ledger, 10, NOON)

    assert await book.sums("org_charlie", NOON, NOON + DAY, "model") == []
    assert await book.records("org_charlie") == []


async def test_a_record_comes_back_as_it_was(ledger: Ledger, book: UsageBook) -> None:
    whole = record(
        hold(0, name=id_at(NOON), key="key-7", model="grok-beta", endpoint="/v1/messages"),
        at=NOON + SECOND,
        status="refused",
        error="insufficient_credits",
        streamed=True,
        usage=Usage(1, 2, 3, 4, 5),
        first_token_milliseconds=6,
        total_milliseconds=7,
    )
    bare = record(hold(0, name=id_at(NOON, 1)), status="refused")

    ledger.note(whole)
    ledger.note(bare)
    await ledger.tick()

    assert await book.records("org_alice") == [bare, whole]


async def test_records_come_the_newest_first_and_page_by_page(ledger: Ledger, book: UsageBook) -> None:
    moments = [NOON + number * SECOND for number in (3, 1, 4, 0, 2)]
    written = sorted([await spend(ledger, 1, moment) for moment in moments], key=lambda one: one.began_at)[::-1]

    first = await book.records("org_alice", limit=2)
    second = await book.records("org_alice", before=first[-1].request_id, limit=2)
    third = await book.records("org_alice", before=second[-1].request_id, limit=2)
    after_the_last = await book.records("org_alice", before=third[-1].request_id, limit=2)

    assert [first, second, third, after_the_last] == [written[:2], written[2:4], written[4:], []]
    assert await book.records("org_alice") == written


async def test_a_refused_request_is_written_at_the_next_tick_and_costs_nothing(
    ledger: Ledger, database: Database, book: UsageBook, clock: SteppedClock
) -> None:
    ledger.note(refused())
    before = await book.records("org_alice")

    await ledger.tick()
    await ledger.tick()

    assert before == []
    assert await book.records("org_alice") == [refused()]
    assert await book.sums("org_alice", NOON, NOON + DAY, "model") == [UsageSum("mock", 1, 0, 1, 0, 0, 0, 0, 0, 0)]
    assert [entry.kind for entry in await ledger.entries("org_alice")] == ["grant"]
    assert (await audit(database, ledger, clock)).broken == ()


async def test_a_flood_of_refused_requests_does_not_fill_the_disk(ledger: Ledger, database: Database) -> None:
    for number in range(MOST_NOTED + 10):
        ledger.note(refused(number))
    await ledger.tick()
    ledger.note(refused(number + 1))
    await ledger.tick()

    [(written,)] = await database.rows("SELECT COUNT(*) FROM usage_records")
    assert written == MOST_NOTED + 1


async def test_refused_requests_wait_while_the_disk_takes_no_writes(
    ledger: Ledger, book: UsageBook, commits: Commits
) -> None:
    commits.refusals = 2
    with pytest.raises(DatabaseUnusable):
        await ledger.grant("org_alice", Ticks(1), "refused")
    ledger.note(refused())
    with pytest.raises(DatabaseUnusable):
        await ledger.tick()

    await ledger.tick()

    assert await book.records("org_alice") == [refused()]


async def test_records_go_at_their_term_and_sums_and_entries_stay(
    ledger: Ledger, database: Database, book: UsageBook, clock: SteppedClock
) -> None:
    for number in range(4):
        await spend(ledger, 10 + number, NOON + number * DAY)
    entries, sums = await ledger.entries("org_alice"), await book.sums("org_alice", NOON, NOON + 4 * DAY, "day")

    await book.prune(NOON + 2 * DAY)

    assert [one.cost_ticks for one in await book.records("org_alice")] == [13, 12]
    assert await ledger.entries("org_alice") == entries
    assert await book.sums("org_alice", NOON, NOON + 4 * DAY, "day") == sums
    assert (await audit(database, ledger, clock)).broken == ()


async def test_a_record_whose_request_ended_at_the_term_stays(ledger: Ledger, book: UsageBook) -> None:
    await spend(ledger, 1, NOON - HOUR, NOON - 1)
    await spend(ledger, 2, NOON - 2 * HOUR, NOON)

    await book.prune(NOON)

    assert [one.cost_ticks for one in await book.records("org_alice")] == [2]


async def test_many_records_go_piece_by_piece(
    ledger: Ledger, database: Database, book: UsageBook, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.ledger.usage._PRUNE_ROWS", 3)
    for number in range(8):
        await spend(ledger, 1, NOON + number * SECOND)
    await book.records("org_alice")  # notes whose they are, as pruning does first
    before = commits.count

    await book.prune(NOON + 7 * SECOND)

    assert commits.count - before == 1 + 3
    assert len(await book.records("org_alice")) == 1
    assert await database.rows("SELECT value FROM facts WHERE name = 'records_kept_since'") == [(NOON + 7 * SECOND,)]


async def test_a_term_that_moves_back_brings_no_record_back(
    ledger: Ledger, database: Database, book: UsageBook, clock: SteppedClock
) -> None:
    for number in range(4):
        await spend(ledger, 1, NOON + number * DAY)
    await book.prune(NOON + 3 * DAY)
    await spend(ledger, 1, NOON - DAY)

    await book.prune(NOON)

    assert await database.rows("SELECT value FROM facts WHERE name = 'records_kept_since'") == [(NOON + 3 * DAY,)]
    assert (await audit(database, ledger, clock)).broken == ()


@pytest.mark.parametrize(
    "before",
    [MIDNIGHT - 500_000, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1, MIDNIGHT + 1000, MIDNIGHT + 2 * SECOND, MIDNIGHT + DAY],
)
async def test_the_books_are_in_order_after_pruning_around_midnight(
    ledger: Ledger, database: Database, book: UsageBook, clock: SteppedClock, before: int
) -> None:
    await spend(ledger, 1, MIDNIGHT - 2 * SECOND, MIDNIGHT - SECOND)
    await spend(ledger, 2, MIDNIGHT - SECOND, MIDNIGHT + SECOND)
    await spend(ledger, 4, MIDNIGHT, MIDNIGHT + SECOND)
    await spend(ledger, 8, MIDNIGHT + SECOND, MIDNIGHT + 3 * SECOND)
    await spend(ledger, 16, MIDNIGHT + 2 * DAY)

    await book.prune(before)

    assert (await audit(database, ledger, clock)).broken == ()


async def test_a_lost_record_of_a_later_day_is_still_found_after_pruning(
    ledger: Ledger, database: Database, book: UsageBook, clock: SteppedClock
) -> None:
    for number in range(4):
        await spend(ledger, 1, MIDNIGHT + number * DAY)
    await book.prune(MIDNIGHT + SECOND)
    await database.commit(Write("DELETE FROM usage_records WHERE at >= $1", (MIDNIGHT + 3 * DAY,)))

    [found] = (await audit(database, ledger, clock)).broken

    assert found.startswith("I8: records and days differ for org_alice, key-1, mock")


async def test_records_are_seen_after_all_earlier_ones_have_gone(ledger: Ledger, book: UsageBook) -> None:
    for number in range(3):
        await spend(ledger, 1, NOON + number * SECOND)
    await book.prune(NOON + HOUR)

    written = [await spend(ledger, 2, NOON + HOUR + number * SECOND) for number in range(2)]
    await ledger.tick()
    written.append(await spend(ledger, 2, NOON + 2 * HOUR))

    assert await book.records("org_alice") == written[::-1]


async def test_a_tick_keeps_the_index_of_records_and_entries_short_behind(
    ledger: Ledger, database: Database, commits: Commits
) -> None:
    await spend(ledger, 1, NOON)
    await ledger.tick()
    after_a_tick = await database.rows("SELECT name, value FROM facts WHERE name LIKE '%indexed' ORDER BY name")
    before = commits.count
    await ledger.tick()

    assert after_a_tick == [("entries_indexed", 2), ("records_indexed", 1)]
    assert commits.count == before


async def test_a_first_use_that_the_disk_refused_is_counted_where_it_belongs(
    ledger: Ledger, database: Database, book: UsageBook, clock: SteppedClock, commits: Commits
) -> None:
    several = [hold(10, name=id_at(NOON, number), model=model) for number, model in enumerate(("a", "b", "a"))]
    for running in several:
        ledger.reserve(running)
    commits.let_wait()
    first = asyncio.ensure_future(ledger.grant("org_alice", Ticks(1), "the one before"))
    await commits.one_waits()
    settling = [ledger.settle(running, finished(running, 4 + number)) for number, running in enumerate(several)]
    commits.spared, commits.refusals = 1, 2
    commits.let_go()
    await asyncio.gather(first, *settling)

    models = await book.sums("org_alice", NOON, NOON + DAY, "model")
    assert {one.group: (one.requests, one.cost_ticks) for one in models} == {"a": (2, 10), "b": (1, 5)}
    assert (await audit(database, ledger, clock)).broken == ()


async def test_what_was_used_can_be_read_while_the_disk_takes_no_writes(
    ledger: Ledger, book: UsageBook, commits: Commits
) -> None:
    spent = await spend(ledger, 1, NOON)
    await ledger.tick()
    commits.refusals = 1_000_000

    records, entries = await book.records("org_alice"), await ledger.entries("org_alice")
    sums = await book.sums("org_alice", NOON, NOON + DAY, "day")

    assert records == [spent]
    assert [entry.kind for entry in entries] == ["grant", "charge"]
    assert [one.cost_ticks for one in sums] == [1]


async def test_a_request_that_was_run_again_is_found_by_its_newest_record(ledger: Ledger, database: Database) -> None:
    """One of a batch that failed, where a crash came before that was kept, has two."""
    name = id_at(NOON)
    for ended in (failed, lambda again: finished(again, 5)):
        again = hold(10, name=name)
        ledger.reserve(again)
        await ledger.settle(again, ended(again))
        await ledger.tick()
    found = await UsageBook(database).records("org_alice")
    assert [(one.request_id, one.status) for one in found] == [(name, "finished")]
    await UsageBook(database).prune(NOON + DAY)
    assert await database.rows("SELECT COUNT(*) FROM usage_records") == [(0,)]
    assert await database.rows("SELECT COUNT(*) FROM records_of") == [(0,)]
