"""What was used, from every side: measured, grouped, filtered and stepped as somebody asks.

Chart, table and totals are added up from the same sums of one moment, so they agree to the tick. For the chart one
number of each step is read: of the groups that it names, and of all together.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Literal, get_args

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, first_day
from leadline.errors import InvalidRequest
from leadline.ledger.meter_filter import Column, MeterFilter
from leadline.ledger.sums import Grain, Span, stepped_sums, sums
from leadline.ledger.token_costs import COST_COLUMNS
from leadline.ledger.usage import COUNTS, index_records
from leadline.storage.database import Database, DatabaseUnusable, Snapshot

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
# SQLite takes no more than 32,766 values.
_MOST_TOLD = 10_000
_COLUMNS: Mapping[Side, Column] = {"model": "model", "key": "key_id", "endpoint": "endpoint", "member": "key_id"}
_ALL_TOKENS = "prompt_tokens + output_tokens + reasoning_tokens"
_TOKENS: Mapping[TokenClass, str] = {
    "input": "prompt_tokens - cached_tokens - image_tokens",
    "cached": "cached_tokens",
    "image": "image_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
_UNPRICED_TICKS = " - ".join(("cost_ticks", *COST_COLUMNS))


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
    totals, groups, metered = NOTHING, dict[str, Figures](), dict[str, set[str]]()
    for told, group, figures in _figures(snapshot, question):
        totals += figures
        if group is not None:
            groups[group] = groups.get(group, NOTHING) + figures
            metered.setdefault(group, set()).add(told)
    rows = [row for row in groups.items() if row[1] != NOTHING]
    rows.sort(key=lambda row: (-row[1].measured(question.measure), row[0]))
    return Explored(
        since=question.first * question.period,
        until=question.end * question.period,
        steps=tuple(start * question.period for start in starts),
        series=tuple(_series(snapshot, question, starts, {group: metered[group] for group, _ in rows})),
        rows=tuple(rows),
        totals=totals,
        previous_ticks=_previous_ticks(snapshot, question),
    )


def _figures(snapshot: Snapshot, question: Question) -> Iterator[tuple[str, str | None, Figures]]:
    """Of the whole time: what meters tell apart, the group that it belongs to, and figures. Where groups are classes,
    requests belong to none."""
    wanted = TOKEN_CLASSES if question.token_class is None else (question.token_class,)
    columns = COUNTS + COST_COLUMNS if _needs_classes(question) else COUNTS
    for told, *numbers in sums(snapshot, _span(question), columns):
        if question.by == "class":
            for token_class in wanted:
                yield told, token_class, _of_class(numbers, token_class)
            if question.token_class is None:
                unpriced = numbers[len(COUNTS) - 1] - sum(numbers[len(COUNTS) :])
                yield told, UNPRICED, Figures(cost_ticks=unpriced)
            yield told, None, Figures(*numbers[:3])
        elif question.token_class is not None:
            figures = Figures(*numbers[:3]) + _of_class(numbers, question.token_class)
            yield told, _group(question, told), figures
        else:
            requests, failed, refused, prompt, cached, image, *others = numbers[: len(COUNTS)]
            figures = Figures(requests, failed, refused, prompt - cached - image, cached, image, *others)
            yield told, _group(question, told), figures


def _group(question: Question, told: str) -> str:
    return question.member_of(told) if question.by == "member" else told


def _of_class(numbers: list[int], token_class: TokenClass) -> Figures:
    place = TOKEN_CLASSES.index(token_class)
    prompt, cached, image, output, reasoning = numbers[3:8]
    tokens = [0] * len(TOKEN_CLASSES)
    tokens[place] = (prompt - cached - image, cached, image, output, reasoning)[place]
    return Figures(0, 0, 0, *(*tokens, numbers[len(COUNTS) + place]))


def _series(
    snapshot: Snapshot, question: Question, starts: tuple[int, ...], groups: Mapping[str, Set[str]]
) -> Iterator[Series]:
    """Of the first groups, and of all others together: what these have no part in."""
    places = {start: place for place, start in enumerate(starts)}
    first = dict(list(groups.items())[:MOST_SERIES])
    charts = {group: [0] * len(starts) for group in first}
    for group, period, number in _charted(snapshot, question, first):
        if group in charts:
            charts[group][places[_step_of(question, period)]] += number
    for group, values in charts.items():
        yield Series(group, tuple(values))
    if len(groups) > MOST_SERIES:
        others = [-sum(values) for values in zip(*charts.values(), strict=True)]
        column = _measured(question.measure, question.token_class)
        for _, period, number in stepped_sums(snapshot, replace(_span(question), by=None), (column,)):
            others[places[_step_of(question, period)]] += number
        yield Series(None, tuple(others))


def _charted(snapshot: Snapshot, question: Question, groups: Mapping[str, Set[str]]) -> Iterator[tuple[str, int, int]]:
    """Group, hour or day, and what is measured: of `groups`, where they are no classes."""
    span = _span(question)
    if question.by == "class":
        columns = {str(name): _measured(question.measure, name) for name in TOKEN_CLASSES}
        if question.measure == "cost":
            columns[UNPRICED] = _UNPRICED_TICKS
        for _, period, *numbers in stepped_sums(snapshot, span, tuple(columns.values())):
            yield from ((name, period, number) for name, number in zip(columns, numbers, strict=True))
        return
    told, column = sorted(chain.from_iterable(groups.values())), _measured(question.measure, question.token_class)
    for start in range(0, len(told), _MOST_TOLD):
        meters = question.meters if span.by is None else question.meters.only(span.by, told[start : start + _MOST_TOLD])
        for one, period, number in stepped_sums(snapshot, replace(span, meters=meters), (column,)):
            yield _group(question, one), period, number


def _span(question: Question) -> Span:
    grain: Grain = "hour" if question.step == "hour" else "day"
    return Span(question.meters, question.first, question.end, grain, _COLUMNS.get(question.by))


def _measured(measure: Measure, token_class: TokenClass | None) -> str:
    """In columns of the sums."""
    match measure:
        case "cost":
            return "cost_ticks" if token_class is None else f"{token_class}_cost_ticks"
        case "tokens":
            return _ALL_TOKENS if token_class is None else _TOKENS[token_class]
        case "requests":
            return "requests"


def _previous_ticks(snapshot: Snapshot, question: Question) -> int:
    first, end = question.first, question.end
    span = replace(_span(question), first=2 * first - end, end=first, by=None)
    column = _measured("cost", question.token_class)
    return sum(ticks for _, ticks in sums(snapshot, span, (column,)))


def _needs_classes(question: Question) -> bool:
    return question.by == "class" or question.token_class is not None
