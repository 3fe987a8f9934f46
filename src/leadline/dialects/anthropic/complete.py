"""`POST /v1/complete`, Anthropic's text completions: its body -> ChatRequest, and events and answers -> its answer.

The prompt's turns become messages, since today's models were made for chats: they answer in their own template.
"""

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import ChatEvent, ChoiceFinished, Finished, FinishReason, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest, Message, Sampling, Text
from leadline.dialects.anthropic.decode import Stop
from leadline.dialects.anthropic.encode import KEEP_ALIVE, Json, encode_usage
from leadline.dialects.bounds import LONGEST_MODEL, MOST_STOPS
from leadline.errors import InvalidRequest
from leadline.serving.generation import Generation

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
# Without it, models that fall into the prompt's form would write the next question too.
_NEXT_TURN = "\n\nHuman:"
_json = msgspec.json.Encoder()


class Body(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1, max_length=LONGEST_MODEL)]
    prompt: str
    max_tokens_to_sample: Annotated[int, Meta(ge=1, le=2**31)]
    stop_sequences: Annotated[list[Stop], Meta(max_length=MOST_STOPS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stream: bool | None = None


def to_request(body: Body) -> ChatRequest:
    """The request in our own words, or InvalidRequest."""
    return ChatRequest(
        model=body.model,
        messages=_messages(body.prompt),
        max_output_tokens=body.max_tokens_to_sample,
        sampling=Sampling(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=body.top_k,
        ),
        stop=(*(body.stop_sequences or ()), _NEXT_TURN),
        effort="none",
    )


def _messages(prompt: str) -> tuple[Message, ...]:
    """What stands before the first turn is the system prompt; what follows the last `Assistant:` is gone on with."""
    before, *turns = _TURN.split(prompt)
    speakers, texts = turns[::2], [text.strip() for text in turns[1::2]]
    if "Human" not in speakers or speakers[-1] != "Assistant":
        raise InvalidRequest(
            "prompt must hold turns: a question after `\\n\\nHuman:`, and `\\n\\nAssistant:` at its end.", "prompt"
        )
    messages = [Message("system", (Text(before.strip()),))] if before.strip() else []
    for speaker, text in zip(speakers, texts, strict=True):
        if text:
            messages.append(Message("user" if speaker == "Human" else "assistant", (Text(text),)))
    if not any(message.role == "user" for message in messages):
        raise InvalidRequest("prompt asks nothing: there is no text after `\\n\\nHuman:`.", "prompt")
    return tuple(messages)


def encode_completion(generation: Generation, answer: ChatAnswer) -> bytes:
    [choice] = answer.choices
    text = "".join(block.text for block in choice.content if isinstance(block, Text))
    return _json.encode(
        _completion(generation, text, choice.finish_reason, choice.stop_sequence)
        | {"usage": encode_usage(answer.usage, generation.cost_ticks)}
    )


def _completion(
    generation: Generation, text: str, reason: FinishReason | None = None, stop_sequence: str | None = None
) -> Json:
    request_id = str(generation.request_id)
    stop_reason = None if reason is None else "max_tokens" if reason == "length" else "stop_sequence"
    return {
        "type": "completion",
        "id": request_id,
        "completion": text,
        "stop_reason": stop_reason,
        "stop": stop_sequence,
        "model": generation.model,
        "log_id": request_id,
    }


class CompletionEncoder:
    """Encodes one stream: a piece of the text in each event, why it ended and its usage in the last."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._finished: ChoiceFinished | None = None

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        return b"".join([self._event(event) for event in batch])

    def _event(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta():
                return _frame(_completion(self._generation, event.text))
            case ChoiceFinished():
                self._finished = event
            case Finished():
                return self._end(event.usage)
            case Started():
                return KEEP_ALIVE
        return b""

    def _end(self, usage: Usage) -> bytes:
        finished = self._finished
        assert finished is not None, "the choice is finished before the answer is"
        last = _completion(self._generation, "", finished.reason, finished.stop_sequence)
        return _frame(last | {"usage": encode_usage(usage, self._generation.cost_ticks)})


def _frame(completion: Json) -> bytes:
    return b"event: completion\ndata: " + _json.encode(completion) + b"\n\n"
