"""What is known of a model that llama.cpp runs, and what it takes."""

from functools import cache, lru_cache
from importlib.metadata import version

from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.engine import Capability, ModelFacts
from leadline.engines.llamacpp.child import PROMPT_CACHE_MEGABYTES
from leadline.engines.llamacpp.completion import SAMPLING

# What a child takes beside weights and token cache: its prompt cache, buffers to compute in, the program.
_CHILD_BYTES = PROMPT_CACHE_MEGABYTES * 1024 * 1024 + 150_000_000
CAPABILITIES: frozenset[Capability] = frozenset(("chat", "completions", "tools", "json", "logprobs"))
_EMBEDS: frozenset[Capability] = frozenset(("embeddings",))


def memory_bytes(settings: Settings, weights: Weights) -> int:
    """The most that a child takes with them, about."""
    return weights.all_bytes + settings.cache_tokens * weights.cache_bytes + _CHILD_BYTES


@lru_cache
def facts_of(weights: Weights, context_tokens: int) -> ModelFacts:
    """What is known of a model that runs in a context of so many tokens."""
    thinks: frozenset[Capability] = frozenset(("reasoning",) if weights.template.thinking else ())
    sees: frozenset[Capability] = frozenset(("vision",) if weights.projector is not None else ())
    facts = (
        f"weights {weights.digest}",
        *((f"projector {weights.projector.digest}",) if weights.projector is not None else ()),
        *((f"image {weights.projector.image_tokens}",) if weights.projector and weights.projector.image_tokens else ()),
        f"xllamacpp {_version()}",
        f"context {context_tokens}",
        f"sampling {SAMPLING}",
    )
    return ModelFacts(context_tokens, _EMBEDS if weights.embeds else CAPABILITIES | thinks | sees, facts)


@cache
def _version() -> str:
    """Of llama.cpp, without loading it."""
    return version("xllamacpp")
