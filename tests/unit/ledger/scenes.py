"""Requests of Alice's as the ledger sees them, and a clock that stands until it is stepped."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from leadline.chat.events import Usage
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, MICROSECONDS_PER_SECOND
from leadline.ids import first_uuid_at, new_uuid
from leadline.ledger.books import Hold, Outcome, Replay
from leadline.ledger.ledger import Balance
from leadline.ledger.usage import UsageRecord
from leadline.money import SpendCap, Ticks

SECOND, HOUR, DAY = MICROSECONDS_PER_SECOND, MICROSECONDS_PER_HOUR, MICROSECONDS_PER_DAY
USAGE = Usage(prompt_tokens=7, cached_tokens=3, image_tokens=1, output_tokens=5, reasoning_tokens=2)


def at(year: int, month: int, day: int, *time: int) -> int:
    """A date in UTC, with hour, minute and second, in microseconds."""
    return int(datetime(year, month, day, *time, tzinfo=UTC).timestamp()) * SECOND


NOON = at(2027, 1, 13, 12)  # a Wednesday


class SteppedClock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now

    def step(self, microseconds: int) -> None:
        self.now += microseconds


def id_at(microseconds: int, number: int = 0) -> str:
    """The id of a request that began then."""
    return str(UUID(int=first_uuid_at(microseconds).int | 0x7 << 76 | number))


def hold(
    ticks: int,
    *,
    name: str | None = None,
    organisation: str = "org_alice",
    key: str = "key-1",
    model: str = "mock",
    endpoint: str = "/v1/chat/completions",
    opened_at: int = NOON,
    cap: SpendCap | None = None,
    replayable: bool = False,
) -> Hold:
    return Hold(
        *(name or str(new_uuid()), organisation, key, model, endpoint, Ticks(ticks), opened_at),
        key_name="laptop",
        cap=cap,
        replayable=replayable,
    )


def record(hold: Hold, ticks: int = 0, **more: Any) -> UsageRecord:
    ended = UsageRecord(
        *(hold.organisation_id, hold.request_id, hold.opened_at, hold.opened_at, hold.key_id, hold.model),
        endpoint=hold.endpoint,
        status="finished",
        usage=USAGE,
        cost_ticks=ticks,
    )
    return replace(ended, **more)


class Ended:
    """How a request ends, as the ledger asks for it; `asked` counts how often it did."""

    def __init__(self, record: UsageRecord, replay: Replay | None = None) -> None:
        self.record = record
        self.replay = replay
        self.asked = 0

    def __call__(self) -> Outcome:
        self.asked += 1
        return Outcome(self.record, () if self.replay is None else (self.replay,))


def finished(hold: Hold, ticks: int, **more: Any) -> Ended:
    return Ended(record(hold, ticks, **more))


def interrupted(hold: Hold, ticks: int, **more: Any) -> Ended:
    return Ended(record(hold, ticks, status="interrupted", **more))


def failed(hold: Hold, error: str = "engine_failed", **more: Any) -> Ended:
    return Ended(record(hold, status="failed", error=error, usage=Usage(), **more))


def balance(balance_ticks: int, held_ticks: int = 0) -> Balance:
    return Balance(Ticks(balance_ticks), Ticks(held_ticks))
