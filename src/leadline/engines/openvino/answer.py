"""A request to what the child is asked, and what it says back to events."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from leadline.chat.events import ChatEvent, Finished, FinishReason, Started, TokenLogprob, Usage
from leadline.chat.request import ChatRequest
from leadline.engines.embedded.engine import Rendered
from leadline.engines.format.forms import offered_tools
from leadline.engines.format.output import OutputParser
from leadline.engines.format.template import ChatTemplate
from leadline.engines.openvino import wire
from leadline.engines.openvino.model import MIN_P, TOP_K
from leadline.errors import EngineFailed, InvalidRequest

_MOST_SEED = 2**32
# {2}, {2,} and {2,5} in a grammar. Measured, 3,000 took the library 0.4 s of processor time, and 6,000 1.2 s.
_REPEATS = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_MOST_REPEATS = 5_000


def refuse_unable(request: ChatRequest) -> None:
    """InvalidRequest where the engine lacks what is asked for."""
    if request.sampling.logit_bias:
        raise InvalidRequest("logit_bias: this model's engine takes none. Leave it out.", "logit_bias")
    sampled = request.sampling.temperature > 0
    if request.top_logprobs and (request.top_logprobs > 1 or sampled):
        raise InvalidRequest(
            "top_logprobs: this model's engine tells the log probability of each token that was taken, and of no "
            "other. Set it to 0, or to 1 with a temperature of 0.",
            "top_logprobs",
        )


def refuse_long(grammar: str | None) -> None:
    """InvalidRequest where the library would read the grammar for seconds, in which nobody gets a token."""
    if grammar is None or sum(int(most or least) for least, most in _REPEATS.findall(grammar)) <= _MOST_REPEATS:
        return
    raise InvalidRequest(
        f"This model's engine takes no more than {_MOST_REPEATS:,} repeats in all schemas of a request (such as "
        "maxLength, minLength and maxItems, added up). Set them lower, or leave them out.",
        "response_format",
    )


def parts_of(pieces: Rendered) -> list[wire.Part]:
    return [piece if isinstance(piece, int) else (piece.text, piece.special) for piece in pieces]


def asked(
    number: int, request: ChatRequest, pieces: Rendered, template: ChatTemplate, grammar: str | None
) -> wire.Generate:
    """`grammar` forces the answer's form."""
    assert request.max_output_tokens is not None
    sampling = request.sampling
    kept = list(template.calls.markers) if offered_tools(request) else []
    if template.thinking is not None and not request.prompts:
        kept += template.thinking.markers
    return wire.Generate(
        number,
        parts_of(pieces),
        request.max_output_tokens,
        sampling.temperature,
        sampling.top_p,
        TOP_K if sampling.top_k is None else sampling.top_k,
        MIN_P if sampling.min_p is None else sampling.min_p,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        secrets.randbelow(_MOST_SEED) if sampling.seed is None else sampling.seed % _MOST_SEED,
        grammar,
        kept,
        request.top_logprobs is not None,
        request.cache_scope,
    )


@dataclass(slots=True)
class AnswerReader:
    """One answer's messages to events. `tops`: how many alternatives were asked for, None: no log probabilities."""

    parser: OutputParser
    tops: int | None
    done: bool = False
    _prompt_tokens: int = 0
    _cached_tokens: int = 0

    def read(self, messages: Sequence[wire.FromChild]) -> list[ChatEvent]:
        """EngineFailed or InvalidRequest where the child says that it cannot."""
        events: list[ChatEvent] = []
        for message in messages:
            match message:
                case wire.Began(_, prompt_tokens, cached_tokens):
                    self._prompt_tokens, self._cached_tokens = prompt_tokens, cached_tokens
                    events.append(Started(prompt_tokens, cached_tokens))
                case wire.Wrote(_, text, tokens, logprobs) if not self.done:
                    events += self.parser.feed(text, tokens, self._logprobs(logprobs))
                    if self.parser.done:
                        events += self._finish("stop")
                case wire.Ended(_, reason) if not self.done:
                    events += self._finish(reason)
                case wire.Failed(_, "invalid"):
                    raise InvalidRequest("The prompt is empty, or has a token that this model does not know.", "prompt")
                case wire.Failed():
                    raise EngineFailed("The engine failed while it worked on the request.")
        return events

    def _finish(self, reason: FinishReason) -> list[ChatEvent]:
        self.done = True
        events = self.parser.end(reason)
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            output_tokens=self.parser.output_tokens,
            reasoning_tokens=self.parser.reasoning_tokens,
        )
        return [*events, Finished(usage)]

    def _logprobs(self, logprobs: Sequence[tuple[bytes, float]]) -> tuple[TokenLogprob, ...]:
        if self.tops is None:
            return ()
        found = []
        for spoken, logprob in logprobs:
            one = TokenLogprob(spoken.decode("utf-8", "replace"), logprob, tuple(spoken))
            top = (one,) if self.tops else ()
            found.append(TokenLogprob(one.token, one.logprob, one.token_bytes, top))
        return tuple(found)
