"""`POST /v1/completions` with the OpenAI SDK, against the scripted engine: a prompt is continued by its own words."""

import json
import re
from collections.abc import Iterator

import openai
import pytest
from openai.types import Completion

from tests.raw import open_post, post
from tests.scripted.server import ScriptedServer

PATH = "/v1/completions"
WHOLE_AND_STREAMED = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, *, stream: bool, **asked) -> Completion:
    """The answer, put together where it was streamed."""
    asked = {"model": "echo"} | asked
    if not stream:
        return client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert (
        len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint, chunk.object) for chunk in chunks}) == 1
    )
    *parts, last = chunks
    assert last.choices == []
    assert all(part.usage is None for part in parts)
    whole = last.model_copy(update={"choices": []})
    for choice in (choice for part in parts for choice in part.choices):
        if choice.index >= len(whole.choices):
            whole.choices += [
                choice.model_copy(update={"index": index, "text": "", "logprobs": None})
                for index in range(len(whole.choices), choice.index + 1)
            ]
        gathered = whole.choices[choice.index]
        gathered.text += choice.text
        gathered.finish_reason = choice.finish_reason or gathered.finish_reason
        if choice.logprobs is not None and gathered.logprobs is not None:
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                getattr(gathered.logprobs, name).extend(getattr(choice.logprobs, name))
        elif choice.logprobs is not None:
            gathered.logprobs = choice.logprobs
    return whole


@WHOLE_AND_STREAMED
def test_a_prompt_is_continued_as_it_stands_and_costs_what_its_usage_says(server, client, stream):
    answer = ask(client, stream=stream, prompt="what is the answer")
    assert (answer.object, answer.model) == ("text_completion", "echo")
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [
        (0, "what is the answer", "stop")
    ]
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 4, 8)
    [charge] = server.charges()
    assert -charge.amount_ticks == usage.cost_in_usd_ticks == 4 * 10_000 + 4 * 20_000
    assert charge.request_id == answer.id
    [request] = server.engine.requests
    assert (request.prompts, request.messages) == (("what is the answer",), ())
    assert request.max_output_tokens == 512


@WHOLE_AND_STREAMED
def test_choices_of_several_prompts_are_numbered_prompt_by_prompt_and_billed_once_each(server, client, stream):
    answer = ask(client, stream=stream, prompt=["one", "two words"], n=2)
    assert [choice.text for choice in answer.choices] == ["one", "one", "two words", "two words"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1 + 2, 2 * 1 + 2 * 2)
    [charge] = server.charges()
    assert -charge.amount_ticks == 3 * 10_000 + 6 * 20_000
    assert server.balance().held_ticks == 0


@WHOLE_AND_STREAMED
@pytest.mark.parametrize(("prompt", "texts"), [([5, 7], ["t5 t7"]), ([[5], [7, 9]], ["t5", "t7 t9"])])
def test_token_ids_are_a_prompt(server, client, stream, prompt, texts):
    answer = ask(client, stream=stream, prompt=prompt)
    assert [choice.text for choice in answer.choices] == texts


@WHOLE_AND_STREAMED
def test_echo_puts_each_prompt_before_its_text(client, stream):
    answer = ask(client, stream=stream, prompt=["one ", "two "], echo=True, max_tokens=1)
    assert [choice.text for choice in answer.choices] == ["one one", "two two"]
    assert answer.usage.completion_tokens == 2


@WHOLE_AND_STREAMED
def test_logprobs_are_lists_side_by_side(client, stream):
    answer = ask(client, stream=stream, prompt="what is it", logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs.tokens == ["what", " is", " it"]
    assert logprobs.token_logprobs == [-0.5] * 3
    assert logprobs.text_offset == [0, 4, 7]
    assert logprobs.top_logprobs == [{"other0": -2.0, "other1": -3.0}] * 3


@WHOLE_AND_STREAMED
def test_a_stop_string_ends_the_text_and_a_limit_too(client, stream):
    assert ask(client, stream=stream, prompt="what is the answer", stop="the").choices[0].text == "what is "
    limited = ask(client, stream=stream, prompt="what is the answer", max_tokens=2).choices[0]
    assert (limited.text, limited.finish_reason) == ("what is", "length")


def test_sampling_reaches_the_engine(server, client):
    client.completions.create(
        model="echo",
        prompt="hi",
        seed=7,
        temperature=0.5,
        top_p=0.25,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"5": -100},
        user="u",
        best_of=1,
        suffix="",
        extra_body={"top_k": 3, "min_p": 0.125},
    )
    sampling = server.engine.requests[0].sampling
    assert (sampling.seed, sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (
        7,
        0.5,
        0.25,
        3,
        0.125,
    )
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.logit_bias) == (1, -1, ((5, -100),))


def test_usage_comes_on_the_last_finish_chunk_unless_a_chunk_of_its_own_is_asked_for(client):
    chunks = list(client.completions.create(model="echo", prompt=["one", "two"], stream=True))
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["one", 2]}, "prompt"),
        ({"prompt": ["one", [2]]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"echo": True, "prompt": [1]}, "echo"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"prompt": "word " * 1500}, "prompt"),
        ({"prompt": ["word", "word " * 1500]}, "prompt"),
    ],
)
def test_what_is_wrong_is_refused_by_name(server, more, param):
    answer = post(server.port, PATH, server.api_key, json.dumps({"model": "echo", "prompt": "hi"} | more).encode())
    assert (answer.status, answer.json["error"]["param"]) == (400, param), answer.body
    assert server.engine.requests == []
    assert server.charges() == []


def test_the_context_is_for_each_prompt_not_for_all_together(client):
    answer = client.completions.create(model="echo", prompt=["word " * 600] * 2, max_tokens=500)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1200, 800)


def test_a_key_for_chat_alone_may_not_complete(server):
    key = server.command("keys create", name="chat", email=None, options={"endpoints": ["chat"]})["api_key"]
    answer = post(server.port, PATH, key, json.dumps({"model": "echo", "prompt": "hi"}).encode())
    assert (answer.status, answer.json["code"]) == (403, "permission-denied")


def test_a_stream_that_breaks_is_charged_as_delivered(server, client):
    with pytest.raises(openai.APIError, match="The engine broke"):
        list(client.completions.create(model="broken-after", prompt="one two", stream=True))
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (2 * 10_000 + 2 * 20_000, "interrupted")


async def test_the_async_client_streams_too(server):
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as client:
        stream = await client.completions.create(model="echo", prompt="what is it", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "what is it"


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeated_completion_is_the_same_answer_for_one_charge(server, stream):
    body = json.dumps({"model": "echo", "prompt": ["one", "two"], "stream": stream}).encode()
    first, second = (post(server.port, PATH, server.api_key, body, idempotency_key="k") for _ in range(2))
    assert (first.status, second.status) == (200, 200)
    assert second.headers["idempotent-replayed"] == "true"
    texts = [re.findall(rb"data: (.*)\n\n", answer.body) if stream else [answer.body] for answer in (first, second)]
    assert texts[0] == texts[1] != []
    assert len(server.charges()) == 1


def test_hanging_up_stops_the_engine_for_every_choice_and_pays_for_what_came(server):
    raw = open_post(server.port, PATH, server.api_key, {"model": "slow", "prompt": ["a", "b"], "stream": True})
    raw.read_until(b"three")
    raw.hang_up()
    server.wait_until(lambda: len(server.engine.aborted) == 2)
    server.wait_until(lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0)
    [charge] = server.charges()
    assert charge.reason == "interrupted"
    assert 2 * 10_000 < -charge.amount_ticks <= 2 * 10_000 + 6 * 20_000
