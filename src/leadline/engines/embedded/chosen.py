"""An embedded engine that is chosen by its weights, once they are here: kind `auto`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from leadline.chat.events import ChatEvent
from leadline.chat.request import ChatRequest
from leadline.engines.embedded.engine import EmbeddedEngine
from leadline.engines.embedded.model import Weights
from leadline.engines.embedded.supervisor import Child
from leadline.engines.engine import EngineStatus, ModelFacts, Token, Use
from leadline.errors import Unavailable

# Makes the engine that runs these weights, not yet started.
Choose = Callable[[Weights], EmbeddedEngine]


@dataclass(slots=True)
class ChosenEngine:
    """`before` stands for the engine until it is known, finds the weights, and is never started."""

    name: str
    before: EmbeddedEngine
    choose: Choose
    _chosen: EmbeddedEngine | None = None
    _known: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    @property
    def engine(self) -> EmbeddedEngine:
        """The one that runs, or what stands for it."""
        return self.before if self._chosen is None else self._chosen

    @property
    def status(self) -> EngineStatus:
        return self.engine.status

    @property
    def choices(self) -> tuple[str, ...]:
        return self.engine.choices

    @property
    def child(self) -> Child | None:
        return self.engine.child

    async def start(self) -> None:
        self._task = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        self._chosen = self.choose(await self.before.find_weights())
        await self._chosen.start()
        self._known.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.engine.close()

    async def take(self) -> Use:
        if self._chosen is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.before.policy.wait_seconds):
                    await self._known.wait()
        if self._chosen is None:
            raise Unavailable(f"The engine {self.name} is not ready: {self.status.detail}. Try again in a moment.")
        return await self._chosen.take()

    def load(self) -> None:
        self.engine.load()

    def unload(self) -> None:
        self.engine.unload()

    def share_cores(self, *, shares: bool) -> None:
        self.before.share_cores(shares=shares)
        if self._chosen is not None:
            self._chosen.share_cores(shares=shares)

    def facts(self, model: str) -> ModelFacts:
        return self.engine.facts(model)

    def leaves_room(self, request: ChatRequest) -> bool:
        return self.engine.leaves_room(request)

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        return self.engine.most_prompt_tokens(request)

    async def count_prompt_tokens(self, request: ChatRequest) -> int:
        return await self.engine.count_prompt_tokens(request)

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...] | None:
        return await self.engine.tokenize(model, text)

    def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self.engine.generate(request)

    def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self.engine.embed(request)
