"""One request, one stream: stop strings are cut, and `n` choices run side by side on one prompt."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from leadline.chat.events import ChatEvent, Finished, Started, Usage
from leadline.chat.request import ChatRequest
from leadline.engines.engine import Engine
from leadline.serving.meter import Meter
from leadline.serving.stop import StopStrings

Batches = AsyncGenerator[tuple[ChatEvent, ...], None]

# Batches that a choice may be ahead of the reader.
_QUEUE_BATCHES = 32


def generate(engine: Engine, request: ChatRequest, prompt_estimate: int) -> Batches:
    """The events of all choices of `request`, with its stop strings cut."""
    if request.choices == 1:
        return _choice(engine, request, prompt_estimate)
    return _side_by_side(engine, request, prompt_estimate)


async def _choice(engine: Engine, request: ChatRequest, prompt_estimate: int) -> Batches:
    if not request.stop:
        async with aclosing(engine.generate(request)) as batches:
            async for batch in batches:
                yield batch
        return
    stops, meter = StopStrings(request.stop), Meter(prompt_estimate)
    async with aclosing(engine.generate(request)) as batches:
        async for batch in batches:
            meter.count(batch)
            if passed := stops.pass_on(batch):
                if stops.matched is not None:
                    yield (*passed, Finished(meter.usage))
                    return
                yield passed


async def _side_by_side(engine: Engine, request: ChatRequest, prompt_estimate: int) -> Batches:
    """The first choice begins alone, so that the others find its prompt already read."""
    queue: asyncio.Queue[tuple[int, tuple[ChatEvent, ...] | Exception]] = asyncio.Queue(_QUEUE_BATCHES)
    prompt_read = asyncio.Event()

    async def run(number: int) -> None:
        finished = False
        try:
            if number > 0:
                await prompt_read.wait()
            async with aclosing(_choice(engine, _alone(request, number), prompt_estimate)) as batches:
                async for batch in batches:
                    finished = finished or isinstance(batch[-1], Finished)
                    await queue.put((number, batch))
                    if any(not isinstance(event, Started) for event in batch):
                        prompt_read.set()
            if not finished:
                raise AssertionError("an engine must end with Finished or raise")
        except Exception as error:  # whatever it is, it belongs to the reader of the queue
            await queue.put((number, error))

    tasks = [asyncio.create_task(run(number)) for number in range(request.choices)]
    totals: list[Usage] = []
    try:
        while len(totals) < request.choices:
            number, batch = await queue.get()
            if isinstance(batch, Exception):
                raise batch
            totals += [event.usage for event in batch if isinstance(event, Finished)]
            if relabelled := tuple(_relabel(batch, number)):
                yield relabelled
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    yield (Finished(_sum(totals)),)


def _alone(request: ChatRequest, number: int) -> ChatRequest:
    """One choice of the request. Equal seeds would give equal answers, so each choice has its own."""
    seed = request.sampling.seed
    sampling = request.sampling if seed is None else replace(request.sampling, seed=(seed + number) % 2**63)
    return replace(request, choices=1, sampling=sampling)


def _relabel(batch: tuple[ChatEvent, ...], number: int) -> list[ChatEvent]:
    """The choice's events under its number. One Started is enough; Finished comes once, at the end."""
    out: list[ChatEvent] = []
    for event in batch:
        if isinstance(event, Started):
            if number == 0:
                out.append(event)
        elif not isinstance(event, Finished):
            out.append(replace(event, choice=number) if number else event)
    return out


def _sum(totals: list[Usage]) -> Usage:
    """The prompt is billed once, as the choice that read it: the one that found least of it cached."""
    first = min(totals, key=lambda usage: usage.cached_tokens)
    return replace(
        first,
        output_tokens=sum(usage.output_tokens for usage in totals),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in totals),
    )
