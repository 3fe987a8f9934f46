"""Requests, answers and errors as bytes, to be kept, in no dialect's words; and back.

What is read was written here and sealed, so nothing is checked again. Blocks and events keep their types by name.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, overload

import msgspec

from leadline import errors
from leadline.chat import events, request
from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import TokenLogprob
from leadline.chat.request import ChatRequest, Message
from leadline.errors import InternalError, InvalidRequest, LeadlineError, RateLimited

_Kept = TypeVar("_Kept")
_Other = TypeVar("_Other")
_TYPE = "is"
_logprobs = msgspec.msgpack.Decoder(tuple[TokenLogprob, ...])


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer and the conversation that it answered, without instructions. `notes` are what a dialect adds for
    itself, under its own name. The rest is as in `Generation`."""

    request_id: uuid.UUID
    created_at: int
    model: str
    requested_model: str
    fingerprint: str
    cost_ticks: int
    conversation: tuple[Message, ...]
    answer: ChatAnswer
    notes: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation up to and with the answer, of several choices the first."""
        said = self.answer.choices[0].content
        return (*self.conversation, Message("assistant", said)) if said else self.conversation


@dataclass(frozen=True, slots=True)
class KeptError:
    """The error in which a request ended: the name of its class, and what its caller is told."""

    name: str
    message: str
    param: str | None = None

    @classmethod
    def of(cls, error: LeadlineError) -> "KeptError":
        name = next(kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
        return cls(name, str(error), error.param if isinstance(error, InvalidRequest) else None)

    def rebuilt(self) -> LeadlineError:
        """The error, to be raised. It is the same however often it is asked for, so nobody should try again."""
        kind: type[LeadlineError] = getattr(errors, self.name, InternalError)
        error = kind.__new__(kind, self.message)
        error.should_retry, error.retry_after_seconds = False, None
        if isinstance(error, InvalidRequest):
            error.param = self.param
        if isinstance(error, RateLimited):
            error.limits = None
        return error


_TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(ChatRequest, Message, request.Text, request.Image, request.Reasoning, request.ToolCall, request.ToolResult),
        *(request.Tool, request.ToolChoice, request.JsonFormat, request.Sampling, request.Vectors),
        *(ChatAnswer, Choice, events.Usage, KeptAnswer, KeptError),
    )
}

_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _TYPES.values()}


def encode(value: ChatRequest | KeptAnswer | KeptError) -> bytes:
    return msgspec.msgpack.encode(_plain(value))


@overload
def decode(content: bytes, kind: type[_Kept], /) -> _Kept: ...
@overload
def decode(content: bytes, kind: type[_Kept], other: type[_Other], /) -> _Kept | _Other: ...
def decode(content: bytes, *kinds: type[Any]) -> Any:
    """What was encoded, which is one of `kinds`."""
    value = _typed(msgspec.msgpack.decode(content))
    assert isinstance(value, kinds), "whoever reads knows what was written"
    return value


def _plain(value: Any) -> Any:
    if (names := _FIELDS.get(type(value))) is not None:
        plain = {name: _plain(getattr(value, name)) for name in names}
        return {_TYPE: type(value).__name__} | plain
    if isinstance(value, tuple):
        if value and isinstance(value[0], TokenLogprob):  # there are many, and no block among them
            return {_TYPE: "logprobs", "encoded": msgspec.msgpack.encode(value)}
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        # JSON Schemas hold lists, which must not come back as tuples.
        if all(isinstance(part, bytes) for part in value.values()):
            return {_TYPE: "notes", "notes": dict(value)}
        return {_TYPE: "json", "text": json.dumps(value)}
    if isinstance(value, uuid.UUID):
        return {_TYPE: "uuid", "bytes": value.bytes}
    return value


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_typed(part) for part in value)
    if not isinstance(value, dict):
        return value
    match value[_TYPE]:
        case "notes":
            return value["notes"]
        case "logprobs":
            return _logprobs.decode(value["encoded"])
        case "json":
            return json.loads(value["text"])
        case "uuid":
            return uuid.UUID(bytes=value["bytes"])
        case name:
            return _TYPES[name](**{field: _typed(part) for field, part in value.items() if field != _TYPE})
