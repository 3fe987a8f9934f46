"""The usage explorer, for the command line and the console alike."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from leadline.administration.commands.command import Command, Result
from leadline.administration.commands.usage import DEFAULT_SINCE, beginning, ending, key_words
from leadline.administration.instance import Instance
from leadline.administration.spreadsheet import csv_lines
from leadline.clock import rfc3339
from leadline.errors import InvalidRequest, NotFound
from leadline.ledger.explorer import Explored, Explorer, Figures, Measure, Question, Side, Step, TokenClass
from leadline.ledger.latency import Latency, latency
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.overview import SPARK_DAYS, burn, last_day, sparks

Options = Mapping[str, Any]

_FIGURES = ("requests", "failed", "refused", "prompt_tokens", "cached_tokens", "image_tokens", "output_tokens")
FIGURES = (*_FIGURES, "reasoning_tokens", "cost_ticks")
_WORDS = {"measure": get_args(Measure), "by": get_args(Side), "step": get_args(Step), "class": get_args(TokenClass)}
_OPTIONS = frozenset({*_WORDS, "since", "until", "models", "keys", "endpoints"})


async def explore_usage(instance: Instance, email: str | None, options: Options | None = None) -> Result:
    """`options`: `measure` [cost], `by` [model], `step` [day], `class` (of tokens; none: all), `models`, `keys` (names
    or ids) and `endpoints` (lists; empty: all), `since` [7d], `until` (the last day [today])."""
    organisation = await instance.organisations.of_email(email)
    return await explored(instance, organisation.id, options or {})


async def show_overview(instance: Instance, email: str | None) -> Result:
    """The last 24 hours, and how long the credits last."""
    organisation = await instance.organisations.of_email(email)
    return await overview(instance, organisation.id)


async def show_key_usage(instance: Instance, email: str | None) -> Result:
    """What each key did in the last 14 days, spent of its cap, and when it was last used."""
    organisation = await instance.organisations.of_email(email)
    return await key_usage(instance, organisation.id)


CHANGES: dict[str, Command] = {}
READS: dict[str, Command] = {
    "usage explore": explore_usage,
    "usage overview": show_overview,
    "usage keys": show_key_usage,
}


async def explored(instance: Instance, organisation_id: str, options: Options) -> Result:
    """As `explore_usage`."""
    question = question_of(instance, organisation_id, options)
    found = await Explorer(instance.database).explore(question)
    times = await latency(instance.database, question.meters, found.since, found.until)
    names = {group: await _named(instance, question.by, group) for group, _ in found.rows}
    series = [
        {"group": one.group, "values": list(one.values)} | (names[one.group] if one.group is not None else {})
        for one in found.series
    ]
    return {
        "since": rfc3339(found.since),
        "until": rfc3339(found.until),
        **{"measure": question.measure, "by": question.by, "step": question.step, "class": question.token_class},
        **{name: sorted(getattr(question.meters, name)) for name in ("models", "keys", "endpoints")},
        "total": _totals(found),
        "latency": _latency(times),
        "steps": [rfc3339(start) for start in found.steps],
        "series": series,
        "rows": [{"group": group} | names[group] | figures_result(figures) for group, figures in found.rows],
    }


def explored_csv(result: Result) -> Iterator[str]:
    """The rows of what `explored` found, line by line."""
    named = {"key": ("key_name", "key"), "member": ("member",)}.get(result["by"], ())
    return csv_lines(("group", *named, *FIGURES), result["rows"])


async def overview(instance: Instance, organisation_id: str) -> Result:
    """As `show_overview`. `limited` counts rate limits, up to 10,001."""
    now = instance.keys.clock()
    available_ticks = instance.ledger.balance(organisation_id).available_ticks
    day = await last_day(instance.database, organisation_id, now)
    spending = await burn(instance.database, organisation_id, available_ticks, now)
    names = ("requests", "tokens", "cost_ticks", "failed", "refused", "limited")
    return {
        "last_day": {name: getattr(day, name) for name in names},
        "available_ticks": available_ticks,
        "ticks_per_day": spending.ticks_per_day,
        "days_left": spending.days_left,
    }


async def key_usage(instance: Instance, organisation_id: str) -> Result:
    """As `show_key_usage`. `spent_ticks` are of the cap's present period, of the month where there is no cap."""
    found = await sparks(instance.database, organisation_id, instance.keys.clock())
    rows = []
    for key in instance.keys.of(organisation_id):
        spark, used_at = found.get(key.id), instance.keys.last_used_at(key.id)
        period = key.cap.period if key.cap is not None else "month"
        rows.append(
            {
                "id": key.id,
                "name": key.name,
                "requests": list(spark.requests) if spark is not None else [0] * SPARK_DAYS,
                "cost_ticks": list(spark.cost_ticks) if spark is not None else [0] * SPARK_DAYS,
                "period": period,
                "spent_ticks": instance.ledger.spent_by_key(key.id, period),
                "cap_ticks": key.cap.ticks if key.cap is not None else None,
                "last_used_at": rfc3339(used_at) if used_at is not None else None,
            }
        )
    return {"keys": rows}


def question_of(instance: Instance, organisation_id: str, options: Options) -> Question:
    """What `options` ask, or InvalidRequest."""
    for name in options:
        if name not in _OPTIONS:
            raise InvalidRequest(f"Usage cannot be explored by {name!r}.", name)
    for name, words in _WORDS.items():
        if options.get(name) is not None and options[name] not in words:
            raise InvalidRequest(f"{options[name]!r} is not known here. Write one of {', '.join(words)}.", name)
    now = instance.keys.clock()
    chosen = {name: options[name] for name in ("measure", "by", "step") if options.get(name) is not None}
    return Question(
        meters_of(instance, organisation_id, options),
        beginning(options.get("since") or DEFAULT_SINCE, now),
        ending(options.get("until") or None, now) + 1,
        token_class=options.get("class"),
        member_of=lambda key_id: _creator(instance, key_id),
        **chosen,
    )


def meters_of(instance: Instance, organisation_id: str, options: Options) -> MeterFilter:
    """The meters of the `models`, `keys` (names or ids) and `endpoints` of `options`."""
    return MeterFilter(
        organisation_id,
        frozenset(options.get("models") or ()),
        frozenset(_key_id(instance, organisation_id, key) for key in options.get("keys") or ()),
        frozenset(options.get("endpoints") or ()),
    )


def _key_id(instance: Instance, organisation_id: str, name_or_id: str) -> str:
    caller = instance.keys.find_caller(name_or_id)
    if caller is not None and caller.organisation_id == organisation_id:
        return caller.id
    try:
        return instance.keys.find(organisation_id, name_or_id).id
    except NotFound as error:
        raise InvalidRequest(str(error), "keys") from None


def _creator(instance: Instance, key_id: str) -> str:
    key = instance.keys.find_caller(key_id)
    return "" if key is None else key.created_by


async def _named(instance: Instance, by: Side, group: str) -> Result:
    """How people know the group."""
    if by == "key":
        return key_words(instance, group)
    if by == "member":
        user = await instance.users.get(group) if group else None
        return {"member": user.email if user is not None else "command line"}
    return {}


def figures_result(figures: Figures) -> Result:
    """By the names of usage's other results: the prompt's tokens hold those of the cache and of images."""
    return {name: getattr(figures, name) for name in FIGURES}


def _totals(found: Explored) -> Result:
    totals = found.totals
    percent = round(100 * totals.succeeded / totals.requests, 1) if totals.requests else None
    more = {"tokens": totals.tokens, "succeeded_percent": percent, "previous_cost_ticks": found.previous_ticks}
    return figures_result(totals) | more


def _latency(times: Latency) -> Result:
    return {
        "requests": times.requests,
        "newest_only": times.newest_only,
        "first_token_p50_milliseconds": times.first_token.p50,
        "first_token_p95_milliseconds": times.first_token.p95,
        "total_p50_milliseconds": times.total.p50,
        "total_p95_milliseconds": times.total.p95,
    }
