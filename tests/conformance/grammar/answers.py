"""Whole answers and refusals, held against the SDKs' own types, which the SDKs do not do themselves."""

import json
import math
from array import array
from base64 import b64decode
from typing import Any

from anthropic.types import Message
from openai.types.chat import ChatCompletion

from tests.conformance.grammar import chat, messages

Json = dict[str, Any]
# Whose answers say that it is of no use to try again (CONTRACT 5).
FINAL = (400, 401, 402, 403, 404, 409, 413, 415)
CODES = {
    400: "invalid-argument",
    401: "unauthenticated",
    403: "permission-denied",
    404: "not-found",
    413: "invalid-argument",
    429: "resource-exhausted",
    503: "unavailable",
}
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    504: "api_error",
    529: "overloaded_error",
}


def check_embeddings(raw: bytes) -> Json:
    """Vectors of one length, in base64 or as numbers, with a usage that adds up."""
    answer: Json = json.loads(raw)
    assert answer.keys() == {"object", "model", "data", "usage"}
    assert answer["object"] == "list"
    vectors = []
    for number, one in enumerate(answer["data"]):
        assert (one["object"], one["index"]) == ("embedding", number)
        assert one.keys() == {"object", "index", "embedding"}
        told = one["embedding"]
        vectors.append(array("f", b64decode(told, validate=True)) if isinstance(told, str) else array("f", told))
    assert len({len(vector) for vector in vectors}) == 1
    assert all(vector and math.isfinite(sum(vector)) for vector in vectors)
    usage = answer["usage"]
    assert usage.keys() == {"prompt_tokens", "total_tokens", "cost_in_usd_ticks"}
    assert usage["total_tokens"] == usage["prompt_tokens"] > 0
    return answer


def check_completion(raw: bytes) -> Json:
    ChatCompletion.model_validate_json(raw, strict=True)
    answer: Json = json.loads(raw)
    assert answer["object"] == "chat.completion"
    chat.check_usage(answer["usage"])
    for number, choice in enumerate(answer["choices"]):
        message, reason = choice["message"], choice["finish_reason"]
        assert choice["index"] == number
        assert isinstance(message["content"], str)
        assert message["refusal"] is None
        assert None not in [value for name, value in message.items() if name != "refusal"]
        calls = message.get("tool_calls")
        assert calls != [], "no calls are no list"
        for call in calls or ():
            chat.check_call(call)
        called = "function_call" if "function_call" in message else "tool_calls" if calls else None
        assert reason in (*chat.CUT, called or "stop"), "not the reason of what was said"
    return answer


def check_message(raw: bytes) -> Json:
    Message.model_validate_json(raw, strict=True)
    message: Json = json.loads(raw)
    assert message.keys() == messages.ALWAYS
    messages.check_usage(message["usage"])
    messages.check_stop(message["stop_reason"], message["stop_sequence"], message["content"])
    for block in message["content"]:
        messages.check_block(block)
    return message


def check_refusal(status: int, headers: dict[str, str], raw: bytes, *, anthropic: bool) -> None:
    """A refusal's status, headers and body, in the shape of its dialect."""
    body: Json = json.loads(raw)
    if anthropic:
        assert body.keys() == {"type", "error", "request_id"}
        assert body["type"] == "error"
        assert body["error"]["type"] == KINDS[status]
        assert body["request_id"] == headers["request-id"]
    else:
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert body["code"] == CODES.get(status, body["code"])
    assert body["error"]["message"]
    should_retry, retry_after = headers.get("x-should-retry"), headers.get("retry-after")
    if status in FINAL:
        assert should_retry == "false"
    if status in (429, 503, 529):
        assert should_retry == "false" or retry_after is not None
    assert retry_after is None or 1 <= int(retry_after) <= 60
