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
    """One answer. `content` holds at most one Reasoning, then at most one Text, then the calls; no empty block."""

    content: tuple[Reasoning | Text | ToolCall, ...]
    finish_reason: FinishReason
    stop_sequence: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    choices: tuple[Choice, ...]
    usage: Usage


@dataclass(slots=True)
class _Gathered:
    reasoning: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, list[str]]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finished: ChoiceFinished | None = None

    def choice(self) -> Choice:
        if self.finished is None:
            raise AssertionError("an engine must finish every choice or raise")
        content: list[Reasoning | Text | ToolCall] = []
        if self.reasoning:
            content.append(Reasoning("".join(self.reasoning)))
        calls = [ToolCall(call_id, name, "".join(pieces) or "{}") for call_id, name, pieces in self.calls]
        # A call that was cut before its arguments were whole is none that anybody could make: it is told as text.
        text = "".join(self.text) + "".join(call.name + call.arguments for call in calls if not _is_whole(call))
        if text:
            content.append(Text(text))
        content += [call for call in calls if _is_whole(call)]
        return Choice(tuple(content), self.finished.reason, self.finished.stop_sequence, tuple(self.logprobs))


def _is_whole(call: ToolCall) -> bool:
    try:
        return isinstance(json.loads(call.arguments), dict)
    except ValueError:
        return False


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
                    gathered[event.choice].text.append(event.text)
                    gathered[event.choice].logprobs += event.logprobs
                case ReasoningDelta():
                    gathered[event.choice].reasoning.append(event.text)
                case ToolCallStarted():
                    gathered[event.choice].calls.append((event.call_id, event.name, []))
                case ToolCallDelta():
                    gathered[event.choice].calls[event.index][2].append(event.arguments)
                case ChoiceFinished():
                    gathered[event.choice].finished = event
                case Finished():
                    return ChatAnswer(tuple(choice.choice() for choice in gathered), event.usage)
        return None
