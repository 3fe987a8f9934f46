"""llama.cpp in a child process of its own, as an engine: kind `llamacpp`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.chat.events import ChatEvent, Embedded, Finished, Started, Usage
from leadline.chat.request import ChatRequest
from leadline.engines.embedded.engine import EmbeddedEngine, Rendered, end_in_thoughts
from leadline.engines.embedded.machine import CacheType, cache_type
from leadline.engines.embedded.model import Weights
from leadline.engines.embedded.supervisor import Child
from leadline.engines.engine import ModelFacts, Token
from leadline.engines.format.forms import parser_of
from leadline.engines.format.marks import Piece
from leadline.engines.llamacpp.child import BATCH_TOKENS, VISION_BATCH_TOKENS
from leadline.engines.llamacpp.completion import CompletionDecoder, Prompt, encode_completion, sent, with_its_seed
from leadline.engines.llamacpp.images import MARKER, Illustrated, Layout, PictureSizes, illustrated
from leadline.engines.llamacpp.model import CAPABILITIES, facts_of, memory_bytes
from leadline.engines.llamacpp.slots import SLOTS_PER_REQUEST, Slots, Turn
from leadline.engines.llamacpp.vectors import grouped, tokens_of
from leadline.engines.upstream.client import ChatClient, most_prompt_tokens
from leadline.engines.upstream.http import Address, HttpClient
from leadline.errors import InvalidRequest, LeadlineError

_ASK_SECONDS = 10.0
# Prompts of idle slots are kept up to this part of a context.
_IDLE_SHARE = 2
_HEARTBEAT_SECONDS = 5.0
_CHILD = "leadline.engines.llamacpp.child"


@dataclass(slots=True)
class LlamaCppEngine(EmbeddedEngine):
    """Its child is llama.cpp's own server."""

    _client: ChatClient | None = None
    _sizes: PictureSizes = field(default_factory=PictureSizes)
    # New with each child.
    _slots: Slots = field(default_factory=lambda: Slots(0, 0))
    _erasing: "set[asyncio.Task[None]]" = field(default_factory=set)

    def facts(self, model: str) -> ModelFacts:
        if self._weights is None:
            return ModelFacts(None, CAPABILITIES)
        return facts_of(self._weights, self.settings.context_tokens, self._cache_type(self._weights)[0])

    @property
    def choices(self) -> tuple[str, ...]:
        weights = self._weights
        if weights is None:
            return ()
        kind, why = self._cache_type(weights)
        pieces = f"prompts in pieces of {self._batch_tokens(weights)} tokens, between which others get their next token"
        anew = f"weights re-quantised to {weights.requantised}, in which prompts are read faster"
        return (f"a token cache of {kind}, {why}", pieces, *((anew,) if weights.requantised else ()))

    def _cache_type(self, weights: Weights) -> tuple[CacheType, str]:
        need_bytes = memory_bytes(self.settings, weights)
        return cache_type(self.settings.cache_type, need_bytes, self.memory.budget_bytes)

    def _batch_tokens(self, weights: Weights) -> int:
        if weights.embeds:
            return self.settings.context_tokens  # what is embedded must fit into one batch
        usual = BATCH_TOKENS if weights.projector is None else VISION_BATCH_TOKENS
        # llama.cpp ends where a token of each slot does not fit into a piece.
        return max(self.settings.batch_tokens or usual, self._slot_count(weights))

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        """With images no less than the context, which no prompt is longer than: projectors differ too much."""
        most = most_prompt_tokens(request)
        return max(most, self.settings.context_tokens) if request.images else most

    async def _count(self, request: ChatRequest) -> int:
        if request.vectors is not None:
            return sum(map(len, await self._prompts(request)))
        if request.images:
            return (await self._layout(self._illustrated(request, self._rendered(request)))).prompt_tokens
        return len(await self._tokens(self._rendered(request)))

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

    async def _generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        fitted, tokens = await self._fitted(with_its_seed(request))
        assert self._weights is not None
        template, pieces = self._weights.template, self._rendered(fitted)
        template.refuse_unknown((token_id for token_id, _ in fitted.sampling.logit_bias), "logit_bias")
        in_thoughts = end_in_thoughts(pieces, template)
        grammar = await self._grammars.of(fitted, template, in_thoughts=in_thoughts)
        prompt, layout = await self._laid_out(fitted, pieces)
        decoder = CompletionDecoder(parser_of(fitted, template, in_thoughts=in_thoughts), fitted.top_logprobs, layout)
        async with self._room.take(tokens) as place:
            client = self._ready_client()
            with self._turn(fitted, prompt) as turn:
                body = encode_completion(fitted, prompt, template, grammar, turn)
                async with aclosing(client.stream("/completion", body, decoder)) as batches:
                    async for batch in batches:
                        if isinstance(batch[0], Started) and batch[0].prompt_tokens is not None:
                            turn.began(batch[0].prompt_tokens)
                            place.need(batch[0].prompt_tokens + (fitted.max_output_tokens or 0))
                        if isinstance(batch[-1], Finished):
                            turn.ended(batch[-1].usage)
                        yield batch

    @contextlib.contextmanager
    def _turn(self, request: ChatRequest, prompt: Prompt) -> Iterator[Turn]:
        """A slot for the request. Afterwards idle prompts that are too many are erased, which nobody waits for: what is
        still there is only in the way."""
        try:
            with self._slots.take(request.cache_scope, sent(prompt)) as turn:
                yield turn
        finally:
            for number in self._slots.outgrown():
                task = asyncio.create_task(self._erase(number))
                self._erasing.add(task)
                task.add_done_callback(self._erasing.discard)

    async def _erase(self, number: int) -> None:
        with contextlib.suppress(LeadlineError):
            await self._ready_client().post(f"/slots/{number}?action=erase", {}, _ASK_SECONDS)

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

    def _program(self, weights: Weights) -> tuple[str, dict[str, Any]]:
        return _CHILD, {
            "weights": str(weights.path),
            "cache_tokens": self.settings.cache_tokens,
            "parallel_requests": self.settings.parallel_requests,
            "slots": self._slot_count(weights),
            "threads": self.settings.threads,
            "shares_cores": self.settings.shares_cores,
            "batch_tokens": self._batch_tokens(weights),
            "cache_type": self._cache_type(weights)[0],
            "embeds": weights.embeds,
            "projector": None if weights.projector is None else str(weights.projector.path),
            "image_tokens": 0 if weights.projector is None else weights.projector.image_tokens,
            "marker": MARKER,
        }

    def _need_bytes(self, weights: Weights) -> int:
        return memory_bytes(self.settings, weights, self._cache_type(weights)[0])

    async def _connect(self, child: Child) -> str:
        address = Address("engine", 80, socket=child.socket)
        self._client = ChatClient(HttpClient(self.name, address, {"Authorization": f"Bearer {child.key}"}))
        assert self._weights is not None, "a child is ready only with weights"
        self._slots = Slots(self._slot_count(self._weights), self.settings.context_tokens // _IDLE_SHARE)
        return f"llama.cpp, {self.settings.parallel_requests} requests at once"

    def _disconnect(self) -> None:
        self._client = None
        for task in self._erasing:
            task.cancel()

    def _slot_count(self, weights: Weights) -> int:
        """Nothing of what is embedded is used again."""
        return (1 if weights.embeds else SLOTS_PER_REQUEST) * self.settings.parallel_requests

    def _ready_client(self) -> ChatClient:
        if self._client is None:
            raise self._not_ready()
        return self._client

    async def _alive(self) -> bool:
        try:
            await self._ready_client().get("/health", _HEARTBEAT_SECONDS)
        except LeadlineError:
            return False
        return True


def _texts(pieces: Rendered) -> tuple[Piece, ...]:
    """Of a request with messages: only plain prompts are given as tokens."""
    return tuple(piece for piece in pieces if isinstance(piece, Piece))


def _piece_bytes(piece: str | list[int]) -> bytes:
    """llama.cpp tells a piece that is no whole text byte by byte."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)
