"""The grammar of text completions: OpenAI's streams and whole answers, and Anthropic's old ones. What it does not allow
is an AssertionError.

    OpenAI    = text* finish (for each choice, woven) [usage] DONE | anything of that, then an error
    Anthropic = (completion | ping)* completion with a stop reason | anything of that, then an error
"""

import json
from typing import Any

from openai.types import Completion
from pydantic import TypeAdapter

from tests.conformance.grammar.chat import check_usage
from tests.conformance.grammar.sse import DONE, events

Json = dict[str, Any]
SHELL = ("id", "object", "created", "model", "system_fingerprint")
REASONS = ("stop", "length", "content_filter")
OLD_REASONS = ("stop_sequence", "max_tokens")
_completion_type = TypeAdapter(Completion)


def check_answer(path: str, asked: bytes, body: bytes, *, streams: bool, cut: bool) -> None:
    """Either endpoint's answer to what was asked."""
    if path == "/v1/complete":
        if streams:
            check_old(body, cut=cut)
        else:
            check_old_whole(json.loads(body))
    elif streams:
        request = json.loads(asked)
        several = isinstance(request["prompt"], list) and not isinstance(request["prompt"][0], int)
        choices = (len(request["prompt"]) if several else 1) * (request.get("n") or 1)
        includes_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        check(body, choices, includes_usage=includes_usage, cut=cut)
    else:
        check_whole(body)


def check(raw: bytes, choices: int, *, includes_usage: bool, cut: bool = False) -> list[Json]:
    """The choices that were streamed, whole."""
    said: list[Json] = [{"index": index, "text": "", "finish_reason": None} for index in range(choices)]
    shell, usage, done = None, None, False
    for chunk in events(raw, named=False, cut=cut):
        assert not done, "something follows the end"
        if chunk == DONE or "error" in chunk:
            done = True
            if chunk == DONE:
                assert usage is not None, "the usage is missing"
                assert all(choice["finish_reason"] for choice in said), "a choice has no end"
            continue
        # OpenAI's own chunks have no reason until the end, which its type does not know of.
        typed = [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]]
        _completion_type.validate_python(chunk | {"choices": typed})
        shell = shell or {name: chunk[name] for name in SHELL}
        assert shell == {name: chunk[name] for name in SHELL}, "chunks of one stream have one shell"
        assert usage is None, "a chunk follows the usage"
        usage = chunk.get("usage")
        if not chunk["choices"]:
            assert includes_usage, "nobody asked for a chunk of usage"
            assert usage is not None
            continue
        [choice] = chunk["choices"]
        _take(said[choice["index"]], choice)
        if usage is not None:
            assert not includes_usage, "the usage has a chunk of its own"
            assert all(choice["finish_reason"] for choice in said), "the usage comes last"
    if usage is not None:
        check_usage(usage)
    assert cut or done, "the stream has no end"
    return said


def _take(said: Json, choice: Json) -> None:
    assert said["finish_reason"] is None, "a choice goes on after its end"
    if choice["finish_reason"] is None:
        assert choice["text"], "a chunk says nothing"
    else:
        assert choice["finish_reason"] in REASONS
    if logprobs := choice.get("logprobs"):
        check_logprobs(logprobs, len(said["text"]))
    said["text"] += choice["text"]
    said["finish_reason"] = choice["finish_reason"]


def check_logprobs(logprobs: Json, offset: int = 0) -> None:
    lists = [logprobs[name] for name in ("tokens", "token_logprobs", "text_offset")]
    assert len(set(map(len, lists))) == 1, "the lists are not side by side"
    assert logprobs["top_logprobs"] is None or len(logprobs["top_logprobs"]) == len(lists[0])
    assert logprobs["text_offset"][0] == offset, "the first token is elsewhere"
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])


def check_whole(body: bytes) -> None:
    completion = json.loads(body)
    _completion_type.validate_python(completion)
    assert completion["object"] == "text_completion"
    check_usage(completion["usage"])
    for place, choice in enumerate(completion["choices"]):
        assert choice["index"] == place
        assert choice["finish_reason"] in REASONS
        if "logprobs" in choice:
            check_logprobs(choice["logprobs"])


def check_old(raw: bytes, *, cut: bool = False) -> str:
    """The text that Anthropic's old stream said."""
    text, ended = "", False
    for event in events(raw, named=True, cut=cut):
        assert not ended, "something follows the end"
        if event["type"] == "ping":
            continue
        if event["type"] == "error":
            ended = True
            continue
        check_old_whole(event, within=True)
        assert event["completion"] or event["stop_reason"], "an event says nothing"
        text, ended = text + event["completion"], event["stop_reason"] is not None
        assert ended == ("usage" in event), "the usage comes with the end"
    assert cut or ended, "the stream has no end"
    return text


def check_old_whole(completion: Json, *, within: bool = False) -> None:
    assert completion["type"] == "completion"
    assert completion["id"] == completion["log_id"]
    assert completion["stop_reason"] in (*OLD_REASONS, *((None,) if within else ()))
    assert completion["stop"] is None or completion["stop_reason"] == "stop_sequence"
    assert within or completion["usage"]["cost_in_usd_ticks"] >= 0
