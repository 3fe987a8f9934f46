"""What is kept comes back as it was, to the type."""

import uuid
from dataclasses import is_dataclass
from typing import Any

import pytest

from leadline.chat import request
from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import TokenLogprob, Usage
from leadline.chat.request import (
    ChatRequest,
    Image,
    JsonFormat,
    Message,
    Reasoning,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Vectors,
)
from leadline.errors import EngineFailed, InvalidRequest, RateLimited, Unauthenticated, Unavailable
from leadline.serving import codec
from leadline.serving.codec import KeptAnswer, KeptError, decode, encode
from leadline.storage.database import DatabaseUnusable

_SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"enum": [1, None, "x", [2]]}}}
_CONVERSATION = (
    Message("system", (Text("Be short."),), "Mara"),
    Message("user", (Text("What is this?"), Image("https://northwind.example/a.png", "high"))),
    Message("assistant", (Reasoning("Hm.", "sig"), ToolCall("call_1", "look", '{"at": 1}'))),
    Message("tool", (ToolResult("call_1", (Text("a fox"),), is_error=True),)),
)


def test_a_request() -> None:
    request = ChatRequest(
        *("grok", _CONVERSATION, 7),
        sampling=Sampling(0.5, 0.9, -3, logit_bias=((7, -100.0),)),
        stop=("\n",),
        choices=3,
        top_logprobs=2,
        tools=(Tool("look", "Looks.", _SCHEMA, strict=True),),
        tool_choice=ToolChoice("named", "look"),
        json_format=JsonFormat(_SCHEMA),
        effort="low",
    )
    assert decode(encode(request), ChatRequest) == request
    prompts = ChatRequest("grok", (), prompts=("a", (1, 2)), vectors=Vectors(4))
    assert decode(encode(prompts), ChatRequest) == prompts


def test_an_answer() -> None:
    logprob = TokenLogprob("é", -0.5, (195, 169), (TokenLogprob("e", -1.0),))
    choices = (
        Choice((Reasoning("Hm."), Text("fox")), "stop", "\n", (logprob,)),
        Choice((ToolCall("call_2", "look", "{}"),), "tool_calls"),
    )
    answer = ChatAnswer(choices, Usage(9, 4, 0, 2, 1))
    kept = KeptAnswer(
        *(uuid.uuid4(), 1_700_000_000, "m", "grok", "fp_0123456789", 12_345),
        *(_CONVERSATION, answer, {"responses": b"\x00\xff"}),
    )
    assert decode(encode(kept), KeptAnswer) == kept


@pytest.mark.parametrize("kind", [InvalidRequest, EngineFailed, Unauthenticated, RateLimited, DatabaseUnusable])
def test_an_error_is_rebuilt_with_what_its_caller_is_told(kind: Any) -> None:
    error = kind("Why.", *{InvalidRequest: ("n",), RateLimited: (7,)}.get(kind, ()))
    rebuilt = decode(encode(KeptError.of(error)), KeptError).rebuilt()

    assert type(rebuilt) is (Unavailable if kind is DatabaseUnusable else kind)
    assert (str(rebuilt), getattr(rebuilt, "param", "n")) == ("Why.", "n")
    assert (rebuilt.should_retry, rebuilt.retry_after_seconds) == (False, None)


def test_an_answer_that_says_nothing_is_no_turn() -> None:
    silent = ChatAnswer((Choice((), "stop"), Choice((Text("a"),), "stop")), Usage())
    kept = KeptAnswer(uuid.uuid4(), 1, "m", "m", "fp", 0, _CONVERSATION, silent)
    assert kept.messages == _CONVERSATION


def test_every_class_of_a_request_can_be_kept() -> None:
    for name, kind in vars(request).items():
        if is_dataclass(kind) and kind.__module__ == request.__name__:
            assert codec._TYPES[name] is kind
