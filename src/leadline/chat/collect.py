"""A whole answer is a folded stream, so there is one generating path, not two."""

import json
from dataclasses import dataclass, field

from leadline.chat.events import (
    ChatEvent,
    ChoiceFinished,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.chat.request import Reasoning, Text, ToolCall


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer. `content` has its blocks in the order in which they came, none of them empty."""

    content: tuple[Reasoning | Text | ToolCall, ...]
    finish_reason: FinishReason
    stop_sequence: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    choices: tuple[Choice, ...]
    usage: Usage


def is_whole(arguments: str) -> bool:
    """Whether the arguments of a call are the JSON text of an object: not cut, and not broken by the model."""
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


@dataclass(slots=True)
class _Block:
    """A block under way, and its pieces. Texts and thoughts have no id and no name."""

    kind: type[Reasoning | Text | ToolCall]
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    def block(self) -> Reasoning | Text | ToolCall:
        """A call that is not whole is none that anybody could make: it is told as text."""
        text = "".join(self.pieces)
        if self.kind is not ToolCall:
            return Reasoning(text) if self.kind is Reasoning else Text(text)
        return ToolCall(self.call_id, self.name, text) if is_whole(text) else Text(self.name + text)


@dataclass(slots=True)
class _Gathered:
    blocks: list[_Block] = field(default_factory=list)
    calls: list[_Block] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finished: ChoiceFinished | None = None

    def add(self, kind: type[Reasoning | Text], piece: str) -> None:
        if not self.blocks or self.blocks[-1].kind is not kind:
            self.blocks.append(_Block(kind))
        self.blocks[-1].pieces.append(piece)

    def call(self, call_id: str, name: str) -> None:
        self.calls.append(_Block(ToolCall, call_id, name))
        self.blocks.append(self.calls[-1])

    def choice(self) -> Choice:
        if self.finished is None:
            raise AssertionError("an engine must finish every choice or raise")
        content = tuple(block.block() for block in self.blocks)
        return Choice(content, self.finished.reason, self.finished.stop_sequence, tuple(self.logprobs))


class Collector:
    """Folds a generation's events into its answer, batch by batch."""

    def __init__(self, choices: int = 1) -> None:
        self._gathered = [_Gathered() for _ in range(choices)]

    def add(self, batch: tuple[ChatEvent, ...]) -> ChatAnswer | None:
        """The answer, once the last batch has been added."""
        gathered = self._gathered
        for event in batch:
            match event:
                case Started():
                    pass
                case TextDelta():
                    gathered[event.choice].add(Text, event.text)
                    gathered[event.choice].logprobs += event.logprobs
                case ReasoningDelta():
                    gathered[event.choice].add(Reasoning, event.text)
                case ToolCallStarted():
                    gathered[event.choice].call(event.call_id, event.name)
                case ToolCallDelta():
                    gathered[event.choice].calls[event.index].pieces.append(event.arguments)
                case ChoiceFinished():
                    gathered[event.choice].finished = event
                case Finished():
                    return ChatAnswer(tuple(choice.choice() for choice in gathered), event.usage)
        return None
