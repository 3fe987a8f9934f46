"""Whatever is asked of what was used: chart, table and totals agree with the ledger, to the tick."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadline.chat.events import Usage
from leadline.errors import InvalidRequest
from leadline.ledger.explorer import (
    MOST_SERIES,
    TOKEN_CLASSES,
    UNPRICED,
    Explored,
    Explorer,
    Figures,
    Question,
    Series,
)
from leadline.ledger.ledger import Ledger
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.usage import UsageRecord
from leadline.money import Ticks
from leadline.storage.database import Database
from tests.unit.conftest import Commits
from tests.unit.ledger.histories import ENDPOINTS, KEYS, MODELS, STEPS, History, tokens_by_class
from tests.unit.ledger.scenes import DAY, HOUR, NOON, at, finished, hold, id_at

ALICE = MeterFilter("org_alice")
MIDNIGHT = NOON - 12 * HOUR
MEMBERS = {"key-1": "usr_mara", "key-2": "usr_jonas"}


def some_of(names: Sequence[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(names), max_size=2)


QUESTIONS = st.builds(
    lambda meters, from_, days, **more: Question(
        meters, NOON + from_ * HOUR, NOON + from_ * HOUR + days * DAY, member_of=MEMBERS.__getitem__, **more
    ),
    st.builds(MeterFilter, st.just("org_alice"), some_of(MODELS), some_of(KEYS), some_of(ENDPOINTS)),
    st.integers(-30, 100),
    st.integers(1, 14),
    measure=st.sampled_from(("cost", "tokens")),
    by=st.sampled_from(("model", "key", "endpoint", "class", "member", "none")),
    step=st.sampled_from(("hour", "day", "month")),
    token_class=st.none() | st.sampled_from(TOKEN_CLASSES),
)


def counted(history: History, question: Question) -> Figures:
    """One by one, without sums."""
    begins, ends = question.first * question.period, question.end * question.period
    wanted = TOKEN_CLASSES if question.token_class is None else (question.token_class,)
    figures = Figures()
    for record, parts in history.records:
        meters = question.meters
        chosen = (
            (not meters.models or record.model in meters.models)
            and (not meters.keys or record.key_id in meters.keys)
            and (not meters.endpoints or record.endpoint in meters.endpoints)
        )
        if chosen and begins <= record.at < ends:
            by_class = zip(TOKEN_CLASSES, tokens_by_class(record.usage), strict=True)
            tokens = (count if name in wanted else 0 for name, count in by_class)
            cost = sum(parts[name] for name in wanted) + (parts[UNPRICED] if question.token_class is None else 0)
            figures += Figures(1, record.status == "failed", record.status == "refused", *tokens, cost)
    return figures


def added(explored: Explored) -> Figures:
    return sum((figures for _, figures in explored.rows), Figures())


@given(
    steps=STEPS,
    questions=st.lists(QUESTIONS, min_size=4, max_size=4),
    # Whether records are indexed before each question, and how many groups have a series of their own.
    how=st.tuples(st.booleans(), st.sampled_from((1, MOST_SERIES))),
)
@settings(
    # Each example waits for the disk, often.
    max_examples=settings().max_examples * 3 // 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_chart_and_table_of_any_history_add_up_to_the_ledger(
    new_place: Callable[[], Path | str],
    monkeypatch: pytest.MonkeyPatch,
    steps: Sequence[tuple[Any, ...]],
    questions: Sequence[Question],
    how: tuple[bool, int],
) -> None:
    indexed, most_series = how

    async def test() -> None:
        history = await History.opened(new_place())
        await history.play(steps)
        explorer = Explorer(history.database)
        for question in questions:
            explored = await explorer.explore(question)
            expected = counted(history, question)
            assert explored.totals == expected
            of_rows = added(explored)
            assert astuple(of_rows)[3:] == astuple(expected)[3:]
            assert question.by == "class" or of_rows == expected
            charted = [(series.group, sum(series.values)) for series in explored.series]
            measured = [(group, figures.measured(question.measure)) for group, figures in explored.rows]
            others = sum(number for _, number in measured[most_series:])
            assert charted == measured[:most_series] + [(None, others)] * (len(measured) > most_series)
            assert all(len(series.values) == len(explored.steps) for series in explored.series)
        for by in ("model", "class"):
            whole = await explorer.explore(Question(ALICE, MIDNIGHT, NOON + 3000 * DAY, by=by, step="month"))
            assert added(whole).cost_ticks == await history.charged_ticks()
        await history.database.close()

    with monkeypatch.context() as patch:
        patch.setattr("leadline.ledger.explorer.MOST_STEPS", {"hour": 10**4, "day": 10**4, "month": 10**4})
        patch.setattr("leadline.ledger.explorer.MOST_SERIES", most_series)
        patch.setattr("leadline.ledger.explorer._MOST_TOLD", 1)
        if not indexed:
            patch.setattr("leadline.ledger.explorer.index_records", lambda *_: None)
        asyncio.run(test())


@pytest.fixture
async def ledger(ledger: Ledger) -> Ledger:
    await ledger.grant("org_alice", Ticks(1_000_000), "welcome")
    return ledger


@pytest.fixture
def explorer(database: Database) -> Explorer:
    return Explorer(database)


async def spend(ledger: Ledger, ticks: int, when: int, **more: Any) -> UsageRecord:
    usage = more.pop("usage", Usage(7, 3, 1, 5, 2))
    running = hold(ticks, name=id_at(when, ticks), opened_at=when, **more)
    ledger.reserve(running)
    end = finished(running, ticks, usage=usage)
    await ledger.settle(running, end)
    return end.record


@pytest.mark.parametrize("meters", [ALICE, MeterFilter("org_alice", endpoints=frozenset({"/v1/chat/completions"}))])
async def test_hours_beside_whole_days_count_and_no_others(
    ledger: Ledger, explorer: Explorer, meters: MeterFilter
) -> None:
    last = MIDNIGHT + 2 * DAY
    for number, when in enumerate((NOON - 1, NOON, NOON + 11 * HOUR, MIDNIGHT + DAY, last, last + 3 * HOUR - 1)):
        await spend(ledger, 10**number, when)
    await spend(ledger, 5, last + 3 * HOUR)

    explored = await explorer.explore(Question(meters, NOON, last + 3 * HOUR, step="hour"))

    assert explored.totals.cost_ticks == 111_110
    assert [sum(series.values) for series in explored.series] == [111_110]
    assert explored.previous_ticks == 1


async def test_the_chart_has_each_step_and_five_groups_and_the_rest(ledger: Ledger, explorer: Explorer) -> None:
    for number, model in enumerate("abcdefg"):
        await spend(ledger, 10 * (number + 1), NOON + (number % 3) * DAY, model=model)

    explored = await explorer.explore(Question(ALICE, NOON, NOON + 4 * DAY))

    assert explored.steps == tuple(MIDNIGHT + number * DAY for number in range(5))
    assert explored.series == (
        Series("g", (70, 0, 0, 0, 0)),
        Series("f", (0, 0, 60, 0, 0)),
        Series("e", (0, 50, 0, 0, 0)),
        Series("d", (40, 0, 0, 0, 0)),
        Series("c", (0, 0, 30, 0, 0)),
        Series(None, (10, 20, 0, 0, 0)),
    )
    assert len(explored.series) == MOST_SERIES + 1
    assert [group for group, _ in explored.rows] == list("gfedcba")


async def test_months_begin_on_the_first_and_the_first_and_last_may_be_parts(
    ledger: Ledger, explorer: Explorer
) -> None:
    for number, when in enumerate((at(2027, 1, 31, 23), at(2027, 2, 1), at(2027, 2, 28, 23), at(2027, 3, 1, 5))):
        await spend(ledger, 10**number, when)

    explored = await explorer.explore(Question(ALICE, at(2027, 1, 20), at(2027, 3, 2), step="month", by="none"))

    assert explored.steps == (at(2027, 1, 1), at(2027, 2, 1), at(2027, 3, 1))
    assert explored.series == (Series("org_alice", (1, 110, 1000)),)


async def test_what_as_long_a_time_before_cost_stands_beside_the_spend(ledger: Ledger, explorer: Explorer) -> None:
    for number, day in enumerate((-3, -2, -1, 0, 1, 2)):
        await spend(ledger, 10**number, NOON + day * DAY)

    explored = await explorer.explore(Question(ALICE, MIDNIGHT, MIDNIGHT + 2 * DAY))

    assert (explored.totals.cost_ticks, explored.previous_ticks) == (11_000, 110)


async def test_a_request_has_no_class_but_is_counted_in_the_totals(ledger: Ledger, explorer: Explorer) -> None:
    await spend(ledger, 30, NOON)

    explored = await explorer.explore(Question(ALICE, MIDNIGHT, NOON, by="class", measure="tokens"))

    assert explored.totals == Figures(1, 0, 0, 3, 3, 1, 5, 2, 30)
    assert [(group, figures.tokens, figures.requests) for group, figures in explored.rows] == [
        *(("output", 5, 0), ("cached", 3, 0), ("input", 3, 0), ("reasoning", 2, 0), ("image", 1, 0)),
        (UNPRICED, 0, 0),
    ]
    with pytest.raises(InvalidRequest, match="several classes"):
        await explorer.explore(Question(ALICE, MIDNIGHT, NOON, by="class", measure="requests"))


async def test_another_organisation_sees_nothing_of_it(ledger: Ledger, explorer: Explorer) -> None:
    await spend(ledger, 30, NOON)

    explored = await explorer.explore(Question(MeterFilter("org_charlie"), MIDNIGHT, NOON + DAY))

    assert (explored.rows, explored.series, explored.totals) == ((), (), Figures())


@pytest.mark.parametrize(
    ("since", "until", "step"),
    [(NOON, NOON, "day"), (0, NOON, "day"), (NOON, NOON + 15 * DAY, "hour"), (NOON + 1, NOON, "month")],
)
async def test_a_time_without_steps_or_with_too_many_is_refused(
    explorer: Explorer, since: int, until: int, step: Any
) -> None:
    with pytest.raises(InvalidRequest):
        await explorer.explore(Question(ALICE, since, until, step=step))


async def test_it_can_be_asked_while_the_disk_takes_no_writes(
    ledger: Ledger, explorer: Explorer, commits: Commits
) -> None:
    await spend(ledger, 30, NOON)
    commits.refusals = 1_000_000

    explored = await explorer.explore(Question(ALICE, MIDNIGHT, NOON))

    assert explored.totals.cost_ticks == 30
