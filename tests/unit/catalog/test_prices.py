from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.catalog.prices import prices_of
from leadline.chat.events import Usage
from leadline.config import PriceSection

PRICES = st.decimals(0, 1000, places=4)
SECTIONS = st.builds(PriceSection, input=PRICES, output=PRICES, cached_input=PRICES, image=PRICES, reasoning=PRICES)
TOKENS = st.integers(0, 10**7)


def test_each_kind_of_token_costs_its_own_price() -> None:
    prices = prices_of(
        PriceSection(
            input=Decimal("2.00"),
            cached_input=Decimal("0.50"),
            image=Decimal("3.00"),
            output=Decimal("10.00"),
            reasoning=Decimal("4.00"),
        )
    )

    cost = prices.cost(
        Usage(prompt_tokens=1000, cached_tokens=200, image_tokens=100, output_tokens=10, reasoning_tokens=5)
    )

    assert cost == 700 * 20_000 + 200 * 5_000 + 100 * 30_000 + 10 * 100_000 + 5 * 40_000


def test_a_million_tokens_cost_exactly_their_price() -> None:
    prices = prices_of(PriceSection(input=Decimal("0.1"), cached_input=Decimal("0.025")))

    assert prices.cost(Usage(prompt_tokens=1_000_000)) == 1_000_000_000
    assert prices.cost(Usage(prompt_tokens=1_000_000, cached_tokens=1_000_000)) == 250_000_000


def test_a_kind_without_a_price_costs_as_input_and_reasoning_as_output() -> None:
    prices = prices_of(PriceSection(input=Decimal(2), output=Decimal(10)))

    assert (prices.cached_input, prices.image, prices.reasoning) == (prices.input, prices.input, prices.output)


def test_a_kind_whose_price_is_zero_is_free() -> None:
    prices = prices_of(PriceSection(input=Decimal(2), cached_input=Decimal(0), output=Decimal(1), reasoning=Decimal(0)))

    assert (prices.cached_input, prices.reasoning) == (0, 0)


@given(SECTIONS, st.data())
def test_no_answer_costs_more_than_the_bound_that_is_reserved(section: PriceSection, data: st.DataObject) -> None:
    prices = prices_of(section)
    prompt, answer = data.draw(TOKENS), data.draw(TOKENS)
    cached = data.draw(st.integers(0, prompt))
    image = data.draw(st.integers(0, prompt - cached))
    reasoning = data.draw(st.integers(0, answer))

    cost = prices.cost(Usage(prompt, cached, image, answer - reasoning, reasoning))

    assert type(cost) is int
    assert 0 <= cost <= prices.most_prompt(prompt) + answer * prices.most_per_output_token


@pytest.mark.parametrize("kind", ["input", "cached_input", "image", "output", "reasoning"])
def test_a_price_with_five_decimals_is_refused_for_every_kind(kind: str) -> None:
    with pytest.raises(ValueError, match=r"0\.12345 USD per million tokens has more than four decimals"):
        prices_of(PriceSection(**{kind: Decimal("0.12345")}))
