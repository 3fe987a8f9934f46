"""Whether the client of a request is still there, at the cost of a callback.

ASGI tells of a hang-up through `receive`, which somebody has to wait for. A task that does only that is a fifth of what
a short request costs us, so the coroutine is stepped by hand, as a task steps one (PEP 3156 futures): it yields the
future that it waits for, and goes on when that is done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Wait = Generator["asyncio.Future[Any] | None", None, MutableMapping[str, Any]]


class HangUp:
    """Calls `told` once when the client hangs up, or the answer is complete. What else arrives is passed over."""

    __slots__ = ("_receive", "_told", "_wait")

    def __init__(self, receive: _Receive, told: Callable[[], None]) -> None:
        self._receive = receive
        self._told = told
        self._wait: _Wait = receive().__await__()
        self._step()

    def _step(self, _: object = None) -> None:
        while True:
            try:
                future = next(self._wait)
            except StopIteration as end:
                if end.value["type"] == "http.disconnect":
                    self._told()
                    return
                self._wait = self._receive().__await__()
                continue
            if future is None:  # it only lets others run
                asyncio.get_running_loop().call_soon(self._step)
            else:
                future._asyncio_future_blocking = False
                future.add_done_callback(self._step)
            return
