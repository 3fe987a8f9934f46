"""What was used, from every side: measured, grouped, filtered and stepped as somebody asks.

Chart, table and totals are added up from the same rows of one moment, so they agree to the tick.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, first_day
from leadline.errors import InvalidRequest
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.token_costs import COST_COLUMNS, SPLIT, SPLIT_SUMS
from leadline.ledger.usage import COUNTS, index_records
from leadline.storage.database import Database, DatabaseUnusable, Row, Snapshot

Measure = Literal["cost", "tokens", "requests"]
Side = Literal["model", "key", "endpoint", "class", "member", "none"]
Step = Literal["hour", "day", "month"]
TokenClass = Literal["input", "cached", "image", "output", "reasoning"]

TOKEN_CLASSES: tuple[TokenClass, ...] = get_args(TokenClass)
# What was charged at prices that are not recorded: it belongs to no class.
UNPRICED = "unpriced"
# So many groups have a series of their own; the others share one.
MOST_SERIES = 5
# A chart has no more steps than this.
MOST_STEPS: Mapping[Step, int] = {"hour": 14 * 24, "day": 400, "month": 120}
_COLUMNS: Mapping[Side, str] = {"model": "model", "key": "key_id", "endpoint": "endpoint", "member": "key_id"}
_Steps = dict[int, "Figures"]


@dataclass(frozen=True, slots=True)
class Question:
    """From `since` until before `until` (microseconds): whole hours where the step is one, else whole days. With
    `token_class` only the tokens of that class count, and what they cost. `member_of` knows who made a key."""

    meters: MeterFilter
    since: int
    until: int
    measure: Measure = "cost"
    by: Side = "model"
    step: Step = "day"
    token_class: TokenClass | None = None
    member_of: Callable[[str], str] = lambda _: ""

    @property
    def period(self) -> int:
        """What the sums that it reads are of, in microseconds."""
        return MICROSECONDS_PER_HOUR if self.step == "hour" else MICROSECONDS_PER_DAY

    @property
    def first(self) -> int:
        return self.since // self.period

    @property
    def end(self) -> int:
        return max(self.first, -(-self.until // self.period))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was used. Classes of tokens do not overlap: `input_tokens` are neither cached nor of images."""

    requests: int = 0
    failed: int = 0
    refused: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_ticks: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.requests + other.requests,
            self.failed + other.failed,
            self.refused + other.refused,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.image_tokens + other.image_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost_ticks + other.cost_ticks,
        )

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cached_tokens + self.image_tokens

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens + self.reasoning_tokens

    @property
    def succeeded(self) -> int:
        return self.requests - self.failed - self.refused

    def measured(self, measure: Measure) -> int:
        match measure:
            case "cost":
                return self.cost_ticks
            case "tokens":
                return self.tokens
            case "requests":
                return self.requests


NOTHING = Figures()


@dataclass(frozen=True, slots=True)
class Series:
    """What a chart shows of one group, a value for each step; None: of all that have no series of their own."""

    group: str | None
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Explored:
    """`steps` is when each step begins. `rows` are all groups, those that have most first; their figures add up to the
    `totals`, but for requests where groups are classes of tokens. `previous_ticks` is what as long a time before
    cost."""

    since: int
    until: int
    steps: tuple[int, ...]
    series: tuple[Series, ...]
    rows: tuple[tuple[str, Figures], ...]
    totals: Figures
    previous_ticks: int


class Explorer:
    """Answers questions on what was used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def explore(self, question: Question) -> Explored:
        """InvalidRequest where there is no such answer. While the disk takes no writes, costs by class may be
        missing for the last requests."""
        steps = _steps(question)
        if question.by == "class" and question.measure == "requests":
            raise InvalidRequest("A request has tokens of several classes. Measure cost or tokens by class.", "by")
        with suppress(DatabaseUnusable):
            await self._database.together(index_records, None)
        return await self._database.snapshot(lambda snapshot: _explore(snapshot, question, steps))


def _steps(question: Question) -> tuple[int, ...]:
    if question.since >= question.until:
        raise InvalidRequest("The time ends before it begins. Give an earlier since or a later until.", "since")
    if question.step == "month":
        starts = sorted({_step_of(question, question.first), *_months(question)})
    else:
        starts = list(range(question.first, question.end))
    if len(starts) > MOST_STEPS[question.step]:
        raise InvalidRequest(
            f"That would be {len(starts):,} steps, and {MOST_STEPS[question.step]} are the most by the {question.step}."
            " Take longer steps or a shorter time.",
            "step",
        )
    return tuple(starts)


def _months(question: Question) -> Iterator[int]:
    day = question.first
    while day < question.end:
        yield first_day("month", day)
        day = first_day("month", first_day("month", day) + 31)


@lru_cache(maxsize=4096)
def _month(day: int) -> int:
    return first_day("month", day)


def _step_of(question: Question, period: int) -> int:
    return _month(period) if question.step == "month" else period


def _explore(snapshot: Snapshot, question: Question, starts: tuple[int, ...]) -> Explored:
    groups: dict[str, _Steps] = defaultdict(lambda: defaultdict(lambda: NOTHING))
    totals = NOTHING
    for group, period, figures in _figures(snapshot, question):
        totals += figures
        if group is not None:
            groups[group][_step_of(question, period)] += figures
    rows = [(group, sum(by_step.values(), NOTHING)) for group, by_step in groups.items()]
    rows.sort(key=lambda row: (-row[1].measured(question.measure), row[0]))
    rows = [row for row in rows if row[1] != NOTHING]
    own = [group for group, _ in rows[:MOST_SERIES]]
    rest = [group for group, _ in rows[MOST_SERIES:]]
    series = [Series(group, _values(question, starts, [groups[group]])) for group in own]
    if rest:
        series.append(Series(None, _values(question, starts, [groups[group] for group in rest])))
    return Explored(
        since=question.first * question.period,
        until=question.end * question.period,
        steps=tuple(start * question.period for start in starts),
        series=tuple(series),
        rows=tuple(rows),
        totals=totals,
        previous_ticks=_previous_ticks(snapshot, question),
    )


def _values(question: Question, starts: tuple[int, ...], groups: list[_Steps]) -> tuple[int, ...]:
    return tuple(
        sum(by_step[start].measured(question.measure) for by_step in groups if start in by_step) for start in starts
    )


def _figures(snapshot: Snapshot, question: Question) -> Iterator[tuple[str | None, int, Figures]]:
    """Group, hour or day, and figures. Where groups are classes, requests belong to none."""
    wanted = TOKEN_CLASSES if question.token_class is None else (question.token_class,)
    for group, period, *numbers in _rows(snapshot, question):
        if question.by == "class":
            for token_class in wanted:
                yield token_class, period, _of_class(numbers, token_class)
            if question.token_class is None:
                yield UNPRICED, period, Figures(cost_ticks=_unpriced(numbers))
            yield None, period, Figures(*numbers[:3])
            continue
        name = question.member_of(group) if question.by == "member" else group
        if question.token_class is None:
            requests, failed, refused, prompt, cached, image, *others = numbers[: len(COUNTS)]
            yield name, period, Figures(requests, failed, refused, prompt - cached - image, cached, image, *others)
        else:
            yield name, period, Figures(*numbers[:3]) + _of_class(numbers, question.token_class)


def _of_class(numbers: list[int], token_class: TokenClass) -> Figures:
    place = TOKEN_CLASSES.index(token_class)
    prompt, cached, image, output, reasoning = numbers[3:8]
    tokens = [0] * len(TOKEN_CLASSES)
    tokens[place] = (prompt - cached - image, cached, image, output, reasoning)[place]
    return Figures(0, 0, 0, *(*tokens, numbers[len(COUNTS) + place]))


def _unpriced(numbers: list[int]) -> int:
    return numbers[len(COUNTS) - 1] - sum(numbers[len(COUNTS) :])


def _rows(snapshot: Snapshot, question: Question) -> Iterator[Row]:
    """Group, hour or day, then COUNTS, and COST_COLUMNS where they are needed, some of them apart: what is not indexed
    yet."""
    table, period = _table(question)
    group = _COLUMNS.get(question.by, "organisation_id")
    condition, values = question.meters.condition(3)
    sums = ", ".join(f"SUM({name})" for name in (COUNTS + COST_COLUMNS if _needs_classes(question) else COUNTS))
    yield from snapshot.rows(
        f"SELECT {group}, {period}, {sums} FROM meters JOIN {table} ON meter_id = id"
        f" WHERE {period} >= $1 AND {period} < $2 AND {condition} GROUP BY {group}, {period}",
        *(question.first, question.end, *values),
    )
    if not _needs_classes(question):
        return
    waiting = snapshot.rows(
        f"{SPLIT} SELECT {group}, at / {question.period} AS period, {SPLIT_SUMS} FROM meters"
        f" JOIN split ON meter_id = id WHERE at >= $1 AND at < $2 AND {condition} GROUP BY 1, 2",
        *(question.first * question.period, question.end * question.period, *values),
    )
    for name, when, *ticks in waiting:
        yield (name, when, *(0 for _ in COUNTS), *ticks)


def _needs_classes(question: Question) -> bool:
    return question.by == "class" or question.token_class is not None


def _table(question: Question) -> tuple[str, str]:
    return ("usage_hours", "hour") if question.step == "hour" else ("usage_days", "day")


def _previous_ticks(snapshot: Snapshot, question: Question) -> int:
    table, period = _table(question)
    column = "cost_ticks" if question.token_class is None else f"{question.token_class}_cost_ticks"
    condition, values = question.meters.condition(3)
    [(ticks,)] = snapshot.rows(
        f"SELECT COALESCE(SUM({column}), 0) FROM meters JOIN {table} ON meter_id = id"
        f" WHERE {period} >= $1 AND {period} < $2 AND {condition}",
        *(2 * question.first - question.end, question.first, *values),
    )
    return int(ticks)
