from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leadline.catalog.prices import FREE, UNBOUNDED_TOKENS, Prices, Tier, prices_of
from leadline.chat.events import Usage
from leadline.config import PriceSection
from leadline.money import MOST_TICKS, NOTHING, Ticks

TICKS = st.integers(0, 10**10).map(Ticks)
FEW_TICKS = st.integers(0, 9).map(Ticks)
TOKENS = st.integers(0, 10**7)
KINDS = ("input", "cached_input", "image", "output", "reasoning")


def all_prices(ticks: st.SearchStrategy[Ticks], threshold: st.SearchStrategy[int]) -> st.SearchStrategy[Prices]:
    optional = st.none() | ticks
    long = {f"{kind}_long_context": ticks for kind in KINDS}
    return st.builds(Prices, ticks, optional, optional, ticks, optional, threshold, **long)


PRICES = all_prices(TICKS, st.just(0) | TOKENS)
# Small numbers, with which the corners are met often.
SMALL_PRICES = all_prices(FEW_TICKS, st.integers(0, 9))


@st.composite
def usages(draw: st.DrawFn, prompt_tokens: int, output_tokens: int) -> Usage:
    """Any usage with at most so many tokens."""
    prompt, answer = draw(st.integers(0, prompt_tokens)), draw(st.integers(0, output_tokens))
    cached = draw(st.integers(0, prompt))
    reasoning = draw(st.integers(0, answer))
    return Usage(prompt, cached, draw(st.integers(0, prompt - cached)), answer - reasoning, reasoning)


def prices(**usd: str | int) -> Prices:
    section: dict[str, Any] = {kind: Decimal(price) for kind, price in usd.items() if kind != "long_context_threshold"}
    threshold = int(usd.get("long_context_threshold", 0))
    return prices_of(PriceSection(long_context_threshold=threshold, **section))


def test_each_kind_of_token_costs_its_own_price() -> None:
    mixed = prices(input="2.00", cached_input="0.50", image="3.00", output="10.00", reasoning="4.00")

    cost = mixed.cost(
        Usage(prompt_tokens=1000, cached_tokens=200, image_tokens=100, output_tokens=10, reasoning_tokens=5)
    )

    assert cost == 700 * 20_000 + 200 * 5_000 + 100 * 30_000 + 10 * 100_000 + 5 * 40_000


def test_a_million_tokens_cost_exactly_their_price() -> None:
    tenth = prices(input="0.1", cached_input="0.025")

    assert tenth.cost(Usage(prompt_tokens=1_000_000)) == 1_000_000_000
    assert tenth.cost(Usage(prompt_tokens=1_000_000, cached_tokens=1_000_000)) == 250_000_000


def test_the_capture_of_xai_costs_what_xai_charged() -> None:
    grok = prices(input="0.20", cached_input="0.02", output="1.50")

    usage = Usage(prompt_tokens=390, cached_tokens=192, output_tokens=26, reasoning_tokens=97)

    assert grok.cost(usage) == 2_279_400


def test_a_kind_without_a_price_costs_as_input_and_reasoning_as_output() -> None:
    assert prices(input="2", output="10").short == Tier(*map(Ticks, (20_000, 20_000, 20_000, 100_000, 100_000)))


def test_a_kind_whose_price_is_zero_is_free() -> None:
    some = prices(input="2", cached_input="0", output="1", reasoning="0")

    assert (some.short.cached_input, some.short.reasoning) == (0, 0)


def test_the_whole_request_has_the_price_of_a_long_context_from_the_threshold_on() -> None:
    doubled = prices(
        input="2", cached_input="1", output="10", long_context_threshold=128_000, input_long_context="4",
        cached_input_long_context="2", output_long_context="20",
    )  # fmt: skip

    below = doubled.cost(Usage(prompt_tokens=127_999, cached_tokens=100, output_tokens=50, reasoning_tokens=7))
    at = doubled.cost(Usage(prompt_tokens=128_000, cached_tokens=100, output_tokens=50, reasoning_tokens=7))

    assert below == 127_899 * 20_000 + 100 * 10_000 + 57 * 100_000
    assert at == 127_900 * 40_000 + 100 * 20_000 + 57 * 200_000


def test_cached_and_image_tokens_count_towards_the_threshold() -> None:
    doubled = prices(input="1", cached_input="0", image="0", long_context_threshold=10, input_long_context="2")

    assert doubled.cost(Usage(prompt_tokens=9, cached_tokens=4, image_tokens=4)) == 1 * 10_000
    assert doubled.cost(Usage(prompt_tokens=10, cached_tokens=4, image_tokens=4)) == 2 * 20_000


def test_a_long_context_price_that_is_missing_or_zero_is_the_one_without() -> None:
    short: dict[str, str] = {"input": "1", "cached_input": "2", "image": "3", "output": "4", "reasoning": "5"}
    some = prices(**short, long_context_threshold=10, input_long_context="9", image_long_context="0")

    assert some.long == Tier(*map(Ticks, (90_000, 20_000, 30_000, 40_000, 50_000)))


def test_reasoning_in_a_long_context_costs_as_output_there_unless_it_has_a_price() -> None:
    doubled = prices(output="4", reasoning="1", long_context_threshold=10, output_long_context="8")
    own = prices(output="4", long_context_threshold=10, output_long_context="8", reasoning_long_context="3")

    assert (doubled.long.reasoning, own.long.reasoning) == (80_000, 30_000)


def test_prices_for_a_long_context_without_a_threshold_are_refused() -> None:
    with pytest.raises(ValueError, match="need a long_context_threshold above 0"):
        prices(input="1", output_long_context="2")


def test_free_is_what_costs_nothing_in_any_context() -> None:
    assert FREE.is_free
    assert prices(long_context_threshold=10).is_free
    assert not prices(reasoning="1").is_free
    assert not prices(long_context_threshold=10, output_long_context="1").is_free


def test_the_bound_counts_the_dearer_side_of_the_threshold() -> None:
    short: dict[str, str] = {"input": "2", "cached_input": "1", "image": "1", "output": "1"}
    cheaper = prices(**short, long_context_threshold=100, input_long_context="1")
    dearer = prices(**short, long_context_threshold=100, input_long_context="3")

    assert cheaper.most(100, 5) == 99 * 20_000 + 5 * 10_000
    assert (dearer.most(99, 5), dearer.most(100, 5)) == (99 * 20_000 + 5 * 10_000, 100 * 30_000 + 5 * 10_000)


@given(PRICES | SMALL_PRICES, TOKENS | st.integers(0, 12), TOKENS | st.integers(0, 12), st.data())
def test_no_request_costs_more_than_the_bound_that_is_reserved(
    some: Prices, prompt_tokens: int, output_tokens: int, data: st.DataObject
) -> None:
    usage = data.draw(usages(prompt_tokens, output_tokens))

    cost, most = some.cost(usage), some.most(prompt_tokens, output_tokens)

    assert (type(cost), type(most)) == (int, int)
    assert 0 <= cost <= most
    assert not (some.is_free and cost)


@given(SMALL_PRICES, st.integers(0, 12), st.integers(0, 5))
def test_some_request_costs_as_much_as_the_bound(some: Prices, prompt_tokens: int, output_tokens: int) -> None:
    costs = [
        some.cost(Usage(prompt, cached, image, output, reasoning))
        for prompt in range(prompt_tokens + 1)
        for cached, image in ((0, 0), (prompt, 0), (0, prompt))
        for output, reasoning in ((output_tokens, 0), (0, output_tokens))
    ]

    assert max(costs) == some.most(prompt_tokens, output_tokens)


@given(SMALL_PRICES | PRICES, st.integers(0, 12) | TOKENS, st.integers(0, 200) | st.integers(0, MOST_TICKS))
@example(FREE, 5, 0)
@example(Prices(Ticks(1), None, None, NOTHING, None), 5, 4)
def test_the_affordable_output_is_all_that_the_ticks_pay_for(some: Prices, prompt_tokens: int, ticks: int) -> None:
    tokens = some.affordable_output_tokens(prompt_tokens, ticks)

    assert 0 <= tokens <= UNBOUNDED_TOKENS
    if some.most(prompt_tokens, 0) <= ticks:
        assert some.most(prompt_tokens, tokens) <= ticks
        assert tokens == UNBOUNDED_TOKENS or some.most(prompt_tokens, tokens + 1) > ticks
    else:
        assert tokens == 0


def test_an_output_that_costs_nothing_is_affordable_at_any_length() -> None:
    assert prices(input="1").affordable_output_tokens(10, 10 * 10_000) == UNBOUNDED_TOKENS == 2**31


@given(PRICES)
def test_what_a_request_of_a_hundred_million_tokens_costs_fits_in_an_account(some: Prices) -> None:
    assert some.most(5 * 10**7, 5 * 10**7) <= MOST_TICKS < 2**63


@given(PRICES, st.integers())
def test_prices_alone_are_the_prices_at_any_time(some: Prices, microseconds: int) -> None:
    assert some.at(microseconds) is some


@pytest.mark.parametrize("kind", [*KINDS, *(f"{kind}_long_context" for kind in KINDS)])
def test_a_price_with_five_decimals_is_refused_for_every_kind(kind: str) -> None:
    with pytest.raises(ValueError, match=r"0\.12345 USD per million tokens has more than four decimals"):
        prices(**{kind: "0.12345"}, long_context_threshold=1)
