"""Ranges of numbers as automata over their digits."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache

from leadline.engines.format.schemas.automaton import Automaton, Ranges, explore, intersect
from leadline.engines.format.schemas.budget import Budget
from leadline.engines.format.schemas.pattern import pattern_automaton

# What a 64-bit integer and a double need. Without a bound a small model may write digits for ever.
WHOLE_DIGITS = 20
FRACTION_DIGITS = 24
_LARGEST = Decimal(10) ** WHOLE_DIGITS

_WHOLE = rf"0|[1-9]\d{{0,{WHOLE_DIGITS - 1}}}"
_DECIMAL = rf"({_WHOLE})(\.\d{{1,{FRACTION_DIGITS}}})?"


@dataclass(frozen=True, slots=True)
class Bound:
    """`strict`: the value itself is outside."""

    value: Decimal
    strict: bool = False


def decimal_range(low: Bound | None, high: Bound | None, *, whole: bool, budget: Budget) -> Automaton:
    """The numbers from `low` to `high` in plain decimals, without an exponent; `whole`: integers only."""
    automaton, steps = _range(low, high, whole=whole)
    budget.spend(steps)
    return automaton


@lru_cache(maxsize=256)
def _range(low: Bound | None, high: Bound | None, *, whole: bool) -> tuple[Automaton, int]:
    """Remembered, and with what it cost, so that the same schema costs the same again."""
    budget = Budget()
    digits = _base(whole=whole, negative=False)
    positive = _between(digits, low, high, budget)
    negative = _between(_base(whole=whole, negative=True), _mirrored(high), _mirrored(low), budget)

    def edges(state: tuple[bool | None, int]) -> Iterable[tuple[Ranges, tuple[bool | None, int]]]:
        sign, number = state
        if sign is None:
            yield (((ord("-"), ord("-")),), (False, 0))
        side = negative if sign is False else positive
        for ranges, target in side.edges[number]:
            yield ranges, (sign is not False, target)

    def accepts(state: tuple[bool | None, int]) -> bool:
        sign, number = state
        return number in (negative if sign is False else positive).accepting

    start: tuple[bool | None, int] = (None, 0)
    return explore(start, edges, accepts, budget), budget.spent


@cache
def _base(*, whole: bool, negative: bool) -> Automaton:
    # An integer has no negative zero.
    whole_part = rf"[1-9]\d{{0,{WHOLE_DIGITS - 1}}}" if negative else _WHOLE
    return pattern_automaton(f"^({whole_part if whole else _DECIMAL})$", Budget())


def _mirrored(bound: Bound | None) -> Bound | None:
    return None if bound is None else Bound(-bound.value, bound.strict)


def _between(digits: Automaton, low: Bound | None, high: Bound | None, budget: Budget) -> Automaton:
    """Of the numbers without a sign those within the bounds."""
    if (high is not None and high.value < 0) or (low is not None and low.value > _LARGEST):
        return Automaton(((),), frozenset())
    if low is not None and low.value >= 0:
        digits = intersect(digits, _compared(low, 1, budget), budget)
    if high is not None and high.value <= _LARGEST:
        digits = intersect(digits, _compared(high, -1, budget), budget)
    return digits


def _compared(bound: Bound, sign: int, budget: Budget) -> Automaton:
    """The texts of digits that are above the bound (`sign` 1) or below it (-1); itself too, unless it is strict."""
    whole, _, fraction = format(bound.value, "f").partition(".")
    fraction = fraction.rstrip("0")
    whole_digits = len(whole)

    # A state: whole digits read, or -1 in the fraction; fraction digits read; how what was read compares with the
    # bound's digits as far.
    def edges(state: tuple[int, int, int]) -> Iterable[tuple[Ranges, tuple[int, int, int]]]:
        whole_read, fraction_read, order = state
        if whole_read >= 0:
            yield (((ord("."), ord(".")),), (-1, 0, _order(whole_read, order)))
        if whole_read < 0 and order:
            yield _digits(0, 9), state
        elif whole_read < 0:
            at = fraction[fraction_read] if fraction_read < len(fraction) else "0"
            yield from _split(at, (-1, 0), (-1, min(fraction_read + 1, len(fraction))))
        elif whole_read >= whole_digits:
            yield _digits(0, 9), (whole_digits + 1, 0, 1)
        elif order:
            yield _digits(0, 9), (whole_read + 1, 0, order)
        else:
            yield from _split(whole[whole_read], (whole_read + 1, 0), (whole_read + 1, 0))

    def _order(whole_read: int, order: int) -> int:
        return order if whole_read == whole_digits else (whole_read > whole_digits) - (whole_read < whole_digits)

    def accepts(state: tuple[int, int, int]) -> bool:
        whole_read, fraction_read, order = state
        if whole_read >= 0:
            order = _order(whole_read, order)
        if not order and fraction[fraction_read:]:
            order = -1
        return order == sign or (not order and not bound.strict)

    return explore((0, 0, 0), edges, accepts, budget)


def _split(
    digit: str, unequal: tuple[int, int], equal: tuple[int, int]
) -> Iterable[tuple[Ranges, tuple[int, int, int]]]:
    """The ways over one digit, as it is below, above or just the bound's."""
    value = int(digit)
    if value > 0:
        yield _digits(0, value - 1), (*unequal, -1)
    if value < 9:
        yield _digits(value + 1, 9), (*unequal, 1)
    yield _digits(value, value), (*equal, 0)


def _digits(first: int, last: int) -> Ranges:
    return ((ord("0") + first, ord("0") + last),)
