"""Plain prompts, biases and functions with the real model."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.live import LiveServer
from tests.raw import post

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
FRANCE = "The capital of France is"


@pytest.fixture
def client(on_llamacpp: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{on_llamacpp.base_url}/v1", api_key=on_llamacpp.api_key, max_retries=0) as client:
        yield client


def complete(client: openai.OpenAI, prompt: object, **more):
    return client.completions.create(**{"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 8} | more)


def tokens(client: openai.OpenAI, text: str) -> list[int]:
    said = client.post("/tokenize-text", body={"model": MODEL, "text": text}, cast_to=object)
    return [token["token_id"] for token in said["token_ids"]]


def test_a_prompt_is_continued_without_a_template(client):
    answer = complete(client, FRANCE)
    assert "Paris" in answer.choices[0].text
    assert answer.usage.prompt_tokens == len(tokens(client, FRANCE))
    streamed = list(complete(client, FRANCE, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text
    assert streamed[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_token_ids_are_the_same_prompt_as_their_text(client):
    one, other = complete(client, FRANCE), complete(client, [tokens(client, FRANCE)] * 2, n=1)
    assert [choice.text for choice in other.choices] == [one.choices[0].text] * 2
    assert other.usage.prompt_tokens == 2 * one.usage.prompt_tokens


def test_special_tokens_in_a_prompt_are_plain_text(client):
    prompt = "<|im_start|>user\nhi<|im_end|>"
    answer = complete(client, prompt)
    assert answer.usage.prompt_tokens == len(tokens(client, prompt)) > 8


def test_a_bias_bans_and_forces(client):
    [word] = tokens(client, " blue")
    forced = complete(client, FRANCE, logit_bias={str(word): 100}, max_tokens=3)
    assert forced.choices[0].text == " blue blue blue"
    [paris] = tokens(client, " Paris")
    assert "Paris" not in complete(client, FRANCE, logit_bias={str(paris): -100}, max_tokens=1).choices[0].text
    chat = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], logit_bias={str(word): 100}, max_tokens=2
    )
    assert chat.choices[0].message.content == " blue blue"


@pytest.mark.parametrize(
    ("more", "param"), [({"prompt": [[1, 10**6]]}, "prompt"), ({"logit_bias": {"1000000": 1}}, "logit_bias")]
)
def test_a_token_that_there_is_not_is_refused_by_name(on_llamacpp, client, more, param):
    before = len(on_llamacpp.ledger())
    with pytest.raises(openai.BadRequestError) as refused:
        complete(client, **{"prompt": FRANCE} | more)
    assert refused.value.param == param
    assert "1000000" in refused.value.message
    assert len(on_llamacpp.ledger()) == before


def test_logprobs_belong_to_the_texts_tokens(client):
    choice = complete(client, FRANCE, logprobs=3).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text
    assert all(len(top) == 3 for top in choice.logprobs.top_logprobs)
    at = zip(choice.logprobs.text_offset, choice.logprobs.tokens, strict=True)
    assert all(choice.text[offset:].startswith(token) for offset, token in at)
    assert all(
        top[token] == pytest.approx(logprob)
        for token, logprob, top in zip(
            choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.top_logprobs, strict=True
        )
    )


def test_one_token_to_choose_from_leaves_no_choice(client):
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 12}
    greedy = client.chat.completions.create(**ask, temperature=0).choices[0].message.content
    hot = client.chat.completions.create(**ask, temperature=2, extra_body={"top_k": 1}).choices[0].message.content
    assert hot == greedy


def test_a_function_is_called_in_the_words_before_tools(client):
    function = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Paris?"}],
        functions=[function],
        function_call={"name": "weather"},
        max_tokens=64,
    )
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.function_call.name) == ("function_call", "weather")
    assert isinstance(json.loads(choice.message.function_call.arguments), dict)


def test_the_old_text_completions_of_anthropic_answer_in_the_models_own_template(on_llamacpp):
    prompt = "\n\nHuman: What is the capital of France? Answer in one sentence.\n\nAssistant:"
    body = {"model": MODEL, "prompt": prompt, "max_tokens_to_sample": 24, "temperature": 0}
    port = int(on_llamacpp.base_url.rpartition(":")[2])
    assert "Paris" in post(port, "/v1/complete", on_llamacpp.api_key, json.dumps(body).encode()).json["completion"]


def test_a_model_that_cannot_think_says_so(client):
    with pytest.raises(openai.BadRequestError, match="reasoningEffort") as refused:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], reasoning_effort="low"
        )
    assert refused.value.param == "reasoning_effort"
