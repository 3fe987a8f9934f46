"""The grammar of text completions tells right from wrong."""

import json
from copy import deepcopy
from typing import Any

import pytest

from tests.conformance.grammar import completions

SHELL = {"id": "i", "object": "text_completion", "created": 1, "model": "m", "system_fingerprint": "f"}
DETAILS = {"text_tokens": 1, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0}
USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "total_tokens": 2,
    "prompt_tokens_details": DETAILS,
    "completion_tokens_details": {"reasoning_tokens": 0},
    "cost_in_usd_ticks": 1,
}


def chunk(index: int, text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return SHELL | {"choices": [{"index": index, "text": text, "finish_reason": reason}]} | more


GOOD = [chunk(0, "a"), chunk(1, "b"), chunk(0, "", "stop"), chunk(1, "", "length", usage=USAGE)]


def stream(chunks: list[dict[str, Any]], end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end).encode()


def test_a_good_stream_is_what_was_said():
    said = completions.check(stream(GOOD), 2, includes_usage=False)
    assert [(choice["text"], choice["finish_reason"]) for choice in said] == [("a", "stop"), ("b", "length")]
    apart = [*GOOD[:3], chunk(1, "", "length"), SHELL | {"choices": [], "usage": USAGE}]
    completions.check(stream(apart), 2, includes_usage=True)
    completions.check(stream(GOOD[:2], end='data: {"error":{}}\n\n'), 2, includes_usage=False)
    completions.check(stream(GOOD[:2], end=""), 2, includes_usage=False, cut=True)


MISTAKES = {
    "no end": lambda chunks: chunks.pop(),
    "an end before the other": lambda chunks: chunks.append(chunks.pop(2)),
    "a chunk without text": lambda chunks: chunks.insert(1, chunk(0, "")),
    "text after the end": lambda chunks: chunks.insert(3, chunk(0, "c")),
    "another id": lambda chunks: chunks[1].update(id="j"),
    "another object": lambda chunks: chunks[1].update(object="chat.completion.chunk"),
    "no such reason": lambda chunks: chunks[2]["choices"][0].update(finish_reason="tool_calls"),
    "a sum that is none": lambda chunks: chunks[3]["usage"].update(total_tokens=3),
    "a token elsewhere": lambda chunks: chunks[1]["choices"][0].update(
        logprobs={"tokens": ["b"], "token_logprobs": [0.0], "top_logprobs": None, "text_offset": [1]}
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    chunks = deepcopy(GOOD)
    MISTAKES[mistake](chunks)
    with pytest.raises((AssertionError, ValueError)):
        completions.check(stream(chunks), 2, includes_usage=False)


@pytest.mark.parametrize(
    "raw", [stream(GOOD, end=""), stream([*GOOD, GOOD[0]]), stream(GOOD) + stream(GOOD[:1], end="")]
)
def test_a_stream_ends_once(raw):
    with pytest.raises(AssertionError):
        completions.check(raw, 2, includes_usage=False)


def test_usage_has_a_chunk_of_its_own_where_that_is_asked_for():
    with pytest.raises(AssertionError):
        completions.check(stream(GOOD), 2, includes_usage=True)


OLD = {
    "type": "completion",
    "id": "i",
    "log_id": "i",
    "model": "m",
    "completion": "a",
    "stop_reason": None,
    "stop": None,
}
OLD_END = OLD | {"completion": "", "stop_reason": "max_tokens", "usage": {"cost_in_usd_ticks": 1}}


def old_stream(*told: dict[str, Any]) -> bytes:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in told).encode()


def test_anthropics_old_stream_is_what_was_said():
    assert completions.check_old(old_stream({"type": "ping"}, OLD, OLD, OLD_END)) == "aa"


@pytest.mark.parametrize(
    "told",
    [
        (OLD,),
        (OLD, OLD_END, OLD),
        (OLD | {"completion": ""}, OLD_END),
        (OLD, OLD_END | {"stop_reason": "end_turn"}),
        (OLD, {name: value for name, value in OLD_END.items() if name != "usage"}),
        (OLD, OLD_END | {"stop": "x"}),
        (OLD | {"type": "text"}, OLD_END),
    ],
)
def test_a_mistake_in_anthropics_old_stream_is_found(told):
    with pytest.raises(AssertionError):
        completions.check_old(old_stream(*told))
