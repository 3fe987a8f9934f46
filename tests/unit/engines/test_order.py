"""However a server weaves calls and texts, each call comes whole, in the order in which the calls began."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.chat.events import ChatEvent, TextDelta, ToolCallDelta, ToolCallStarted
from leadline.engines.upstream.order import CallsInOrder

values = st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2), max_leaves=4)
objects = st.dictionaries(st.text(max_size=5), values | st.dictionaries(st.text(max_size=3), values), max_size=3)


def ordered(*events: ChatEvent) -> tuple[list[ChatEvent], int]:
    """What comes out, and how many calls were whole."""
    order = CallsInOrder()
    out = [told for event in events for told in order.add(event)]
    out += order.end()
    return out, order.calls


@st.composite
def woven(draw: st.DrawFn) -> tuple[list[ChatEvent], list[str]]:
    """Calls whose pieces, and texts, come in any order that keeps each call's own."""
    arguments = [json.dumps(one, ensure_ascii=draw(st.booleans())) for one in draw(st.lists(objects, max_size=3))]
    queues: list[list[ChatEvent]] = [[TextDelta(text) for text in draw(st.lists(st.just("t"), max_size=3))]]
    for index, text in enumerate(arguments):
        size = draw(st.integers(1, 9))
        pieces = [ToolCallDelta(index, text[at : at + size]) for at in range(0, len(text), size)]
        queues.append([ToolCallStarted(index, f"call_{index}", "f"), *pieces])
    events: list[ChatEvent] = []
    begun = 0
    while any(queues):
        # Calls begin in their order: that is what numbers them.
        ready = [queue for at, queue in enumerate(queues) if queue and at <= begun + 1]
        queue = draw(st.sampled_from(ready))
        event = queue.pop(0)
        begun += isinstance(event, ToolCallStarted)
        events.append(event)
    return events, arguments


@given(woven())
def test_woven_calls_come_one_after_another(drawn) -> None:
    events, arguments = drawn
    out, calls = ordered(*events)
    found: list[str] = []
    for before, event in zip([None, *out], out, strict=False):
        match event:
            case ToolCallStarted():
                assert event.index == len(found)
                found.append("")
            case ToolCallDelta():
                assert event.index == len(found) - 1
                assert isinstance(before, ToolCallStarted | ToolCallDelta)
                found[-1] += event.arguments
    assert [json.loads(one) for one in found] == [json.loads(one) for one in arguments]
    assert calls == len(arguments)
    assert sum(isinstance(event, TextDelta) for event in out) == sum(isinstance(event, TextDelta) for event in events)


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([], "{}"),
        (["", " \n"], "{}"),
        (["nu", "ll"], "{}"),
        (["{}", '{"a"', ":1}"], '{"a":1}'),
        (["{}"], "{}"),
        (['"{\\"a\\":1}"'], '{"a":1}'),
        ([' {"a":', "1} ", "\n"], '{"a":1} '),
    ],
)
def test_arguments_are_an_object_in_the_end(pieces, told) -> None:
    out, calls = ordered(ToolCallStarted(0, "a", "f"), *(ToolCallDelta(0, piece) for piece in pieces))
    assert "".join(event.arguments for event in out if isinstance(event, ToolCallDelta)) == told
    assert calls == 1


@pytest.mark.parametrize("cut", ['{"a"', '{"a":"}', "[1]", "no JSON"])
def test_what_is_no_object_stays_what_it_is_and_counts_as_no_call(cut) -> None:
    out, calls = ordered(ToolCallStarted(0, "a", "f"), ToolCallDelta(0, cut), TextDelta("b"))
    assert out == [ToolCallStarted(0, "a", "f"), ToolCallDelta(0, cut), TextDelta("b")]
    assert calls == 0


def test_tokens_are_conserved_where_arguments_begin_late() -> None:
    out, _ = ordered(ToolCallStarted(0, "a", "f"), ToolCallDelta(0, " ", 2), ToolCallDelta(0, "{}", 3))
    assert sum(event.tokens for event in out) == 5
