"""The usage explorer as its page shows it: what the URL asks, figures, a chart, and a table with the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from leadline.administration.commands.command import Result
from leadline.administration.commands.explore import explored
from leadline.console.address import Address
from leadline.console.formats import tokens, took, usd2
from leadline.console.narrowing import FILTERS, TIME
from leadline.console.time_range import TimeRange, days_between, time_range, words
from leadline.console.visit import Visit
from leadline.ledger.explorer import MOST_SERIES, MOST_STEPS

PAGE = "/usage"
MEASURES = (("cost", "Cost"), ("tokens", "Tokens"), ("requests", "Requests"))
SIDES = (
    ("model", "model"),
    ("key", "key"),
    ("endpoint", "endpoint"),
    ("class", "token type"),
    ("member", "member"),
)
STEPS = (("hour", "Hourly"), ("day", "Daily"), ("month", "Monthly"))
CLASSES = (
    ("input", "Input"),
    ("cached", "Cached input"),
    ("image", "Images"),
    ("output", "Output"),
    ("reasoning", "Reasoning"),
)
KNOWN = ("measure", "by", "step", "class", *TIME, *FILTERS)
_UNPRICED = {"unpriced": "At prices that are not recorded"}
_DEFAULT_RANGE = "30d"
_HOURS_OF_DAYS = 2
_DAYS_OF_DAYS = 92


@dataclass(frozen=True, slots=True)
class Row:
    """A group in the table. `path` is the same page with this group alone, where that can be asked."""

    label: str
    sub: str
    path: str
    series: int
    percent: int
    figures: Mapping[str, int]

    @property
    def tokens(self) -> int:
        return sum(self.figures[name] for name in ("prompt_tokens", "output_tokens", "reasoning_tokens"))


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """What the URL asks of usage, with a time, a step and so on where it says nothing."""

    address: Address
    time: TimeRange
    days: int
    measure: str
    by: str
    step: str

    @classmethod
    def of(cls, visit: Visit) -> "UsageQuestion":
        address = Address.of(PAGE, visit.request.query_params.multi_items(), KNOWN)
        now = visit.instance.keys.clock()
        time = time_range(address.one("range"), address.one("since"), address.one("until"), now)
        if time is None or not time.since:
            preset = time_range(_DEFAULT_RANGE, "", "", now)
            assert preset is not None
            time = preset if time is None else _thirty_days(time)
        days = days_between(time.since, time.until, now)
        step = "hour" if days <= _HOURS_OF_DAYS else "day" if days <= _DAYS_OF_DAYS else "month"
        asked = (address.one(name) for name in ("measure", "by", "step"))
        return cls(
            address, time, days, *(one or usual for one, usual in zip(asked, ("cost", "model", step), strict=True))
        )

    @property
    def options(self) -> dict[str, Any]:
        """As `administration.commands.explore` takes them."""
        chosen = {options: self.address.all(name) for name, options in FILTERS.items()}
        more = {"measure": self.measure, "by": self.by, "step": self.step, "class": self.address.one("class") or None}
        return chosen | more | {"since": self.time.since, "until": self.time.until or None}

    @property
    def side(self) -> str:
        """What it groups by, in words."""
        return dict(SIDES).get(self.by, self.by)

    @property
    def title(self) -> str:
        """Of the chart."""
        step = dict(STEPS).get(self.step, "")
        kind = dict(CLASSES).get(self.address.one("class"), "")
        of = (
            f" of {kind.lower()} tokens"
            if kind and self.measure == "cost"
            else f", {kind.lower()} only"
            if kind
            else ""
        )
        return f"{step} {self.measure}{of}" + ("" if self.by == "none" else f" by {self.side}")

    def step_fits(self, step: str) -> bool:
        """Whether a chart by that step has room for the time."""
        return self.days * (24 if step == "hour" else 1) <= MOST_STEPS[step] or step == "month"  # type: ignore[index]


def _thirty_days(until: TimeRange) -> TimeRange:
    """Up to a day; a month of days, since all the time before has more steps than a chart."""
    try:
        last = date.fromisoformat(until.until)
        first = last - timedelta(29)
    except (ValueError, OverflowError):
        # What reads it tells what is wrong with it.
        return TimeRange(until.name, until.label, until.until, until.until)
    return TimeRange(until.name, words(first, last), first.isoformat(), until.until)


async def answer(visit: Visit, question: UsageQuestion) -> dict[str, Any]:
    """The context of what was found, or InvalidRequest."""
    result = await explored(visit.instance, visit.organisation_id, question.options)
    rows = _rows(question, result)
    return {
        "result": result,
        "rows": rows,
        "total": result["total"],
        "figures": _figures(question, result),
        "chart": _chart(question, result, rows),
        "columns": _columns(question, result),
        "nothing": not rows,
    }


def _rows(question: UsageQuestion, result: Result) -> list[Row]:
    measured = [_measured(question.measure, row) for row in result["rows"]]
    whole = sum(measured) or 1
    return [
        Row(
            *_named(question.by, row),
            _alone(question, row["group"]),
            min(place, MOST_SERIES) + 1,
            round(100 * value / whole),
            row,
        )
        for place, (row, value) in enumerate(zip(result["rows"], measured, strict=True))
    ]


def _measured(measure: str, row: Mapping[str, Any]) -> int:
    if measure == "tokens":
        return int(row["prompt_tokens"] + row["output_tokens"] + row["reasoning_tokens"])
    return int(row["cost_ticks" if measure == "cost" else "requests"])


def _named(by: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """What a group is called, and what is told of it below that."""
    match by:
        case "key":
            return row["key_name"] or row["group"], "" if row["key"] == row["group"] else row["key"]
        case "member":
            return row["member"], ""
        case "class":
            return (dict(CLASSES) | _UNPRICED).get(row["group"], row["group"]), ""
        case "none":
            return "Everything", ""
        case _:
            return row["group"], ""


def _alone(question: UsageQuestion, group: str) -> str:
    name = question.by
    if name not in (*FILTERS, "class") or group in _UNPRICED or question.address.all(name) == [group]:
        return ""
    return question.address.to(**{name: group})


def _chart(question: UsageQuestion, result: Result, rows: Sequence[Row]) -> dict[str, Any]:
    """What charts.js draws. Costs are in ticks, so they add up."""
    starts = [datetime.fromisoformat(start) for start in result["steps"]]
    series = [
        {"name": "Others" if one["group"] is None else rows[place].label, "numbers": one["values"]}
        for place, one in enumerate(result["series"])
    ]
    unit = "ticks" if question.measure == "cost" else ""
    return {"labels": [_label(question, start) for start in starts], "series": series, "unit": unit}


def _label(question: UsageQuestion, start: datetime) -> str:
    match question.step:
        case "hour":
            return f"{start:%H:%M}" if question.days == 1 else f"{start.day} {start:%b %H:%M}"
        case "month":
            return f"{start:%b %Y}"
        case _:
            return f"{start.day} {start:%b}"


def _columns(question: UsageQuestion, result: Result) -> list[tuple[str, str]]:
    """The columns of figures that say something: their names and headings."""
    if question.by == "class":
        return [("tokens", "Tokens")]
    columns = [("requests", "Requests"), ("prompt_tokens", "Input"), ("cached_tokens", "Cached")]
    rare = [("image_tokens", "Images"), ("reasoning_tokens", "Reasoning")]
    return [*columns, ("output_tokens", "Output"), *(pair for pair in rare if result["total"][pair[0]])]


def _figures(question: UsageQuestion, result: Result) -> list[tuple[str, str, str, str]]:
    """Label, value, unit and remark of the five."""
    total, latency = result["total"], result["latency"]
    first, late = latency["first_token_p50_milliseconds"], latency["first_token_p95_milliseconds"]
    percent = total["succeeded_percent"]
    cached = round(100 * total["cached_tokens"] / total["prompt_tokens"]) if total["prompt_tokens"] else 0
    ran = total["requests"] - total["refused"]
    each = f"{round(total['output_tokens'] / ran):,} per request" if ran else ""
    newest = f" of the newest {latency['requests']:,}" if latency["newest_only"] else ""
    return [
        ("Spend", usd2(total["cost_ticks"]), "", _change(question, total)),
        ("Requests", *_split(tokens(total["requests"])), "" if percent is None else f"{percent:g}% succeeded"),
        ("Input tokens", *_split(tokens(total["prompt_tokens"])), f"{cached}% from cache"),
        ("Output tokens", *_split(tokens(total["output_tokens"])), each),
        (
            "Time to first token",
            *(("\u2013", "") if first is None else _split(took(first))),
            "" if late is None else f"median{newest}, {took(late)} at p95",
        ),
    ]


def _change(question: UsageQuestion, total: Mapping[str, Any]) -> str:
    """What is spent, against as long a time before."""
    now, before = total["cost_ticks"], total["previous_cost_ticks"]
    period = "the day before" if question.days == 1 else f"the {question.days} days before"
    if not before:
        return f"Nothing in {period}" if now else ""
    percent = round(100 * (now - before) / before)
    if percent == 0:
        return f"As much as in {period}"
    return f"{abs(percent):,}% {'more' if percent > 0 else 'less'} than {period}"


def _split(text: str) -> tuple[str, str]:
    figure, _, unit = text.partition(" ")
    return figure, unit
