"""One request, one stream: stop strings are cut, and several choices run side by side, on one prompt or several."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from leadline.chat.events import ChatEvent, Finished, Started, Usage
from leadline.chat.request import ChatRequest
from leadline.engines.engine import Engine
from leadline.serving.meter import Meter
from leadline.serving.stop import StopStrings
from leadline.serving.vectors import embed

Batches = AsyncGenerator[tuple[ChatEvent, ...], None]

# Batches that a choice may be ahead of the reader.
_QUEUE_BATCHES = 32
# Choices of one request that run at once.
_AT_ONCE = 16


def generate(engine: Engine, request: ChatRequest, prompt_estimate: int) -> Batches:
    """The events of all choices of `request`, with its stop strings cut, or of its vectors."""
    if request.vectors is not None:
        return embed(engine, request, prompt_estimate)
    if request.choices == 1:
        return _choice(engine, request, prompt_estimate) if request.stop else engine.generate(request)
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
    """The first choice of a prompt begins alone, so that the others find the prompt already read."""
    prompts = request.apart()
    share = request.choices // len(prompts)
    queue: asyncio.Queue[tuple[int, tuple[ChatEvent, ...] | Exception]] = asyncio.Queue(_QUEUE_BATCHES)
    read, turns = [asyncio.Event() for _ in prompts], asyncio.Semaphore(_AT_ONCE)

    async def run(number: int) -> None:
        prompt, place = divmod(number, share)
        finished = False
        try:
            if place > 0:
                await read[prompt].wait()
            alone = _alone(prompts[prompt], place)
            async with turns, aclosing(_choice(engine, alone, prompt_estimate)) as batches:
                async for batch in batches:
                    finished = finished or isinstance(batch[-1], Finished)
                    await queue.put((number, batch))
                    if any(not isinstance(event, Started) for event in batch):
                        read[prompt].set()
            if not finished:
                raise AssertionError("an engine must end with Finished or raise")
        except Exception as error:  # whatever it is, it belongs to the reader of the queue
            await queue.put((number, error))

    tasks = [asyncio.create_task(run(number)) for number in range(request.choices)]
    totals: list[list[Usage]] = [[] for _ in prompts]
    try:
        while sum(map(len, totals)) < request.choices:
            number, batch = await queue.get()
            if isinstance(batch, Exception):
                raise batch
            totals[number // share] += [event.usage for event in batch if isinstance(event, Finished)]
            if relabelled := tuple(_relabel(batch, number, first=number % share == 0)):
                yield relabelled
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    yield (Finished(_sum([_of_one_prompt(usages) for usages in totals])),)


def _alone(request: ChatRequest, number: int) -> ChatRequest:
    """One choice of the request. Equal seeds would give equal answers, so each choice has its own."""
    seed = request.sampling.seed
    sampling = request.sampling if seed is None else replace(request.sampling, seed=(seed + number) % 2**63)
    return replace(request, choices=1, sampling=sampling)


def _relabel(batch: tuple[ChatEvent, ...], number: int, *, first: bool) -> list[ChatEvent]:
    """The choice's events under its number. One Started a prompt is enough; Finished comes once, at the end."""
    out: list[ChatEvent] = []
    for event in batch:
        if isinstance(event, Started):
            if first:
                out.append(event)
        elif not isinstance(event, Finished):
            out.append(replace(event, choice=number) if number else event)
    return out


def _of_one_prompt(usages: list[Usage]) -> Usage:
    """The prompt is billed once, as the choice that read it: the one that found least of it cached."""
    total, first = _sum(usages), min(usages, key=lambda usage: usage.cached_tokens)
    return replace(first, output_tokens=total.output_tokens, reasoning_tokens=total.reasoning_tokens)


def _sum(usages: list[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        image_tokens=sum(usage.image_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )
