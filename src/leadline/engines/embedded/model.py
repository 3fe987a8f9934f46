"""A model that an embedded engine runs: its files, and how it is run."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from leadline.engines.embedded.machine import CacheType
from leadline.engines.format.template import ChatTemplate, Vocabulary


@dataclass(frozen=True, slots=True)
class Projector:
    """The GGUF file that makes a model see: it turns images into what the model reads. `digest` is its sha256;
    `image_tokens` the most that an image may take, 0: what the file says."""

    path: Path
    digest: str
    size_bytes: int = 0
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Build:
    """How a model is made: the names that its file has for its architecture and its tokenizer, and its tensors: names
    without the layer's number, and their types by GGUF's number. A file that is one of several does not say."""

    architecture: str | None = None
    tokenizer: str | None = None
    tensors: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF file, or the first of the files that it was split into. `digest` is its sha256; `context_tokens` what the
    model was trained for; `template` how it reads a chat; `cache_bytes` what a token takes in the engine's cache. One
    that `embeds` makes vectors, and no text. `requantised` is the type into which some of its tensors were turned."""

    path: Path
    digest: str
    context_tokens: int
    template: ChatTemplate = field(default_factory=lambda: ChatTemplate(None, Vocabulary()))
    size_bytes: int = 0
    cache_bytes: int = 0
    embeds: bool = False
    projector: Projector | None = None
    build: Build = Build()
    requantised: str | None = None

    @property
    def all_bytes(self) -> int:
        """With the projector's."""
        return self.size_bytes + (self.projector.size_bytes if self.projector is not None else 0)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run a model: context of one request, requests at once, threads. `shares_cores`: other engines' threads
    want the same ones. `batch_tokens`, of which pieces prompts are read, and `cache_type` are llama.cpp's; 0 and None
    leave them to it."""

    context_tokens: int
    parallel_requests: int
    threads: int
    shares_cores: bool = False
    batch_tokens: int = 0
    cache_type: CacheType | None = None

    def within(self, weights: Weights) -> "Settings":
        """With no more context than the model was trained for."""
        return replace(self, context_tokens=min(self.context_tokens, weights.context_tokens))

    @property
    def cache_tokens(self) -> int:
        """The pool that all requests share: two whole contexts, so that a long request does not stop the others."""
        return 2 * self.context_tokens
