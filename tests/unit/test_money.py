from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.money import MOST_TICKS, TICKS_PER_USD, show_usd, ticks_per_token, usd


@pytest.mark.parametrize(
    ("amount", "ticks"),
    [("1", TICKS_PER_USD), ("5.00", 50_000_000_000), ("0.0000000001", 1), ("-2.5", -25_000_000_000), ("0", 0)],
)
def test_a_dollar_is_ten_to_the_tenth_ticks(amount: str, ticks: int) -> None:
    assert usd(amount) == ticks


@given(st.integers(-MOST_TICKS, MOST_TICKS))
def test_an_amount_that_is_shown_reads_back_as_the_same_ticks(ticks: int) -> None:
    assert usd(show_usd(ticks).replace("$", "").replace(",", "")) == ticks


@pytest.mark.parametrize(
    ("ticks", "shown"),
    [(0, "$0.00"), (51_000_000_000, "$5.10"), (123_000, "$0.0000123"), (-1, "-$0.0000000001")],
)
def test_dollars_are_shown_with_the_decimals_that_they_need(ticks: int, shown: str) -> None:
    assert show_usd(ticks) == shown


def test_thousands_of_dollars_are_shown_in_groups() -> None:
    assert show_usd(1_234_567 * TICKS_PER_USD) == "$1,234,567.00"


@pytest.mark.parametrize("amount", ["", "five", "$5", "nan", "sNaN", "inf", "-Infinity", "1e999999", "1e-999999"])
def test_what_is_no_amount_is_refused_by_its_name(amount: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of US dollars"):
        usd(amount)


@pytest.mark.parametrize("amount", ["0.00000000001", "1." + "0" * 39 + "1"])
def test_an_amount_finer_than_a_tick_is_never_rounded(amount: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of US dollars"):
        usd(amount)


def test_an_amount_beyond_every_account_is_refused() -> None:
    with pytest.raises(ValueError, match="more than an account can hold"):
        usd("1000000000")


@pytest.mark.parametrize(
    ("usd_per_million", "ticks"),
    [("1", 10_000), ("2.50", 25_000), ("0.0001", 1), ("0.025", 250), ("0", 0), ("1000000", TICKS_PER_USD)],
)
def test_a_price_per_million_is_a_whole_number_of_ticks_per_token(usd_per_million: str, ticks: int) -> None:
    price = ticks_per_token(Decimal(usd_per_million))

    assert type(price) is int
    assert price == ticks


@pytest.mark.parametrize("usd_per_million", ["0.00001", "2.12345", "1." + "0" * 39 + "1", "nan", "sNaN", "1e999999"])
def test_a_price_with_more_than_four_decimals_is_refused(usd_per_million: str) -> None:
    with pytest.raises(ValueError, match="four decimals"):
        ticks_per_token(Decimal(usd_per_million))


@pytest.mark.parametrize("usd_per_million", ["-0.0001", "1000000.0001"])
def test_a_price_out_of_range_is_refused(usd_per_million: str) -> None:
    with pytest.raises(ValueError, match=r"not a price between 0 and 1,000,000"):
        ticks_per_token(Decimal(usd_per_million))
