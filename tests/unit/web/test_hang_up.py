"""A hang-up is told once, whatever the server says before, and by no task."""

import asyncio
from collections.abc import Callable

import pytest

from leadline.errors import ClientGone
from leadline.web.exchange import Exchange, Message
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
    HangUp(client.receive, client.tell)
    for message in (BODY, BODY, GONE, GONE):
        client.messages.put_nowait(message)
    await _turns(lambda: client.told == 1)
    assert (client.told, client.closed, client.messages.qsize()) == (1, 3, 1)
    assert asyncio.all_tasks() == tasks


async def test_a_client_that_is_gone_beforehand_is_told_at_once() -> None:
    client = _Client()

    async def gone() -> Message:
        return GONE

    HangUp(gone, client.tell)
    assert client.told == 1


async def test_an_exchange_is_told_of_a_hang_up_between_two_contexts() -> None:
    client = _Client()
    exchange = Exchange({"path": "/", "method": "POST", "headers": []}, client.receive, _sent)
    async with exchange.while_connected():
        await asyncio.sleep(0)
    client.messages.put_nowait(GONE)
    await _turns(lambda: client.closed == 1)
    with pytest.raises(ClientGone):
        async with asyncio.timeout(30), exchange.while_connected():
            await asyncio.Event().wait()
    assert exchange.gone


async def _sent(_: Message) -> None: ...
