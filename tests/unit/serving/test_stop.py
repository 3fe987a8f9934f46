from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.chat.events import ChatEvent, ChoiceFinished, ReasoningDelta, TextDelta, ToolCallStarted
from leadline.serving.stop import StopStrings

Batches = list[tuple[ChatEvent, ...]]


@dataclass(frozen=True)
class Stream:
    """A text, cut into deltas that each took some tokens, which arrive in batches."""

    text: str
    batches: Batches

    @property
    def deltas(self) -> list[TextDelta]:
        return [event for batch in self.batches for event in batch if isinstance(event, TextDelta)]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    pieces = draw(st.lists(st.text("ab", min_size=1, max_size=4), max_size=12))
    deltas: list[ChatEvent] = [TextDelta(piece, draw(st.integers(0, 5))) for piece in pieces]
    events = [*deltas, ChoiceFinished("length")]
    batches: Batches = []
    while events:
        size = draw(st.integers(1, len(events)))
        batches.append(tuple(events[:size]))
        events = events[size:]
    return Stream("".join(pieces), batches)


STOPS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4).map(tuple)


def first_stop(text: str, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """Where the stop string begins that is complete first; the longer one where two end together."""
    for end in range(1, len(text) + 1):
        if ending := [stop for stop in stops if text[:end].endswith(stop)]:
            longest = max(ending, key=len)
            return end - len(longest), longest
    return None


def run(stops: StopStrings, batches: Batches) -> list[ChatEvent]:
    """What goes out, up to where the choice is over."""
    out: list[ChatEvent] = []
    for batch in batches:
        out += stops.pass_on(batch)
        if stops.matched is not None:
            break
    return out


@given(streams(), STOPS)
def test_however_a_text_is_cut_it_ends_before_its_first_stop_string(stream: Stream, stops: tuple[str, ...]) -> None:
    watch = StopStrings(stops)

    *deltas, end = run(watch, stream.batches)

    at, matched = first_stop(stream.text, stops) or (len(stream.text), None)
    assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)
    assert "".join(delta.text for delta in deltas) == stream.text[:at]
    assert watch.matched == matched
    assert end == (ChoiceFinished("length") if matched is None else ChoiceFinished("stop", matched))


@given(streams(), STOPS)
def test_no_token_of_text_that_goes_out_is_lost(stream: Stream, stops: tuple[str, ...]) -> None:
    *deltas, _ = run(StopStrings(stops), stream.batches)

    at, _ = first_stop(stream.text, stops) or (len(stream.text), None)
    begins, tokens = 0, 0
    for delta in stream.deltas:
        tokens += delta.tokens if begins < at else 0
        begins += len(delta.text)
    assert sum(delta.tokens for delta in deltas) == tokens


@given(streams(), STOPS)
def test_only_deltas_that_may_become_a_stop_string_are_held_back(stream: Stream, stops: tuple[str, ...]) -> None:
    watch, out, seen, ends = StopStrings(stops), "", "", [0]
    for delta in stream.deltas:
        passed = watch.pass_on((delta,))
        if watch.matched is not None:
            return
        out += "".join(event.text for event in passed if isinstance(event, TextDelta))
        seen += delta.text
        ends.append(len(seen))

        may_begin = next(at for at in range(len(seen) + 1) if any(stop.startswith(seen[at:]) for stop in stops))
        assert out == seen[: max(end for end in ends if end <= may_begin)]


def test_characters_of_several_bytes_are_cut_whole() -> None:
    watch = StopStrings(("🛑終",))

    out = run(watch, [(TextDelta("für 日🛑"),), (TextDelta("終 after"),)])

    assert out == [TextDelta("für 日"), ChoiceFinished("stop", "🛑終")]


@pytest.mark.parametrize(
    "between", [ToolCallStarted(0, "call_1", "weather"), ReasoningDelta("Hm."), ChoiceFinished("length")]
)
def test_text_goes_out_before_what_came_after_it(between: ChatEvent) -> None:
    watch = StopStrings(("END",))

    out = run(watch, [(TextDelta("the EN"),), (between,)])

    assert out == [TextDelta("the EN"), between]
    assert watch.matched is None
