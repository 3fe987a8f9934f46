"""What every embedded engine does: it keeps one model in a supervised child process, lets requests in as far as there
is room, and gives those that a child lost to the next one. What its child is and how it is asked is the engine's own.
"""

import asyncio
import contextlib
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.chat.events import ChatEvent
from leadline.chat.request import ChatRequest
from leadline.engines.embedded.grammars import Grammars
from leadline.engines.embedded.loader import Loader, Policy
from leadline.engines.embedded.memory import Memory
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.embedded.room import Room
from leadline.engines.embedded.supervisor import Child, Supervisor, resident_bytes
from leadline.engines.engine import EngineStatus, ModelFacts, Token, Use
from leadline.engines.format.forms import is_forced, offered_tools
from leadline.engines.format.marks import Piece
from leadline.engines.format.template import ChatTemplate
from leadline.engines.suspects import Suspects
from leadline.engines.upstream.client import most_prompt_tokens
from leadline.engines.upstream.http import ConnectionBroken, Unreachable
from leadline.errors import InvalidRequest, LeadlineError, Unavailable

# How long a request that the engine lost before it began waits for the next child.
RESTART_SECONDS = 30.0
# After weights could not be had, they are looked for again.
PROVIDE_AGAIN_SECONDS = 10.0
_log = logging.getLogger("leadline.engines")

# A prompt: pieces of text, or the ids of its tokens.
Rendered = tuple[Piece | int, ...]
# Finds the weights, fetching them if need be; tells the status meanwhile.
Provide = Callable[[Callable[[str], None]], Awaitable[Weights]]
# One try at a request.
Run = Callable[[ChatRequest], AsyncGenerator[tuple[ChatEvent, ...], None]]
# How many of the weights' bytes are in memory, of how many; until the first child is ready.
Loading = Callable[[int, int], None]


@dataclass(slots=True)
class EmbeddedEngine(ABC):
    """One model in one child. `settings` are what is asked for; the context is never more than the weights'. `policy`
    says when it is loaded, within the `memory` that it shares with others."""

    name: str
    provide: Provide
    settings: Settings
    loading: Loading = lambda _done, _total: None
    policy: Policy = field(default_factory=Policy)
    memory: Memory = field(default_factory=lambda: Memory(sys.maxsize))
    _loader: Loader = field(init=False)
    _weights: Weights | None = None
    _child: Child | None = None
    _was_ready: bool = False
    # Set with the weights, before the first child.
    _room: Room = field(default_factory=lambda: Room(0, 0))
    _grammars: Grammars = field(default_factory=Grammars)
    _suspects: Suspects = field(default_factory=Suspects)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self._loader = Loader(self.name, self.policy, self.memory, self._children)

    @property
    def status(self) -> EngineStatus:
        memory_bytes = 0 if self._child is None else resident_bytes(self._child.pid)
        return replace(
            self._loader.status,
            memory_bytes=memory_bytes,
            claimed_bytes=self.memory.claimed_by(self.name),
            limit_bytes=self.memory.budget_bytes,
            waiting=self._loader.waiting + self._room.waiting,
        )

    @property
    def child(self) -> Child | None:
        """The child that runs now, if one is ready."""
        return self._child

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._loader.close()

    async def take(self) -> Use:
        return await self._loader.take()

    @property
    def choices(self) -> tuple[str, ...]:
        """What it chose of how it runs its model, and why; what it knows only once it has the weights."""
        return ()

    def load(self) -> None:
        self._loader.load()

    def unload(self) -> None:
        self._loader.unload()

    def share_cores(self, *, shares: bool) -> None:
        """Say whether others want the cores too. It holds from its next load on, which is now where no request needs
        it."""
        if shares != self.settings.shares_cores:
            self.settings = replace(self.settings, shares_cores=shares)
            self._loader.reload()

    def leaves_room(self, request: ChatRequest) -> bool:
        if self._child is None:
            return True  # nothing runs yet
        tokens = self.most_prompt_tokens(request) + (request.max_output_tokens or 0)
        return self._room.leaves_half(min(tokens, self.settings.context_tokens), request.choices)

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        return most_prompt_tokens(request)

    async def count_prompt_tokens(self, request: ChatRequest) -> int:
        """To count images it reads them, so that even this may cost a child."""
        self._suspects.refuse(request)
        try:
            return await self._count(request)
        except ConnectionBroken as error:
            self._suspects.note(request, error)
            raise

    def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self._run_again(request, self._generate)

    def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self._run_again(request, self._embed)

    @abstractmethod
    def facts(self, model: str) -> ModelFacts:
        """See `Engine.facts`."""

    @abstractmethod
    async def tokenize(self, model: str, text: str) -> tuple[Token, ...]:
        """See `Engine.tokenize`."""

    @abstractmethod
    def _program(self, weights: Weights) -> tuple[str, dict[str, Any]]:
        """The module that the child runs, and its settings."""

    @abstractmethod
    def _need_bytes(self, weights: Weights) -> int:
        """The most memory that a child takes, about."""

    @abstractmethod
    async def _connect(self, child: Child) -> str:
        """Take up a child that is ready. Returns what people are told of it."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Its child has gone, if it had one."""

    @abstractmethod
    async def _alive(self) -> bool:
        """Whether the child gives a sign of life."""

    @abstractmethod
    async def _count(self, request: ChatRequest) -> int:
        """The tokens of the request's prompt."""

    @abstractmethod
    def _generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """One try at it."""

    @abstractmethod
    def _embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """One try at it."""

    async def _run_again(self, request: ChatRequest, run: Run) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """A request that the child lost before it began is given to the next child, once.

        One over which two children were lost is not run again: it may be what kills them.
        """
        self._suspects.refuse(request)
        child, begun = self._child, False
        try:
            async with aclosing(run(request)) as batches:
                async for batch in batches:
                    begun = True
                    yield batch
            return
        except (ConnectionBroken, Unreachable) as error:
            self._suspects.note(request, error)
            if begun:
                raise
        await self._child_after(child)
        try:
            async with aclosing(run(request)) as batches:
                async for batch in batches:
                    begun = True
                    yield batch
        except (ConnectionBroken, Unreachable) as error:
            self._suspects.note(request, error)
            if begun:
                raise
            raise Unavailable(f"The engine {self.name} was lost twice over this request. Try again later.") from error

    async def _fitted(self, request: ChatRequest) -> tuple[ChatRequest, int]:
        """The request within what llama.cpp takes, and the tokens of its cache that it can need. The prompt is counted
        exactly only where its upper bound does not fit."""
        assert request.max_output_tokens is not None
        context = self.settings.context_tokens
        most = self.most_prompt_tokens(request) + request.max_output_tokens
        if most <= context and self._room.fits(most):
            return request, most
        exact = await self._count(request)
        if exact >= context:
            raise InvalidRequest(
                f"This model's context is {context} tokens, but the prompt has {exact}. Send a shorter prompt.",
                "prompt" if request.prompts else "messages",
            )
        output_tokens = min(request.max_output_tokens, context - exact)
        return replace(request, max_output_tokens=output_tokens), exact + output_tokens

    def _rendered(self, request: ChatRequest) -> Rendered:
        if self._weights is None:
            raise self._not_ready()
        template = self._weights.template
        if request.images and self._weights.projector is None:
            raise InvalidRequest("This model reads no images. Send text only.", "messages")
        for prompt in request.prompts:
            if isinstance(prompt, str):
                return template.plain(prompt)
            template.refuse_unknown(prompt, "prompt")
            return prompt
        shown = replace(request, tools=offered_tools(request))
        # What must be JSON or a call from its first character on leaves no room for thoughts that nobody asked for.
        told = request.effort is not None or is_forced(request)
        return template.render(shown, thinking=request.thinks if told else None)

    def _not_ready(self) -> Unavailable:
        """Why nothing runs now."""
        return Unavailable(f"The engine {self.name} is not ready: {self._loader.status.detail}. Try again in a moment.")

    async def _child_after(self, lost: Child | None) -> None:
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                while self._child is None or self._child is lost:
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"The engine {self.name} did not come back in time. Try again in a moment.") from None

    async def _run(self) -> None:
        self._weights = weights = await self.find_weights()
        self.settings = self.settings.within(weights)
        await self._loader.keep(self._need_bytes(weights))

    async def _children(self) -> str:
        """Children one after another, until one cannot load the model."""
        weights = self._weights
        assert weights is not None, "loading begins once there are weights"
        self._room = Room(self.settings.cache_tokens, self.settings.parallel_requests)
        module, settings = self._program(weights)
        total_bytes = weights.all_bytes

        def loading(loaded_bytes: int) -> None:
            """An estimate: what else the child has in memory counts as weights."""
            done_bytes = min(loaded_bytes, total_bytes)
            detail = f"loading {weights.path.name}, {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB"
            self._loader.progress(done_bytes / max(1, total_bytes), detail)
            if self.policy.at_start and not self._was_ready:
                self.loading(done_bytes, total_bytes)

        try:
            return await Supervisor(self.name, module, settings, loading, self._ready, self._gone, self._alive).run()
        finally:
            self._child = None
            self._disconnect()

    async def find_weights(self) -> Weights:
        """The weights; tried again where they cannot be had, since somebody may bring them meanwhile."""
        while True:
            try:
                return await self.provide(self._loader.tell)
            except LeadlineError as error:
                self._loader.tell(str(error))
            except Exception:
                _log.exception("the weights could not be provided", extra={"engine": self.name})
                self._loader.tell("its weights could not be read; the log says why")
            await asyncio.sleep(PROVIDE_AGAIN_SECONDS)

    async def _ready(self, child: Child) -> None:
        detail = await self._connect(child)
        self._child, self._was_ready = child, True
        self._loader.loaded(detail)
        self._change()

    def _gone(self, why: str) -> None:
        self._child = None
        self._disconnect()
        self._loader.lost(why)
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def end_in_thoughts(pieces: Rendered, template: ChatTemplate) -> bool:
    last = pieces[-1]
    return template.thinking is not None and isinstance(last, Piece) and template.thinking.is_open(last.text)
