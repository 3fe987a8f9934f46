"""A client that hangs up: the engine is stopped at once, and what was delivered is charged."""

import pytest

from tests.raw import open_post

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
BOTH = pytest.mark.parametrize("path", [CHAT, MESSAGES])
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000


def ask(model, **more):
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "tell me all"}]} | more


@BOTH
def test_a_stream_is_charged_for_what_went_out(server, path):
    raw = open_post(server.port, path, server.api_key, ask("slow", stream=True))
    raw.read_until(b"three")
    assert server.balance().held_ticks == 3 * PROMPT_TICKS + 100 * OUTPUT_TICKS
    raw.hang_up()
    server.wait_until(lambda: server.engine.aborted == ["slow"])
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (3 * PROMPT_TICKS + 3 * OUTPUT_TICKS, "interrupted")


@BOTH
def test_a_whole_answer_is_charged_for_what_was_made(server, path):
    raw = open_post(server.port, path, server.api_key, ask("slow"))
    server.wait_until(lambda: server.engine.running == 1)
    raw.hang_up()
    server.wait_until(lambda: server.engine.aborted == ["slow"])
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (3 * PROMPT_TICKS + 3 * OUTPUT_TICKS, "interrupted")


@BOTH
def test_in_the_prompt_the_prompt_is_charged(server, path):
    raw = open_post(server.port, path, server.api_key, ask("stall", stream=True))
    server.wait_until(lambda: server.engine.running == 1)
    raw.hang_up()
    server.wait_until(lambda: server.engine.aborted == ["stall"])
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    [charge] = server.charges()
    assert -charge.amount_ticks == 3 * PROMPT_TICKS


@BOTH
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["broken-before", "broken-in-prompt"])
def test_our_own_failure_before_the_first_token_costs_nothing(server, path, stream, model):
    received = open_post(server.port, path, server.api_key, ask(model, stream=stream)).read_to_end()
    assert received.startswith(b"HTTP/1.1 502 ")
    assert server.charges() == []
    assert server.balance().held_ticks == 0


def test_choices_that_run_side_by_side_are_all_stopped(server):
    raw = open_post(server.port, CHAT, server.api_key, ask("slow", stream=True, n=3))
    server.wait_until(lambda: server.engine.running == 3)
    raw.hang_up()
    server.wait_until(lambda: len(server.engine.aborted) == 3)
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    assert len(server.charges()) == 1


def test_a_stalled_engine_does_not_keep_others_from_being_served(server):
    stalled = [open_post(server.port, CHAT, server.api_key, ask("stall", stream=True)) for _ in range(20)]
    server.wait_until(lambda: server.engine.running == 20)
    assert b"tell me all" in open_post(server.port, CHAT, server.api_key, ask("echo")).read_to_end()
    for raw in stalled:
        raw.hang_up()
    server.wait_until(lambda: server.engine.running == 0)


def test_credits_held_by_running_requests_are_told_from_spent_ones(server):
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    server.command("credits grant", email="bob@southwind.example", amount="0.00021", reason="a little")
    key = server.command("keys create", name="bob", email="bob@southwind.example")["api_key"]
    first = open_post(server.port, CHAT, key, ask("slow", stream=True))
    first.read_until(b"three")
    refused = open_post(server.port, CHAT, key, ask("slow")).read_to_end()
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"rate_limit_exceeded" in refused
    assert b"retry-after: 1" in refused
    refused = open_post(server.port, CHAT, key, ask("slow", max_tokens=900)).read_to_end()
    assert b"insufficient_quota" in refused
    first.hang_up()
