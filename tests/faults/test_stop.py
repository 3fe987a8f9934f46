"""A stop that waits no longer: whoever is still served is told so in his dialect, and pays no more than he got."""

import pytest

from tests.raw import open_post
from tests.scripted.server import ScriptedServer

PATHS = pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000


def ask(model, **more):
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "tell me all"}]} | more


def cut_short(server: ScriptedServer) -> None:
    """What the HTTP server does to its tasks at the end of the drain."""

    def cancel() -> None:
        for task in server.server.server_state.tasks:
            task.cancel()

    server.loop.call_soon_threadsafe(cancel)


@PATHS
def test_a_whole_answer_is_a_503_and_costs_nothing(server, path):
    raw = open_post(server.port, path, server.api_key, ask("slow"))
    server.wait_until(lambda: server.engine.running == 1)
    cut_short(server)
    received = raw.read_to_end()
    assert received.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 529 "))
    assert b"The server is stopping" in received
    assert server.charges() == []
    assert server.balance().held_ticks == 0


@PATHS
def test_a_stream_ends_with_an_error_and_costs_what_went_out(server, path):
    raw = open_post(server.port, path, server.api_key, ask("slow", stream=True))
    raw.read_until(b"three")
    cut_short(server)
    assert b"The server is stopping" in raw.read_to_end()
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (3 * PROMPT_TICKS + 3 * OUTPUT_TICKS, "interrupted")
