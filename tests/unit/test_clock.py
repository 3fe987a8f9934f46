import time
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.clock import (
    MICROSECONDS_PER_DAY,
    MICROSECONDS_PER_SECOND,
    day_of,
    duration,
    first_day,
    now_microseconds,
    rfc3339,
)

EPOCH = date(1970, 1, 1)
DATES = st.dates(EPOCH, date(2200, 1, 1))
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 bounds are naive


def number(day: date) -> int:
    return (day - EPOCH).days


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_now_is_the_wall_clock_in_microseconds() -> None:
    before = time.time_ns() // 1000
    now = now_microseconds()
    after = time.time_ns() // 1000

    assert before <= now <= after


@given(MOMENTS)
def test_a_day_is_that_of_utc(moment: datetime) -> None:
    assert day_of(microseconds(moment)) == number(moment.date())


@given(DATES)
def test_a_day_begins_on_itself(day: date) -> None:
    assert first_day("day", number(day)) == number(day)


@given(DATES)
def test_a_week_begins_on_the_last_monday(day: date) -> None:
    first = EPOCH + timedelta(first_day("week", number(day)))

    assert first.isoweekday() == 1
    assert timedelta(0) <= day - first < timedelta(7)


@given(DATES)
def test_a_month_begins_on_its_first(day: date) -> None:
    assert first_day("month", number(day)) == number(day.replace(day=1))


@pytest.mark.parametrize(
    ("period", "day", "first"),
    [
        ("week", date(2027, 1, 17), date(2027, 1, 11)),
        ("week", date(2027, 1, 18), date(2027, 1, 18)),
        ("week", date(2027, 1, 1), date(2026, 12, 28)),
        ("month", date(2028, 2, 29), date(2028, 2, 1)),
        ("month", date(2028, 3, 1), date(2028, 3, 1)),
        ("month", date(2038, 1, 19), date(2038, 1, 1)),
    ],
)
def test_weeks_and_months_begin_where_the_calendar_says(period: str, day: date, first: date) -> None:
    assert first_day(period, number(day)) == number(first)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2),
        ("15m", 900),
        ("24h", 86_400),
        ("90d", 7_776_000),
        (" 1h ", 3600),
        ("0s", 0),
        ("999999d", 86_399_913_600),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert duration(text) == seconds * MICROSECONDS_PER_SECOND


@pytest.mark.parametrize("text", ["", "90", "d", "1w", "1D", "-1d", "+1d", "1.5h", "1h30m", "1 h", "1000000s", "1e3s"])
def test_what_is_no_duration_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="Write it as 30s, 15m, 24h or 90d"):
        duration(text)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.000Z"),
        (1_000, "1970-01-01T00:00:00.001Z"),
        (MICROSECONDS_PER_DAY - 1, "1970-01-01T23:59:59.999Z"),
        (1_830_297_600_007_000, "2028-01-01T00:00:00.007Z"),
        (2**31 * MICROSECONDS_PER_SECOND, "2038-01-19T03:14:08.000Z"),
    ],
)
def test_a_date_is_shown_in_utc_with_milliseconds(moment: int, text: str) -> None:
    assert rfc3339(moment) == text


@given(MOMENTS)
def test_a_date_that_was_shown_is_the_same_moment_to_the_millisecond(moment: datetime) -> None:
    shown = datetime.fromisoformat(rfc3339(microseconds(moment)))

    assert timedelta(0) <= moment - shown < timedelta(milliseconds=1)
