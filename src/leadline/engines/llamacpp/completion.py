"""A prompt of ours to llama.cpp's `POST /completion`, and its stream back to events.

The prompt is rendered, and the answer is read, by `engines/format`: llama.cpp only continues a text.
"""

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import msgspec

from leadline.chat.events import ChatEvent, Finished, FinishReason, Started, TokenLogprob, Usage
from leadline.chat.request import ChatRequest
from leadline.engines.format.forms import offered_tools
from leadline.engines.format.output import OutputParser
from leadline.engines.format.template import ChatTemplate
from leadline.engines.llamacpp.images import Illustrated, Layout
from leadline.engines.llamacpp.slots import Sent, Turn
from leadline.engines.upstream.encode import encode_sampling
from leadline.errors import EngineFailed

# Small models need the unlikely tokens cut off: without it, one strange token derails an answer.
SAMPLING = {"top_k": 40, "min_p": 0.05}
# The prompt's tokens as soon as work on it begins, and no more of the last event than is read.
_EXTRA = {
    "stream": True,
    "return_progress": True,
    "response_fields": ["stop", "stop_type", "tokens_predicted", "tokens_evaluated", "timings"],
}
_json = msgspec.json.Encoder()
# A text whose special tokens count, with pictures or without, or tokens.
Prompt = str | list[int] | Illustrated


def encode_completion(
    request: ChatRequest, prompt: Prompt, template: ChatTemplate, grammar: str | None, turn: Turn
) -> bytes:
    """The body. `grammar` forces the answer's form."""
    body: dict[str, Any] = {
        "prompt": prompt.body if isinstance(prompt, Illustrated) else prompt,
        "n_predict": request.max_output_tokens,
        "id_slot": turn.slot.number,
        "cache_prompt": turn.reuses,
        **SAMPLING,
        **encode_sampling(request.sampling),
    }
    if request.sampling.logit_bias:
        body["logit_bias"] = request.sampling.logit_bias
    if request.top_logprobs is not None:
        body["n_probs"] = max(1, request.top_logprobs)
    if offered_tools(request):
        body["preserved_tokens"] = template.calls.markers
    if template.thinking is not None and not request.prompts:
        body["preserved_tokens"] = (*body.get("preserved_tokens", ()), *template.thinking.markers)
    if grammar is not None:
        body["grammar"] = grammar
    return _json.encode(body | _EXTRA)


def sent(prompt: Prompt) -> Sent:
    """The prompt by what it begins with; a picture by its digest."""
    match prompt:
        case str():
            return prompt
        case Illustrated(texts, pictures):
            digests = (picture.digest.hex() for picture in pictures)
            return "".join(part for pair in zip_longest(texts, digests, fillvalue="") for part in pair)
    return tuple(prompt)


class _Progress(msgspec.Struct):
    total: int
    cache: int = 0


class _Timings(msgspec.Struct):
    cache_n: int = 0


class _Probability(msgspec.Struct):
    token: str = ""
    bytes: tuple[int, ...] = ()
    logprob: float = 0.0
    top_logprobs: "tuple[_Probability, ...]" = ()


class _Chunk(msgspec.Struct):
    content: str = ""
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    prompt_progress: _Progress | None = None
    completion_probabilities: tuple[_Probability, ...] = ()
    timings: _Timings | None = None
    error: msgspec.Raw | None = None


_chunk = msgspec.json.Decoder(_Chunk)


@dataclass(slots=True)
class CompletionDecoder:
    """Payloads of the stream to events. `top_logprobs` is how many alternatives were asked for, `layout` that of a
    prompt with images: their tokens count as theirs, cached or not."""

    parser: OutputParser
    top_logprobs: int | None
    layout: Layout | None = None
    done: bool = False
    _cached_tokens: int = 0
    _prompt_tokens: int = 0
    _predicted: int = 0

    def decode(self, payload: bytes) -> list[ChatEvent]:
        """The events of one payload. EngineFailed where it is none of llama.cpp's, or says that it failed."""
        if self.done or payload == b"[DONE]":
            return []
        try:
            chunk = _chunk.decode(payload)
        except msgspec.DecodeError:
            raise EngineFailed("The engine sent something that cannot be read.") from None
        if chunk.error is not None:
            raise EngineFailed("The engine failed while it worked on the request.")
        events: list[ChatEvent] = []
        if self._prompt_tokens == 0 and (chunk.prompt_progress is not None or chunk.tokens_predicted):
            events.append(self._start(chunk))
        tokens, self._predicted = chunk.tokens_predicted - self._predicted, chunk.tokens_predicted
        if chunk.content or tokens > 0:
            events += self.parser.feed(chunk.content, max(0, tokens), self._logprobs(chunk))
        if chunk.stop:
            if chunk.timings is not None:
                self._cached_tokens = self._texts_within(chunk.timings.cache_n)
            self._prompt_tokens = chunk.tokens_evaluated or self._prompt_tokens
            events += self._finish("length" if chunk.stop_type == "limit" else "stop")
        elif self.parser.done:
            events += self._finish("stop")
        return events

    def end(self) -> list[ChatEvent]:
        """At the end of the stream: EngineFailed unless the answer has ended."""
        if not self.done:
            raise EngineFailed("The engine stopped in the middle of its answer.")
        return []

    def _start(self, chunk: _Chunk) -> Started:
        progress = chunk.prompt_progress
        self._prompt_tokens = progress.total if progress is not None else chunk.tokens_evaluated
        self._cached_tokens = self._texts_within(progress.cache) if progress is not None else 0
        return Started(self._prompt_tokens, self._cached_tokens, self._image_tokens)

    @property
    def _image_tokens(self) -> int:
        return 0 if self.layout is None else self.layout.image_tokens(self._prompt_tokens)

    def _texts_within(self, tokens: int) -> int:
        return tokens if self.layout is None else self.layout.texts_within(tokens)

    def _finish(self, reason: FinishReason) -> list[ChatEvent]:
        self.done = True
        events = self.parser.end(reason)
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            image_tokens=self._image_tokens,
            output_tokens=self.parser.output_tokens,
            reasoning_tokens=self.parser.reasoning_tokens,
        )
        return [*events, Finished(usage)]

    def _logprobs(self, chunk: _Chunk) -> tuple[TokenLogprob, ...]:
        if self.top_logprobs is None:
            return ()
        return tuple(
            TokenLogprob(
                *(one.token, one.logprob, one.bytes),
                tuple(TokenLogprob(top.token, top.logprob, top.bytes) for top in one.top_logprobs[: self.top_logprobs]),
            )
            for one in chunk.completion_probabilities
        )


def with_its_seed(request: ChatRequest) -> ChatRequest:
    """llama.cpp's seeds have 32 bits, and the highest one means chance."""
    seed = request.sampling.seed
    if seed is None:
        return request
    return replace(request, sampling=replace(request.sampling, seed=seed % (2**32 - 1)))
