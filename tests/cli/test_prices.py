"""`leadline models show` and `models price`, beside a running server and on a closed folder."""

import asyncio
import json
from typing import Any

import pytest

from tests.cli.in_process import init, leadline
from tests.cli.process import NO_MODEL, Done, Serving
from tests.raw import request

pytestmark = pytest.mark.slow

# Ticks per token: 10,000 for each USD per million.
FILE = {"input_ticks": 1_000, "cached_input_ticks": 1_000, "output_ticks": 4_000, "reasoning_ticks": 4_000}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "leadline.toml").write_text(NO_MODEL)
    return folder


def price(data: Any, *args: str) -> Done:
    return leadline("models", "price", *args, "--data", str(data))


def told(done: Done) -> dict[str, int]:
    assert done.code == 0, done.err
    return {kind: done.json["prices"][kind] for kind in FILE}


async def test_a_price_holds_from_the_running_servers_next_request_on(data):
    key = (await asyncio.to_thread(init, data)).json["api_key"]
    serving = await Serving.start(data)
    port = int((await serving.event("serving"))["base_url"].rpartition(":")[2])

    async def beside(*args: str) -> Done:
        return await asyncio.to_thread(price, data, *args)

    def shown() -> dict[str, Any]:
        return request(port, "GET", "/v1/language-models/grok-beta", Authorization=f"Bearer {key}").json

    assert (shown()["prompt_text_token_price"], shown()["completion_text_token_price"]) == (1_000, 4_000)
    long_context = ("--long-context-threshold", "200000", "--output-long-context", "0.8")
    changed = await beside("grok-beta", "--input", "2", *long_context, "--json")
    assert told(changed) == FILE | {"input_ticks": 20_000, "cached_input_ticks": 20_000}
    assert changed.json["name"] == "tiny"
    assert shown()["prompt_text_token_price"] == 20_000
    assert shown()["long_context_threshold"] == 200_000
    assert shown()["completion_text_token_price_long_context"] == 8_000
    assert (await beside("tiny", "--output", "9", "--from", "2999-01-01")).code == 0
    assert shown()["completion_text_token_price"] == 4_000
    assert await serving.stop() == 0

    # The same file changes nothing at the next start; a changed one does.
    serving = await Serving.start(data)
    port = int((await serving.event("serving"))["base_url"].rpartition(":")[2])
    assert shown()["prompt_text_token_price"] == 20_000
    assert await serving.stop() == 0
    long_context = "0.30, long_context_threshold = 128_000, input_long_context = 0.60"
    (data / "leadline.toml").write_text(NO_MODEL.replace("0.10", long_context))
    serving = await Serving.start(data)
    port = int((await serving.event("serving"))["base_url"].rpartition(":")[2])
    assert shown()["prompt_text_token_price"] == 3_000
    assert shown()["long_context_threshold"] == 128_000
    assert shown()["prompt_text_token_price_long_context"] == 6_000
    assert await serving.stop() == 0


def test_prices_of_now_and_to_come_are_shown_with_their_history(data):
    before = price(data, "tiny", "--json")
    assert told(before) == FILE
    assert (before.json["prices"]["source"], before.json["prices_to_come"]) == ("file", [])
    price(data, "tiny", "--output", "8", "--from", "2999-01-01T00:00:00+01:00")
    price(data, "tiny", "--input", "0.5")
    price(data, "tiny", "--image", "7", "--from", "2999-02-01")

    shown = leadline("models", "show", "tiny", "--json", "--data", str(data)).json

    to_come, after = shown["prices_to_come"]
    assert (to_come["effective_from"], to_come["source"]) == ("2998-12-31T23:00:00.000Z", "command")
    assert (to_come["input_ticks"], to_come["output_ticks"], to_come["long_context"]) == (1_000, 80_000, None)
    assert after == to_come | {word: after[word] for word in ("effective_from", "recorded_at", "image_ticks")}
    assert (shown["prices"]["input_ticks"], after["image_ticks"]) == (5_000, 70_000)
    assert [change["input_ticks"] for change in shown["history"]] == [1_000, 5_000, 1_000, 1_000]
    assert {word: shown[word] for word in shown if not word.startswith(("prices", "history"))} == {
        "name": "tiny",
        "aliases": ["grok-beta", "grok-2-latest", "grok-2", "grok-2-vision-latest"],
        "engine": "remote",
        "upstream_model": "tiny",
        "context_tokens": None,
        "default_max_output_tokens": 512,
        "capabilities": None,
        "status": None,
        "weights": None,
    }


def test_people_read_dollars(data):
    price(data, "tiny", "--cached-input", "0.025", "--long-context-threshold", "128000", "--input-long-context", "0.2")
    done = leadline("models", "show", "grok-2", "--data", str(data))
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[0] == "NAME tiny"
    assert "CONTEXT as the engine says" in lines
    assert lines[-2].split(" ", 1)[1] == "short $0.10 $0.025 $0.10 $0.40 $0.40 command now"
    assert lines[-1] == "128000+ $0.20 $0.025 $0.10 $0.40 $0.40"


def test_what_goes_wrong_is_one_sentence_and_an_exit_code(data):
    wrong = [
        (("gpt-17",), 1, "no model 'gpt-17'"),
        (("tiny", "--input", "0.00001"), 2, "four decimals"),
        (("tiny", "--input", "-1"), 2, "not a price"),
        (("tiny", "--output", "1e400"), 2, "price"),
        (("tiny", "--output", "cheap"), 2, "'cheap' is not a price"),
        (("tiny", "--output", "1", "--from", "2020-01-01"), 2, "Prices cannot be changed for the past."),
        (("tiny", "--output", "1", "--from", "2999-01-01T00:00:00"), 2, "is not a date"),
        (("tiny", "--from", "2999-01-01"), 2, "Name a price"),
        (("tiny", "--input-long-context", "1"), 2, "--long-context-threshold"),
        (("tiny", "--long-context-threshold", "-1"), 2, "not a number of tokens"),
    ]
    for args, code, words in wrong:
        done = price(data, *args)
        assert (done.code, done.out) == (code, ""), args
        assert words in done.err
        assert len(done.err.splitlines()) == 1
    assert len(json.loads(price(data, "tiny", "--json").out)["history"]) == 1
