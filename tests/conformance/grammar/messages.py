"""The grammar of a stream of Messages (SDK_CONFORMANCE 6.3): a state machine over its bytes. What it does not allow is
an AssertionError that names the event.

    stream = message_start block* message_delta message_stop | anything of that, then an error; pings anywhere
    block  = content_block_start content_block_delta+ content_block_stop
"""

import json
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from tests.conformance.grammar.sse import events

Json = dict[str, Any]
EMPTY: dict[str, Json] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
    "tool_use": {"type": "tool_use", "input": {}},
}
# Of each kind of block: its delta, and the field that holds the piece.
DELTA = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}
# What a message has, whatever becomes of it (SDK_CONFORMANCE 6.2).
ALWAYS = {
    *("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "container", "usage"),
}
CUT = ("max_tokens", "refusal")
_event_type: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def check(raw: bytes, *, cut: bool = False) -> "Grammar":
    """The stream's grammar, which holds the message; `cut` where the client hung up."""
    grammar = Grammar()
    for event in events(raw, named=True, cut=cut):
        grammar.take(event)
    assert cut or grammar.done, "the stream has no end"
    return grammar


def check_usage(usage: Json) -> None:
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert usage[name] >= 0
    assert usage["cost_in_usd_ticks"] >= 0


def check_stop(reason: str, sequence: str | None, content: list[Json]) -> None:
    """The reason of an end fits what was said."""
    assert (reason == "stop_sequence") == (sequence is not None)
    calls = any(block["type"] == "tool_use" for block in content)
    assert reason in (*CUT, "tool_use" if calls else "end_turn", "stop_sequence"), "not the reason of what was said"


def check_block(block: Json) -> None:
    """A whole block."""
    match block["type"]:
        case "text":
            assert block["text"], "an empty text is no block"
        case "thinking":
            assert block["signature"], "thoughts may be left out, but not that there were some"
        case "tool_use":
            assert block["id"]
            assert block["name"]
            assert isinstance(block["input"], dict)


@dataclass
class Grammar:
    """`message` is the message as far as it has come; of a call that was cut the input is its text."""

    message: Json = field(default_factory=dict)
    error: Json | None = None
    done: bool = False
    _open: Json | None = None
    _pieces: list[str] = field(default_factory=list)
    _signature: str = ""

    def take(self, event: Json) -> None:
        """Raises AssertionError where the event may not come now."""
        try:
            self._take(event)
        except AssertionError as error:
            raise AssertionError(f"{error} at {event}") from error

    def _take(self, event: Json) -> None:
        assert not self.done, "nothing comes after the end"
        kind = event["type"]
        if kind == "ping":
            assert event == {"type": "ping"}
            return
        if kind == "error":
            assert event["error"].keys() >= {"type", "message"}
            assert event["request_id"]
            self.error, self.done = event["error"], True
            return
        _event_type.validate_json(json.dumps(event), strict=True)
        if kind == "message_start":
            assert not self.message, "message_start comes once"
            self._start(event["message"])
            return
        assert self.message, "message_start comes first"
        assert kind == "message_stop" or self.message["stop_reason"] is None, "only message_stop follows message_delta"
        match kind:
            case "content_block_start":
                self._begin(event)
            case "content_block_delta":
                self._grow(event)
            case "content_block_stop":
                self._stop(event)
            case "message_delta":
                self._end(event)
            case "message_stop":
                assert self.message["stop_reason"], "message_delta comes before message_stop"
                self.done = True

    def _start(self, message: Json) -> None:
        assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
        assert message.keys() == ALWAYS
        assert message["id"].startswith("msg_")
        assert message["stop_reason"] is message["stop_sequence"] is None
        self.message = message | {"content": []}

    def _begin(self, event: Json) -> None:
        block, content = event["content_block"], self.message["content"]
        assert self._open is None, "a block begins inside of another one"
        assert event["index"] == len(content), "the index is dense"
        assert {name: block[name] for name in block if name not in ("id", "name")} == EMPTY[block["type"]]
        if block["type"] == "tool_use":
            assert block["id"]
            assert block["name"]
            assert block["id"] not in {other.get("id") for other in content}, "an id came twice"
        else:
            assert not content or content[-1]["type"] != block["type"], "it is the block before that goes on"
        self._open, self._pieces, self._signature = block, [], ""

    def _grow(self, event: Json) -> None:
        assert self._open is not None, "no block is open"
        assert event["index"] == len(self.message["content"])
        assert not self._signature, "the signature comes last"
        delta, (kind, name) = event["delta"], DELTA[self._open["type"]]
        if delta["type"] == "signature_delta":
            assert self._open["type"] == "thinking"
            assert delta["signature"]
            self._signature = delta["signature"]
        else:
            assert delta.keys() == {"type", name}
            assert delta["type"] == kind, "it is a delta of another kind of block"
            assert delta[name], "a delta is empty"
            self._pieces.append(delta[name])

    def _stop(self, event: Json) -> None:
        block = self._open
        assert block is not None, "no block is open"
        assert event["index"] == len(self.message["content"])
        said = "".join(self._pieces)
        match block["type"]:
            case "text":
                block = block | {"text": said}
                check_block(block)
            case "thinking":
                block = block | {"thinking": said, "signature": self._signature}
                check_block(block)
            case _:
                block = block | {"input": said}
        self.message["content"].append(block)
        self._open = None

    def _end(self, event: Json) -> None:
        assert self._open is None, "a block is open"
        delta, content = event["delta"], self.message["content"]
        check_usage(event["usage"])
        check_stop(delta["stop_reason"], delta["stop_sequence"], content)
        for number, block in enumerate(content):
            if block["type"] == "tool_use" and not (number == len(content) - 1 and delta["stop_reason"] in CUT):
                block["input"] = json.loads(block["input"])
                check_block(block)
        self.message |= delta
        self.message["usage"] |= event["usage"]
