"""A hang-up is told once, whatever the server says before, and by no task."""

import asyncio
from collections.abc import Callable

import pytest

from leadline.web.exchange import Message
from leadline.web.hang_up import HangUp

BODY: Message = {"type": "http.request", "body": b"more"}
GONE: Message = {"type": "http.disconnect"}


class _Client:
    """What a server's `receive` gives over, as it comes."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.told = 0
        self.closed = 0

    async def receive(self) -> Message:
        try:
            await asyncio.sleep(0)
            return await self.messages.get()
        finally:
            self.closed += 1

    def tell(self) -> None:
        self.told += 1


async def _turns(condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come about")


async def test_the_disconnect_is_told_once_and_other_messages_are_passed_over() -> None:
    client = _Client()
    tasks = asyncio.all_tasks()
    watch = HangUp(client.receive, client.tell)
    for message in (BODY, BODY, GONE, GONE):
        client.messages.put_nowait(message)
    await _turns(lambda: client.told == 1)
    watch.stop()
    assert (client.told, client.closed, client.messages.qsize()) == (1, 3, 1)
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_once_stopped_it_tells_nothing_and_waits_for_nothing(turns: int) -> None:
    client = _Client()
    watch = HangUp(client.receive, client.tell)
    for _ in range(turns):
        await asyncio.sleep(0)
    watch.stop()
    watch.stop()
    client.messages.put_nowait(GONE)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (client.told, client.closed) == (0, 1)


async def test_a_client_that_is_gone_beforehand_is_told_at_once() -> None:
    client = _Client()

    async def gone() -> Message:
        return GONE

    HangUp(gone, client.tell)
    assert client.told == 1
