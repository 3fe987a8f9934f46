"""Every block of the seeds, run as written against the real server with the real model."""

import json
import re
import shutil
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.seeds.blocks import BLOCKS
from tests.conformance.seeds.run import live_text, run_bash, run_javascript, run_python, start_javascript
from tests.live import LiveServer

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SHOWN: list[str] = []


def shows(**names: str) -> pytest.MarkDecorator:
    """Give a test these blocks, by argument."""
    SHOWN.extend(names.values())
    return pytest.mark.parametrize(
        tuple(names), [tuple(BLOCKS[name] for name in names.values())], ids=[pytest.HIDDEN_PARAM]
    )


@pytest.fixture
def shell() -> None:
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"There is no {tool}.")


def charged(live: LiveServer, run: Callable[[], str]) -> tuple[str, dict[str, Any]]:
    """What a run printed, and the one entry that it left in the ledger."""
    before = len(live.ledger())
    printed = run()
    [charge] = live.ledger()[before:]
    assert (charge["kind"], charge["model"], charge["reason"]) == ("charge", MODEL, "")
    assert charge["amount_ticks"] < 0
    return printed, charge


def assert_shaped(real: Any, sample: Any, at: str = "answer") -> None:
    """Every key of the sample is in the real answer, with the same kind of value."""
    assert type(real) is type(sample), f"{at} is {real!r}"
    if isinstance(sample, dict):
        for key, value in sample.items():
            assert key in real, f"{at} has no {key}: {real}"
            assert_shaped(real[key], value, f"{at}.{key}")
    if isinstance(sample, list):
        for index, value in enumerate(sample):
            assert_shaped(real[index], value, f"{at}[{index}]")


def assert_answers(answer: dict[str, Any], charge: dict[str, Any]) -> None:
    """A whole chat completion with a text, which cost what its usage says."""
    [choice] = answer["choices"]
    assert choice["message"]["content"].strip()
    assert choice["finish_reason"] in ("stop", "length")
    assert re.fullmatch(UUID, answer["id"])
    assert (answer["id"], answer["model"]) == (charge["request_id"], MODEL)
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["text_tokens"] == usage["prompt_tokens"] > 0
    assert usage["cost_in_usd_ticks"] == -charge["amount_ticks"]


@shows(export="quickstart:16", curl="quickstart:28", usage="quickstart:136")
def test_the_quickstarts_first_request_answers_with_the_usage_it_shows(live, shell, export, curl, usage):
    printed, charge = charged(live, lambda: run_bash(export, curl, live=live))
    answer = json.loads(printed)
    assert_answers(answer, charge)
    assert_shaped(answer, json.loads(f"{{{usage.text}}}"))


@shows(block="quickstart:53")
def test_the_quickstarts_javascript_prints_an_answer(live, node, tmp_path, block):
    printed, _ = charged(live, lambda: run_javascript(block, live, node, tmp_path))
    assert printed.strip()


@shows(block="quickstart:89")
def test_the_quickstarts_image_ends_in_a_clear_400_while_no_vision_model_is_loaded(live, node, tmp_path, block):
    before = live.balance()
    done = start_javascript(block, live, node, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"BadRequestError: 400 .*no vision model is loaded", done.stderr), done.stderr
    assert live.balance() == before


@shows(block="reference:32")
def test_the_references_header_authenticates(live, block):
    name, _, value = live_text(block, live).partition(": ")
    request = urllib.request.Request(f"{live.base_url}/v1/models", headers={name: value})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
        [model] = json.load(answer)["data"]
    assert model["id"] == MODEL


@shows(curl="reference:38", sample="reference:61")
def test_the_references_request_answers_as_its_sample(live, shell, curl, sample):
    printed, charge = charged(live, lambda: run_bash(curl, live=live, XAI_API_KEY=live.api_key))
    answer = json.loads(printed)
    assert_answers(answer, charge)
    assert_shaped(answer, json.loads(sample.text))
    assert re.fullmatch(r"fp_[0-9a-f]{10}", answer["system_fingerprint"])


@shows(curl="reference:96", sample="reference:119")
def test_the_references_stream_comes_in_chunks_and_ends_with_done(live, shell, curl, sample):
    """The sample holds whole messages, which no SDK reads in a stream: of it only the outer keys are compared."""
    printed, charge = charged(live, lambda: run_bash(curl, live=live, XAI_API_KEY=live.api_key))
    *events, done, rest = printed.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]
    outer = json.loads(sample.text)
    assert all(chunk.keys() >= outer.keys() - {"usage"} for chunk in chunks)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes[:-1] == [None] * (len(chunks) - 1)
    content = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    last = chunks[-1]
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finishes[-1]}
    assert_answers(last | {"choices": [choice]}, charge)
    assert_shaped(last["usage"], outer["usage"])


@shows(block="reference:162")
def test_the_references_openai_javascript_prints_a_message(live, node, tmp_path, block):
    printed, _ = charged(live, lambda: run_javascript(block, live, node, tmp_path))
    assert "role: 'assistant'" in printed
    assert re.search(r"content:\s*(['\"`])(?!\1)", printed), printed


@shows(block="reference:187")
def test_the_references_openai_python_prints_a_message(live, block):
    printed, _ = charged(live, lambda: run_python(block, live))
    assert re.match(r"ChatCompletionMessage\(content=(['\"])(?!\1)", printed), printed
    assert "role='assistant'" in printed


@shows(block="reference:216")
def test_the_references_anthropic_javascript_prints_a_message_with_its_cost(live, node, tmp_path, block):
    printed, charge = charged(live, lambda: run_javascript(block, live, node, tmp_path))
    facts = dict(re.findall(r"(id|type|role|model|cost_in_usd_ticks): '?([\w-]+)", printed.replace("type: 'text'", "")))
    assert facts == {
        "id": "msg_" + charge["request_id"].replace("-", ""),
        "type": "message",
        "role": "assistant",
        "model": "grok-beta",
        "cost_in_usd_ticks": str(-charge["amount_ticks"]),
    }
    assert re.search(r"type: 'text',\s+text:\s*(['\"`])(?!\1)", printed), printed


@shows(block="reference:244")
def test_the_references_anthropic_python_prints_its_content(live, block):
    printed, _ = charged(live, lambda: run_python(block, live))
    assert re.match(r"\[TextBlock\(.*text=(['\"])(?!\1)", printed), printed
    assert "type='text'" in printed
