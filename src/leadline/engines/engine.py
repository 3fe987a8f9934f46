"""What an engine must do. Nothing here knows about money, keys or a client's wire format.

An engine generates one choice for one prompt per call; `serving` runs several calls for more. It stops only at its
model's end of turn or at `max_output_tokens`; stop strings are cut by `serving`, the same for every engine.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from leadline.chat.events import ChatEvent
from leadline.chat.request import ChatRequest

State = Literal["unloaded", "loading", "loaded", "unloading", "restarting", "failed"]
WorkerState = Literal["ready", "away", "broken", "draining"]
Capability = Literal["chat", "completions", "tools", "json", "logprobs", "vision", "embeddings", "reasoning"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What an engine knows of one model that it runs.

    `fingerprint` is every fact that changes answers (digest of the weights, engine version, settings), in words.
    `context_tokens` None: the engine does not say.
    """

    context_tokens: int | None
    capabilities: frozenset[Capability] = field(default_factory=frozenset)
    fingerprint: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a model's vocabulary. Its bytes may be a part of a character."""

    token_id: int
    token_bytes: bytes


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One of several servers behind one engine. `broken`: it answers, but its requests fail. `failures`, and the prompt
    tokens and those of them that it had cached, are counted since it came."""

    at: str
    state: WorkerState
    detail: str
    running: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """`ready`: it takes a request now, if need be after a load. `detail` is a sentence for people: why not, or what
    runs. `state` None: its models are not ours to load. `loaded_percent` is an estimate, `memory_bytes` what it takes
    now, `claimed_bytes` the most that it may take of the `limit_bytes` that all embedded engines share. `waiting` are
    the requests that wait for it; None where it does not say. `workers` are those that it is made of, if it is."""

    ready: bool
    detail: str
    state: State | None = None
    loaded_percent: int | None = None
    memory_bytes: int | None = None
    claimed_bytes: int | None = None
    limit_bytes: int | None = None
    waiting: int | None = None
    workers: tuple[WorkerStatus, ...] = ()


NOT_STARTED = EngineStatus(ready=False, detail="not started yet")


class Use(Protocol):
    """A request's need of an engine."""

    def close(self) -> None:
        """The request has ended. Twice is harmless."""


class Unneeded:
    """The use of an engine that nobody unloads."""

    def close(self) -> None: ...


class Engine(Protocol):
    name: str

    @property
    def status(self) -> EngineStatus: ...

    async def start(self) -> None:
        """Begin to load; returns at once. `status` tells how far it is."""

    async def close(self) -> None:
        """Stop everything that `start` began."""

    async def take(self) -> Use:
        """Returns once it takes a request, for which it may have to load, and stays loaded until the use is closed.
        Asked before each request. Unavailable says why not, and when to ask again."""
        ...

    def facts(self, model: str) -> ModelFacts:
        """What is known of `model` (the engine's own name for it) now."""

    def leaves_room(self, request: ChatRequest) -> bool:
        """Whether half of all that it can run at once stays free where `request`, with its most prompt tokens and
        those of its answer, begins now. True where that is not known."""
        ...

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        """An upper bound of the prompt's tokens, without asking anyone. Never too low."""

    async def count_prompt_tokens(self, request: ChatRequest) -> int | None:
        """The prompt's exact tokens, template included. None where the engine cannot tell."""

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...] | None:
        """`text` as plain tokens, without a template or what begins a prompt. None where the engine cannot tell."""

    def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """Run the request, whose `model` is the engine's own name and whose `max_output_tokens` is set.

        Yields batches that follow the grammar of `chat.events` for choice 0. Closing the generator aborts the work.
        Raises InvalidRequest, Unavailable, DeadlineExceeded or EngineFailed.
        """
        ...

    def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """The whole vectors of all prompts of the request, in one call. The rest is as with `generate`."""
        ...


@runtime_checkable
class Loadable(Protocol):
    """An engine whose model is ours to load."""

    def load(self) -> None:
        """Begin to load, unless it does or has. Unavailable says why that cannot be."""

    def unload(self) -> None:
        """Begin to unload, unless it does or has. Unavailable while a request needs it."""
