"""JSON as protobuf writes it: 64-bit integers are strings, times are RFC 3339 with microseconds."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from leadline.errors import InvalidRequest
from leadline.money import TICKS_PER_USD

Json = dict[str, Any]

TICKS_PER_CENT = TICKS_PER_USD // 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_MOST = 2**63 - 1


def timestamp(microseconds: int) -> str:
    """A time as answers tell it."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z".rjust(27, "0")


def time_of(text: str, field: str) -> int:
    """A time as requests tell it, in microseconds. InvalidRequest names the field."""
    if written := _TIME.fullmatch(text):
        day, clock, fraction, offset = written.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in 'Zz' else offset}")
            microseconds = int(((fraction or ".") + "000000")[1:7])
            return (moment - _EPOCH) // timedelta(microseconds=1) + microseconds
        except (ValueError, OverflowError):
            pass
    raise InvalidRequest(f"{field} must be a time such as 2027-03-31T12:00:00Z.", field)


def integer_of(value: int | str, field: str, most: int = _MOST) -> int:
    """A whole number, written as one or as text. InvalidRequest where it is none, below zero or above `most`."""
    number = value if isinstance(value, int) else -1
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        number = int(value)
    if not 0 <= number <= most:
        raise InvalidRequest(f"{field} must be a whole number from 0 to {most}.", field)
    return number


def cents_down(ticks: int) -> int:
    """Whole cents, rounded towards zero: nobody is told of more than there is."""
    cents = abs(ticks) // TICKS_PER_CENT
    return -cents if ticks < 0 else cents


def cents_of_parts(parts: list[int], total_cents: int) -> list[int]:
    """Each part of a sum of ticks in whole cents, so that the cents too add up to `total_cents`: what was cut off goes
    to the parts from which most was cut."""
    cents = [part // TICKS_PER_CENT for part in parts]
    by_rest = sorted(range(len(parts)), key=lambda place: (-(parts[place] % TICKS_PER_CENT), place))
    for place in by_rest[: total_cents - sum(cents)]:
        cents[place] += 1
    return cents


def val(cents: int) -> Json:
    """An amount of cents."""
    return {"val": str(cents)}
