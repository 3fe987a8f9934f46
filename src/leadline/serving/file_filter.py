"""Filters of lists of files: comparisons that all have to hold, joined by `AND` (a part of AIP-160).

`name = "notes.txt" AND size_bytes > 1048576 AND expires_at != null`. Dates are RFC 3339.
"""

import re
from datetime import UTC, datetime

from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.errors import InvalidRequest

_LONGEST = 1000
_COMPARISON = re.compile(r'\s*(\w+)\s*(!=|<=|>=|=|<|>)\s*("(?:[^"\\]|\\.)*"|[0-9]{1,15}|null)\s*(AND\b|$)')
# Each field's column, and of what kind its values are.
_FIELDS = {
    "file_id": ("id", "text"),
    "name": ("filename", "text"),
    "file_name": ("filename", "text"),
    "size_bytes": ("size_bytes", "number"),
    "created_at": ("created_at", "date"),
    "expires_at": ("expires_at", "date"),
}
_BEGAN = datetime(1970, 1, 1, tzinfo=UTC)


def conditions_of(filter_: str, values: list[str | int]) -> list[str]:
    """SQL conditions, whose values are added to `values`; InvalidRequest that names `filter`."""
    if len(filter_) > _LONGEST:
        raise InvalidRequest(f"filter has more than {_LONGEST} characters.", "filter")
    conditions: list[str] = []
    place, joined = 0, "AND"
    while joined:
        found = _COMPARISON.match(filter_, place)
        if found is None:
            raise _wrong(f"it cannot be read from “{filter_[place : place + 40]}” on")
        field, sign, written, joined = found.groups()
        conditions.append(_condition(field, sign, written, values))
        place = found.end()
    return conditions


def _condition(field: str, sign: str, written: str, values: list[str | int]) -> str:
    if field not in _FIELDS:
        raise _wrong(f"{field} is no field that is compared here")
    column, kind = _FIELDS[field]
    if written == "null":
        if sign not in ("=", "!="):
            raise _wrong(f"null is compared by = and != only, not by {sign}")
        return f"{column} IS {'NOT ' if sign == '!=' else ''}NULL"
    if written.startswith('"') == (kind == "number"):
        raise _wrong(f"{field} is compared with a {kind}")
    text = re.sub(r"\\(.)", r"\1", written[1:-1])
    values.append(int(written) if kind == "number" else text if kind == "text" else _microseconds(field, text))
    return f"{column} {sign} ${len(values)}"


def _microseconds(field: str, text: str) -> int:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        date = None
    if date is None or date.tzinfo is None:
        raise _wrong(f'{field} is compared with a date such as "2027-01-31T12:00:00Z"')
    since = date - _BEGAN
    return (since.days * 86_400 + since.seconds) * MICROSECONDS_PER_SECOND + since.microseconds


def _wrong(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"filter: {why}. Write comparisons of {', '.join(_FIELDS)} by = != < <= > >=, joined by AND.", "filter"
    )
