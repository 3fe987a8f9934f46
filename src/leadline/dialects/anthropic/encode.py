"""Events and answers -> Anthropic's message, whole and as a stream of events."""

from hashlib import blake2b
from typing import Any, Literal

import msgspec

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import (
    ChatEvent,
    ChoiceFinished,
    Embedded,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.chat.request import Reasoning, Text, ToolCall
from leadline.serving.generation import Generation

Json = dict[str, Any]
# `signed`: that there were some, but not what they were.
ShownThoughts = Literal["all", "signed", "none"]
_json = msgspec.json.Encoder()
_STOP_REASON: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def encode_usage(usage: Usage, cost_ticks: int | None) -> Json:
    """Anthropic's usage: cached tokens are no input tokens, and thinking is output. No cost before it is known."""
    encoded: Json = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.output_tokens + usage.reasoning_tokens,
        "service_tier": "standard",
    }
    if cost_ticks is not None:
        encoded["cost_in_usd_ticks"] = cost_ticks
    return encoded


def encode_answer(generation: Generation, answer: ChatAnswer, *, thoughts: ShownThoughts) -> bytes:
    [choice] = answer.choices
    shown = [block for block in choice.content if thoughts != "none" or not isinstance(block, Reasoning)]
    message = _shell(generation) | {
        "content": [_block(block, thoughts) for block in shown],
        "stop_reason": _stop_reason(choice.finish_reason, choice.stop_sequence),
        "stop_sequence": choice.stop_sequence,
        "usage": encode_usage(answer.usage, generation.cost_ticks),
    }
    return _json.encode(message)


def _shell(generation: Generation) -> Json:
    return {
        "id": f"msg_{generation.request_id.hex}",
        "type": "message",
        "role": "assistant",
        "model": generation.requested_model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }


def _block(block: Reasoning | Text | ToolCall, thoughts: ShownThoughts) -> Json:
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case Reasoning():
            told = block.text if thoughts == "all" else ""
            return {"type": "thinking", "thinking": told, "signature": _signature(block.text)}
        case ToolCall():
            return {
                "type": "tool_use",
                "id": block.call_id,
                "name": block.name,
                "input": msgspec.json.decode(block.arguments),
            }


def _stop_reason(reason: FinishReason, stop_sequence: str | None) -> str:
    return "stop_sequence" if stop_sequence is not None else _STOP_REASON[reason]


def _signature(thinking: str) -> str:
    """Opaque to clients, which send it back; never empty, since some of them check."""
    return blake2b(thinking.encode("utf-8", "surrogatepass"), digest_size=32, person=b"thinking").hexdigest()


KEEP_ALIVE = b'event: ping\ndata: {"type":"ping"}\n\n'


class EventEncoder:
    """Encodes one stream: blocks one after another, numbered from 0, each opened by its first piece."""

    def __init__(self, generation: Generation, *, thoughts: ShownThoughts) -> None:
        self._generation = generation
        self._shown = thoughts
        self._open: Literal["text", "thinking", "tool_use"] | None = None
        self._index = -1
        self._delta_before = b""
        self._thinking: list[str] = []
        self._finished: ChoiceFinished | None = None

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        return b"".join([self._event(event) for event in batch])

    def _event(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta():
                before = b"" if self._open == "text" else self._start("text", {"type": "text", "text": ""})
                return before + self._delta(b"text_delta", b"text", event.text)
            case ReasoningDelta() if self._shown == "none":
                return b""
            case ReasoningDelta():
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                before = b"" if self._open == "thinking" else self._start("thinking", empty)
                self._thinking.append(event.text)
                if self._shown == "signed":
                    return before
                return before + self._delta(b"thinking_delta", b"thinking", event.text)
            case ToolCallStarted():
                return self._start(
                    "tool_use", {"type": "tool_use", "id": event.call_id, "name": event.name, "input": {}}
                )
            case ToolCallDelta():
                return self._delta(b"input_json_delta", b"partial_json", event.arguments)
            case Started():
                usage = Usage(prompt_tokens=event.prompt_tokens or 0, cached_tokens=event.cached_tokens)
                message = _shell(self._generation) | {"usage": encode_usage(usage, None)}
                return _frame("message_start", {"message": message}) + KEEP_ALIVE
            case ChoiceFinished():
                self._finished = event
                return self._stop()
            case Finished():
                return self._end(event.usage)
            case Embedded():
                return b""

    def _start(self, kind: Literal["text", "thinking", "tool_use"], block: Json) -> bytes:
        stopped = self._stop()
        self._open = kind
        self._index += 1
        self._delta_before = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"'
            % self._index
        )
        return stopped + _frame("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, kind: bytes, field: bytes, text: str) -> bytes:
        return b'%b%b","%b":%b}}\n\n' % (self._delta_before, kind, field, _json.encode(text))

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        signature = b""
        if self._open == "thinking":
            signature = self._delta(b"signature_delta", b"signature", _signature("".join(self._thinking)))
            self._thinking.clear()
        self._open = None
        return signature + _frame("content_block_stop", {"index": self._index})

    def _end(self, usage: Usage) -> bytes:
        finished = self._finished
        assert finished is not None, "the choice is finished before the answer is"
        delta = {
            "stop_reason": _stop_reason(finished.reason, finished.stop_sequence),
            "stop_sequence": finished.stop_sequence,
        }
        counted = encode_usage(usage, self._generation.cost_ticks)
        return _frame("message_delta", {"delta": delta, "usage": counted}) + _frame("message_stop", {})


def _frame(kind: str, fields: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _json.encode({"type": kind} | fields))
