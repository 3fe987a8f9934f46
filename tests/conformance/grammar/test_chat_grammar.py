"""The grammar of chat completions finds what it is there to find: each mistake of other servers (SDK_CONFORMANCE 4.4),
planted into a good stream."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.grammar.chat import check

Json = dict[str, Any]
Change = Callable[[list[Json]], Any]
SHELL = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "echo", "system_fingerprint": "fp_1"}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 5,
    "total_tokens": 10,
    "prompt_tokens_details": {"text_tokens": 3, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
    "cost_in_usd_ticks": 7,
}
ROLE, THOUGHT, TEXT, MORE, CALL, CALL_TOO, FINISH, LAST = range(8)


def chunk(delta: Json, reason: str | None = None, index: int = 0) -> Json:
    return SHELL | {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def call(index: int, call_id: str) -> Json:
    function = {"name": "clock", "arguments": "{}"}
    return chunk({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})


def good() -> list[Json]:
    """The chunks of an answer that thinks, speaks and calls twice."""
    role = chunk({"role": "assistant", "content": ""})
    texts = chunk({"content": "Hel"}), chunk({"content": "lo"})
    usage = SHELL | {"choices": [], "usage": USAGE}
    finish = chunk({}, "tool_calls")
    chunks = [role, chunk({"reasoning_content": "hm"}), *texts, call(0, "call_1"), call(1, "call_2"), finish, usage]
    return copy.deepcopy(chunks)


def raw(chunks: list[Json]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def delta(at: int, **fields: Any) -> Change:
    return lambda chunks: chunks[at]["choices"][0]["delta"].update(fields)


def called(at: int, change: Callable[[Json], Any]) -> Change:
    return lambda chunks: change(chunks[at]["choices"][0]["delta"]["tool_calls"][0])


def shell(at: int, **fields: Any) -> Change:
    return lambda chunks: chunks[at].update(fields)


def moved(at: int, to: int) -> Change:
    return lambda chunks: chunks.insert(to, chunks.pop(at))


MISTAKES: dict[str, Change] = {
    "role repeated": delta(TEXT, role="assistant"),
    "id repeated": lambda chunks: chunks.insert(CALL_TOO, call(0, "call_1")),
    "two calls of one id": called(CALL_TOO, lambda call: call.update(id="call_1")),
    "type null": called(CALL, lambda call: call.update(type=None)),
    "no type": called(CALL, lambda call: call.pop("type")),
    "no id": called(CALL, lambda call: call.pop("id")),
    "no name": called(CALL, lambda call: call["function"].pop("name")),
    "no index": called(CALL, lambda call: call.pop("index")),
    "all indexes 0": called(CALL_TOO, lambda call: call.update(index=0)),
    "indexes from 1": called(CALL, lambda call: call.update(index=1)),
    "no arguments": called(CALL, lambda call: call["function"].pop("arguments")),
    "empty arguments": called(CALL, lambda call: call["function"].update(arguments="")),
    "arguments as an object": called(CALL, lambda call: call["function"].update(arguments={})),
    "half arguments": called(CALL, lambda call: call["function"].update(arguments='{"a"')),
    "empty list of calls": delta(TEXT, tool_calls=[]),
    "no finish": lambda chunks: chunks.pop(FINISH),
    "finish twice": lambda chunks: chunks.insert(FINISH, chunk({}, "tool_calls")),
    "an empty reason": lambda chunks: chunks[TEXT]["choices"][0].update(finish_reason=""),
    "stop in spite of calls": lambda chunks: chunks[FINISH]["choices"][0].update(finish_reason="stop"),
    "text with the finish": delta(FINISH, content="!"),
    "no role": lambda chunks: chunks.pop(ROLE),
    "choices null": shell(TEXT, choices=None),
    "no choices": lambda chunks: chunks[TEXT].pop("choices"),
    "an empty chunk first": lambda chunks: chunks.insert(0, SHELL | {"choices": []}),
    "a chunk after the usage": moved(TEXT, LAST),
    "the usage twice": shell(FINISH, usage=USAGE),
    "no usage": lambda chunks: chunks.pop(LAST),
    "a sum that is none": lambda chunks: chunks[LAST]["usage"].update(total_tokens=8),
    "another object": shell(TEXT, object="chat.completion"),
    "another id": shell(TEXT, id="2"),
    "another model": shell(TEXT, model="other"),
    "a message in place of a delta": lambda chunks: chunks[TEXT]["choices"][0].update(
        message=chunks[TEXT]["choices"][0].pop("delta")
    ),
    "a null beside the text": delta(TEXT, reasoning_content=None),
    "empty filler": delta(TEXT, content=""),
    "content null": delta(TEXT, content=None),
    "text after a call": moved(MORE, CALL),
    "an error in a chunk that goes on": shell(TEXT, error={"message": "no"}),
}


def test_a_good_stream_passes():
    grammar = check(b": keep-alive\n\n" + raw(good()), includes_usage=True)
    [said] = grammar.said
    assert (said.reasoning, said.content, said.finish_reason) == ("hm", "Hello", "tool_calls")
    assert [call["id"] for call in said.calls] == ["call_1", "call_2"]
    assert grammar.usage == USAGE


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    chunks = good()
    MISTAKES[mistake](chunks)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(raw(chunks), includes_usage=True)


def test_the_usage_has_no_chunk_of_its_own_where_nobody_asked_for_one():
    with pytest.raises(AssertionError, match="nobody asked"):
        check(raw(good()))


def test_the_second_choice_does_not_begin_first():
    roles = [chunk({"role": "assistant", "content": ""}, index=index) for index in (1, 0)]
    with pytest.raises(AssertionError, match="roles first"):
        check(raw([*roles, chunk({}, "stop", 0), chunk({}, "stop", 1) | {"usage": USAGE}]), 2)


@pytest.mark.parametrize(
    "spoiled",
    [
        raw(good())[:-1],
        raw(good()).removesuffix(b"data: [DONE]\n\n"),
        raw(good()) + b"data: [DONE]\n\n",
        b"data:\n\n" + raw(good()),
        b"event: ping\ndata: {}\n\n" + raw(good()),
        b": keep-alive\n" + raw(good()),
        b"data: : keep-alive\n\n" + raw(good()),
    ],
    ids=["cut off", "no done", "done twice", "empty data", "ping", "a comment in an event", "a comment as data"],
)
def test_spoiled_bytes_are_found(spoiled):
    with pytest.raises((AssertionError, ValueError)):
        check(spoiled, includes_usage=True)


def test_of_a_stream_that_its_client_left_the_beginning_is_held_against_the_grammar():
    whole = raw(good())
    check(whole[:-40], includes_usage=True, cut=True)
    with pytest.raises(AssertionError):
        check(whole.replace(b'"index": 0', b'"index": 1', 1)[:-40], includes_usage=True, cut=True)
