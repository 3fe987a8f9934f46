"""Prompts -> the body of `POST /embeddings`, and the answer -> vectors. What a server does oddly is an error here."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from leadline.errors import EngineFailed

# A server that claims more tokens has not counted.
MOST_PROMPT_TOKENS = 2**31


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


@dataclass(frozen=True, slots=True)
class VectorsOf:
    """The vectors of some prompts, in their order. `prompt_tokens` is 0 where the engine does not say."""

    vectors: "tuple[array[float], ...]"
    prompt_tokens: int


_json = msgspec.json.Encoder()
_answer = msgspec.json.Decoder(_Answer)


def encode_prompts(model: str, prompts: "Sequence[str | Sequence[int]]") -> bytes:
    return _json.encode({"model": model, "input": prompts, "encoding_format": "float"})


def decode_vectors(body: bytes, count: int) -> VectorsOf:
    """The vectors of `count` prompts, or EngineFailed."""
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise EngineFailed("The engine sent vectors that are not understood.") from None
    data = answer.data
    if any(vector.index is not None for vector in data):
        data = sorted(data, key=lambda vector: -1 if vector.index is None else vector.index)
        if [vector.index for vector in data] != list(range(count)):
            raise EngineFailed("The engine did not send one vector for each input.")
    if len(data) != count or len({len(vector.embedding) for vector in data}) != 1:
        raise EngineFailed("The engine did not send one vector for each input, all of one length.")
    vectors = tuple(array("f", vector.embedding) for vector in data)
    if not all(vector and all(map(math.isfinite, vector)) for vector in vectors):
        raise EngineFailed("The engine sent a vector that is none.")
    tokens = answer.usage.prompt_tokens if answer.usage is not None else None
    return VectorsOf(vectors, tokens if tokens is not None and 0 < tokens < MOST_PROMPT_TOKENS else 0)
