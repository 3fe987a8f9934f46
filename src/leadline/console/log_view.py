"""The request log as pages show it: what the URL asks, its rows, and one request by itself."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from leadline.administration.commands.requests import log_question, price_lines
from leadline.console.address import Address
from leadline.console.narrowing import FILTERS, TIME
from leadline.console.outcomes import KINDS, Advice, advice_on, status_of
from leadline.console.time_range import TimeRange, time_range
from leadline.console.visit import Visit
from leadline.ledger.request_log import LogQuestion
from leadline.ledger.usage import LOG_STATUSES, UsageRecord

PAGE = "/log"
ROWS = 50
STATUSES = tuple((status, status.capitalize()) for status in LOG_STATUSES)
KNOWN = ("text", "status", *TIME, *FILTERS)
_CLASSES = {
    "input": "Input",
    "cached": "Cached input",
    "image": "Images",
    "output": "Output",
    "reasoning": "Reasoning",
    "reserved": "Over what was reserved, not charged",
    "unpriced": "At prices that are not recorded",
}


@dataclass(frozen=True, slots=True)
class LogRow:
    """A request for people. `key_path` is empty where the key has no page, as a playground has none."""

    record: UsageRecord
    status: str
    kind: str
    advice: Advice | None
    key_name: str
    key_path: str


@dataclass(frozen=True, slots=True)
class LogAsked:
    """What a URL asks of the log."""

    address: Address
    time: TimeRange | None

    @classmethod
    def of(cls, visit: Visit) -> "LogAsked":
        address = Address.of(PAGE, visit.request.query_params.multi_items(), KNOWN)
        time = time_range(address.one("range"), address.one("since"), address.one("until"), visit.instance.keys.clock())
        return cls(address, time)

    def question(self, visit: Visit) -> LogQuestion:
        """InvalidRequest where there is no such question."""
        filters: dict[str, Any] = {options: self.address.all(name) for name, options in FILTERS.items()}
        filters |= {"statuses": self.address.all("status"), "text": self.address.one("text")}
        if self.time is not None:
            filters |= {"since": self.time.since or None, "until": self.time.until or None}
        return log_question(visit.instance, visit.organisation_id, filters)


def log_row(visit: Visit, record: UsageRecord) -> LogRow:
    status, keys = status_of(record), visit.instance.keys
    caller = keys.find_caller(record.key_id)
    path = f"/keys/{quote(record.key_id)}" if keys.find_by_id(record.key_id) is not None else ""
    name = record.key_id if caller is None else caller.name
    return LogRow(record, status, KINDS[status], advice_on(record, path or "/keys"), name, path)


@dataclass(frozen=True, slots=True)
class PriceLine:
    """Tokens of one class times their price. `ticks_per_token` None: what makes the sum come out."""

    label: str
    tokens: int
    ticks_per_token: int | None
    ticks: int


def priced(visit: Visit, record: UsageRecord) -> list[PriceLine]:
    """Line by line; the lines add up to the charge."""
    return [
        PriceLine(
            _CLASSES[line["class"]],
            line["tokens"],
            line["ticks"] // line["tokens"] if line["tokens"] else None,
            line["ticks"],
        )
        for line in price_lines(visit.instance, record)
    ]


@dataclass(frozen=True, slots=True)
class Timings:
    """`first_percent` of the time went by before the first token."""

    first: int | None
    total: int
    first_percent: float
    tokens_per_second: float | None

    @classmethod
    def of(cls, record: UsageRecord) -> "Timings":
        first, total = record.first_token_milliseconds, record.total_milliseconds
        percent = 100.0 if first is None or not total else round(min(100.0, 100 * first / total), 2)
        after_first = record.usage.output_tokens + record.usage.reasoning_tokens - 1
        took = total - (first or 0)
        speed = round(after_first * 1000 / took, 1) if first is not None and after_first > 0 and took > 0 else None
        return cls(first, total, percent, speed)
