"""Clients of the scripted server: xAI's SDK, the sync one and the async one by the same words, and a bare channel."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import xai_sdk

from tests.conformance.xai.rpcs import plain_channel
from tests.scripted.server import ScriptedServer


@pytest.fixture
def sdk(server: ScriptedServer) -> Iterator[xai_sdk.Client]:
    client = xai_sdk.Client(api_key=server.api_key, api_host=server.grpc_address)
    yield client
    client.close()


@pytest.fixture(params=["sync", "async"])
def either(server: ScriptedServer, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each of the two clients in turn."""
    if request.param == "sync":
        yield request.getfixturevalue("sdk")
        return
    with asyncio.Runner() as runner:

        async def connect() -> xai_sdk.AsyncClient:
            return xai_sdk.AsyncClient(api_key=server.api_key, api_host=server.grpc_address)

        client = runner.run(connect())
        yield Awaited(client, runner)
        runner.run(client.close())


@pytest.fixture
def channel(server: ScriptedServer) -> Iterator[grpc.Channel]:
    with plain_channel(server.grpc_address) as channel:
        yield channel


class Awaited:
    """Something async that is spoken to as if it were not: what is called is awaited, what is iterated over comes."""

    def __init__(self, wrapped: Any, runner: asyncio.Runner) -> None:
        self._wrapped, self._runner = wrapped, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if inspect.isroutine(found):
            return lambda *args, **kwargs: self._come(found(*args, **kwargs))
        return Awaited(found, self._runner) if type(found).__module__.startswith("xai_sdk.aio") else found

    def _come(self, result: Any) -> Any:
        if inspect.isawaitable(result):
            return self._runner.run(_await(result))
        if hasattr(result, "__aiter__"):
            return self._iterate(result)
        return Awaited(result, self._runner) if type(result).__module__.startswith("xai_sdk.aio") else result

    def _iterate(self, pieces: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._runner.run(_await(anext(pieces)))
            except StopAsyncIteration:
                return


async def _await(result: Any) -> Any:
    return await result
