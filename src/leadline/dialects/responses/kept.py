"""A response that is stored: the note that is kept beside its canonical part, and the response again, from both.

One that another dialect stored has no note: what only the note would tell is as if its request had not said it, and
as if it had ended when it began.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from leadline.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStarted
from leadline.chat.request import Block, Image, Reasoning, Text, ToolCall, ToolResult
from leadline.dialects.responses.decode import Body, echo
from leadline.dialects.responses.items import items_of
from leadline.dialects.responses.output import Output, Sizes, encode_logprob, steps_of
from leadline.dialects.responses.response import ended
from leadline.dialects.responses.stream import EventWriter
from leadline.serving.codec import KeptAnswer

Json = dict[str, Any]
_DIALECT = "responses"
# A text of at least so many characters that the canonical part has is told by its number among those.
_SHORTEST = 64


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response, all items that it answered, and how its output was cut into deltas."""

    response: Json
    conversation: list[Json]
    sizes: list[Sizes]

    @property
    def items(self) -> list[Json]:
        """The conversation up to and with the answer."""
        return [*self.conversation, *self.response["output"]]

    def events(self) -> list[bytes]:
        """The events in which the response was streamed, or would have been."""
        events, response = EventWriter(), self.response
        begun = response | {"completed_at": None, "status": "in_progress", "incomplete_details": None}
        begun |= {"output": [], "usage": None}
        told = events.begin(begun)
        for step in steps_of(response["output"], self.sizes):
            told += events.step(step)
        return [*told, events.write(f"response.{response['status']}", {"response": response})]


class _Note(msgspec.Struct, array_like=True):
    """What the canonical part does not tell: the request's echo, the second of the end, and the form of all items,
    without the longer texts and the output's log probabilities, which the canonical part has."""

    echo: Json
    completed_at: int
    conversation: list[Any]
    output: list[Any]
    sizes: list[Sizes]


def with_note(
    kept: KeptAnswer, echoed: Json, completed_at: int, conversation: list[Json], output: Output
) -> KeptAnswer:
    numbers = {text: number for number, text in enumerate(_texts(kept))}
    items = [_without_logprobs(item) for item in output.items]
    note = _Note(echoed, completed_at, _without(conversation, numbers), _without(items, numbers), output.sizes)
    return replace(kept, notes={_DIALECT: msgspec.json.encode(note)})


def stored_response(kept: KeptAnswer) -> StoredResponse:
    encoded = kept.notes.get(_DIALECT)
    if encoded is None:
        output = _output_of(kept)
        echoed, completed_at = echo(Body(kept.requested_model, "")), kept.created_at
        conversation, items, sizes = items_of(kept.conversation, kept.request_id), output.items, output.sizes
    else:
        note, texts = msgspec.json.decode(encoded, type=_Note), _texts(kept)
        echoed, completed_at, sizes = note.echo, note.completed_at, note.sizes
        conversation, items = _with(note.conversation, texts), _with(note.output, texts)
        _add_logprobs(items, sizes, kept)
    return StoredResponse(ended(kept, echoed, kept.answer, items, completed_at), conversation, sizes)


def _output_of(kept: KeptAnswer) -> Output:
    """The output as if each block had come in one piece, the first text with all log probabilities."""
    output, choice = Output(kept.request_id), kept.answer.choices[0]
    logprobs = choice.logprobs
    for number, block in enumerate(choice.content):
        match block:
            case Text(text):
                output.add(TextDelta(text, logprobs=logprobs))
                logprobs = ()
            case Reasoning(text):
                output.add(ReasoningDelta(text))
            case ToolCall(call_id, name, arguments):
                output.add(ToolCallStarted(number, call_id, name))
                output.add(ToolCallDelta(number, arguments))
    output.finish(choice.finish_reason)
    return output


def _without_logprobs(item: Json) -> Json:
    if item["type"] != "message":
        return item
    return item | {"content": [part | {"logprobs": []} for part in item["content"]]}


def _add_logprobs(output: list[Json], sizes: list[Sizes], kept: KeptAnswer) -> None:
    logprobs = iter(kept.answer.choices[0].logprobs)
    for item, pieces in zip(output, sizes, strict=True):
        for _ in range(sum(count for _, count in pieces)):
            item["content"][0]["logprobs"].append(encode_logprob(next(logprobs)))


def _texts(kept: KeptAnswer) -> list[str]:
    """The longer texts of the canonical part, each once."""
    texts = (text for message in kept.messages for block in message.content for text in _texts_of(block))
    return list(dict.fromkeys(text for text in texts if len(text) >= _SHORTEST))


def _texts_of(block: Block) -> Iterator[str]:
    match block:
        case Text(text) | Reasoning(text):
            yield text
        case Image(url):
            yield url
        case ToolCall():
            yield block.arguments
        case ToolResult():
            for part in block.content:
                yield from _texts_of(part)


def _without(value: Any, numbers: dict[str, int]) -> Any:
    """Items without the texts that have numbers."""
    match value:
        case str() if value in numbers:
            return {"kept": numbers[value]}
        case list():
            return [_without(part, numbers) for part in value]
        case dict():
            return {name: part if name == "logprobs" else _without(part, numbers) for name, part in value.items()}
    return value


def _with(value: Any, texts: list[str]) -> Any:
    match value:
        case {"kept": int(number)}:
            return texts[number]
        case list():
            return [_with(part, texts) for part in value]
        case dict():
            return {name: part if name == "logprobs" else _with(part, texts) for name, part in value.items()}
    return value
