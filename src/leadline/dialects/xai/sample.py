"""The services that take plain prompts: `xai_api.Sample`, which goes on with them, and `xai_api.Embedder`."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import ChatEvent, ChoiceFinished, Embedded, Finished, TextDelta
from leadline.chat.request import ChatRequest, Text, Vectors
from leadline.dialects.base64_vectors import base64_of
from leadline.dialects.bounds import MOST_CHOICES, MOST_PROMPTS
from leadline.dialects.field_names import naming
from leadline.dialects.recordings import collected
from leadline.dialects.xai.answers import answer
from leadline.dialects.xai.encode import REASONS, encode_usage
from leadline.dialects.xai.fields import (
    choices_of,
    model_of,
    sampling_of,
    stops_of,
    whole_number,
    word_of,
)
from leadline.dialects.xai.protos import embed, sample, usage
from leadline.dialects.xai.rpc import Rpc, serialized
from leadline.errors import InvalidRequest
from leadline.serving.generation import Generation

_MOST_TOKENS = 2**31 - 1
_FIELDS = {"messages": "prompt"}
_IN_BASE64 = {embed.FORMAT_INVALID: False, embed.FORMAT_FLOAT: False, embed.FORMAT_BASE64: True}


async def sample_text(rpc: Rpc, wire: Any) -> Any:
    with naming(_FIELDS):
        return await answer(
            rpc, wire, _request(wire), rpc.as_call(stream=False, scope="sample"), collected(_encode_answer)
        )


async def sample_text_streaming(rpc: Rpc, wire: Any) -> Any:
    with naming(_FIELDS):
        return await answer(rpc, wire, _request(wire), rpc.as_call(stream=True, scope="sample"), _ChunkEncoder)


async def embed_inputs(rpc: Rpc, wire: Any) -> Any:
    prompts, in_base64 = _inputs(wire.input), word_of(wire.encoding_format, _IN_BASE64, "encoding_format")
    request = ChatRequest(model_of(wire), (), choices=len(prompts), prompts=prompts, vectors=Vectors())

    def encoder_of(generation: Generation) -> "_VectorEncoder":
        return _VectorEncoder(generation, in_base64=in_base64)

    return await answer(rpc, wire, request, rpc.as_call(stream=False, scope="embed"), encoder_of)


def _request(wire: Any) -> ChatRequest:
    prompts, n = _texts(wire.prompt, "prompt"), choices_of(wire)
    if len(prompts) * n > MOST_CHOICES:
        raise InvalidRequest(f"{len(prompts)} prompts with n = {n} are more than {MOST_CHOICES} choices.", "prompt")
    if wire.logprobs or wire.HasField("top_logprobs"):
        raise InvalidRequest("logprobs are not supported: the answer has no place for them. Leave it out.", "logprobs")
    return ChatRequest(
        model=model_of(wire),
        messages=(),
        prompts=prompts,
        max_output_tokens=whole_number(wire, "max_tokens", 1, _MOST_TOKENS),
        sampling=sampling_of(wire),
        stop=stops_of(wire.stop),
        choices=len(prompts) * n,
    )


def _inputs(inputs: Sequence[Any]) -> tuple[str, ...]:
    for index, entry in enumerate(inputs):
        if entry.WhichOneof("input") == "image_url":
            at = f"input[{index}].image_url"
            raise InvalidRequest(f"{at} is not supported: no model here embeds images. Send texts.", at)
    return _texts([entry.string for entry in inputs], "input")


def _texts(texts: Sequence[str], field: str) -> tuple[str, ...]:
    if not 0 < len(texts) <= MOST_PROMPTS:
        raise InvalidRequest(f"{field} has {len(texts)} entries. Send 1 to {MOST_PROMPTS}.", field)
    for index, text in enumerate(texts):
        if not text:
            raise InvalidRequest(f"{field}[{index}] is empty. Send at least one word.", f"{field}[{index}]")
    return tuple(texts)


def _shell(generation: Generation) -> Any:
    response = sample.SampleTextResponse(
        id=str(generation.request_id), model=generation.model, system_fingerprint=generation.fingerprint
    )
    response.created.FromSeconds(generation.created_at)
    return response


def _choice(index: int, choice: Choice) -> Any:
    text = "".join(block.text for block in choice.content if isinstance(block, Text))
    return sample.SampleChoice(index=index, text=text, finish_reason=REASONS[choice.finish_reason])


def _encode_answer(generation: Generation, answered: ChatAnswer) -> bytes:
    response = _shell(generation)
    response.choices.extend(_choice(index, choice) for index, choice in enumerate(answered.choices))
    response.usage.CopyFrom(encode_usage(answered.usage, generation.cost_ticks))
    return serialized(response)


class _ChunkEncoder:
    """Encodes one stream: a message for a batch, with at most one entry for each choice; the usage at the end."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._shell = serialized(_shell(generation))

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        response = sample.SampleTextResponse()
        choices: dict[int, Any] = {}
        for event in batch:
            match event:
                case TextDelta() | ChoiceFinished():
                    if event.choice not in choices:
                        choices[event.choice] = response.choices.add(index=event.choice)
                    if isinstance(event, TextDelta):
                        choices[event.choice].text += event.text
                    else:
                        choices[event.choice].finish_reason = REASONS[event.reason]
                case Finished():
                    response.usage.CopyFrom(encode_usage(event.usage, self._generation.cost_ticks))
                case _:
                    pass
        piece = serialized(response)
        return self._shell + piece if piece else b""


@dataclass(frozen=True, slots=True)
class _VectorEncoder:
    """Nothing goes out before the last batch."""

    generation: Generation
    in_base64: bool
    vectors: "dict[int, array[float]]" = field(default_factory=dict)

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        for event in batch:
            if isinstance(event, Embedded):
                self.vectors[event.choice] = event.vector
        return self._encode_all() if isinstance(batch[-1], Finished) else b""

    def _encode_all(self) -> bytes:
        generation, vectors = self.generation, self.vectors
        response = embed.EmbedResponse(
            id=str(generation.request_id),
            model=generation.model,
            system_fingerprint=generation.fingerprint,
            embeddings=[
                embed.Embedding(index=index, embeddings=[_vector(vectors[index], in_base64=self.in_base64)])
                for index in range(generation.choices)
            ],
            usage=usage.EmbeddingUsage(num_text_embeddings=generation.choices),
        )
        return serialized(response)


def _vector(vector: "array[float]", *, in_base64: bool) -> Any:
    if not in_base64:
        return embed.FeatureVector(float_array=vector)
    return embed.FeatureVector(base64_array=base64_of(vector))


HANDLERS = {
    "/xai_api.Sample/SampleText": sample_text,
    "/xai_api.Sample/SampleTextStreaming": sample_text_streaming,
    "/xai_api.Embedder/Embed": embed_inputs,
}
