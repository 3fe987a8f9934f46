"""The request log: by whatever it is filtered, its pages together are the requests that fit, each once."""

import random
from collections.abc import Callable

import pytest

from leadline.chat.events import Usage
from leadline.ids import first_uuid_at
from leadline.ledger import request_log
from leadline.ledger.latency import Percentiles, latency
from leadline.ledger.ledger import Ledger
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.request_log import LogPage, LogQuestion, Neighbours, RequestLog
from leadline.ledger.usage import NO_CREDITS, RATE_LIMITED, LogStatus, UsageRecord
from leadline.money import Ticks
from leadline.storage.database import Database
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import HOUR, NOON, SECOND, Ended, failed, finished, hold, id_at, record

ALICE = MeterFilter("org_alice")
MODELS, KEYS, ENDPOINTS = ("grok-4", "tiny", "echo"), ("key-1", "key-2"), ("/v1/messages", "/v1/chat/completions")
ENDS = (
    *(("finished", ""), ("finished", ""), ("interrupted", "client_gone"), ("failed", "engine_failed")),
    *(("refused", "rate_limited"), ("refused", "credits_held"), ("refused", "insufficient_credits")),
    *(("refused", "key_cap_spent"), ("refused", "permission_denied")),
)


@pytest.fixture
def log(database: Database) -> RequestLog:
    return RequestLog(database)


async def write(ledger: Ledger, one: UsageRecord) -> None:
    if one.status == "refused":
        ledger.note(one)
        await ledger.write_noted()
        return
    running = hold(
        10, name=one.request_id, key=one.key_id, model=one.model, endpoint=one.endpoint, opened_at=one.began_at
    )
    ledger.reserve(running)
    await ledger.settle(running, Ended(one))


@pytest.fixture
async def written(ledger: Ledger) -> list[UsageRecord]:
    """120 requests of two hours, the newest first."""
    await ledger.grant("org_alice", Ticks(1_000_000), "welcome")
    chance = random.Random(5)
    records = []
    for number in range(120):
        began = NOON + chance.randrange(2 * HOUR) // 1000 * 1000
        running = hold(
            *(10,),
            name=id_at(began, number),
            key=chance.choice(KEYS),
            model=chance.choice(MODELS),
            endpoint=chance.choice(ENDPOINTS),
            opened_at=began,
        )
        status, error = chance.choice(ENDS)
        paid = status in ("finished", "interrupted")
        one = record(running, 10 if paid else 0, status=status, error=error, at=began + number * SECOND)
        records.append(one)
        await write(ledger, one)
        if number == 80:
            await ledger.tick()
    return sorted(records, key=lambda one: one.request_id, reverse=True)


def status_of(one: UsageRecord) -> LogStatus:
    if one.error in RATE_LIMITED:
        return "rate limited"
    return "no credits" if one.error in NO_CREDITS else one.status


def fits(one: UsageRecord, question: LogQuestion) -> bool:
    meters = question.meters
    return (
        (not question.statuses or status_of(one) in question.statuses)
        and (not meters.models or one.model in meters.models)
        and (not meters.keys or one.key_id in meters.keys)
        and (not meters.endpoints or one.endpoint in meters.endpoints)
        and question.text in one.request_id
        and question.since <= one.began_at
        and (question.until is None or one.began_at < question.until)
    )


async def all_pages(log: RequestLog, question: LogQuestion, limit: int) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    before = None
    for _ in range(200):
        page = await log.page(question, before, limit)
        assert len(page.records) <= limit
        found += page.records
        if page.before is None:
            return found
        before = page.before
    raise AssertionError("the pages do not end")


def some_question(chance: random.Random) -> LogQuestion:
    def some(names: tuple[str, ...]) -> frozenset[str]:
        return frozenset(chance.sample(names, chance.choice((0, 0, 1, 2))))

    statuses = chance.sample(
        ("finished", "interrupted", "failed", "refused", "rate limited", "no credits"), chance.choice((0, 0, 1, 2))
    )
    return LogQuestion(
        MeterFilter("org_alice", some(MODELS), some(KEYS), some(ENDPOINTS)),
        frozenset(statuses),  # type: ignore[arg-type]
        chance.choice(("", "", "", "5", "00000000001", "77")),
        chance.choice((0, NOON + HOUR // 2)),
        chance.choice((None, NOON + HOUR)),
    )


@pytest.mark.parametrize(("looked_at", "most_meters"), [(8_000, 4_000), (7, 3), (4, 4_000)])
async def test_the_pages_of_any_question_are_the_requests_that_fit(
    log: RequestLog, written: list[UsageRecord], monkeypatch: pytest.MonkeyPatch, looked_at: int, most_meters: int
) -> None:
    monkeypatch.setattr(request_log, "LOOKED_AT", looked_at)
    monkeypatch.setattr(request_log, "MOST_METERS", most_meters)
    chance = random.Random(11)
    for _ in range(60):
        question = some_question(chance)
        expected = [one for one in written if fits(one, question)]
        assert await all_pages(log, question, chance.choice((1, 3, 10, 100))) == expected


async def test_a_search_that_stops_says_how_far_it_looked_and_goes_on(
    log: RequestLog, written: list[UsageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "LOOKED_AT", 50)
    oldest = written[-1].request_id
    question = LogQuestion(ALICE, text=oldest[-12:])

    first = await log.page(question)
    second = await log.page(question, first.before)
    third = await log.page(question, second.before)

    assert first == LogPage((), written[49].request_id, written[49].began_at)
    assert second == LogPage((), written[99].request_id, written[99].began_at)
    assert third == LogPage((written[-1],))


async def test_a_request_is_found_with_its_neighbours(log: RequestLog, written: list[UsageRecord]) -> None:
    newer, one, older = written[3:6]

    assert await log.find("org_alice", one.request_id) == one
    assert await log.neighbours("org_alice", one.request_id) == Neighbours(newer.request_id, older.request_id)
    assert await log.neighbours("org_alice", written[0].request_id) == Neighbours(None, written[1].request_id)
    assert await log.neighbours("org_alice", written[-1].request_id) == Neighbours(written[-2].request_id, None)


async def test_another_organisation_finds_nothing(log: RequestLog, written: list[UsageRecord]) -> None:
    charlie = MeterFilter("org_charlie")

    assert await log.find("org_charlie", written[0].request_id) is None
    assert await log.neighbours("org_charlie", written[0].request_id) == Neighbours(None, None)
    for question in (
        LogQuestion(charlie),
        LogQuestion(charlie, frozenset({"finished"})),
        LogQuestion(charlie, text="0"),
    ):
        assert await log.page(question) == LogPage(())


@pytest.mark.parametrize("statuses", [frozenset(), frozenset({"finished"}), frozenset({"failed"})])
async def test_a_request_that_was_run_again_is_listed_once_as_it_ended_last(
    ledger: Ledger, log: RequestLog, statuses: frozenset[LogStatus]
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ends: tuple[Callable[..., Ended], ...] = (failed, lambda again: finished(again, 5))
    for ended in ends:
        again = hold(10, name=id_at(NOON))
        ledger.reserve(again)
        await ledger.settle(again, ended(again))
        await ledger.tick()

    page = await log.page(LogQuestion(ALICE, statuses))

    assert [one.status for one in page.records] == ([] if statuses == {"failed"} else ["finished"])


async def test_the_log_can_be_read_while_the_disk_takes_no_writes(
    ledger: Ledger, log: RequestLog, written: list[UsageRecord], commits: Commits
) -> None:
    await ledger.tick()
    commits.refusals = 1_000_000

    assert list((await log.page(LogQuestion(ALICE))).records) == written[:100]


async def test_percentiles_are_of_the_newest_that_finished(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.grant("org_alice", Ticks(1_000_000), "welcome")
    monkeypatch.setattr("leadline.ledger.latency.LOOKED_AT", 20)
    for number in range(21):
        running = hold(1, name=str(first_uuid_at(NOON + number * 1000)), opened_at=NOON + number * 1000)
        first = None if number == 20 else number * 10
        ended = record(running, 1, first_token_milliseconds=first, total_milliseconds=number * 100, usage=Usage(1))
        await write(ledger, ended)
    await ledger.tick()

    all_but_one = await latency(database, ALICE, NOON, NOON + HOUR)
    some = await latency(database, ALICE, NOON + 10_000, NOON + HOUR)
    none = await latency(database, MeterFilter("org_alice", models=frozenset({"none"})), NOON, NOON + HOUR)

    assert (all_but_one.requests, all_but_one.newest_only) == (20, True)
    assert (all_but_one.first_token, all_but_one.total) == (Percentiles(100, 190), Percentiles(1000, 1900))
    assert (some.requests, some.newest_only) == (11, False)
    assert (none.requests, none.first_token, none.total) == (0, Percentiles(None, None), Percentiles(None, None))
