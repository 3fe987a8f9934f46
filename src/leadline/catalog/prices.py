"""What tokens cost: integer ticks per token and class."""

from dataclasses import dataclass
from decimal import Decimal

from leadline.chat.events import Usage
from leadline.config import PriceSection
from leadline.money import Ticks, ticks_per_token


@dataclass(frozen=True, slots=True)
class Prices:
    """Ticks per token."""

    input: Ticks
    cached_input: Ticks
    image: Ticks
    output: Ticks
    reasoning: Ticks

    def cost(self, usage: Usage) -> Ticks:
        """Exactly what `usage` costs. Cached and image tokens are part of the prompt's and cost their own price."""
        text = usage.prompt_tokens - usage.cached_tokens - usage.image_tokens
        return Ticks(
            text * self.input
            + usage.cached_tokens * self.cached_input
            + usage.image_tokens * self.image
            + usage.output_tokens * self.output
            + usage.reasoning_tokens * self.reasoning
        )

    def most_prompt(self, tokens: int) -> int:
        """The most that a prompt of at most `tokens` can cost, whatever kinds of token it has."""
        return tokens * max(self.input, self.cached_input, self.image)

    @property
    def is_free(self) -> bool:
        return not any((self.input, self.cached_input, self.image, self.output, self.reasoning))

    @property
    def most_per_output_token(self) -> int:
        return max(self.output, self.reasoning)


def prices_of(section: PriceSection) -> Prices:
    """The prices of a `[[models]]` section. ValueError where one has more than four decimals."""

    def ticks(price: Decimal | None, otherwise: Decimal) -> Ticks:
        return ticks_per_token(otherwise if price is None else price)

    return Prices(
        input=ticks_per_token(section.input),
        cached_input=ticks(section.cached_input, section.input),
        image=ticks(section.image, section.input),
        output=ticks_per_token(section.output),
        reasoning=ticks(section.reasoning, section.output),
    )
