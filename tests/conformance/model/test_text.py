"""Text completions of the real model, in OpenAI's and in Anthropic's old words."""

from typing import Any

import anthropic
import openai
import pytest

pytestmark = pytest.mark.model
MODEL = "smollm2-135m-instruct"
FRANCE = "The capital of France is"
HUMAN = "\n\nHuman: Name a colour.\n\nAssistant: The colour is"


class Completion(anthropic.BaseModel):
    completion: str
    stop_reason: str | None = None


def complete(sdk: openai.OpenAI, **more: Any) -> Any:
    ask: Any = {"model": MODEL, "prompt": FRANCE, "max_tokens": 8, "temperature": 0, "seed": 7} | more
    return sdk.completions.create(**ask)


def test_a_stream_is_the_whole_text(sdk):
    complete(sdk, max_tokens=1)
    whole = complete(sdk)
    chunks = list(complete(sdk, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_several_prompts_and_choices_echoed(sdk, stream):
    answer = complete(sdk, prompt=[FRANCE, "海は"], n=2, echo=True, temperature=1, stream=stream)
    texts = dict.fromkeys(range(4), "")
    for chunk in answer if stream else [answer]:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert [text.startswith(FRANCE) for text in texts.values()] == [True, True, False, False]
    assert texts[2].startswith("海は")


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_stop_strings_and_penalties(sdk, stream):
    answer = complete(sdk, logprobs=2, stop=["."], presence_penalty=1, frequency_penalty=1, stream=stream)
    choices = [choice for chunk in (answer if stream else [answer]) for choice in chunk.choices]
    text = "".join(choice.text for choice in choices)
    assert "." not in text
    assert "".join(token for choice in choices if choice.logprobs for token in choice.logprobs.tokens).startswith(text)


def test_one_token_and_a_prompt_beyond_the_context(sdk):
    assert complete(sdk, max_tokens=1).choices[0].finish_reason == "length"
    with pytest.raises(openai.BadRequestError, match="8192") as refused:
        complete(sdk, prompt="sea " * 20_000)
    assert refused.value.param == "prompt"


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_old_completions(claude, stream):
    """The newest SDK has no method for them."""
    ask: Any = {"model": "grok-beta", "prompt": HUMAN, "max_tokens_to_sample": 8, "stop_sequences": ["!"]}
    more: Any = {"cast_to": Completion, "stream": stream, "stream_cls": anthropic.Stream[Completion]}
    answer = claude.post("/v1/complete", body=ask | {"temperature": 0, "stream": stream}, **more)
    parts = list(answer) if stream else [answer]
    assert "".join(part.completion for part in parts)
    assert parts[-1].stop_reason in ("stop_sequence", "max_tokens")
    with pytest.raises(anthropic.BadRequestError, match="prompt"):
        claude.post("/v1/complete", body=ask | {"prompt": "Name a colour."}, cast_to=Completion)
