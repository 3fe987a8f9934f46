"""What tokens cost: integer ticks per token and kind, with prices of their own for a long context."""

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Protocol

from leadline.chat.events import Usage
from leadline.config import ConfigurationError, ModelSection, PriceSection
from leadline.money import NOTHING, Ticks, ticks_per_token

# More tokens than any answer has: what credits pay for where the output costs nothing.
UNBOUNDED_TOKENS = 2**31


class PriceHistory(Protocol):
    """The prices of one model over time: dated ones, or `Prices` that never change."""

    def at(self, microseconds: int) -> "Prices":
        """The prices of a request that was admitted then."""


@dataclass(frozen=True)
class Tier:
    """Ticks per token and kind, for all tokens of one request."""

    input: Ticks
    cached_input: Ticks
    image: Ticks
    output: Ticks
    reasoning: Ticks

    def cost(self, usage: Usage) -> Ticks:
        text = usage.prompt_tokens - usage.cached_tokens - usage.image_tokens
        return Ticks(
            text * self.input
            + usage.cached_tokens * self.cached_input
            + usage.image_tokens * self.image
            + usage.output_tokens * self.output
            + usage.reasoning_tokens * self.reasoning
        )

    def most(self, prompt_tokens: int, output_tokens: int) -> Ticks:
        return Ticks(prompt_tokens * self.most_per_prompt_token + output_tokens * self.most_per_output_token)

    @cached_property
    def most_per_prompt_token(self) -> Ticks:
        return max(self.input, self.cached_input, self.image)

    @cached_property
    def most_per_output_token(self) -> Ticks:
        return max(self.output, self.reasoning)

    def affordable_output_tokens(self, prompt_tokens: int, ticks: int) -> int:
        left = ticks - self.most(prompt_tokens, 0)
        if left < 0:
            return 0
        per_token = self.most_per_output_token
        return min(left // per_token, UNBOUNDED_TOKENS) if per_token else UNBOUNDED_TOKENS


@dataclass(frozen=True)
class Prices:
    """Ticks per token, as they were given. None costs as `input`, reasoning as `output`.

    A prompt of `long_context_threshold` tokens or more (0: there is none), cached and image tokens included, has the
    prices of a long context for all tokens of its request. One of 0 is the same as without, that of reasoning the same
    as `output_long_context`.
    """

    input: Ticks
    cached_input: Ticks | None
    image: Ticks | None
    output: Ticks
    reasoning: Ticks | None
    long_context_threshold: int = 0
    input_long_context: Ticks = NOTHING
    cached_input_long_context: Ticks = NOTHING
    image_long_context: Ticks = NOTHING
    output_long_context: Ticks = NOTHING
    reasoning_long_context: Ticks = NOTHING

    def at(self, microseconds: int) -> "Prices":
        """These prices, whenever: alone they are the history of a model whose prices never change."""
        return self

    def cost(self, usage: Usage) -> Ticks:
        """Exactly what `usage` costs. Cached and image tokens are part of the prompt's and cost their own price."""
        return (self.long if self._is_long(usage.prompt_tokens) else self.short).cost(usage)

    def most(self, prompt_tokens: int, output_tokens: int) -> Ticks:
        """The most that a request with at most so many tokens can cost, whatever kinds of token they are."""
        if not self._is_long(prompt_tokens):
            return self.short.most(prompt_tokens, output_tokens)
        return max(tier.most(tokens, output_tokens) for tier, tokens in self._tiers_up_to(prompt_tokens))

    def affordable_output_tokens(self, prompt_tokens: int, ticks: int) -> int:
        """How many output tokens `ticks` pay for beside a prompt of at most `prompt_tokens`; 0 where they do not even
        pay for that, never more than UNBOUNDED_TOKENS."""
        return min(tier.affordable_output_tokens(tokens, ticks) for tier, tokens in self._tiers_up_to(prompt_tokens))

    @property
    def is_free(self) -> bool:
        return not any(tier.most(1, 1) for tier in (self.short, self.long))

    @cached_property
    def short(self) -> Tier:
        """What tokens cost below the threshold."""
        return Tier(
            input=self.input,
            cached_input=self.input if self.cached_input is None else self.cached_input,
            image=self.input if self.image is None else self.image,
            output=self.output,
            reasoning=self.output if self.reasoning is None else self.reasoning,
        )

    @cached_property
    def long(self) -> Tier:
        """What tokens cost from the threshold on; where there is none, the same."""
        short = self.short
        if not self.long_context_threshold:
            return short
        return Tier(
            input=self.input_long_context or short.input,
            cached_input=self.cached_input_long_context or short.cached_input,
            image=self.image_long_context or short.image,
            output=self.output_long_context or short.output,
            reasoning=self.reasoning_long_context or self.output_long_context or short.reasoning,
        )

    def _is_long(self, prompt_tokens: int) -> bool:
        return 0 < self.long_context_threshold <= prompt_tokens

    def _tiers_up_to(self, prompt_tokens: int) -> tuple[tuple[Tier, int], ...]:
        """Each tier that a prompt of at most `prompt_tokens` can be in, and the most tokens that it can have there.
        Both count: a long context may be the cheaper one."""
        if not self._is_long(prompt_tokens):
            return ((self.short, prompt_tokens),)
        return ((self.short, self.long_context_threshold - 1), (self.long, prompt_tokens))


FREE = Prices(NOTHING, None, None, NOTHING, None)


def prices_of(section: PriceSection) -> Prices:
    """The prices of a `[[models]]` section. ValueError where one has more than four decimals, or where there are
    long-context prices and no threshold."""

    def optional(price: Decimal | None) -> Ticks | None:
        return None if price is None else ticks_per_token(price)

    def long_context(price: Decimal | None) -> Ticks:
        ticks = optional(price) or NOTHING
        if ticks and not section.long_context_threshold:
            raise ValueError("prices for a long context need a long_context_threshold above 0")
        return ticks

    return Prices(
        input=ticks_per_token(section.input),
        cached_input=optional(section.cached_input),
        image=optional(section.image),
        output=ticks_per_token(section.output),
        reasoning=optional(section.reasoning),
        long_context_threshold=section.long_context_threshold,
        input_long_context=long_context(section.input_long_context),
        cached_input_long_context=long_context(section.cached_input_long_context),
        image_long_context=long_context(section.image_long_context),
        output_long_context=long_context(section.output_long_context),
        reasoning_long_context=long_context(section.reasoning_long_context),
    )


def configured_prices(section: ModelSection) -> Prices:
    """The prices of a model as the file has them, or ConfigurationError."""
    try:
        return prices_of(section.prices)
    except ValueError as error:
        raise ConfigurationError(f"model {section.name!r}: {error}.") from None
