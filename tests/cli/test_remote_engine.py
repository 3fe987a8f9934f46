"""A remote OpenAI-compatible server, named in `leadline.toml`, stands in for the embedded engine."""

import asyncio
import json

import pytest

from tests.cli.in_process import init, leadline
from tests.cli.process import EMAIL, Serving
from tests.raw import post
from tests.scripted.upstream import Reply, ScriptedUpstream, delta, finish, sse

pytestmark = pytest.mark.slow

CONFIGURATION = """
[[engines]]
name = "gpu-1"
kind = "{kind}"
url = "{url}"
api_key = "the-engines-key"
[[models]]
name = "big"
engine = "gpu-1"
upstream_model = "tiny"
aliases = ["claude-*"]
prices = {{ input = 2.00, output = 10.00 }}
"""


@pytest.mark.parametrize("kind", ["openai", "vllm"])
async def test_it_answers_in_both_dialects_and_is_charged_by_its_own_count(tmp_path, kind):
    reply = Reply(pieces=(sse(delta(content="Hello"), finish("stop", prompt_tokens=9, completion_tokens=3)),))
    async with ScriptedUpstream(reply).listening() as upstream:
        (tmp_path / "leadline.toml").write_text(CONFIGURATION.format(kind=kind, url=upstream.url))
        key = (await asyncio.to_thread(init, tmp_path)).json["api_key"]
        server = await Serving.start(tmp_path)
        port = int((await server.event("serving"))["base_url"].rpartition(":")[2])
        await server.event("ready")
        ask = {"model": "claude-opus", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
        body = json.dumps(ask).encode()
        chat = await asyncio.to_thread(post, port, "/v1/chat/completions", key, body)
        message = await asyncio.to_thread(post, port, "/v1/messages", key, body)
        assert await server.stop() == 0
    assert (chat.json["model"], chat.json["choices"][0]["message"]["content"]) == ("big", "Hello")
    assert (message.json["model"], message.json["content"][0]["text"]) == ("claude-opus", "Hello")
    assert {sent["model"] for sent in upstream.bodies} == {"tiny"}
    assert all("Authorization: Bearer the-engines-key" in head for head in upstream.headers)
    ledger = await asyncio.to_thread(leadline, "credits", "ledger", EMAIL, "--json", "--data", str(tmp_path))
    charges = [-entry["amount_ticks"] for entry in ledger.json["entries"] if entry["kind"] == "charge"]
    assert charges == [9 * 20_000 + 3 * 100_000] * 2 == [chat.json["usage"]["cost_in_usd_ticks"]] * 2
