"""What is known of a model that llama.cpp runs, and what it takes."""

from functools import cache, lru_cache
from importlib.metadata import version

from leadline.engines.embedded.machine import CacheType
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.engine import Capability, ModelFacts
from leadline.engines.llamacpp.completion import SAMPLING

# What a child takes beside weights and token cache: buffers to compute in, the program.
_CHILD_BYTES = 150_000_000
CAPABILITIES: frozenset[Capability] = frozenset(("chat", "completions", "tools", "json", "logprobs"))
# Of 32 numbers in the token cache; in q8_0 they share a scale.
_CACHE_BITS: dict[CacheType, int] = {"f16": 32 * 16, "q8_0": 32 * 8 + 16}
_EMBEDS: frozenset[Capability] = frozenset(("embeddings",))


def memory_bytes(settings: Settings, weights: Weights, cache_type: CacheType = "f16") -> int:
    """The most that a child takes with them, about."""
    cache_bytes = settings.cache_tokens * weights.cache_bytes * _CACHE_BITS[cache_type] // _CACHE_BITS["f16"]
    return weights.all_bytes + cache_bytes + _CHILD_BYTES


@lru_cache
def facts_of(weights: Weights, context_tokens: int, cache_type: CacheType = "f16") -> ModelFacts:
    """What is known of a model that runs in a context of so many tokens."""
    thinks: frozenset[Capability] = frozenset(("reasoning",) if weights.template.thinking else ())
    sees: frozenset[Capability] = frozenset(("vision",) if weights.projector is not None else ())
    facts = (
        f"weights {weights.digest}",
        *((f"requantised {weights.requantised}",) if weights.requantised is not None else ()),
        *((f"projector {weights.projector.digest}",) if weights.projector is not None else ()),
        *((f"image {weights.projector.image_tokens}",) if weights.projector and weights.projector.image_tokens else ()),
        f"xllamacpp {_version()}",
        f"context {context_tokens}",
        *((f"cache {cache_type}",) if cache_type != "f16" else ()),
        f"sampling {SAMPLING}",
    )
    return ModelFacts(context_tokens, _EMBEDS if weights.embeds else CAPABILITIES | thinks | sees, facts)


@cache
def _version() -> str:
    """Of llama.cpp, without loading it."""
    return version("xllamacpp")
