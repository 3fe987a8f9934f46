"""Usage analytics: series of what was used, dense in time, grouped and filtered as somebody asks."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.errors import InvalidRequest
from leadline.ledger.analytics import Analytics, Cell, Cells, Grain
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.usage import COUNTS
from leadline.management.buckets import UNITS, Buckets, buckets_of
from leadline.management.call import Body, Call, Routes
from leadline.management.lines import TOKEN_TYPES, description_of
from leadline.management.wire import Json, timestamp
from leadline.money import TICKS_PER_USD

_MOST_VALUES, _MOST_GROUPS, _MOST_NUMBERS = 20, 1000, 100_000
_UNIT_PREFIX, _AGGREGATION_PREFIX = "TIME_UNIT_", "AGGREGATION_"
_SUMS = ("NONE", "SUM", "COUNT", "AVG")
_QUANTILES = {"P50": 0.5, "P90": 0.9, "P99": 0.99, "P999": 0.999}
_OF_REQUESTS = ("VAR", "STD", "MIN", "MAX", *_QUANTILES, "COUNT_DISTINCT")
_AT = {name: place for place, name in enumerate(COUNTS)}


class _TimeRange(Body, frozen=True):
    start_time: str
    end_time: str
    timezone: str = "Etc/GMT"


class _Value(Body, frozen=True):
    name: str
    aggregation: str = "AGGREGATION_SUM"


class _Question(Body, frozen=True):
    time_range: _TimeRange
    time_unit: str = "TIME_UNIT_DAY"
    values: list[_Value] = msgspec.field(default_factory=lambda: [_Value("usd")])
    group_by: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


class _Request(Body, frozen=True):
    analytics_request: _Question


async def analyze(call: Call) -> Json:
    asked = (await call.body(_Request)).analytics_request
    unit = asked.time_unit.removeprefix(_UNIT_PREFIX)
    if unit not in UNITS:
        raise _wrong("timeUnit", f"one of {', '.join(_UNIT_PREFIX + name for name in UNITS)}")
    within = asked.time_range
    buckets = buckets_of(within.start_time, within.end_time, within.timezone, unit)
    view = _View(
        buckets,
        _wanted(asked.values),
        [_side(name) for name in asked.group_by],
        [_filter(one) for one in asked.filters],
    )
    if len(set(view.sides)) < len(view.sides):
        raise _wrong("groupBy", "names that differ")
    grain = _grain(view)
    async with call.heavy:
        found = await Analytics(call.instance.database).cells(
            MeterFilter(call.organisation_id), buckets.since, buckets.until, grain
        )
        return await asyncio.to_thread(_answer, call, found, view)


def _answer(call: Call, found: Cells, view: "_View") -> Json:
    series = _series(_parts(found.cells, view), view)
    kept = _largest(series, max(1, _MOST_NUMBERS // (len(view.buckets.starts) * len(view.wanted))))
    return {
        "timeSeries": [
            {
                "group": list(group),
                "groupLabels": [_label(call, side, name) for side, name in zip(view.sides, group, strict=True)],
                "dataPoints": _points(view, parts),
            }
            for group, parts in kept.items()
        ],
        "limitReached": found.cut or len(kept) < len(series),
    }


@dataclass(frozen=True, slots=True)
class _Part:
    """A cell, or what a cell has of one class of tokens."""

    cell: Cell
    token_type: str | None = None

    def side(self, name: str) -> str:
        match name:
            case "model":
                return self.cell.model
            case "api_key_id":
                return self.cell.key_id
            case "endpoint":
                return self.cell.endpoint
            case "description":
                return description_of(self.cell.endpoint, self.cell.model)
            case _:
                return self.token_type or ""

    def tokens(self) -> int:
        if self.token_type is None:
            counts = self.cell.counts
            return sum(counts[_AT[name]] for name in ("prompt_tokens", "output_tokens", "reasoning_tokens"))
        return TOKEN_TYPES[self.token_type].units(self.cell.counts)

    def ticks(self) -> int:
        if self.token_type is None:
            return self.cell.counts[_AT["cost_ticks"]]
        return TOKEN_TYPES[self.token_type].ticks(self.cell.counts, self.cell.class_ticks)


_Measure = Callable[[_Part], int]


def _count(name: str) -> _Measure:
    return lambda part: part.cell.counts[_AT[name]]


# What can be asked for. Amounts of dollars are ticks until they are written.
_MEASURES: dict[str, _Measure] = {
    "usd": _Part.ticks,
    "cost_in_usd_ticks": _Part.ticks,
    "tokens": _Part.tokens,
    **{name: _count(name) for name in COUNTS if name != "cost_ticks"},
}
_SPELLINGS = {"completion_tokens": "output_tokens", "cost_ticks": "cost_in_usd_ticks"}
_SIDES = {
    **{name: name for name in ("model", "endpoint", "description", "api_key_id", "token_type")},
    **{"api_key": "api_key_id", "apiKeyId": "api_key_id", "key": "api_key_id", "unit_type": "token_type"},
    **{"unitType": "token_type", "tokenType": "token_type"},
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A number of every data point."""

    name: str
    aggregation: str

    def of(self, parts: Sequence[_Part]) -> object:
        if self.aggregation == "COUNT":
            return sum(part.cell.counts[0] for part in parts)
        numbers = [_MEASURES[self.name](part) for part in parts]
        match self.aggregation:
            case "NONE" | "SUM":
                return self._written(sum(numbers))
            case "AVG":
                requests = sum(part.cell.counts[0] for part in parts)
                return self._written(Decimal(sum(numbers)) / requests if requests else 0)
            case "COUNT_DISTINCT":
                return len(set(numbers))
            case _:
                return self._written(_spread(numbers, self.aggregation))

    def _written(self, number: int | Decimal) -> object:
        """A JSON number without rounding by a float."""
        if self.name != "usd":
            return number if isinstance(number, int) else _plain(number)
        squared = TICKS_PER_USD if self.aggregation == "VAR" else 1
        return _plain(Decimal(number) / TICKS_PER_USD / squared)


def _plain(number: Decimal) -> msgspec.Raw:
    return msgspec.Raw(f"{number:.20f}".rstrip("0").rstrip(".").encode())


def _spread(numbers: Sequence[int], aggregation: str) -> int | Decimal:
    # A server starts without it.
    import statistics

    if not numbers:
        return 0
    match aggregation:
        case "MIN":
            return min(numbers)
        case "MAX":
            return max(numbers)
        case "VAR":
            return statistics.pvariance(map(Decimal, numbers))
        case "STD":
            return statistics.pvariance(map(Decimal, numbers)).sqrt()
        case _:
            # The nearest rank.
            place = -(-len(numbers) * int(_QUANTILES[aggregation] * 1000) // 1000)
            return sorted(numbers)[max(0, place - 1)]


def _wrong(field: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"analyticsRequest.{field} must be {what}.", f"analyticsRequest.{field}")


def _wanted(values: Sequence[_Value]) -> list[_Wanted]:
    if not 1 <= len(values) <= _MOST_VALUES:
        raise _wrong("values", f"1 to {_MOST_VALUES} values")
    wanted = []
    for value in values:
        name = _SPELLINGS.get(value.name, value.name)
        aggregation = value.aggregation.removeprefix(_AGGREGATION_PREFIX)
        if name not in _MEASURES:
            raise _wrong("values", f"values whose names are of {', '.join(_MEASURES)}")
        if aggregation not in (*_SUMS, *_OF_REQUESTS):
            names = ", ".join(_AGGREGATION_PREFIX + one for one in (*_SUMS, *_OF_REQUESTS))
            raise _wrong("values", f"values whose aggregations are of {names}")
        wanted.append(_Wanted(name, aggregation))
    return wanted


def _side(name: str) -> str:
    if name not in _SIDES:
        raise _wrong("groupBy", f"of {', '.join(dict.fromkeys(_SIDES.values()))}")
    return _SIDES[name]


@dataclass(frozen=True, slots=True)
class _Filter:
    side: str
    value: str


def _filter(text: str) -> _Filter:
    """`model:grok-beta` or `model=grok-beta`."""
    for sign in ":=":
        name, found, value = text.partition(sign)
        if found and name.strip() in _SIDES:
            return _Filter(_SIDES[name.strip()], value.strip())
    raise _wrong("filters", f"written as name:value, with a name of {', '.join(dict.fromkeys(_SIDES.values()))}")


@dataclass(frozen=True, slots=True)
class _View:
    """What is asked: numbers of every bucket and group, of what the filters let through."""

    buckets: Buckets
    wanted: Sequence[_Wanted]
    sides: Sequence[str]
    filters: Sequence[_Filter]

    @property
    def by_class(self) -> bool:
        return "token_type" in (*self.sides, *(one.side for one in self.filters))


def _grain(view: _View) -> Grain:
    """The coarsest that tells what is asked."""
    if any(one.aggregation in _OF_REQUESTS for one in view.wanted) or not view.buckets.are_cut_at(
        MICROSECONDS_PER_HOUR
    ):
        if view.by_class:
            raise _wrong("timeUnit", "whole hours (UTC) and aggregations sums, where token types are told apart")
        return "request"
    return "day" if view.buckets.are_cut_at(MICROSECONDS_PER_DAY) else "hour"


def _parts(cells: Iterable[Cell], view: _View) -> Iterable[_Part]:
    for cell in cells:
        for token_type in TOKEN_TYPES if view.by_class else (None,):
            part = _Part(cell, token_type)
            if all(part.side(one.side) == one.value for one in view.filters):
                yield part


_Series = dict[tuple[str, ...], dict[int, list[_Part]]]


def _series(parts: Iterable[_Part], view: _View) -> _Series:
    """Parts by group and bucket. Without groups there is one series, also of nothing."""
    series: _Series = {} if view.sides else {(): {}}
    for part in parts:
        place = view.buckets.place(part.cell.at)
        if place is None:
            continue
        if part.token_type is not None and not part.tokens() and not part.ticks():
            continue
        group = tuple(part.side(side) for side in view.sides)
        series.setdefault(group, defaultdict(list)).setdefault(place, []).append(part)
    return series


def _largest(series: _Series, most: int) -> _Series:
    """Those that cost most, then by name."""

    def cost(group: tuple[str, ...]) -> int:
        return sum(part.ticks() for parts in series[group].values() for part in parts)

    ordered = sorted(series, key=lambda group: (-cost(group), group))
    return {group: series[group] for group in ordered[: min(most, _MOST_GROUPS)]}


def _points(view: _View, by_place: dict[int, list[_Part]]) -> list[Json]:
    return [
        {"timestamp": timestamp(start), "values": [one.of(by_place.get(place, ())) for one in view.wanted]}
        for place, start in enumerate(view.buckets.starts)
    ]


def _label(call: Call, side: str, name: str) -> str:
    """How people know it."""
    key = call.instance.keys.find_by_id(name) if side == "api_key_id" else None
    return key.name if key is not None and key.organisation_id == call.organisation_id else name


ROUTES: Routes = {("POST", "/v1/billing/teams/{team_id}/usage"): ("AnalyzeBillingItems", analyze)}
