"""The embedded engine without a model: its waits, and what it says while it is not ready."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from leadline.chat.request import ChatRequest, Message, Text
from leadline.engines.embedded import room as room_module
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.embedded.room import Room
from leadline.engines.format.marks import Piece, prompt_text
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.upstream.client import ChatClient
from leadline.errors import Unavailable
from leadline.weights.store import WeightsMissing
from tests.unit.engines.format.corpus import template

ASK = ChatRequest("m", (Message("user", (Text("hi"),)),), 5)


async def waiting(room: Room, tokens: int) -> "tuple[asyncio.Task[None], asyncio.Event]":
    """A request that waits for room, and the event that lets it go again."""
    leave = asyncio.Event()

    async def hold() -> None:
        async with room.take(tokens):
            await leave.wait()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    return task, leave


async def test_requests_are_let_in_in_turn_and_a_large_one_is_not_overtaken():
    room = Room(100, 10)
    first, leave_first = await waiting(room, 60)
    large, leave_large = await waiting(room, 80)
    small, leave_small = await waiting(room, 10)
    assert (room.free_tokens, room.free_places) == (40, 9)
    leave_first.set()
    await first
    assert (room.free_tokens, room.free_places) == (10, 8)
    for task, leave in ((large, leave_large), (small, leave_small)):
        leave.set()
        await task
    assert (room.free_tokens, room.free_places) == (100, 10)


async def test_what_a_request_turns_out_not_to_need_lets_the_next_one_in():
    room = Room(100, 10)
    async with room.take(90) as place:
        next_one, leave = await waiting(room, 30)
        assert not room.fits(1)
        place.need(70)
        assert (room.free_tokens, room.free_places) == (0, 8)
        place.need(80)
        assert room.free_tokens == 0
        leave.set()
        await next_one
    assert (room.free_tokens, room.free_places) == (100, 10)


async def test_places_are_bounded_too():
    room = Room(100, 1)
    first, leave_first = await waiting(room, 1)
    second, leave_second = await waiting(room, 1)
    assert not second.done()
    assert not room.fits(1)
    leave_first.set()
    leave_second.set()
    await asyncio.gather(first, second)
    assert (room.free_tokens, room.free_places) == (100, 1)


@pytest.mark.parametrize("turn_came", [False, True])
async def test_a_request_that_gives_up_leaves_no_trace(turn_came):
    room = Room(100, 10)
    first, leave_first = await waiting(room, 100)
    second, _ = await waiting(room, 100)
    third, leave_third = await waiting(room, 100)
    if turn_came:
        leave_first.set()
        await first
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    leave_first.set()
    leave_third.set()
    await asyncio.gather(first, third)
    assert (room.free_tokens, room.free_places) == (100, 10)


async def test_requests_of_batches_leave_half_of_the_room():
    room = Room(100, 4)
    assert room.leaves_half(50, 1)
    assert not room.leaves_half(51, 1)
    assert room.leaves_half(25, 2)
    assert not room.leaves_half(10, 3)
    async with room.take(40):
        assert room.leaves_half(10, 1)
        assert not room.leaves_half(11, 1)
        assert not room.leaves_half(1, 2)
    assert not room.leaves_half(50, 2)
    assert room.leaves_half(25, 2)


async def test_a_full_queue_and_a_long_wait_are_unavailable(monkeypatch):
    monkeypatch.setattr(room_module, "MOST_WAITING", 1)
    monkeypatch.setattr(room_module, "WAIT_SECONDS", 0.01)
    room = Room(1, 1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(room.take(1))
        slow = asyncio.create_task(stack.enter_async_context(room.take(1)))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="more requests waiting"):
            await stack.enter_async_context(room.take(1))
        with pytest.raises(Unavailable, match="busy for too long"):
            await slow
    assert (room.free_tokens, room.free_places) == (1, 1)


async def test_weights_that_are_brought_later_are_found(monkeypatch):
    monkeypatch.setattr("leadline.engines.embedded.engine.PROVIDE_AGAIN_SECONDS", 0)
    told: list[str] = []
    tries = 0

    async def provide(tell: Callable[[str], None]) -> Weights:
        nonlocal tries
        tries += 1
        told.append(engine.status.detail)
        if tries < 3:
            raise WeightsMissing("No weights. Pull them.")
        await asyncio.Event().wait()
        raise AssertionError

    engine = LlamaCppEngine("default", provide, Settings(512, 1, 1))
    await engine.start()
    async with asyncio.timeout(30):
        while tries < 3:
            await asyncio.sleep(0)
    assert told == ["not started yet", "No weights. Pull them.", "No weights. Pull them."]
    with pytest.raises(Unavailable, match="not ready"):
        await anext(engine.generate(ASK))
    await engine.close()


def rendered(name: str, request: ChatRequest) -> str:
    """The prompt that the engine makes for a model with this template."""
    engine = LlamaCppEngine("default", _nothing, Settings(512, 1, 1))
    engine._weights = cast(Weights, SimpleNamespace(template=template(name)))
    engine._client = cast(ChatClient, object())
    return prompt_text(cast(tuple[Piece, ...], engine._rendered(request)))


async def _nothing(tell: Callable[[str], None]) -> Weights:
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "thinks", "does_not"),
    [("qwen3", "assistant\n", "<think>\n\n</think>\n\n"), ("deepseek_r1", "<think>\n", "<think>\n\n</think>\n\n")],
)
def test_an_effort_turns_thinking_on_and_off_in_the_models_own_template(name, thinks, does_not):
    for effort in ("minimal", "high", "max"):
        assert rendered(name, replace(ASK, effort=effort)).endswith(thinks)
    assert rendered(name, replace(ASK, effort="none")).endswith(does_not)
    assert rendered(name, ASK) == rendered(name, replace(ASK, effort="high"))


def test_a_plain_prompt_is_no_chat():
    assert rendered("qwen3", replace(ASK, messages=(), prompts=("hi",))) == "hi"
