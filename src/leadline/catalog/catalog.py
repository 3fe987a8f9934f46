"""The models on offer: which engine runs each, under which names, and what it costs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

import msgspec

from leadline.catalog.price_book import PriceBook
from leadline.catalog.prices import PriceHistory, Prices, configured_prices
from leadline.clock import now_microseconds
from leadline.config import ModelSection
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
    price_history: PriceHistory
    default_max_output_tokens: int
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = None
    declared_capabilities: frozenset[Capability] | None = None
    created_at: int = 0

    def prices_at(self, microseconds: int) -> Prices:
        """The prices of a request that was admitted then."""
        return self.price_history.at(microseconds)

    @property
    def prices(self) -> Prices:
        """The prices of a request that is admitted now."""
        return self.prices_at(now_microseconds())

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
        return _fingerprint(self.engine.facts(self.upstream_model).fingerprint, self.context)


@lru_cache(maxsize=1024)
def _fingerprint(facts: tuple[str, ...], context: int | None) -> str:
    said = "\n".join((*facts, f"context {context}"))
    return "fp_" + hashlib.sha256(said.encode()).hexdigest()[:10]


class Named(Protocol):
    """A model, or its section in the file. An alias that ends in `*` stands for every name that begins so."""

    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...


_Named = TypeVar("_Named", bound=Named)


class Names(Generic[_Named]):
    """Finds models by name, alias or an alias that ends in `*`."""

    def __init__(self, models: Sequence[_Named]) -> None:
        self._by_name = {alias: model for model in models for alias in model.aliases if not alias.endswith("*")}
        self._by_name |= {model.name: model for model in models}
        self._by_prefix = [(alias[:-1], model) for model in models for alias in model.aliases if alias.endswith("*")]
        self._by_prefix.sort(key=lambda pair: -len(pair[0]))

    def find(self, name: str) -> _Named:
        """The model of this name, or ModelNotFound."""
        model = self._by_name.get(name)
        if model is not None:
            return model
        for prefix, wildcard in self._by_prefix:
            if name.startswith(prefix):
                return wildcard
        raise ModelNotFound(f"The model {name[:200]!r} does not exist. GET /v1/models lists the models that do.")


class Catalog:
    """The models on offer, each under all its names. They may be replaced while requests run."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.replace(models)

    def replace(self, models: Sequence[Model]) -> None:
        """Offer these from the next request on. Whoever has found a model keeps it to the end of its request."""
        self.models = tuple(models)
        self._names = Names(self.models)

    def find(self, name: str) -> Model:
        """The model of this name or alias, or ModelNotFound."""
        return self._names.find(name)


def build_catalog(
    sections: Sequence[ModelSection], engines: Mapping[str, Engine], created_at: int, book: PriceBook | None = None
) -> Catalog:
    """The catalog of a configuration. ConfigurationError names a section that cannot be. Prices come from `book`, or
    straight from the sections where there is none."""
    return Catalog(
        [
            Model(
                name=section.name,
                engine=engines[section.engine],
                upstream_model=section.upstream_model or section.name,
                price_history=configured_prices(section) if book is None else book.of(section.name),
                default_max_output_tokens=section.default_max_output_tokens,
                aliases=section.aliases,
                context_tokens=section.context_tokens,
                declared_capabilities=None if section.capabilities is None else frozenset(section.capabilities),
                created_at=created_at,
            )
            for section in with_seed_aliases(sections)
        ]
    )


def with_seed_aliases(sections: Sequence[ModelSection]) -> list[ModelSection]:
    """The sections, the first chat model's with those seed aliases that no other one uses."""
    named = {alias for section in sections for alias in section.aliases} | {section.name for section in sections}
    wildcards = tuple(name[:-1] for name in named if name.endswith("*"))
    spare = tuple(alias for alias in SEED_ALIASES if alias not in named and not alias.startswith(wildcards))
    chat = next(
        (section for section in sections if section.capabilities is None or "chat" in section.capabilities), None
    )
    return [
        msgspec.structs.replace(section, aliases=section.aliases + spare) if section is chat else section
        for section in sections
    ]
