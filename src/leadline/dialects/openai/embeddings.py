"""The embeddings endpoint. Floats are the default; base64 is of little-endian 32-bit floats, as the SDKs read it."""

from array import array
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from leadline.chat.events import ChatEvent, Embedded, Finished
from leadline.chat.request import ChatRequest, Vectors
from leadline.dialects.answers import Form, answer_chat
from leadline.dialects.base64_vectors import base64_of
from leadline.dialects.bounds import LONGEST_MODEL
from leadline.dialects.limits import encode_limits
from leadline.dialects.openai.encode import KEEP_ALIVE
from leadline.dialects.openai.prompts import WirePrompts, prompts_of
from leadline.serving.generation import Generation
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.errors import encode_event
from leadline.web.exchange import Exchange
from leadline.web.strict_json import decode

MOST_DIMENSIONS = 65_536
_json = msgspec.json.Encoder()


class Body(msgspec.Struct):
    """`user` and unknown fields have no effect."""

    model: Annotated[str, Meta(min_length=1, max_length=LONGEST_MODEL)]
    input: WirePrompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MOST_DIMENSIONS)] | None = None
    user: str | None = None


async def create_embeddings(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), Body)
    prompts = prompts_of(body.input, "input")
    request = ChatRequest(body.model, (), choices=len(prompts), prompts=prompts, vectors=Vectors(body.dimensions))

    def whole(generation: Generation) -> "_Encoder":
        return _Encoder(generation, base64=body.encoding_format == "base64")

    form = Form(None, whole, encode_event, encode_limits, KEEP_ALIVE, "embed")
    await answer_chat(pipeline, caller, exchange, request, form)


@dataclass(frozen=True, slots=True)
class _Encoder:
    """Nothing goes out before the last batch."""

    generation: Generation
    base64: bool
    vectors: "dict[int, array[float]]" = field(default_factory=dict)

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        body = b""
        for event in batch:
            match event:
                case Embedded():
                    self.vectors[event.choice] = event.vector
                case Finished():
                    body = self._answer(event.usage.prompt_tokens)
                case _:
                    pass
        return body

    def _answer(self, prompt_tokens: int) -> bytes:
        encode = base64_of if self.base64 else _floats
        return _json.encode(
            {
                "object": "list",
                "model": self.generation.model,
                "data": [
                    {"object": "embedding", "index": index, "embedding": encode(self.vectors[index])}
                    for index in range(self.generation.choices)
                ],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "total_tokens": prompt_tokens,
                    "cost_in_usd_ticks": self.generation.cost_ticks,
                },
            }
        )


def _floats(vector: "array[float]") -> list[float]:
    return vector.tolist()
