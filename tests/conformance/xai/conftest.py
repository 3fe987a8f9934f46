"""Clients of the scripted server: xAI's SDK, and a bare channel."""

from collections.abc import Iterator

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


@pytest.fixture
def channel(server: ScriptedServer) -> Iterator[grpc.Channel]:
    with plain_channel(server.grpc_address) as channel:
        yield channel
