"""Timers that are looked at a few times a second, by a loop whose time is the test's."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from leadline import timers
from leadline.timers import Within, later


class _Loop:
    """The time and the one timer that `timers` asks of an event loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self.woken: list[Callable[[], Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], Any]) -> None:
        assert seconds == timers.LOOK_EVERY_SECONDS
        self.woken.append(callback)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        woken, self.woken = self.woken, []
        for callback in woken:
            callback()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> _Loop:
    loop = _Loop()
    monkeypatch.setattr(timers.asyncio, "get_running_loop", lambda: loop)
    return loop


def test_it_fires_once_after_its_time_and_the_loop_is_woken_only_while_one_waits(loop: _Loop) -> None:
    fired: list[str] = []
    later(1.0, lambda: fired.append("one"))
    later(2.0, lambda: fired.append("two"))
    assert len(loop.woken) == 1
    loop.passes(0.9)
    assert fired == []
    loop.passes(0.2)
    assert fired == ["one"]
    loop.passes(1.0)
    assert fired == ["one", "two"]
    assert len(loop.woken) == 1
    loop.passes(0.25)
    assert (fired, loop.woken) == (["one", "two"], [])
    later(0, lambda: fired.append("three"))
    loop.passes(0.25)
    assert fired[2:] == ["three"]


def test_one_that_is_cancelled_does_not_fire_even_by_another_that_does(loop: _Loop) -> None:
    fired: list[str] = []
    alone = later(1.0, lambda: fired.append("alone"))
    alone.cancel()
    alone.cancel()
    later(1.0, lambda: other.cancel())  # noqa: PLW0108 it is not there yet
    other = later(1.0, lambda: fired.append("other"))
    loop.passes(2.0)
    assert fired == []


def test_one_that_fails_does_not_keep_others_from_firing(loop: _Loop) -> None:
    fired: list[str] = []
    later(1.0, lambda: 1 // 0)
    later(1.0, lambda: fired.append("other"))
    with pytest.raises(ZeroDivisionError):
        loop.passes(2.0)
    loop.passes(0.25)
    assert fired == ["other"]


async def test_what_takes_too_long_is_a_timeout_and_only_that() -> None:
    with pytest.raises(TimeoutError), Within(0):
        await asyncio.Event().wait()
    with Within(60) as within:
        within.extend(90)
    task = asyncio.ensure_future(_waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def _waits() -> None:
    with Within(60):
        await asyncio.Event().wait()
