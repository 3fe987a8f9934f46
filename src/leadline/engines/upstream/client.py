"""Runs chat requests on an OpenAI-compatible server: what the kinds `llamacpp`, `vllm` and `openai` share."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from leadline.chat.events import ChatEvent, Embedded, Finished, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest, Image, Reasoning, Text, ToolCall, ToolResult
from leadline.engines.upstream.decode import ChunkDecoder
from leadline.engines.upstream.encode import encode_request
from leadline.engines.upstream.http import HttpClient, Response
from leadline.engines.upstream.sse import EventParser
from leadline.engines.upstream.vectors import VectorsOf, decode_vectors, encode_prompts
from leadline.errors import EngineFailed, InvalidRequest, Unavailable

# How long an engine may take to begin an answer, and to go on with it.
FIRST_BYTE_SECONDS = 600.0
# Longer answers are streamed to us even where nobody reads along.
MOST_WHOLE_TOKENS = 1024
NEXT_BYTE_SECONDS = 120.0
# 128 vectors of 8,192 numbers, as JSON writes them.
_MOST_VECTORS_BYTES = 32 * 1024 * 1024
# What a model may set before a plain prompt and after it.
_PROMPT_TOKENS = 2
# What an image takes in common vision models, in the largest size that is shown to them.
_IMAGE_TOKENS = 4096
# What a chat template can add: before the conversation, to each message, and to each tool.
_TEMPLATE_TOKENS = 256
_MESSAGE_TOKENS = 32
_TOOL_TOKENS = 256
_log = logging.getLogger("leadline.engines")


class _ErrorDetail(msgspec.Struct):
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail | None = None


class StreamDecoder(Protocol):
    """Payloads of one stream to events; `done` once the last one has come."""

    done: bool

    def decode(self, payload: bytes) -> list[ChatEvent]: ...

    def end(self) -> list[ChatEvent]: ...


@dataclass(frozen=True, slots=True)
class ChatClient:
    """A connection to one server; `vllm`: it is one, and is told what only vLLM knows."""

    http: HttpClient
    vllm: bool = False

    def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """Run `request`; see `Engine.generate`. Closing the generator closes the connection, which aborts the work.

        What is wanted whole and cannot be long is asked for whole: a server that streams costs it and us a write and a
        read for each token. What we would cut at a stop string is streamed, and so is what takes long: it shows that
        it goes on, and is counted as it comes.
        """
        most = request.max_output_tokens
        assert most is not None
        whole = request.whole and most <= MOST_WHOLE_TOKENS and not request.stop
        decoder = ChunkDecoder(most, told_start=whole)
        path = "/completions" if request.prompts else "/chat/completions"
        body = encode_request(request, stream=not whole, vllm=self.vllm)
        return self._whole(path, body, decoder) if whole else self.stream(path, body, decoder)

    async def _whole(
        self, path: str, body: bytes, decoder: StreamDecoder
    ) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """Nothing is heard of it until its end, so it begins when it is sent."""
        await self.http.reach()
        yield (Started(),)
        async with aclosing(self.stream(path, body, decoder)) as batches:
            async for batch in batches:
                yield batch

    async def stream(
        self, path: str, body: bytes, decoder: StreamDecoder
    ) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """Post `body` and decode the events that come back. Closing the generator closes the connection."""
        response = await self.http.send("POST", path, body, FIRST_BYTE_SECONDS)
        try:
            if response.status != 200:
                raise await self._refusal(response)
            if response.is_json:
                yield (*decoder.decode(await response.read(NEXT_BYTE_SECONDS)), *decoder.end())
                return
            events = EventParser()
            while piece := await response.piece(NEXT_BYTE_SECONDS):
                batch: list[ChatEvent] = []
                for payload in events.feed(piece):
                    batch += decoder.decode(payload)
                if batch:
                    yield tuple(batch) if len(batch) == 1 else _joined(batch)
                if decoder.done:
                    break
            rest = [] if decoder.done else events.end()
            if last := (*(event for payload in rest for event in decoder.decode(payload)), *decoder.end()):
                yield last
        finally:
            response.close()

    async def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        """The vectors of `request`'s prompts; see `Engine.embed`."""
        yield tuple(Started() for _ in request.prompts)
        answer = await self.vectors("/embeddings", request.model, request.prompts)
        vectors = tuple(Embedded(vector, number) for number, vector in enumerate(answer.vectors))
        yield (*vectors, Finished(Usage(prompt_tokens=answer.prompt_tokens)))

    async def vectors(self, path: str, model: str, prompts: "Sequence[str | Sequence[int]]") -> VectorsOf:
        """The vectors of some prompts. Cancelling closes the connection."""
        response = await self.http.send("POST", path, encode_prompts(model, prompts), FIRST_BYTE_SECONDS)
        try:
            if response.status != 200:
                raise await self._refusal(response, "input")
            return decode_vectors(await response.read(NEXT_BYTE_SECONDS, _MOST_VECTORS_BYTES), len(prompts))
        finally:
            response.close()

    async def post(self, path: str, body: object, seconds: float) -> Any:
        """A JSON answer to a JSON question, or EngineFailed."""
        response = await self.http.send("POST", path, msgspec.json.encode(body), seconds)
        return await self._json(response, seconds)

    async def get(self, path: str, seconds: float) -> Any:
        return await self._json(await self.http.send("GET", path, None, seconds), seconds)

    async def _json(self, response: Response, seconds: float) -> Any:
        try:
            if response.status != 200:
                raise await self._refusal(response)
            return msgspec.json.decode(await response.read(seconds))
        except msgspec.DecodeError:
            raise EngineFailed(f"The engine {self.http.name} sent something that is not JSON.") from None
        finally:
            response.close()

    async def _refusal(self, response: Response, param: str = "messages") -> Exception:
        """What an engine's own error means to our caller. Its text stays out: it may hold anything. `param` is where
        the prompt lies."""
        name, status = self.http.name, response.status
        body = await response.read(NEXT_BYTE_SECONDS, limit_bytes=1024 * 1024)
        _log.warning("engine refused a request", extra={"engine": name, "status": status})
        if status in (429, 503):
            return Unavailable(f"The engine {name} is busy. Try again in a moment.")
        if status not in (400, 413, 422):
            return EngineFailed(f"The engine {name} answered with status {status}.")
        try:
            detail = msgspec.json.decode(body, type=_ErrorBody).error or _ErrorDetail()
        except msgspec.DecodeError:
            detail = _ErrorDetail()
        if detail.n_prompt_tokens and detail.n_ctx:
            return InvalidRequest(
                f"This model's context is {detail.n_ctx} tokens, but the prompt has {detail.n_prompt_tokens}. "
                "Send a shorter prompt.",
                param,
            )
        return InvalidRequest(f"The engine {name} cannot run this request as it stands.")


def _joined(events: list[ChatEvent]) -> tuple[ChatEvent, ...]:
    """Texts that came together are told together: each would be encoded, sent and read for itself, for nobody's gain.
    Those with log probabilities stay apart, so that each token has its own."""
    joined: list[ChatEvent] = []
    texts: list[str] = []
    tokens = 0
    for event in events:
        if type(event) is TextDelta and not event.logprobs:
            texts.append(event.text)
            tokens += event.tokens
            continue
        if texts:
            joined.append(TextDelta("".join(texts), tokens))
            texts, tokens = [], 0
        joined.append(event)
    if texts:
        joined.append(TextDelta("".join(texts), tokens))
    return tuple(joined)


def most_prompt_tokens(request: ChatRequest) -> int:
    """An upper bound of the prompt's tokens: no token is shorter than a byte, and templates add little."""
    if request.prompts:
        return sum(
            _PROMPT_TOKENS + len(prompt.encode() if isinstance(prompt, str) else prompt) for prompt in request.prompts
        )
    size = _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(request.messages)
    for message in request.messages:
        size += len((message.name or "").encode())
        for block in message.content:
            match block:
                case ToolCall():
                    size += _TOOL_TOKENS + len(f"{block.call_id}{block.name}{block.arguments}".encode())
                case ToolResult():
                    size += len(block.call_id.encode())
                    size += sum(
                        1 + len(part.text.encode()) if isinstance(part, Text) else _IMAGE_TOKENS
                        for part in block.content
                    )
                case Text():
                    size += 1 + len(block.text.encode())
                case Reasoning():
                    size += len(block.text.encode())
                case Image():
                    size += _IMAGE_TOKENS
    for tool in request.tools:
        size += _TOOL_TOKENS + 2 * len(msgspec.json.encode((tool.name, tool.description, tool.parameters)))
    return size
