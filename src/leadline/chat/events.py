"""The one stream of events that every engine emits and every dialect encodes.

Grammar: `Started`, any number of deltas (and of further prompts' `Started`), one `ChoiceFinished` per choice, then
`Finished`. Where vectors are asked for, one `Embedded` per prompt takes the place of deltas and `ChoiceFinished`. A
generation that breaks raises instead of finishing. Events travel in batches (tuples): all that arrived together goes
out together.
"""

from array import array
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `cached_tokens` and `image_tokens` are part of `prompt_tokens`; `reasoning_tokens` stand
    beside `output_tokens`, as in xAI's usage."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token: str
    logprob: float
    token_bytes: tuple[int, ...] | None = None
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """The engine works on a prompt; with several prompts, each has its own. The count is None where the engine tells it
    only at the end."""

    prompt_tokens: int | None = None
    cached_tokens: int = 0
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer, never empty, never half a character. `tokens` is how many tokens it took."""

    text: str
    tokens: int = 1
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str
    tokens: int = 1
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The call number `index` (dense from 0 per choice) begins."""

    index: int
    call_id: str
    name: str
    tokens: int = 0
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the call's arguments. The pieces join to JSON text of an object."""

    index: int
    arguments: str
    tokens: int = 1
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of the prompt number `choice`: 32-bit floats."""

    vector: "array[float]"
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceFinished:
    """`stop_sequence` is the stop string that ended it, if one did."""

    reason: FinishReason
    stop_sequence: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    usage: Usage


ChatEvent = (
    Started | TextDelta | ReasoningDelta | ToolCallStarted | ToolCallDelta | Embedded | ChoiceFinished | Finished
)
