"""What a dialect shows of a model."""

from dataclasses import dataclass

from leadline.catalog.catalog import Model


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model on offer. Prices are ticks per token, as they are now. Those of a long context are the others where
    `long_context_threshold`, in tokens, is 0. `created_at` is in seconds."""

    name: str
    aliases: tuple[str, ...]
    created_at: int
    context_tokens: int | None
    default_max_output_tokens: int
    capabilities: frozenset[str]
    fingerprint: str
    input_ticks: int
    cached_input_ticks: int
    output_ticks: int
    image_ticks: int
    long_context_threshold: int
    input_long_context_ticks: int
    cached_input_long_context_ticks: int
    output_long_context_ticks: int

    @property
    def writes(self) -> bool:
        """Whether it is a language model."""
        return not self.capabilities.isdisjoint(("chat", "completions"))

    @property
    def embeds(self) -> bool:
        return "embeddings" in self.capabilities


def card_of(model: Model, now: int) -> ModelCard:
    prices = model.prices_at(now)
    short, long = prices.short, prices.long
    return ModelCard(
        name=model.name,
        aliases=model.aliases,
        created_at=model.created_at,
        context_tokens=model.context,
        default_max_output_tokens=model.default_max_output_tokens,
        capabilities=frozenset(model.capabilities),
        fingerprint=model.fingerprint,
        input_ticks=short.input,
        cached_input_ticks=short.cached_input,
        output_ticks=short.output,
        image_ticks=short.image,
        long_context_threshold=prices.long_context_threshold,
        input_long_context_ticks=long.input,
        cached_input_long_context_ticks=long.cached_input,
        output_long_context_ticks=long.output,
    )
