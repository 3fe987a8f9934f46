"""llama.cpp in a child process of its own, as an engine: kind `llamacpp`."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from leadline.chat.events import ChatEvent, Embedded, Finished, Started, Usage
from leadline.chat.request import ChatRequest
from leadline.engines.embedded.grammars import Grammars
from leadline.engines.embedded.loader import Loader, Policy
from leadline.engines.embedded.memory import Memory
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.embedded.room import Room
from leadline.engines.embedded.supervisor import Child, Supervisor, resident_bytes
from leadline.engines.embedded.suspects import Suspects
from leadline.engines.engine import EngineStatus, ModelFacts, Token, Use
from leadline.engines.format.forms import is_forced, offered_tools, parser_of
from leadline.engines.format.marks import Piece
from leadline.engines.format.template import ChatTemplate
from leadline.engines.llamacpp.child import BATCH_TOKENS, VISION_BATCH_TOKENS
from leadline.engines.llamacpp.completion import CompletionDecoder, Prompt, encode_completion, with_its_seed
from leadline.engines.llamacpp.images import MARKER, Illustrated, Layout, PictureSizes, illustrated
from leadline.engines.llamacpp.model import CAPABILITIES, facts_of, memory_bytes
from leadline.engines.llamacpp.vectors import grouped, tokens_of
from leadline.engines.upstream.client import ChatClient, most_prompt_tokens
from leadline.engines.upstream.http import Address, ConnectionBroken, HttpClient, Unreachable
from leadline.errors import InvalidRequest, LeadlineError, Unavailable

# How long a request that the engine lost before it began waits for the next child.
RESTART_SECONDS = 30.0
# After weights could not be had, they are looked for again.
PROVIDE_AGAIN_SECONDS = 10.0
_ASK_SECONDS = 10.0
_HEARTBEAT_SECONDS = 5.0
CHILD = "leadline.engines.llamacpp.child"
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
class LlamaCppEngine:
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
    _client: ChatClient | None = None
    # Set with the weights, before the first child.
    _room: Room = field(default_factory=lambda: Room(0, 0))
    _grammars: Grammars = field(default_factory=Grammars)
    _sizes: PictureSizes = field(default_factory=PictureSizes)
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

    def facts(self, model: str) -> ModelFacts:
        if self._weights is None:
            return ModelFacts(None, CAPABILITIES)
        return facts_of(self._weights, self.settings.context_tokens)

    def leaves_room(self, request: ChatRequest) -> bool:
        if self._child is None:
            return True  # nothing runs yet
        tokens = self.most_prompt_tokens(request) + (request.max_output_tokens or 0)
        return self._room.leaves_half(min(tokens, self.settings.context_tokens), request.choices)

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        """With images no less than the context, which no prompt is longer than: projectors differ too much."""
        most = most_prompt_tokens(request)
        return max(most, self.settings.context_tokens) if request.images else most

    async def count_prompt_tokens(self, request: ChatRequest) -> int:
        """To count images it reads them, so that even this may cost a child."""
        self._suspects.refuse(request)
        try:
            return await self._count(request)
        except ConnectionBroken as error:
            self._suspects.note(request, error)
            raise

    async def _count(self, request: ChatRequest) -> int:
        if request.vectors is not None:
            return sum(map(len, await self._prompts(request)))
        if request.images:
            return (await self._layout(self._illustrated(request, self._rendered(request)))).prompt_tokens
        return len(await self._tokens(self._rendered(request)))

    def _rendered(self, request: ChatRequest) -> Rendered:
        self._ready_client()
        assert self._weights is not None, "a client is ready only with weights"
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

    async def _tokens(self, pieces: Rendered) -> list[int]:
        """The prompt's tokens. What users wrote is ordinary text, whatever it looks like."""
        tokens: list[int] = []
        for piece in pieces:
            if isinstance(piece, int):
                tokens.append(piece)
                continue
            question = {"content": piece.text, "add_special": False, "parse_special": piece.special}
            tokens += (await self._ready_client().post("/tokenize", question, _ASK_SECONDS))["tokens"]
        return tokens

    def _illustrated(self, request: ChatRequest, pieces: Rendered) -> Illustrated:
        assert self._weights is not None
        return illustrated(self._weights.template.as_text(_texts(pieces)), request)

    async def _layout(self, prompt: Illustrated) -> Layout:
        client = self._ready_client()
        texts = [len(await self._tokens((Piece(text, special=True),))) for text in prompt.texts]
        return Layout(tuple(texts), await self._sizes.of(client, prompt.pictures))

    async def _prompt(self, pieces: Rendered) -> str | list[int]:
        """As text where one piece is all, which is nearly always; llama.cpp sets the token of beginning itself."""
        assert self._weights is not None
        match pieces:
            case (Piece(text, special=True),):
                return self._weights.template.without_bos(text)
        return await self._tokens(pieces)

    async def _laid_out(self, request: ChatRequest, pieces: Rendered) -> tuple[Prompt, Layout | None]:
        """The prompt, and its layout where it has images."""
        if not request.images:
            return await self._prompt(pieces), None
        assert self._weights is not None
        prompt = self._illustrated(request, pieces)
        layout = await self._layout(prompt)
        first = self._weights.template.without_bos(prompt.texts[0])
        return replace(prompt, texts=(first, *prompt.texts[1:])), layout

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...]:
        question = {"content": text, "add_special": False, "parse_special": False, "with_pieces": True}
        said = await self._ready_client().post("/tokenize", question, _ASK_SECONDS)
        return tuple(Token(token["id"], _piece_bytes(token["piece"])) for token in said["tokens"])

    def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self._run_again(request, self._generate)

    def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self._run_again(request, self._embed)

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

    async def _generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        fitted, tokens = await self._fitted(request)
        assert self._weights is not None
        template, pieces = self._weights.template, self._rendered(fitted)
        template.refuse_unknown((token_id for token_id, _ in fitted.sampling.logit_bias), "logit_bias")
        in_thoughts = _end_in_thoughts(pieces, template)
        grammar = await self._grammars.of(fitted, template, in_thoughts=in_thoughts)
        prompt, layout = await self._laid_out(fitted, pieces)
        body = encode_completion(fitted, prompt, template, grammar)
        decoder = CompletionDecoder(parser_of(fitted, template, in_thoughts=in_thoughts), fitted.top_logprobs, layout)
        stream = self._ready_client().stream("/completion", body, decoder)
        async with self._room.take(tokens) as place, aclosing(stream) as batches:
            async for batch in batches:
                if isinstance(batch[0], Started) and batch[0].prompt_tokens is not None:
                    place.need(batch[0].prompt_tokens + (fitted.max_output_tokens or 0))
                yield batch

    async def _embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        prompts = await self._prompts(request)
        done = 0
        for group in grouped(prompts, self.settings.context_tokens):
            async with self._room.take(sum(map(len, group))):
                yield tuple(Started(len(tokens)) for tokens in group)
                answer = await self._ready_client().vectors("/v1/embeddings", request.model, group)
            yield tuple(Embedded(vector, done + number) for number, vector in enumerate(answer.vectors))
            done += len(group)
        yield (Finished(Usage(prompt_tokens=sum(map(len, prompts)))),)

    async def _prompts(self, request: ChatRequest) -> list[list[int]]:
        """The tokens of the prompts of a request for vectors."""
        client = self._ready_client()
        assert self._weights is not None, "a client is ready only with weights"
        for prompt in request.prompts:
            if not isinstance(prompt, str):
                self._weights.template.refuse_unknown(prompt, "input")
        prompts = await tokens_of(client, request.prompts)
        longest, context = max(map(len, prompts)), self.settings.context_tokens
        if longest > context:
            raise InvalidRequest(
                f"This model's context is {context} tokens, but the prompt has {longest}. Send a shorter prompt.",
                "input",
            )
        return prompts

    async def _fitted(self, request: ChatRequest) -> tuple[ChatRequest, int]:
        """The request within what llama.cpp takes, and the tokens of its cache that it can need. The prompt is counted
        exactly only where its upper bound does not fit."""
        request = with_its_seed(request)
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

    def _ready_client(self) -> ChatClient:
        if self._client is None:
            raise Unavailable(
                f"The engine {self.name} is not ready: {self._loader.status.detail}. Try again in a moment."
            )
        return self._client

    async def _child_after(self, lost: Child | None) -> None:
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                while self._child is None or self._child is lost:
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"The engine {self.name} did not come back in time. Try again in a moment.") from None

    async def _run(self) -> None:
        self._weights = weights = await self._provided()
        self.settings = self.settings.within(weights)
        await self._loader.keep(memory_bytes(self.settings, weights))

    async def _children(self) -> str:
        """Children one after another, until one cannot load the model."""
        weights = self._weights
        assert weights is not None, "loading begins once there are weights"
        self._room = Room(self.settings.cache_tokens, self.settings.parallel_requests)
        batch_tokens = BATCH_TOKENS if weights.projector is None else VISION_BATCH_TOKENS
        settings = {
            "weights": str(weights.path),
            "cache_tokens": self.settings.cache_tokens,
            "parallel_requests": self.settings.parallel_requests,
            "threads": self.settings.threads,
            "shares_cores": self.settings.shares_cores,
            # What is embedded must fit into one batch.
            "batch_tokens": self.settings.context_tokens if weights.embeds else batch_tokens,
            "embeds": weights.embeds,
            "projector": None if weights.projector is None else str(weights.projector.path),
            "image_tokens": 0 if weights.projector is None else weights.projector.image_tokens,
            "marker": MARKER,
        }
        total_bytes = weights.all_bytes

        def loading(loaded_bytes: int) -> None:
            """An estimate: what else the child has in memory counts as weights."""
            done_bytes = min(loaded_bytes, total_bytes)
            detail = f"loading {weights.path.name}, {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB"
            self._loader.progress(done_bytes / max(1, total_bytes), detail)
            if self.policy.at_start and not self._was_ready:
                self.loading(done_bytes, total_bytes)

        try:
            return await Supervisor(self.name, CHILD, settings, loading, self._ready, self._gone, self._alive).run()
        finally:
            self._child = self._client = None

    async def _provided(self) -> Weights:
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
        http = HttpClient(
            self.name, Address("engine", 80, socket=child.socket), {"Authorization": f"Bearer {child.key}"}
        )
        self._child, self._client, self._was_ready = child, ChatClient(http), True
        self._loader.loaded(f"llama.cpp, {self.settings.parallel_requests} requests at once")
        self._change()

    def _gone(self, why: str) -> None:
        self._child = self._client = None
        self._loader.lost(why)
        self._change()

    async def _alive(self) -> bool:
        try:
            await self._ready_client().get("/health", _HEARTBEAT_SECONDS)
        except LeadlineError:
            return False
        return True

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _texts(pieces: Rendered) -> tuple[Piece, ...]:
    """Of a request with messages: only plain prompts are given as tokens."""
    return tuple(piece for piece in pieces if isinstance(piece, Piece))


def _end_in_thoughts(pieces: Rendered, template: ChatTemplate) -> bool:
    last = pieces[-1]
    return template.thinking is not None and isinstance(last, Piece) and template.thinking.is_open(last.text)


def _piece_bytes(piece: str | list[int]) -> bytes:
    """llama.cpp tells a piece that is no whole text byte by byte."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)
