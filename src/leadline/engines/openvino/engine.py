"""OpenVINO GenAI in a child process of its own, as an engine: kind `openvino`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from leadline.chat.events import ChatEvent, Started
from leadline.chat.request import ChatRequest
from leadline.engines.embedded.engine import EmbeddedEngine, end_in_thoughts
from leadline.engines.embedded.model import Weights
from leadline.engines.embedded.supervisor import Child
from leadline.engines.engine import ModelFacts, Token
from leadline.engines.format.forms import parser_of
from leadline.engines.openvino import wire
from leadline.engines.openvino.answer import AnswerReader, asked, parts_of, refuse_long, refuse_unable
from leadline.engines.openvino.link import Link
from leadline.engines.openvino.model import CAPABILITIES, facts_of, memory_bytes
from leadline.errors import EngineFailed, InvalidRequest, LeadlineError

_ASK_SECONDS = 60.0
_HEARTBEAT_SECONDS = 5.0
_CHILD = "leadline.engines.openvino.child"


@dataclass(slots=True)
class OpenVinoEngine(EmbeddedEngine):
    """Its child steps OpenVINO GenAI's continuous batching. `reuses`: prompts are used again while one organisation
    alone uses the model."""

    reuses: bool = True
    _link: Link | None = None

    def facts(self, model: str) -> ModelFacts:
        if self._weights is None:
            return ModelFacts(None, CAPABILITIES)
        return facts_of(self._weights, self.settings.context_tokens)

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...]:
        link = self._ready_link()
        assert self._weights is not None, "a child is ready only with weights"
        parts = parts_of(self._weights.template.plain_text(text))
        answer = await link.ask(wire.Tokenize(link.number(), parts), _ASK_SECONDS)
        if not isinstance(answer, wire.Tokens):
            raise EngineFailed("The engine could not read the text.")
        return tuple(Token(token_id, token_bytes) for token_id, token_bytes in answer.tokens)

    async def _count(self, request: ChatRequest) -> int:
        pieces = self._rendered(request)
        link = self._ready_link()
        answer = await link.ask(wire.Count(link.number(), parts_of(pieces)), _ASK_SECONDS)
        if not isinstance(answer, wire.Counted):
            raise EngineFailed("The engine could not count the prompt.")
        return answer.tokens

    async def _generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        refuse_unable(request)
        fitted, tokens = await self._fitted(request)
        assert self._weights is not None
        template, pieces = self._weights.template, self._rendered(fitted)
        in_thoughts = end_in_thoughts(pieces, template)
        grammar = await self._grammars.of(fitted, template, in_thoughts=in_thoughts)
        refuse_long(grammar)
        reader = AnswerReader(parser_of(fitted, template, in_thoughts=in_thoughts), fitted.top_logprobs)
        async with self._room.take(tokens) as place:
            link = self._ready_link()
            message = asked(link.number(), fitted, pieces, template, grammar)
            async with aclosing(link.generate(message)) as batches:
                async for batch in batches:
                    events = reader.read(batch)
                    if events and isinstance(events[0], Started) and events[0].prompt_tokens is not None:
                        place.need(events[0].prompt_tokens + (fitted.max_output_tokens or 0))
                    if events:
                        yield tuple(events)
                    if reader.done:
                        return

    def _embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        raise InvalidRequest("This model makes no vectors.", "model")

    def _program(self, weights: Weights) -> tuple[str, dict[str, Any]]:
        vocabulary = weights.template.vocabulary
        return _CHILD, {
            "weights": str(weights.path),
            "cache_tokens": self.settings.cache_tokens,
            "parallel_requests": self.settings.parallel_requests,
            "threads": self.settings.threads,
            "special": vocabulary.special,
            "ends": vocabulary.ends,
            "reuses": self.reuses,
        }

    def _need_bytes(self, weights: Weights) -> int:
        return memory_bytes(self.settings, weights)

    async def _connect(self, child: Child) -> str:
        self._link = await Link.open(self.name, child.socket, child.key)
        return f"OpenVINO GenAI, {self.settings.parallel_requests} requests at once"

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _ready_link(self) -> Link:
        if self._link is None:
            raise self._not_ready()
        return self._link

    async def _alive(self) -> bool:
        try:
            link = self._ready_link()
            if link.pauses:
                return True
            await link.ask(wire.Ask(link.number()), _HEARTBEAT_SECONDS)
        except LeadlineError:
            return False
        return True
