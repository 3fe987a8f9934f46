"""What a remote server is told of a request, and how it answers a plain prompt."""

import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import TokenLogprob
from leadline.chat.request import ChatRequest, Message, Sampling, Text
from leadline.engines.upstream.client import most_prompt_tokens
from leadline.engines.upstream.encode import encode_request
from leadline.engines.upstream.engine import UpstreamEngine
from leadline.errors import InvalidRequest
from tests.fold import collect
from tests.scripted.upstream import Reply, ScriptedUpstream, refusal, sse

ASK = ChatRequest("tiny", (Message("user", (Text("hi"),)),), max_output_tokens=50)
PLAIN = ChatRequest("tiny", (), max_output_tokens=50, prompts=("Once",))
USAGE = {"prompt_tokens": 1, "completion_tokens": 2}


def text(said: str, **fields: Any) -> dict[str, Any]:
    return {"object": "text_completion", "choices": [{"index": 0, "text": said, "finish_reason": None} | fields]}


SAID = Reply(
    pieces=(sse(text(" upon"), text(" a"), text("", finish_reason="length"), {"choices": [], "usage": USAGE}),)
)


async def told(
    request: ChatRequest, reply: Reply = SAID, kind: str = "openai"
) -> tuple[dict[str, Any], str, ChatAnswer]:
    """The body that the server got, the path, and the answer."""
    async with ScriptedUpstream(reply).listening() as upstream:
        engine = UpstreamEngine("remote", kind, upstream.url)
        try:
            async with aclosing(engine.generate(request)) as batches:
                answer = await collect(batches)
        finally:
            await engine.close()
        return upstream.bodies[0], upstream.headers[0].split()[1], answer


@pytest.mark.parametrize("kind", ["openai", "vllm"])
@pytest.mark.parametrize("prompt", ["Once", (5, 7)])
async def test_a_plain_prompt_goes_to_completions_as_it_is(kind, prompt):
    body, path, answer = await told(replace(PLAIN, prompts=(prompt,)), kind=kind)
    assert path == "/v1/completions"
    assert body["prompt"] == (prompt if isinstance(prompt, str) else list(prompt))
    assert "messages" not in body
    assert answer.choices[0].content == (Text(" upon a"),)
    assert (answer.choices[0].finish_reason, answer.usage.prompt_tokens, answer.usage.output_tokens) == ("length", 1, 2)


async def test_log_probabilities_come_in_lists_or_as_in_a_chat():
    lists = {
        "tokens": [" upon", " a"],
        "token_logprobs": [-0.5, None],
        "top_logprobs": [{" upon": -0.5, " in": -2.0}, None],
    }
    as_in_chat = {"content": [{"token": " time", "logprob": -1.0, "bytes": [1], "top_logprobs": []}]}
    reply = Reply(pieces=(sse(text(" upon a", logprobs=lists), text(" time", logprobs=as_in_chat)),))
    body, _, answer = await told(replace(PLAIN, top_logprobs=2), reply)
    assert body["logprobs"] == 2
    assert answer.choices[0].logprobs == (
        TokenLogprob(" upon", -0.5, None, (TokenLogprob(" upon", -0.5), TokenLogprob(" in", -2.0))),
        TokenLogprob(" a", 0.0),
        TokenLogprob(" time", -1.0, (1,)),
    )


@pytest.mark.parametrize("request_", [ASK, PLAIN])
async def test_sampling_is_passed_on(request_):
    sampling = Sampling(0.5, 0.25, 7, top_k=3, min_p=0.125, logit_bias=((5, -100.0), (6, 1.0)))
    body, _, _ = await told(replace(request_, sampling=sampling))
    assert body.items() >= {"temperature": 0.5, "top_p": 0.25, "seed": 7, "top_k": 3, "min_p": 0.125}.items()
    assert body["logit_bias"] == {"5": -100.0, "6": 1.0}
    body, _, _ = await told(request_)
    assert not {"top_k", "min_p", "logit_bias", "seed", "reasoning_effort", "chat_template_kwargs"} & body.keys()


@pytest.mark.parametrize(
    ("kind", "effort", "expected"),
    [
        ("openai", "none", {"reasoning_effort": "none"}),
        ("openai", "xhigh", {"reasoning_effort": "xhigh"}),
        ("vllm", "none", {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        (
            "vllm",
            "max",
            {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
        ),
    ],
)
async def test_an_effort_is_told_in_the_words_of_the_server(kind, effort, expected):
    body, _, _ = await told(replace(ASK, effort=effort), kind=kind)
    words = ("reasoning_effort", "chat_template_kwargs")
    assert {word: body[word] for word in words if word in body} == expected


async def test_what_a_server_does_not_take_is_our_callers_400():
    with pytest.raises(InvalidRequest):
        await told(replace(PLAIN, sampling=Sampling(logit_bias=((10**8, 1.0),))), refusal(400, {"error": "no"}))


def test_the_bound_of_a_plain_prompt_is_a_token_a_byte_and_its_beginning_and_end():
    assert most_prompt_tokens(replace(PLAIN, prompts=("é" * 10,))) == 2 + 20
    assert most_prompt_tokens(replace(PLAIN, prompts=((5, 7),))) == 2 + 2


async def test_vllm_shares_no_cached_prompts_between_organisations_and_does_not_learn_who_they_are():
    salts = []
    for kind, scope in (("vllm", "org_alice"), ("vllm", "org_bob"), ("vllm", "org_alice"), ("openai", "org_alice")):
        request = replace(ASK, cache_scope=scope)
        body = json.loads(encode_request(request, stream=True, vllm=kind == "vllm"))
        salts.append(body.get("cache_salt"))
    alice, bob, again, other = salts
    assert alice == again
    assert len({alice, bob, None}) == 3
    assert other is None
    assert "org" not in f"{alice}{bob}"
