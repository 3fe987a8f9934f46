"""Single requests: the log, and one request with how its price came about."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any
from uuid import UUID

from leadline.administration.commands.command import Command, Result
from leadline.administration.commands.explore import meters_of
from leadline.administration.commands.usage import beginning, ending, record_result
from leadline.administration.instance import Instance
from leadline.administration.spreadsheet import csv_lines
from leadline.clock import rfc3339
from leadline.errors import InvalidRequest, NotFound
from leadline.ledger.request_log import MOST_ON_PAGE, LogPage, LogQuestion, RequestLog
from leadline.ledger.token_costs import TOKEN_CLASSES
from leadline.ledger.usage import LOG_STATUSES, UsageRecord
from leadline.money import TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION

Options = Mapping[str, Any]

MOST_RECORDS = 10_000
LOGGED = (
    *("request_id", "began_at", "at", "key_name", "key", "model", "endpoint", "status", "error", "prompt_tokens"),
    *("cached_tokens", "image_tokens", "output_tokens", "reasoning_tokens", "first_token_milliseconds"),
    *("total_milliseconds", "cost_ticks"),
)
_OPTIONS = frozenset({"models", "keys", "endpoints", "statuses", "text", "since", "until"})
_PREFIXES = ("resp_", "msg_")


async def show_log(
    instance: Instance, limit: int, before: str | None, email: str | None, filters: Options | None = None
) -> Result:
    """The newest requests, or those before the request id `before`; the newest first. `filters`: `models`, `keys`
    (names or ids), `endpoints` and `statuses` (lists; empty: all), `text` (a part of the id), `since`, `until` (the
    last day)."""
    if not 1 <= limit <= MOST_RECORDS:
        raise InvalidRequest(f"Ask for 1 to {MOST_RECORDS} requests at once.", "limit")
    organisation = await instance.organisations.of_email(email)
    question = log_question(instance, organisation.id, filters or {})
    return await log_result(instance, question, None if before is None else request_id(before, "before"), limit)


async def show_request(instance: Instance, request: str, email: str | None) -> Result:
    """One request, its price line by line, and the requests next to it."""
    organisation = await instance.organisations.of_email(email)
    return await request_result(instance, organisation.id, request)


CHANGES: dict[str, Command] = {}
READS: dict[str, Command] = {
    "usage log": show_log,
    "usage request": show_request,
}


async def log_result(instance: Instance, question: LogQuestion, before: str | None, limit: int) -> Result:
    """`before` goes on from there, where there is more. `searched_back_to` says how far was looked, where a search
    stopped before it had found all that was asked for."""
    log = RequestLog(instance.database)
    page = await log.page(question, before, min(limit, MOST_ON_PAGE))
    records = list(page.records)
    while len(records) < limit and _goes_on(page):
        page = await log.page(question, page.before, min(limit - len(records), MOST_ON_PAGE))
        records += page.records
    return {
        "records": [record_result(instance, record) for record in records],
        "before": page.before,
        "searched_back_to": _moment(page.searched_back_to),
    }


async def log_csv(instance: Instance, question: LogQuestion, limit: int = MOST_RECORDS) -> AsyncIterator[str]:
    """The newest requests, line by line, as the pages are read."""
    log, left, before = RequestLog(instance.database), limit, None
    [heading] = csv_lines(LOGGED, ())
    yield heading
    while left > 0:
        page = await log.page(question, before, min(left, MOST_ON_PAGE))
        lines = csv_lines(LOGGED, [record_result(instance, record) for record in page.records])
        next(lines)
        for line in lines:
            yield line
        left, before = left - len(page.records), page.before
        if before is None:
            return


async def request_result(instance: Instance, organisation_id: str, request: str) -> Result:
    """As `show_request`. NotFound where the organisation has no such request."""
    name = request_id(request, "request")
    log = RequestLog(instance.database)
    record = await log.find(organisation_id, name)
    if record is None:
        raise NotFound(f"There is no request {request!r}, or its record is over. `leadline usage --log` shows them.")
    neighbours = await log.neighbours(organisation_id, name)
    return record_result(instance, record) | {
        "lines": price_lines(instance, record),
        "newer": neighbours.newer,
        "older": neighbours.older,
    }


def price_lines(instance: Instance, record: UsageRecord) -> list[Result]:
    """What its tokens cost at the prices of its admission. They add up to what was charged: a last line says where that
    is something else than tokens times prices."""
    usage, prices = record.usage, instance.prices.at(record.model, record.began_at)
    tier = prices.long if 0 < prices.long_context_threshold <= usage.prompt_tokens else prices.short
    text = usage.prompt_tokens - usage.cached_tokens - usage.image_tokens
    tokens = (text, *astuple(usage)[1:])
    lines: list[Result] = [
        {"class": name, "tokens": count, "usd_per_million": _usd_per_million(ticks), "ticks": count * ticks}
        for name, count, ticks in zip(TOKEN_CLASSES, tokens, astuple(tier), strict=True)
        if count
    ]
    rest = record.cost_ticks - sum(line["ticks"] for line in lines)
    if rest:
        why = "reserved" if rest < 0 else "unpriced"
        lines.append({"class": why, "tokens": 0, "usd_per_million": None, "ticks": rest})
    return lines


def log_question(instance: Instance, organisation_id: str, filters: Options) -> LogQuestion:
    """What `filters` ask, or InvalidRequest."""
    for name in filters:
        if name not in _OPTIONS:
            raise InvalidRequest(f"Requests cannot be filtered by {name!r}.", name)
    statuses: Sequence[Any] = filters.get("statuses") or ()
    for status in statuses:
        if status not in LOG_STATUSES:
            raise InvalidRequest(f"{status!r} is no status. Write one of {', '.join(LOG_STATUSES)}.", "statuses")
    now, since, until = instance.keys.clock(), filters.get("since"), filters.get("until")
    return LogQuestion(
        meters_of(instance, organisation_id, filters),
        frozenset(statuses),
        _text(filters.get("text") or ""),
        beginning(since, now) if since else 0,
        ending(until, now) + 1 if until else None,
    )


def request_id(text: str, param: str) -> str:
    """A request's id in the log's spelling, whatever dialect wrote it; InvalidRequest where it is none."""
    try:
        return str(UUID(_bare(text)))
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a request's id. `leadline usage --log` shows them.", param) from None


def _text(text: str) -> str:
    """A part of an id as the log spells it; the whole of one in any spelling."""
    bare = _bare(text)
    return str(UUID(bare)) if len(bare.replace("-", "")) == 32 and _is_hex(bare) else bare


def _bare(text: str) -> str:
    text = text.strip().lower()
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return text


def _is_hex(text: str) -> bool:
    return not set(text) - set("0123456789abcdef-")


def _goes_on(page: LogPage) -> bool:
    return page.before is not None and page.searched_back_to is None


def _usd_per_million(ticks: int) -> str:
    whole, fraction = divmod(ticks, TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION)
    return f"{whole}.{fraction:04d}"


def _moment(microseconds: int | None) -> str | None:
    return None if microseconds is None else rfc3339(microseconds)
