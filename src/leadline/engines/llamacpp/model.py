"""A model of llama.cpp's: its files, how it is run, and what is known of it."""

from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

from leadline.engines.engine import Capability, ModelFacts
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.engines.llamacpp.child import PROMPT_CACHE_MEGABYTES
from leadline.engines.llamacpp.completion import SAMPLING

# What a child takes beside weights and token cache: its prompt cache, buffers to compute in, the program.
_CHILD_BYTES = PROMPT_CACHE_MEGABYTES * 1024 * 1024 + 150_000_000
CAPABILITIES: frozenset[Capability] = frozenset(("chat", "completions", "tools", "json", "logprobs"))
_EMBEDS: frozenset[Capability] = frozenset(("embeddings",))


@dataclass(frozen=True, slots=True)
class Projector:
    """The GGUF file that makes a model see: it turns images into what the model reads. `digest` is its sha256;
    `image_tokens` the most that an image may take, 0: what the file says."""

    path: Path
    digest: str
    size_bytes: int = 0
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF file, or the first of the files that it was split into. `digest` is its sha256; `context_tokens` what the
    model was trained for; `template` how it reads a chat; `cache_bytes` what a token takes in the engine's cache. One
    that `embeds` makes vectors, and no text."""

    path: Path
    digest: str
    context_tokens: int
    template: ChatTemplate = field(default_factory=lambda: ChatTemplate(None, Vocabulary()))
    size_bytes: int = 0
    cache_bytes: int = 0
    embeds: bool = False
    projector: Projector | None = None

    @property
    def all_bytes(self) -> int:
        """With the projector's."""
        return self.size_bytes + (self.projector.size_bytes if self.projector is not None else 0)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run a model: context of one request, requests at once, threads. `shares_cores`: other engines' threads
    want the same ones."""

    context_tokens: int
    parallel_requests: int
    threads: int
    shares_cores: bool = False

    def within(self, weights: Weights) -> "Settings":
        """With no more context than the model was trained for."""
        return replace(self, context_tokens=min(self.context_tokens, weights.context_tokens))

    @property
    def cache_tokens(self) -> int:
        """The pool that all requests share: two whole contexts, so that a long request does not stop the others."""
        return 2 * self.context_tokens

    def memory_bytes(self, weights: Weights) -> int:
        """The most that a child takes with them, about."""
        return weights.all_bytes + self.cache_tokens * weights.cache_bytes + _CHILD_BYTES


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
