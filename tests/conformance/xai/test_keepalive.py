"""xAI's SDK pings every 30 s, also while a call is silent for minutes. A server that finds this too much ends the
connection, the SDK sends the call again without a word, and it is paid for twice."""

import socket
from collections.abc import Iterable

import pytest
import xai_sdk
from xai_sdk.chat import user

from leadline.chat.request import ChatRequest
from leadline.dialects.xai import server as server_module
from tests.proof import count, keep
from tests.scripted.engine import SCRIPTS, Pause, Step, echo
from tests.scripted.server import ScriptedServer

# HTTP/2: how a connection begins, and a ping; then the types of frames that are looked for.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0" + bytes(4)
A_PING = b"\0\0\x08\x06\0" + bytes(4) + b"12345678"
PING, GOAWAY = 6, 7
PINGS = 50
SILENT_SECONDS = count(2, 150)


def silent(request: ChatRequest) -> Iterable[Step]:
    """Says nothing for a while, then all."""
    yield Pause(SILENT_SECONDS)
    yield from echo(request)


def pings_answered(server: ScriptedServer) -> int:
    """How many pings on an idle connection, one after the other, are answered before the server ends it."""
    host, _, port = server.grpc_address.rpartition(":")
    answered = 0
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(HELLO + A_PING)
        frames = connection.makefile("rb")
        while answered < PINGS and (head := frames.read(9)):
            frames.read(int.from_bytes(head[:3], "big"))
            if head[3] == GOAWAY:
                break
            if head[3] == PING:
                answered += 1
                connection.sendall(A_PING)
    return answered


def test_a_server_tolerates_any_number_of_pings(server):
    assert pings_answered(server) == PINGS


def test_a_server_that_counts_pings_is_found_out(tmp_path, monkeypatch):
    options = tuple(option for option in server_module.OPTIONS if "ping" not in option[0])
    monkeypatch.setattr(server_module, "OPTIONS", options)
    server = ScriptedServer(tmp_path / "data")
    assert pings_answered(server) < PINGS
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_silent_for_minutes_runs_once_and_is_charged_once(tmp_path, stream):
    server = ScriptedServer(tmp_path / "data", scripts=SCRIPTS | {"silent": silent})
    client = xai_sdk.Client(api_key=server.api_key, api_host=server.grpc_address)
    chat = client.chat.create("silent", messages=[user("at last")])
    if stream:
        *_, (answer, _) = chat.stream()
    else:
        answer = chat.sample()
    keep(f"silent, gRPC, {'stream' if stream else 'whole'}", seconds=SILENT_SECONDS, runs=len(server.engine.requests))
    assert answer.content == "at last"
    assert (len(server.engine.requests), len(server.charges())) == (1, 1)
    client.close()
    server.stop()
