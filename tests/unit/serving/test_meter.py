from hypothesis import given
from hypothesis import strategies as st

from leadline.chat.events import (
    ChatEvent,
    ChoiceFinished,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.serving.meter import Meter

TOKENS = st.integers(0, 9)
ANSWER = st.one_of(
    st.builds(TextDelta, st.just("a"), TOKENS),
    st.builds(ToolCallDelta, st.just(0), st.just("{"), TOKENS),
    st.builds(ToolCallStarted, st.just(0), st.just("id"), st.just("name"), TOKENS),
)
REASONING = st.builds(ReasoningDelta, st.just("a"), TOKENS)


@given(st.lists(st.lists(ANSWER | REASONING).map(tuple)))
def test_whenever_it_is_cut_an_answer_has_used_what_has_passed(batches: list[tuple[ChatEvent, ...]]) -> None:
    meter, output, reasoning = Meter(prompt_estimate=99), 0, 0
    meter.count((Started(prompt_tokens=7, cached_tokens=3),))

    for batch in batches:
        meter.count(batch)
        output += sum(event.tokens for event in batch if not isinstance(event, ReasoningDelta))
        reasoning += sum(event.tokens for event in batch if isinstance(event, ReasoningDelta))
        assert meter.usage == Usage(7, 3, output_tokens=output, reasoning_tokens=reasoning)


def test_a_prompt_that_nobody_began_to_read_has_used_nothing() -> None:
    assert Meter(prompt_estimate=99).usage == Usage()


def test_the_estimate_stands_in_where_the_engine_counts_the_prompt_at_the_end() -> None:
    meter = Meter(prompt_estimate=99)

    meter.count((Started(), TextDelta("a", 2)))

    assert meter.usage == Usage(prompt_tokens=99, output_tokens=2)


def test_the_engines_own_count_is_the_last_word() -> None:
    meter, counted = Meter(prompt_estimate=99), Usage(5, 1, 2, 3, 4)

    meter.count((Started(), TextDelta("a", 2), ChoiceFinished("stop"), Finished(counted)))

    assert meter.usage == counted


def test_images_of_a_prompt_that_was_cut_count_as_images() -> None:
    meter = Meter(prompt_estimate=99)

    meter.count((Started(prompt_tokens=30, cached_tokens=10, image_tokens=16),))

    assert meter.usage == Usage(prompt_tokens=30, cached_tokens=10, image_tokens=16)
