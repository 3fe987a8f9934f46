"""Whoever hangs up on a whole answer of a remote server, of which nothing is heard before its end, pays the prompt."""

import pytest

from tests.conformance.remote import Remote
from tests.raw import open_post
from tests.scripted.upstream import Reply

PROMPT_TICKS = 10_000


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_prompt_is_charged_and_the_server_is_hung_up_on(remote: Remote, path: str):
    server, upstream = remote.server, remote.upstream
    upstream.reply = Reply(content_type="application/json", ends="never")
    upstream.hung_up.clear()
    asked = len(upstream.bodies)
    ask = {"model": "openai", "max_tokens": 100, "messages": [{"role": "user", "content": "tell me all of it"}]}
    raw = open_post(server.port, path, server.api_key, ask)
    server.wait_until(lambda: len(upstream.bodies) > asked)
    raw.hang_up()
    server.wait_until(upstream.hung_up.is_set)
    server.wait_until(lambda: not server.instance.ledger.running())
    charge = server.charges()[-1]
    # Nobody told how many tokens the prompt has: one for each four bytes.
    assert (-charge.amount_ticks, charge.reason) == (4 * PROMPT_TICKS, "interrupted")
    assert server.balance().held_ticks == 0
