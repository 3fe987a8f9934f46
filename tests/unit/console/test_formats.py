"""How figures and times are written."""

import pytest

from leadline.console.formats import ago, day, per_million, second, tokens, took, usd2, usd5, when
from leadline.money import usd

_NOW = 1_764_431_620_000_000  # 29 November 2025, 15:53:40
_SECOND = 1_000_000


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("0", "$0.00"),
        ("18.42", "$18.42"),
        ("18.429", "$18.42"),
        ("1234567.5", "$1,234,567.50"),
        ("0.0041", "<$0.01"),
        ("-0.0041", "-<$0.01"),
        ("-3.5", "-$3.50"),
    ],
)
def test_totals_have_cents_and_are_never_rounded_up(amount, told):
    assert usd2(usd(amount)) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0"), (48_207, "48,207"), (1_940_000, "1.94 M"), (61_400_000, "61.4 M"), (2_500_000_000, "2.50 B")],
)
def test_counts_are_short_from_a_million_on(count, told):
    assert tokens(count) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (190, "3 minutes ago"),
        (3600 * 9, "9 hours ago"),
        (86_400, "1 day ago"),
        (86_400 * 8, "21 Nov 2025"),
        (-86_400 * 6 - 60, "in 6 days"),
        (-86_400 * 40, "8 Jan 2026"),
    ],
)
def test_what_is_near_is_told_as_a_distance(seconds, told):
    assert f">{told}</time>" in ago(_NOW - seconds * _SECOND, _NOW)


def test_times_are_utc_for_people_and_exact_for_the_browser():
    assert when(_NOW) == '<time datetime="2025-11-29T15:53:40.000Z">29 Nov 2025, 15:53 UTC</time>'
    assert day(_NOW) == '<time datetime="2025-11-29T15:53:40.000Z">29 Nov 2025</time>'


@pytest.mark.parametrize(
    ("amount", "told"),
    [("0", "$0.00000"), ("1.5", "$1.50000"), ("0.0000123", "$0.0000123"), ("-12", "-$12.00000")],
)
def test_amounts_in_lists_are_exact_with_five_decimals_at_least(amount, told):
    assert usd5(usd(amount)) == told


@pytest.mark.parametrize(
    ("milliseconds", "told"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.00 s"),
        (4130, "4.13 s"),
        (9_994, "9.99 s"),
        (9_996, "10.0 s"),
        (12_400, "12.4 s"),
        (59_960, "1 min"),
        (60_000, "1 min"),
        (125_000, "2 min 5 s"),
    ],
)
def test_how_long_something_took_has_three_figures_at_most(milliseconds, told):
    assert took(milliseconds) == told


def test_prices_are_per_million_tokens():
    assert [per_million(ticks) for ticks in (0, 250, 1000, 100_000)] == ["$0.00", "$0.025", "$0.10", "$10.00"]


def test_moments_in_lists_have_seconds_and_another_year():
    assert second(_NOW) == ('<time datetime="2025-11-29T15:53:40.000Z">29 Nov 2025, 15:53:40</time>')
