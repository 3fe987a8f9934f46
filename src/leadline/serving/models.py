"""What a dialect shows of a model."""

from dataclasses import dataclass

from leadline.catalog.catalog import Model


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model on offer. Prices are ticks per token; `created_at` is in seconds."""

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


def card_of(model: Model) -> ModelCard:
    return ModelCard(
        name=model.name,
        aliases=model.aliases,
        created_at=model.created_at,
        context_tokens=model.context,
        default_max_output_tokens=model.default_max_output_tokens,
        capabilities=frozenset(model.capabilities),
        fingerprint=model.fingerprint,
        input_ticks=model.prices.input,
        cached_input_ticks=model.prices.cached_input,
        output_ticks=model.prices.output,
        image_ticks=model.prices.image,
    )
