import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

import pytest

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
from leadline.chat.request import ChatRequest, Message, Sampling, Text
from leadline.engines.engine import Engine
from leadline.errors import EngineFailed
from leadline.serving.choices import Batches, generate
from tests.fold import collect

SEED = 100
HANGS_SECONDS = 30
Script = Callable[[int], AsyncIterator[tuple[ChatEvent, ...]]]


class ScriptedEngine:
    """Runs a script for each choice, which it knows by its seed, and tells which of them are open."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.opened: list[int] = []
        self.closed: list[int] = []

    async def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        assert request.sampling.seed is not None
        assert request.choices == 1
        choice = request.sampling.seed - SEED
        self.opened.append(choice)
        try:
            async for batch in self.script(choice):
                yield batch
        finally:
            self.closed.append(choice)


def run(engine: ScriptedEngine, choices: int = 1, stop: tuple[str, ...] = ()) -> Batches:
    request = ChatRequest(
        "mock", (Message("user", (Text("Hi"),)),), sampling=Sampling(seed=SEED), choices=choices, stop=stop
    )
    return generate(cast(Engine, engine), request, prompt_estimate=99)


async def everything(batches: Batches) -> list[ChatEvent]:
    async with asyncio.timeout(HANGS_SECONDS), aclosing(batches):
        return [event async for batch in batches for event in batch]


async def counting(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
    """A prompt of 10 tokens, of which the later choices find 8 cached, and `choice + 1` times three tokens."""
    cached = 8 if choice else 0
    yield (Started(10, cached),)
    for number in range(choice + 1):
        await asyncio.sleep(0)
        yield (TextDelta(f"{choice}.{number} ", 2), ReasoningDelta("hm", 1))
    yield (ChoiceFinished("stop"), Finished(Usage(10, cached, 0, 2 * (choice + 1), choice + 1)))


async def test_one_choice_goes_through_as_it_is() -> None:
    engine = ScriptedEngine(counting)

    events = await everything(run(engine))

    assert events == [event async for batch in counting(0) for event in batch]


async def test_the_prompt_is_billed_once_and_every_choices_tokens() -> None:
    *_, end = await everything(run(ScriptedEngine(counting), choices=3))

    assert end == Finished(
        Usage(prompt_tokens=10, cached_tokens=0, output_tokens=2 * (1 + 2 + 3), reasoning_tokens=1 + 2 + 3)
    )


async def test_side_by_side_every_choice_keeps_its_order() -> None:
    events = await everything(run(ScriptedEngine(counting), choices=4))

    kinds = Counter(type(event) for event in events)
    answer = await collect(run(ScriptedEngine(counting), choices=4), choices=4)
    assert (type(events[0]), type(events[-1])) == (Started, Finished)
    assert (kinds[Started], kinds[Finished], kinds[ChoiceFinished]) == (1, 1, 4)
    assert [[block.text for block in choice.content if isinstance(block, Text)] for choice in answer.choices] == [
        [f"{choice}.{number} " for number in range(choice + 1)] for choice in range(4)
    ]


async def test_every_kind_of_event_goes_out_under_the_number_of_its_choice() -> None:
    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        yield (Started(1), TextDelta("a"), ReasoningDelta("b"), ToolCallStarted(0, "c", "d"), ToolCallDelta(0, "{}"))
        yield (ChoiceFinished("stop"), Finished(Usage(1)))

    events = await everything(run(ScriptedEngine(script), choices=3))

    numbered = Counter((type(event), event.choice) for event in events if not isinstance(event, (Started, Finished)))
    kinds = (TextDelta, ReasoningDelta, ToolCallStarted, ToolCallDelta, ChoiceFinished)
    assert numbered == Counter((kind, choice) for kind in kinds for choice in range(3))


async def test_the_other_choices_wait_until_the_first_has_read_the_prompt() -> None:
    prompt_read = asyncio.Event()

    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        yield (Started(1),)
        await prompt_read.wait()
        yield (TextDelta("a"), ChoiceFinished("stop"), Finished(Usage(1)))

    engine = ScriptedEngine(script)
    async with aclosing(run(engine, choices=3)) as batches:
        await anext(batches)
        before = list(engine.opened)
        prompt_read.set()
        await everything(batches)

    assert before == [0]
    assert engine.opened == [0, 1, 2]


async def stuck(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
    """Says something, then nothing, for ever."""
    yield (Started(1), TextDelta(str(choice)))
    await asyncio.Event().wait()


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_an_error_in_one_choice_ends_them_all(failing: int) -> None:
    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        yield (Started(1), TextDelta("a"))
        if choice == failing:
            raise EngineFailed("out of memory")
        await asyncio.Event().wait()

    engine = ScriptedEngine(script)
    others = asyncio.all_tasks()
    with pytest.raises(EngineFailed, match="out of memory"):
        await everything(run(engine, choices=3))

    assert sorted(engine.closed) == sorted(engine.opened)
    assert failing in engine.closed
    assert asyncio.all_tasks() == others


async def test_an_error_before_the_prompt_is_read_ends_those_that_wait_for_it() -> None:
    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        if choice == 0:
            raise EngineFailed("no memory for the prompt")
        yield (Started(1),)

    engine = ScriptedEngine(script)
    others = asyncio.all_tasks()
    with pytest.raises(EngineFailed):
        await everything(run(engine, choices=3))

    assert engine.opened == [0]
    assert asyncio.all_tasks() == others


@pytest.mark.parametrize(("choices", "stop"), [(1, ()), (1, ("END",)), (3, ()), (3, ("END",))])
async def test_closing_early_stops_the_engine_for_every_choice(choices: int, stop: tuple[str, ...]) -> None:
    engine = ScriptedEngine(stuck)
    others = asyncio.all_tasks()
    batches = run(engine, choices, stop)
    async with asyncio.timeout(HANGS_SECONDS):
        for _ in range(choices):
            await anext(batches)
        await batches.aclose()

    assert sorted(engine.opened) == sorted(engine.closed) == list(range(choices))
    assert asyncio.all_tasks() == others


async def test_a_slow_reader_holds_the_engine_back() -> None:
    made = 0

    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        nonlocal made
        yield (Started(1),)
        for _ in range(10_000):
            made += 1
            yield (TextDelta("a"),)

    async with asyncio.timeout(HANGS_SECONDS), aclosing(run(ScriptedEngine(script), choices=2)) as batches:
        await anext(batches)
        for _ in range(1000):
            await asyncio.sleep(0)

    assert made < 100


async def test_a_stop_string_ends_the_choice_and_the_engines_work_on_it() -> None:
    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        yield (Started(7),)
        yield (TextDelta("one E", 2),)
        yield (TextDelta("ND two", 3), TextDelta(" three", 4))
        raise AssertionError("nobody asked for more")

    engine = ScriptedEngine(script)
    events = await everything(run(engine, stop=("END",)))

    # What the engine made is billed, the cut part included.
    usage = Usage(prompt_tokens=7, output_tokens=2 + 3 + 4)
    assert events == [Started(7), TextDelta("one ", 2), ChoiceFinished("stop", "END"), Finished(usage)]
    assert engine.closed == [0]


async def test_a_stop_string_bills_the_estimated_prompt_where_the_engine_had_not_told_it() -> None:
    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        yield (Started(), TextDelta("END", 1))
        await asyncio.Event().wait()

    *_, end = await everything(run(ScriptedEngine(script), stop=("END",)))

    assert end == Finished(Usage(prompt_tokens=99, output_tokens=1))


async def test_a_choice_that_a_stop_string_ended_leaves_the_others_running() -> None:
    async def script(choice: int) -> AsyncIterator[tuple[ChatEvent, ...]]:
        yield (Started(7), TextDelta("a", 1))
        if choice == 1:
            yield (TextDelta("END", 1),)
            await asyncio.Event().wait()
        yield (TextDelta("b", 1), ChoiceFinished("length"), Finished(Usage(7, output_tokens=2)))

    async with asyncio.timeout(HANGS_SECONDS):
        answer = await collect(run(ScriptedEngine(script), choices=3, stop=("END",)), choices=3)

    assert [(choice.content, choice.finish_reason) for choice in answer.choices] == [
        ((Text("ab"),), "length"),
        ((Text("a"),), "stop"),
        ((Text("ab"),), "length"),
    ]
    assert answer.usage == Usage(prompt_tokens=7, output_tokens=6)


async def test_an_engine_that_ends_without_finishing_is_a_failure_and_not_a_wait_for_ever():
    class Silent:
        async def generate(self, request):
            yield (Started(1),)

    request = ChatRequest("m", (Message("user", (Text("hi"),)),), 5, choices=2)
    with pytest.raises(AssertionError, match="must end with Finished"):
        await asyncio.wait_for(collect(generate(Silent(), request, 1), 2), HANGS_SECONDS)


class PromptEngine:
    """Each prompt `p` has p tokens; each choice says its prompt and its place among the prompt's choices."""

    def __init__(self) -> None:
        self.running = self.most_running = 0
        self.asked: list[tuple[int, int]] = []

    async def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        [prompt] = request.prompts
        assert request.sampling.seed is not None
        size, place = len(prompt), request.sampling.seed - SEED
        self.asked.append((size, place))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        yield (Started(size, 1 if place else 0),)
        await asyncio.sleep(0)
        yield (TextDelta(f"{size}.{place}", size),)
        self.running -= 1
        yield (ChoiceFinished("stop"), Finished(Usage(size, 1 if place else 0, 0, size)))


async def test_choices_of_several_prompts_are_numbered_prompt_by_prompt_and_each_prompt_is_billed_once() -> None:
    prompts = ("a", "bb", "ccc")
    request = ChatRequest("m", (), prompts=prompts, choices=6, sampling=Sampling(seed=SEED))
    engine = PromptEngine()

    events = await everything(generate(cast(Engine, engine), request, prompt_estimate=99))
    answer = await collect(generate(cast(Engine, PromptEngine()), request, prompt_estimate=99), 6)

    assert [choice.content for choice in answer.choices] == [
        (Text(f"{size}.{place}"),) for size in (1, 2, 3) for place in (0, 1)
    ]
    assert answer.usage == Usage(prompt_tokens=1 + 2 + 3, output_tokens=2 * (1 + 2 + 3))
    started = [event for event in events if isinstance(event, Started)]
    assert sorted(event.prompt_tokens or 0 for event in started) == [1, 2, 3]
    assert sorted(engine.asked) == [(size, place) for size in (1, 2, 3) for place in (0, 1)]


async def test_a_request_of_many_choices_takes_so_many_turns_at_once() -> None:
    request = ChatRequest("m", (), prompts=("a",) * 64, choices=128, sampling=Sampling(seed=SEED))
    engine = PromptEngine()

    answer = await collect(generate(cast(Engine, engine), request, prompt_estimate=99), 128)

    assert answer.usage == Usage(prompt_tokens=64, output_tokens=128)
    assert engine.most_running == 16
