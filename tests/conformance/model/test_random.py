"""Prompts of no sense at all, many at once, in every dialect: each answer keeps to its grammar."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance.told import FORMS, question, told
from tests.raw import post

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
PROMPTS = 200
AT_ONCE = 16
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
LIMITS = {"chat": "max_tokens", "messages": "max_tokens", "responses": "max_output_tokens"}
# What templates, tokenizers and parsers of calls trip over, beside characters of all planes.
PIECES = (
    "<|im_start|>",
    "<tool_call>",
    '{"name":',
    "\u0000",
    "\r\n\r\n",
    "data: [DONE]",
    "\ufeff",
    "\u202e",
    "```",
    " ",
)
TOOL = {"type": "object", "properties": {"n": {"type": "integer"}}}
TOOLS: dict[str, Any] = {
    "chat": {"type": "function", "function": {"name": "count", "parameters": TOOL}},
    "messages": {"name": "count", "input_schema": TOOL},
    "responses": {"type": "function", "name": "count", "parameters": TOOL},
}


def prompt(chance: random.Random) -> str:
    pieces = [
        chance.choice(PIECES) if chance.random() < 0.3 else chr(chance.choice([*range(32, 127), *range(0xA1, 0xD7FF)]))
        for _ in range(chance.randint(1, 3))
    ]
    return "".join(pieces)


def body(dialect: str, stream: bool, chance: random.Random) -> dict[str, Any]:
    asked = question(dialect, MODEL, stream, **{LIMITS[dialect]: 8, "temperature": chance.choice([0, 1])})
    asked.pop("thinking", None)
    if dialect == "responses":
        asked |= {"input": prompt(chance), "store": False}
    else:
        asked["messages"] = [{"role": "user", "content": prompt(chance)}]
    return asked | ({"tools": [TOOLS[dialect]]} if chance.random() < 0.1 else {})


def test_prompts_of_no_sense(live, bill):
    port = int(live.base_url.rpartition(":")[2])

    def ask(number: int) -> None:
        dialect, stream = FORMS[number % len(FORMS)]
        asked = body(dialect, stream, random.Random(number))
        answer = post(port, PATHS[dialect], live.api_key, json.dumps(asked).encode())
        assert answer.status == 200, (asked, answer.body)
        bill.note(answer.headers["x-request-id"], answer.body)
        assert told(dialect, stream, answer.body).output <= 8

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, range(PROMPTS)))
