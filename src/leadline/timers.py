"""Timers that are looked at a few times a second.

A timer of the event loop for each of a request's deadlines, none of which is ever reached, costs more than most of what
it guards. These cost an entry in a dictionary; they fire up to `LOOK_EVERY_SECONDS` late, and never early.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

LOOK_EVERY_SECONDS = 0.25


@dataclass(slots=True, eq=False)
class Timer:
    """Calls `callback` once, after its time, unless it is cancelled before."""

    due: float
    callback: Callable[[], object]
    _timers: "_Timers"

    def cancel(self) -> None:
        """Twice, or after it was called, is harmless."""
        self._timers.waiting.pop(self, None)


@dataclass(slots=True, eq=False)
class _Timers:
    """Those of one event loop. It is woken only while some wait."""

    loop: asyncio.AbstractEventLoop
    waiting: dict[Timer, None] = field(default_factory=dict)
    _looks: bool = False

    def add(self, seconds: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(self.loop.time() + seconds, callback, self)
        self.waiting[timer] = None
        if not self._looks:
            self._looks = True
            self.loop.call_later(LOOK_EVERY_SECONDS, self._look)
        return timer

    def _look(self) -> None:
        self._looks = bool(self.waiting)
        if self._looks:
            self.loop.call_later(LOOK_EVERY_SECONDS, self._look)
        now = self.loop.time()
        for timer in [timer for timer in self.waiting if timer.due <= now]:
            if timer in self.waiting:  # one that was called may have cancelled it
                timer.cancel()
                timer.callback()


_of_loops: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Timers]" = WeakKeyDictionary()


def later(seconds: float, callback: Callable[[], object]) -> Timer:
    """Call `callback` on the running loop in `seconds`, or a little later."""
    loop = asyncio.get_running_loop()
    timers = _of_loops.get(loop)
    if timers is None:
        timers = _of_loops[loop] = _Timers(loop)
    return timers.add(seconds, callback)


class Within:
    """What runs inside is cancelled once its time is over, and then raises TimeoutError in place of the cancellation:
    as `asyncio.timeout`, at a fraction of its cost."""

    __slots__ = ("_before", "_late", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._late = False

    def __enter__(self) -> "Within":
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._timer = later(self._seconds, self._cancel)
        return self

    def extend(self, seconds: float) -> None:
        """Give it so long from now on."""
        self._timer.due = asyncio.get_running_loop().time() + seconds

    def end(self) -> None:
        """Its time is over now."""
        self._timer.cancel()
        self._cancel()

    def _cancel(self) -> None:
        self._late = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._timer.cancel()
        if self._late and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
