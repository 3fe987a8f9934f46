"""Intervals of time, as people in some time zone cut it: months, weeks from Monday, days, hours and less."""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from leadline.errors import InvalidRequest

# Of one series.
MOST_BUCKETS = 10_000
_SECONDS = {"HOUR": 3600, "QUARTER_HOUR": 900, "MINUTE": 60, "SECOND": 1}
UNITS = ("MONTH", "CALENDAR_WEEK", "DAY", *_SECONDS, "NONE")
_UTC_NAMES = ("", "UTC", "Etc/UTC", "Etc/GMT", "GMT", "Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Buckets:
    """`starts` is when each one begins, in microseconds; the last one ends with `until`. What was before `since` is in
    none."""

    starts: tuple[int, ...]
    since: int
    until: int

    def place(self, at: int) -> int | None:
        """The bucket that holds a moment."""
        return bisect_right(self.starts, at) - 1 if self.since <= at < self.until else None

    def are_cut_at(self, length: int) -> bool:
        """Whether every one begins and ends with an interval of this length, in microseconds."""
        return not any(moment % length for moment in (*self.starts, self.since, self.until))


def buckets_of(start: str, end: str, timezone: str, unit: str) -> Buckets:
    """InvalidRequest names the field that makes no sense."""
    zone = _zone(timezone)
    since, until = _moment(start, zone, "startTime"), _moment(end, zone, "endTime")
    if since >= until:
        raise InvalidRequest("The time range ends before it begins.", "analyticsRequest.timeRange.endTime")
    if unit == "NONE":
        return Buckets((since,), since, until)
    starts = []
    try:
        local = _floor(datetime.fromtimestamp(since // 1_000_000, UTC).astimezone(zone), unit)
        while (at := _microseconds(local)) < until:
            starts.append(at)
            if len(starts) > MOST_BUCKETS:
                raise InvalidRequest(
                    f"That would be more than {MOST_BUCKETS:,} intervals. Take longer ones or a shorter time.",
                    "analyticsRequest.timeUnit",
                )
            local = _next(local, unit)
    except OverflowError:
        raise InvalidRequest("The time range leaves the calendar.", "analyticsRequest.timeRange.endTime") from None
    return Buckets(tuple(starts), since, until)


def _zone(name: str) -> tzinfo:
    if name in _UTC_NAMES:
        return UTC
    # A server starts without it.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidRequest(
            f"There is no time zone {name[:60]!r} on this server. Write one such as Europe/Oslo, or Etc/GMT.",
            "analyticsRequest.timeRange.timezone",
        ) from None


def _moment(text: str, zone: tzinfo, field: str) -> int:
    try:
        local = datetime.strptime(text.replace("T", " ").removesuffix("Z"), "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone)
        at = _microseconds(local)
    except (ValueError, OverflowError):
        at = -1
    if at < 0:
        path = f"analyticsRequest.timeRange.{field}"
        raise InvalidRequest(f"{path} must be a time such as 2027-03-31 12:00:00.", path)
    return at


def _microseconds(local: datetime) -> int:
    return (local - _EPOCH) // _MICROSECOND


def _floor(local: datetime, unit: str) -> datetime:
    if unit in _SECONDS:
        # Of the moment and not of the wall clock: where clocks are put back, an hour comes twice.
        offset = local.utcoffset() or timedelta(0)
        seconds = (local - _EPOCH + offset) // timedelta(seconds=_SECONDS[unit]) * _SECONDS[unit]
        return (_EPOCH + timedelta(seconds=seconds) - offset).astimezone(local.tzinfo)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match unit:
        case "MONTH":
            return midnight.replace(day=1)
        case "CALENDAR_WEEK":
            return midnight - timedelta(days=midnight.weekday())
        case _:
            return midnight


def _next(local: datetime, unit: str) -> datetime:
    if unit in _SECONDS:
        return (local.astimezone(UTC) + timedelta(seconds=_SECONDS[unit])).astimezone(local.tzinfo)
    if unit == "MONTH":
        return _floor(local + timedelta(days=32), unit)
    return local + timedelta(days=7 if unit == "CALENDAR_WEEK" else 1)
