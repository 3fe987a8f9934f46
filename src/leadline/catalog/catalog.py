"""The models on offer: which engine runs each, under which names, and what it costs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leadline.catalog.prices import Prices, prices_of
from leadline.config import ConfigurationError, ModelSection
from leadline.engines.engine import Capability, Engine
from leadline.errors import ModelNotFound

# The names that the product's own documents use. Those that the file does not name are its first chat model's.
SEED_ALIASES = ("grok-beta", "grok-2-latest", "grok-2", "grok-2-vision-latest")


@dataclass(frozen=True, slots=True)
class Model:
    """A model on offer. `context_tokens` and `capabilities` None: as the engine says."""

    name: str
    engine: Engine
    upstream_model: str
    prices: Prices
    default_max_output_tokens: int
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = None
    declared_capabilities: frozenset[Capability] | None = None
    created_at: int = 0

    @property
    def context(self) -> int | None:
        """Tokens of prompt and answer together; None where nobody says."""
        known = self.engine.facts(self.upstream_model).context_tokens
        if self.context_tokens is None or known is None:
            return self.context_tokens or known
        return min(self.context_tokens, known)

    @property
    def capabilities(self) -> frozenset[Capability]:
        if self.declared_capabilities is not None:
            return self.declared_capabilities
        return self.engine.facts(self.upstream_model).capabilities

    @property
    def fingerprint(self) -> str:
        """`fp_` and ten hex digits over all that changes answers: weights, engine version, settings."""
        facts = (*self.engine.facts(self.upstream_model).fingerprint, f"context {self.context}")
        return "fp_" + hashlib.sha256("\n".join(facts).encode()).hexdigest()[:10]


class Catalog:
    """Finds models by name, alias or an alias that ends in `*`."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        self._by_name = {alias: model for model in models for alias in model.aliases if not alias.endswith("*")}
        self._by_name |= {model.name: model for model in models}
        self._by_prefix = [(alias[:-1], model) for model in models for alias in model.aliases if alias.endswith("*")]
        self._by_prefix.sort(key=lambda pair: -len(pair[0]))

    def find(self, name: str) -> Model:
        """The model of this name, or ModelNotFound."""
        model = self._by_name.get(name)
        if model is not None:
            return model
        for prefix, wildcard in self._by_prefix:
            if name.startswith(prefix):
                return wildcard
        raise ModelNotFound(f"The model {name[:200]!r} does not exist. GET /v1/models lists the models that do.")


def build_catalog(sections: Sequence[ModelSection], engines: Mapping[str, Engine], created_at: int) -> Catalog:
    """The catalog of a configuration. ConfigurationError names a section that cannot be."""
    named = {alias for section in sections for alias in section.aliases} | {section.name for section in sections}
    wildcards = tuple(name[:-1] for name in named if name.endswith("*"))
    spare = tuple(alias for alias in SEED_ALIASES if alias not in named and not alias.startswith(wildcards))
    models = []
    for section in sections:
        try:
            prices = prices_of(section.prices)
        except ValueError as error:
            raise ConfigurationError(f"model {section.name!r}: {error}.") from None
        takes_spare = section.capabilities is None or "chat" in section.capabilities
        models.append(
            Model(
                name=section.name,
                engine=engines[section.engine],
                upstream_model=section.upstream_model or section.name,
                prices=prices,
                default_max_output_tokens=section.default_max_output_tokens,
                aliases=section.aliases + (spare if takes_spare else ()),
                context_tokens=section.context_tokens,
                declared_capabilities=None if section.capabilities is None else frozenset(section.capabilities),
                created_at=created_at,
            )
        )
        if takes_spare:
            spare = ()
    return Catalog(models)
