"""The times that pages look at."""

import pytest

from leadline.console.time_range import TimeRange, days_between, time_range
from tests.unit.ledger.scenes import at

NOW = at(2027, 3, 31, 12)


@pytest.mark.parametrize(
    ("name", "since", "until"),
    [
        ("today", "2027-03-31", "2027-03-31"),
        ("7d", "2027-03-25", "2027-03-31"),
        ("30d", "2027-03-02", "2027-03-31"),
        ("month", "2027-03-01", "2027-03-31"),
        ("last-month", "2027-02-01", "2027-02-28"),
    ],
)
def test_presets_are_whole_days_with_today(name, since, until):
    found = time_range(name, "", "", NOW)

    assert found is not None
    assert (found.since, found.until) == (since, until)


def test_last_month_of_january_is_december():
    found = time_range("last-month", "", "", at(2027, 1, 31))

    assert found is not None
    assert (found.since, found.until) == ("2026-12-01", "2026-12-31")


def test_a_name_that_is_none_is_no_time():
    assert time_range("ever", "", "", NOW) is None


@pytest.mark.parametrize(
    ("since", "until", "label"),
    [
        ("2027-03-01", "2027-03-01", "1 Mar 2027"),
        ("2027-03-01", "2027-03-31", "1 to 31 Mar 2027"),
        ("2027-02-01", "2027-03-31", "1 Feb to 31 Mar 2027"),
        ("2026-12-01", "2027-01-31", "1 Dec 2026 to 31 Jan 2027"),
        ("2027-03-01", "", "Since 1 Mar 2027"),
        ("", "2027-03-01", "Until 1 Mar 2027"),
        ("soon", "", "Other dates"),
    ],
)
def test_days_that_were_typed_win_over_a_preset(since, until, label):
    assert time_range("7d", since, until, NOW) == TimeRange("custom", label, since, until)


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("2027-03-31", "2027-03-31", 1),
        ("2027-03-01", "", 31),
        ("2027-03-01", "2099-01-01", 31),
        ("2027-03-31", "2027-03-01", 1),
        ("soon", "", 1),
    ],
)
def test_days_are_counted_with_the_first_and_the_last_until_today(since, until, days):
    assert days_between(since, until, NOW) == days
