"""The body of `POST /v1/completions` -> ChatRequest. Unknown fields are ignored."""

from typing import Annotated

from msgspec import Meta

from leadline.chat.request import ChatRequest
from leadline.dialects.bounds import MOST_CHOICES
from leadline.dialects.openai.prompts import WirePrompts, prompts_of
from leadline.dialects.openai.sampling import DrawnBody, sampling_of, stops_of
from leadline.errors import InvalidRequest


class Body(DrawnBody, kw_only=True):
    prompt: WirePrompts
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    # What would change the answer and is not done, so it is refused by name.
    best_of: int | None = None
    suffix: str | None = None


def to_request(body: Body) -> ChatRequest:
    """The request in our own words, or InvalidRequest."""
    prompts, n = prompts_of(body.prompt, "prompt"), body.n or 1
    _refuse_what_is_not_done(body, prompts)
    if len(prompts) * n > MOST_CHOICES:
        raise InvalidRequest(f"{len(prompts)} prompts with n = {n} are more than {MOST_CHOICES} choices.", "prompt")
    return ChatRequest(
        model=body.model,
        messages=(),
        prompts=prompts,
        max_output_tokens=body.max_tokens,
        sampling=sampling_of(body),
        stop=stops_of(body),
        choices=len(prompts) * n,
        top_logprobs=body.logprobs,
    )


def echoed(body: Body) -> tuple[str, ...]:
    """What each choice's text begins with."""
    prompts, n = prompts_of(body.prompt, "prompt"), body.n or 1
    return tuple(prompt if body.echo and isinstance(prompt, str) else "" for prompt in prompts for _ in range(n))


def _refuse_what_is_not_done(body: Body, prompts: tuple[str | tuple[int, ...], ...]) -> None:
    if body.best_of not in (None, 1, body.n or 1):
        raise InvalidRequest("best_of is not supported. Leave it out, and send n.", "best_of")
    if body.suffix:
        raise InvalidRequest("suffix is not supported: no model here fills in the middle. Leave it out.", "suffix")
    if body.echo and body.logprobs is not None:
        raise InvalidRequest("echo excludes logprobs: those of a prompt are not known. Leave one out.", "echo")
    if body.echo and not isinstance(prompts[0], str):
        raise InvalidRequest("echo needs prompts that are texts, not tokens.", "echo")
