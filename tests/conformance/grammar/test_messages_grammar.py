"""The grammar of Messages finds what it is there to find: each mistake of other servers (SDK_CONFORMANCE 6.4), planted
into a good stream."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.grammar.messages import check

Json = dict[str, Any]
Change = Callable[[list[Json]], Any]
USAGE = {
    "input_tokens": 3,
    "output_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "echo",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
    "usage": USAGE,
}
DELTA, STOP = "content_block_delta", "content_block_stop"


def block(index: int, start: Json, *deltas: Json) -> list[Json]:
    told = [{"type": DELTA, "index": index, "delta": delta} for delta in deltas]
    started = {"type": "content_block_start", "index": index, "content_block": start}
    return [started, *told, {"type": STOP, "index": index}]


def good() -> list[Json]:
    """The events of a message that thinks, speaks and calls."""
    signed = {"type": "signature_delta", "signature": "x"}
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    call = {"type": "tool_use", "id": "call_1", "name": "clock", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"a"', ":1}")]
    events = [
        {"type": "message_start", "message": MESSAGE},
        {"type": "ping"},
        *block(0, thinking, {"type": "thinking_delta", "thinking": "hm"}, signed),
        *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hello"}),
        *block(2, call, *pieces),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": USAGE | {"output_tokens": 5, "cost_in_usd_ticks": 7},
        },
        {"type": "message_stop"},
    ]
    return copy.deepcopy(events)


def raw(events: list[Json]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def find(events: list[Json], kind: str, number: int = 0) -> Json:
    return [event for event in events if event["type"] == kind][number]


def changed(kind: str, number: int, change: Callable[[Json], Any]) -> Change:
    return lambda events: change(find(events, kind, number))


def without(kind: str, number: int = 0) -> Change:
    return lambda events: events.remove(find(events, kind, number))


def woven(events: list[Json]) -> None:
    """The text's end after the call's beginning."""
    at = events.index(find(events, STOP, 1))
    events[at], events[at + 1] = events[at + 1], events[at]


MISTAKES: dict[str, Change] = {
    "no message_start": without("message_start"),
    "message_start twice": lambda events: events.insert(2, events[0]),
    "message_start without usage": changed("message_start", 0, lambda event: event["message"].pop("usage")),
    "message_start without content": changed("message_start", 0, lambda event: event["message"].pop("content")),
    "message_delta without usage": changed("message_delta", 0, lambda event: event.pop("usage")),
    "message_delta with usage null": changed("message_delta", 0, lambda event: event.update(usage=None)),
    "no message_delta": without("message_delta"),
    "no message_stop": without("message_stop"),
    "an event after message_delta": lambda events: events.insert(-1, events[2]),
    "an event after message_stop": lambda events: events.append({"type": "ping"}),
    "a text block without text": changed("content_block_start", 1, lambda event: event["content_block"].pop("text")),
    "a call without input": changed("content_block_start", 2, lambda event: event["content_block"].pop("input")),
    "a call without id": changed("content_block_start", 2, lambda event: event["content_block"].pop("id")),
    "indexes from 1": changed("content_block_start", 0, lambda event: event.update(index=1)),
    "a gap in the indexes": changed("content_block_start", 1, lambda event: event.update(index=2)),
    "another index in a delta": changed(DELTA, 0, lambda event: event.update(index=1)),
    "another index at the end": changed(STOP, 0, lambda event: event.update(index=1)),
    "no content_block_stop": without(STOP),
    "no content_block_start": without("content_block_start", 1),
    "woven blocks": woven,
    "no signature": without(DELTA, 1),
    "an empty signature": changed(DELTA, 1, lambda event: event["delta"].update(signature="")),
    "a thought after the signature": lambda events: events.insert(5, find(events, DELTA)),
    "an empty text block": without(DELTA, 2),
    "an empty delta": changed(DELTA, 2, lambda event: event["delta"].update(text="")),
    "a delta of another kind": changed(
        DELTA, 2, lambda event: event.update(delta={"type": "thinking_delta", "thinking": "a"})
    ),
    "an empty piece of input": changed(DELTA, 3, lambda event: event["delta"].update(partial_json="")),
    "half an input": without(DELTA, 4),
    "end_turn in spite of calls": changed(
        "message_delta", 0, lambda event: event["delta"].update(stop_reason="end_turn")
    ),
    "a stop sequence that is none": changed("message_delta", 0, lambda event: event["delta"].update(stop_sequence="x")),
    "a vendor's reason": changed("message_delta", 0, lambda event: event["delta"].update(stop_reason="tool_calls")),
    "an unknown event": lambda events: events.insert(2, {"type": "message_middle"}),
}


def test_a_good_stream_passes():
    message = check(raw(good())).message
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][2]["input"] == {"a": 1}
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("tool_use", 5)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    events = good()
    MISTAKES[mistake](events)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(raw(events))


@pytest.mark.parametrize(
    "spoiled",
    [
        raw(good())[:-1],
        raw(good()).replace(b"event: content_block_delta\n", b"", 1),
        raw(good()).replace(b"event: ping", b"event: message_stop"),
        raw(good()) + b"data: [DONE]\n\n",
        b": keep-alive\n" + raw(good()),
    ],
    ids=["cut off", "no event line", "two types", "done marker", "a comment in an event"],
)
def test_spoiled_bytes_are_found(spoiled):
    with pytest.raises(AssertionError):
        check(spoiled)


def test_an_error_ends_a_stream():
    error = {"type": "error", "error": {"type": "api_error", "message": "It broke."}, "request_id": "1"}
    assert check(raw([*good()[:3], error])).error == error["error"]
    with pytest.raises(AssertionError, match="after the end"):
        check(raw([error, *good()]))
