"""Requests and answers as bytes, to be kept, in no dialect's words; and back.

What is read was written here and sealed, so nothing is checked again. Blocks and events keep their types by name.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

import msgspec

from leadline.chat import events, request
from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.request import ChatRequest, Message

_Kept = TypeVar("_Kept")
_TYPE = "is"


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer and all that it answered. `notes` are what a dialect adds for itself, under its own name. The rest is
    as in `Generation`."""

    request_id: uuid.UUID
    created_at: int
    model: str
    requested_model: str
    fingerprint: str
    cost_ticks: int
    conversation: tuple[Message, ...]
    answer: ChatAnswer
    notes: Mapping[str, bytes] = field(default_factory=dict)


_TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(ChatRequest, Message, request.Text, request.Image, request.Reasoning, request.ToolCall, request.ToolResult),
        *(request.Tool, request.ToolChoice, request.JsonFormat, request.Sampling, request.Vectors),
        *(ChatAnswer, Choice, events.Usage, events.TokenLogprob, KeptAnswer),
    )
}


def encode(value: ChatRequest | KeptAnswer) -> bytes:
    return msgspec.msgpack.encode(_plain(value))


def decode(content: bytes, kind: type[_Kept]) -> _Kept:
    value = _typed(msgspec.msgpack.decode(content))
    assert isinstance(value, kind), "whoever reads knows what was written"
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        plain = {name.name: _plain(getattr(value, name.name)) for name in fields(value)}
        return {_TYPE: type(value).__name__} | plain
    if isinstance(value, tuple):
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
        case "json":
            return json.loads(value["text"])
        case "uuid":
            return uuid.UUID(bytes=value["bytes"])
        case name:
            return _TYPES[name](**{field: _typed(part) for field, part in value.items() if field != _TYPE})
