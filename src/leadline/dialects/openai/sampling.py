"""What chats and completions share: how tokens are drawn, where an answer ends, and how it is streamed."""

from typing import Annotated

import msgspec
from msgspec import Meta

from leadline.chat.request import Sampling
from leadline.dialects.bounds import LONGEST_STOP, MOST_CHOICES, MOST_STOPS
from leadline.errors import InvalidRequest

MOST_BIASES = 1024
_Stop = Annotated[str, Meta(min_length=1, max_length=LONGEST_STOP)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class DrawnBody(msgspec.Struct, kw_only=True):
    """The fields that both bodies have."""

    model: Annotated[str, Meta(min_length=1, max_length=LONGEST_STOP)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=MOST_STOPS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


def sampling_of(body: DrawnBody) -> Sampling:
    """InvalidRequest where a bias makes no sense."""
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        top_k=body.top_k,
        min_p=body.min_p,
        logit_bias=_logit_bias(body.logit_bias or {}),
    )


def stops_of(body: DrawnBody) -> tuple[str, ...]:
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


def _logit_bias(bias: dict[str, float]) -> tuple[tuple[int, float], ...]:
    param = "logit_bias"
    if len(bias) > MOST_BIASES:
        raise InvalidRequest(f"{param} has more than {MOST_BIASES} tokens.", param)
    for token_id, value in bias.items():
        if not (token_id.isascii() and token_id.isdigit() and len(token_id) < 10):
            raise InvalidRequest(f"{param}: {token_id[:100]!r} is not the id of a token.", param)
        if not -100 <= value <= 100:
            raise InvalidRequest(f"{param}: the bias of token {token_id} must be from -100 to 100.", param)
    return tuple((int(token_id), value) for token_id, value in bias.items())
