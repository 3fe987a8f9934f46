"""Events -> the items of a response's output, one after another."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from leadline.chat.collect import is_whole
from leadline.chat.events import (
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
)
from leadline.dialects.responses.items import new_item_id

Json = dict[str, Any]
Delta = TextDelta | ReasoningDelta | ToolCallStarted | ToolCallDelta
Status = Literal["in_progress", "completed", "incomplete"]
# Of each piece of an item: how many characters and how many log probabilities it has.
Sizes = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Opened:
    """The item number `index` begins; `item` has nothing in it yet."""

    index: int
    item: Json


@dataclass(frozen=True, slots=True)
class Grown:
    """A piece more of the item that was opened last."""

    piece: str
    logprobs: list[Json]


@dataclass(frozen=True, slots=True)
class Closed:
    """The item that was opened last is whole."""

    index: int
    item: Json


Step = Opened | Grown | Closed


@dataclass(slots=True)
class _Item:
    """The item under way. A call knows its number among the engine's calls."""

    kind: str
    base: Json
    call: int | None = None
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    sizes: Sizes = field(default_factory=list)

    def takes(self, event: Delta) -> bool:
        match event:
            case TextDelta():
                return self.kind == "message"
            case ReasoningDelta():
                return self.kind == "reasoning"
            case ToolCallDelta():
                return self.call == event.index
            case ToolCallStarted():
                return False

    def grow(self, event: Delta) -> list[Step]:
        """Nothing where there is nothing in the event."""
        match event:
            case TextDelta():
                return [self.add(event.text, [encode_logprob(logprob) for logprob in event.logprobs])]
            case ReasoningDelta():
                return [self.add(event.text, [])]
            case ToolCallDelta() if event.arguments:
                return [self.add(event.arguments, [])]
            case _:
                return []

    def add(self, piece: str, logprobs: list[Json]) -> Grown:
        self.pieces.append(piece)
        self.logprobs += logprobs
        self.sizes.append((len(piece), len(logprobs)))
        return Grown(piece, logprobs)

    def is_half(self) -> bool:
        """Whether it is a call whose arguments are no whole object."""
        return self.call is not None and not is_whole("".join(self.pieces))

    def encoded(self, status: Status) -> Json:
        text = "".join(self.pieces)
        match self.kind:
            case "message":
                part = {"type": "output_text", "text": text, "annotations": [], "logprobs": self.logprobs}
                return self.base | {"status": status, "content": [part]}
            case "reasoning":
                return self.base | {"status": status, "content": [{"type": "reasoning_text", "text": text}]}
            case _:
                return self.base | {"status": status, "arguments": text}


class Output:
    """The output of one response. `items` are the whole ones, `sizes` of each how its pieces were cut. Reasoning is
    told in the open, and sealed as well where there is a `seal`."""

    def __init__(self, request_id: uuid.UUID, seal: Callable[[str], str] | None = None) -> None:
        self.items: list[Json] = []
        self.sizes: list[Sizes] = []
        self._request_id = request_id
        self._seal = seal
        self._open: _Item | None = None

    def add(self, event: Delta) -> list[Step]:
        """What the event does, in steps."""
        item = self._open
        if item is not None and item.takes(event):
            return item.grow(event)
        closed = self._close("completed")
        item = self._open = self._new(event)
        return [*closed, Opened(len(self.items), item.base | {"status": "in_progress"}), *item.grow(event)]

    def finish(self, reason: FinishReason) -> list[Step]:
        """Close what is open."""
        item = self._open
        if item is None:
            return []
        cut = reason in ("length", "content_filter")
        if item.call is not None and not item.pieces and not cut:
            return [item.add("{}", []), *self._close("completed")]
        return self._close("incomplete" if cut and (item.call is None or item.is_half()) else "completed")

    def _close(self, status: Status) -> list[Step]:
        item, self._open = self._open, None
        if item is None:
            return []
        encoded = item.encoded(status)
        if self._seal is not None and item.kind == "reasoning":
            encoded["encrypted_content"] = self._seal("".join(item.pieces))
        self.items.append(encoded)
        self.sizes.append(item.sizes)
        return [Closed(len(self.items) - 1, encoded)]

    def _new(self, event: Delta) -> _Item:
        call: int | None = None
        fields: Json
        match event:
            case ToolCallStarted():
                kind, call = "function_call", event.index
                fields = {"call_id": event.call_id, "name": event.name, "arguments": ""}
            case ReasoningDelta():
                kind, fields = "reasoning", {"summary": [], "content": []}
            case _:
                kind, fields = "message", {"role": "assistant", "content": []}
        item_id = new_item_id(kind, self._request_id, str(len(self.items)))
        return _Item(kind, {"id": item_id, "type": kind} | fields, call)


def steps_of(items: list[Json], sizes: Iterable[Sizes]) -> Iterator[Step]:
    """The steps in which an output came into being, from what is kept of it."""
    for index, (item, pieces) in enumerate(zip(items, sizes, strict=True)):
        empty: Json = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
        [part] = item.get("content", [{"text": item.get("arguments")}])
        text, logprobs = part["text"], part.get("logprobs", [])
        begun = {name: value for name, value in item.items() if name != "encrypted_content"}
        yield Opened(index, begun | empty | {"status": "in_progress"})
        at = logprob = 0
        for length, count in pieces:
            yield Grown(text[at : at + length], logprobs[logprob : logprob + count])
            at, logprob = at + length, logprob + count
        yield Closed(index, item)


def encode_logprob(logprob: TokenLogprob) -> Json:
    return _token(logprob) | {"top_logprobs": [_token(other) for other in logprob.top]}


def _token(logprob: TokenLogprob) -> Json:
    return {"token": logprob.token, "bytes": list(logprob.token_bytes or ()), "logprob": logprob.logprob}
