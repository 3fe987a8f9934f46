"""The default instance runs its model on OpenVINO GenAI where that is installed: what it can, and what it refuses."""

import json

import openai
import pytest
from openai.types.chat import ChatCompletion

from leadline.engines.openvino.model import installed
from tests.live import LiveServer

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not installed(), reason="the package openvino-genai is not installed"),
]
MODEL = "smollm2-135m-instruct"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def sdk(live: LiveServer):
    with openai.OpenAI(base_url=f"{live.base_url}/v1", api_key=live.api_key, max_retries=0) as sdk:
        yield sdk


def ask(sdk: openai.OpenAI, text: str = "What is the capital of France?", **more: object) -> ChatCompletion:
    wanted = {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 48}
    answer: ChatCompletion = sdk.chat.completions.create(**wanted | more)
    return answer


def test_it_answers_and_tells_the_log_probabilities_of_what_it_took(sdk):
    answer = ask(sdk, logprobs=True, top_logprobs=1, max_tokens=8)
    [choice] = answer.choices
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(token.logprob <= 0 for token in tokens)
    assert [token.top_logprobs[0].token for token in tokens] == [token.token for token in tokens]


def test_an_answer_in_a_schema_is_json_of_it(sdk):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    [choice] = ask(sdk, "Describe Bob, who is 42.", response_format=form, max_tokens=80).choices
    assert json.loads(choice.message.content).keys() == {"name", "age"}


def test_choices_of_one_prompt_and_a_long_prompt_that_comes_again_are_cheaper(sdk):
    long = "Once there was a fox who lived by the sea. " * 20
    ask(sdk, long, max_tokens=2)
    again = ask(sdk, long, max_tokens=2, n=2)
    assert len(again.choices) == 2
    assert 100 < again.usage.prompt_tokens_details.cached_tokens < again.usage.prompt_tokens


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"logit_bias": {"5": 10}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 1, "temperature": 1}, "top_logprobs"),
    ],
)
def test_what_it_cannot_do_is_a_400_that_names_it(sdk, more, field):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(sdk, **more)
    assert refused.value.param == field
