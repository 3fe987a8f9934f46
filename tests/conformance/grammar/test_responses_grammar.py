"""The grammar finds what it is there to find: each mistake of other servers, planted into a good stream."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from leadline.dialects.responses.output import Closed, Grown, Opened
from leadline.dialects.responses.stream import EventWriter
from tests.conformance.grammar.responses import ALWAYS, check, frames

Json = dict[str, Any]
BEGUN: Json = dict.fromkeys(ALWAYS) | {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "echo",
    "output": [],
    "parallel_tool_calls": True,
    "status": "in_progress",
    "tool_choice": "auto",
    "tools": [],
    "metadata": {},
}
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 8,
    "cost_in_usd_ticks": 7,
}


def good() -> list[Json]:
    """The events of a response that thinks, speaks and calls."""
    text = {"type": "output_text", "text": "Hello you", "annotations": [], "logprobs": []}
    output = [
        *({"id": "rs_1", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},),
        {"id": "msg_1", "type": "message", "role": "assistant", "content": [text]},
        {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "clock", "arguments": '{"a":1}'},
    ]
    for item in output:
        item["status"] = "completed"
    writer = EventWriter()
    told = writer.begin(BEGUN)
    for index, (item, pieces) in enumerate(zip(output, (["hm"], ["Hello", " you"], ['{"a"', ":1}"]), strict=True)):
        empty = {"arguments": ""} if "arguments" in item else {"content": []}
        told += writer.step(Opened(index, item | empty | {"status": "in_progress"}))
        for piece in pieces:
            told += writer.step(Grown(piece, []))
        told += writer.step(Closed(index, item))
    completed = BEGUN | {"status": "completed", "output": output, "usage": USAGE, "completed_at": 2}
    return frames(b"".join([*told, writer.write("response.completed", {"response": completed})]))


def raw(events: list[Json]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def renumbered(events: list[Json]) -> list[Json]:
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def without(kind: str) -> Callable[[list[Json]], list[Json]]:
    return lambda events: renumbered([event for event in events if event["type"] != kind])


def changed(kind: str, change: Callable[[Json], Any]) -> Callable[[list[Json]], list[Json]]:
    """The first event of the kind, changed."""

    def change_first(events: list[Json]) -> list[Json]:
        change(next(event for event in events if event["type"] == kind))
        return events

    return change_first


def swapped(kind: str) -> Callable[[list[Json]], list[Json]]:
    """The first event of the kind one place later."""

    def swap(events: list[Json]) -> list[Json]:
        at = next(i for i, event in enumerate(events) if event["type"] == kind)
        events[at], events[at + 1] = events[at + 1], events[at]
        return renumbered(events)

    return swap


MISTAKES: dict[str, Callable[[list[Json]], list[Json]]] = {
    "no created": without("response.created"),
    "no in_progress": without("response.in_progress"),
    "no item added": without("response.output_item.added"),
    "no part added": without("response.content_part.added"),
    "no delta": without("response.output_text.delta"),
    "no text done": without("response.output_text.done"),
    "no reasoning done": without("response.reasoning_text.done"),
    "no arguments done": without("response.function_call_arguments.done"),
    "no part done": without("response.content_part.done"),
    "no item done": without("response.output_item.done"),
    "no end": without("response.completed"),
    "numbers that restart": lambda events: [*events[:2], *renumbered(events[2:])],
    "an event twice": lambda events: renumbered([*events[:5], events[4], *events[5:]]),
    "an event after the end": lambda events: renumbered([*events, events[-1]]),
    "an unknown event": lambda events: renumbered([*events[:2], {"type": "ping"}, *events[2:]]),
    "a queued event": lambda events: renumbered([events[0], events[1] | {"type": "response.queued"}, *events[1:]]),
    "a delta before its part": swapped("response.content_part.added"),
    "the item done before its part": swapped("response.content_part.done"),
    "items interleaved": swapped("response.output_item.done"),
    "a bare created": changed("response.created", lambda e: e["response"].pop("tools")),
    "a created without output": changed("response.created", lambda e: e["response"].pop("output")),
    "another item id in a delta": changed("response.output_text.delta", lambda e: e.update(item_id="msg_2")),
    "another item id at the end": changed("response.output_item.done", lambda e: e["item"].update(id="rs_2")),
    "no output index": changed("response.output_text.delta", lambda e: e.pop("output_index")),
    "a gap in the indexes": changed("response.output_item.added", lambda e: e.update(output_index=1)),
    "no content index": changed("response.output_text.delta", lambda e: e.pop("content_index")),
    "no logprobs": changed("response.output_text.delta", lambda e: e.pop("logprobs")),
    "a lost delta": changed("response.output_text.delta", lambda e: e.update(delta="x")),
    "id and call id swapped": changed(
        "response.output_item.added", lambda e: e["item"].update(id="call_1", call_id="fc_1")
    ),
    "an output that is not the streamed one": changed("response.completed", lambda e: e["response"]["output"].pop()),
    "a call id that changes": changed(
        "response.completed", lambda e: e["response"]["output"][2].update(call_id="call_2")
    ),
    "another response": changed("response.completed", lambda e: e["response"].update(id="resp_2")),
    "no usage": changed("response.completed", lambda e: e["response"].update(usage=None)),
    "a sum that is none": changed("response.completed", lambda e: e["response"]["usage"].update(total_tokens=9)),
}


def test_a_good_stream_passes():
    assert check(raw(good()))["status"] == "completed"
    assert check(b": keep-alive\n\n" + raw(good()))["status"] == "completed"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(raw(MISTAKES[mistake](good())))


@pytest.mark.parametrize(
    "spoiled",
    [
        raw(good())[:-1],
        raw(good()).replace(b"event: response.created\n", b""),
        raw(good()).replace(b"event: response.created", b"event: response.in_progress", 1),
        b": keep-alive\n" + raw(good()),
        raw(good()) + b"data: [DONE]\n\n",
    ],
    ids=["cut off", "without event line", "two types", "a comment in an event", "done marker"],
)
def test_spoiled_bytes_are_found(spoiled):
    with pytest.raises(AssertionError):
        check(spoiled)
