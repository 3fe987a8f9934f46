from collections.abc import AsyncIterator

import pytest

from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import (
    ChatEvent,
    ChoiceFinished,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.chat.request import Reasoning, Text, ToolCall
from tests.fold import collect

USAGE = Usage(prompt_tokens=3, output_tokens=4)


async def stream(*batches: tuple[ChatEvent, ...]) -> AsyncIterator[tuple[ChatEvent, ...]]:
    for batch in batches:
        yield batch


async def test_an_answer_is_its_stream_folded() -> None:
    hel, lo = TokenLogprob("Hel", -0.1), TokenLogprob("lo", -0.2)

    answer = await collect(
        stream(
            (Started(3), ReasoningDelta("Let me ")),
            (ReasoningDelta("see."), TextDelta("Hel", logprobs=(hel,))),
            (TextDelta("lo", logprobs=(lo,)), ReasoningDelta("Hm.")),
            (ToolCallStarted(0, "call_1", "weather"), ToolCallDelta(0, '{"city":'), ToolCallDelta(0, '"Rome"}')),
            (ToolCallStarted(1, "call_2", "time"), ToolCallDelta(1, "{}")),
            (ChoiceFinished("tool_calls"), Finished(USAGE)),
        )
    )

    content = (
        Reasoning("Let me see."),
        Text("Hello"),
        Reasoning("Hm."),
        ToolCall("call_1", "weather", '{"city":"Rome"}'),
        ToolCall("call_2", "time", "{}"),
    )
    assert answer == ChatAnswer((Choice(content, "tool_calls", None, (hel, lo)),), USAGE)


async def test_a_call_that_was_cut_is_told_as_text() -> None:
    answer = await collect(
        stream(
            (ToolCallStarted(0, "call_1", "time"), ToolCallDelta(0, "{}")),
            (ToolCallStarted(1, "call_2", "weather"), ToolCallDelta(1, '{"city":')),
            (ChoiceFinished("length"), Finished(USAGE)),
        )
    )

    assert answer.choices == (Choice((ToolCall("call_1", "time", "{}"), Text('weather{"city":')), "length"),)


async def test_choices_that_arrive_interleaved_stay_apart() -> None:
    answer = await collect(
        stream(
            (TextDelta("a", choice=0), TextDelta("x", choice=1)),
            (ToolCallStarted(0, "call_1", "f", choice=1), TextDelta("b", choice=0), ToolCallDelta(0, "{}", choice=1)),
            (ChoiceFinished("tool_calls", choice=1), TextDelta("c", choice=0)),
            (ChoiceFinished("stop", "END", choice=0), Finished(USAGE)),
        ),
        choices=2,
    )

    assert answer.choices == (
        Choice((Text("abc"),), "stop", "END"),
        Choice((Text("x"), ToolCall("call_1", "f", "{}")), "tool_calls"),
    )


async def test_an_answer_of_nothing_has_no_empty_block() -> None:
    answer = await collect(stream((Started(3), ChoiceFinished("length"), Finished(USAGE))))

    assert answer.choices == (Choice((), "length"),)


async def test_a_stream_without_an_end_is_no_answer() -> None:
    with pytest.raises(AssertionError, match="must end with Finished"):
        await collect(stream((TextDelta("a"), ChoiceFinished("stop"))))


async def test_a_choice_without_an_end_is_no_answer() -> None:
    with pytest.raises(AssertionError, match="must finish every choice"):
        await collect(stream((TextDelta("a"), ChoiceFinished("stop"), Finished(USAGE))), choices=2)
