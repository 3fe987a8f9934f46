"""Money is an integer number of ticks. One US dollar is 10^10 ticks, as in xAI's `cost_in_usd_ticks`."""

from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Literal, NewType

Ticks = NewType("Ticks", int)

NOTHING = Ticks(0)
TICKS_PER_USD = 10_000_000_000
# One USD per million tokens is 10^10 / 10^6 ticks per token.
TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION = 10_000
# Amounts live in signed 64-bit columns; stay far inside so that sums do too.
MOST_TICKS = 2**60
# Raises where a product does not fit, so that no amount is rounded unseen.
_EXACT = Context(traps=[Inexact, InvalidOperation])


@dataclass(frozen=True, slots=True)
class SpendCap:
    """The most that may be spent in each period, which begins anew in UTC: at midnight, on Monday, on the first."""

    ticks: Ticks
    period: Literal["day", "week", "month"]


def usd(amount: str | Decimal) -> Ticks:
    """An exact amount of dollars, such as "5.00", in ticks. ValueError where it is no amount or finer than a tick."""
    try:
        ticks = _EXACT.multiply(Decimal(amount), TICKS_PER_USD)
    except (Inexact, InvalidOperation):
        raise ValueError(f"{amount!r} is not an amount of US dollars") from None
    if not ticks.is_finite() or ticks != ticks.to_integral_value():
        raise ValueError(f"{amount!r} is not an amount of US dollars")
    if abs(ticks) > MOST_TICKS:
        raise ValueError(f"{amount} US dollars is more than an account can hold")
    return Ticks(int(ticks))


def ticks_per_token(usd_per_million: Decimal) -> Ticks:
    """A price in USD per million tokens as ticks per token. ValueError beyond four decimals or below zero."""
    try:
        ticks = _EXACT.multiply(usd_per_million, TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION)
    except (Inexact, InvalidOperation):
        raise ValueError(f"{usd_per_million} USD per million tokens is not a price with four decimals") from None
    if not ticks.is_finite() or ticks != ticks.to_integral_value():
        raise ValueError(f"{usd_per_million} USD per million tokens has more than four decimals")
    if not 0 <= ticks <= TICKS_PER_USD:
        raise ValueError(f"{usd_per_million} USD per million tokens is not a price between 0 and 1,000,000")
    return Ticks(int(ticks))


def show_usd(ticks: int) -> str:
    """Dollars for people: at least two decimals, as many more as the amount needs, such as "$0.0000123"."""
    sign = "-" if ticks < 0 else ""
    whole, fraction = divmod(abs(ticks), TICKS_PER_USD)
    decimals = f"{fraction:010d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"
