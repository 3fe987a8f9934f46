"""The body of `POST /v1/completions` -> ChatRequest. Unknown fields are ignored."""

from typing import Annotated

import msgspec
from msgspec import Meta

from leadline.chat.request import ChatRequest, Sampling
from leadline.dialects.openai.decode import (
    MOST_CHOICES,
    MOST_STOPS,
    Penalty,
    Stop,
    StreamOptions,
    Tokens,
    logit_bias_of,
)
from leadline.errors import InvalidRequest

_TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Text = Annotated[str, Meta(min_length=1)]
_TokenIds = Annotated[list[_TokenId], Meta(min_length=1)]


class Body(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    prompt: _Text | Annotated[list[_Text | _TokenId | _TokenIds], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=MOST_STOPS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    # What would change the answer and is not done, so it is refused by name.
    best_of: int | None = None
    suffix: str | None = None

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


def to_request(body: Body) -> ChatRequest:
    """The request in our own words, or InvalidRequest."""
    prompts, n = _prompts(body), body.n or 1
    _refuse_what_is_not_done(body, prompts)
    if len(prompts) * n > MOST_CHOICES:
        raise InvalidRequest(f"{len(prompts)} prompts with n = {n} are more than {MOST_CHOICES} choices.", "prompt")
    return ChatRequest(
        model=body.model,
        messages=(),
        prompts=prompts,
        max_output_tokens=body.max_tokens,
        sampling=Sampling(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            seed=body.seed,
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            top_k=body.top_k,
            min_p=body.min_p,
            logit_bias=logit_bias_of(body.logit_bias),
        ),
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        choices=len(prompts) * n,
        top_logprobs=body.logprobs,
    )


def echoed(body: Body) -> tuple[str, ...]:
    """What each choice's text begins with."""
    prompts, n = _prompts(body), body.n or 1
    return tuple(prompt if body.echo and isinstance(prompt, str) else "" for prompt in prompts for _ in range(n))


def _prompts(body: Body) -> tuple[str | tuple[int, ...], ...]:
    """A list of numbers is one prompt of tokens."""
    if isinstance(body.prompt, str):
        return (body.prompt,)
    numbers = tuple(prompt for prompt in body.prompt if isinstance(prompt, int))
    if len(numbers) == len(body.prompt):
        return (numbers,)
    prompts = tuple(tuple(prompt) if isinstance(prompt, list) else prompt for prompt in body.prompt)
    if numbers or len({type(prompt) for prompt in prompts}) > 1:
        raise InvalidRequest("prompt mixes texts and tokens: send a list of one kind.", "prompt")
    return tuple(prompt for prompt in prompts if not isinstance(prompt, int))


def _refuse_what_is_not_done(body: Body, prompts: tuple[str | tuple[int, ...], ...]) -> None:
    if body.best_of not in (None, 1, body.n or 1):
        raise InvalidRequest("best_of is not supported. Leave it out, and send n.", "best_of")
    if body.suffix:
        raise InvalidRequest("suffix is not supported: no model here fills in the middle. Leave it out.", "suffix")
    if body.echo and body.logprobs is not None:
        raise InvalidRequest("echo excludes logprobs: those of a prompt are not known. Leave one out.", "echo")
    if body.echo and not isinstance(prompts[0], str):
        raise InvalidRequest("echo needs prompts that are texts, not tokens.", "echo")
