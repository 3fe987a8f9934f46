"""The items of a conversation: as clients send them, as they are stored, and as the turns that an engine sees."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from leadline.chat.request import Block, Image, Message, Reasoning, Text, ToolCall, ToolResult
from leadline.dialects.tool_arguments import arguments_of
from leadline.errors import InvalidRequest
from leadline.web.strict_json import convert

Json = dict[str, Any]


class InputText(msgspec.Struct, tag_field="type", tag="input_text"):
    text: str


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    text: str


class Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class InputImage(msgspec.Struct, tag_field="type", tag="input_image"):
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class SummaryText(msgspec.Struct, tag_field="type", tag="summary_text"):
    text: str


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    text: str


Part = InputText | OutputText | Refusal | InputImage


class MessageItem(msgspec.Struct, tag_field="type", tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    name: str | None = None


class FunctionCall(msgspec.Struct, tag_field="type", tag="function_call"):
    call_id: str
    name: str
    arguments: str
    status: str | None = None


class FunctionCallOutput(msgspec.Struct, tag_field="type", tag="function_call_output"):
    call_id: str
    output: str | list[InputText | InputImage]


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning"):
    summary: list[SummaryText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content or self.summary or ())


class ItemReference(msgspec.Struct, tag_field="type", tag="item_reference"):
    id: str


Item = MessageItem | FunctionCall | FunctionCallOutput | ReasoningItem
_PREFIXES: dict[str, str] = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def read_items(given: str | list[Json]) -> list[Item | ItemReference]:
    """The `input` of a request, or InvalidRequest. A string is a message of the user."""
    if isinstance(given, str):
        return [MessageItem("user", given)]
    items: list[Item | ItemReference] = convert(
        [_with_type(item) for item in given], list[Item | ItemReference], "input"
    )
    for i, item in enumerate(items):
        _blocks_of(item, f"input[{i}]")  # what cannot be said is refused here, where its place is known
    return items


def _with_type(item: Json) -> Json:
    """Some clients leave out the type of messages and references."""
    if item.get("type") is not None:
        return item
    return item | {"type": "message" if "role" in item else "item_reference"}


def new_item_id(kind: str, request_id: uuid.UUID, place: str) -> str:
    """The id of an item: it names the response with which the item came into being, so that it can be found."""
    return f"{_PREFIXES[kind]}_{request_id.hex}_{place}"


def origin_of(item_id: str) -> str:
    """The id of the response with which an item came into being; empty where the id is none of ours."""
    return item_id.partition("_")[2].partition("_")[0]


def encode_item(item: Item, item_id: str) -> Json:
    """An item of the input as it is stored and listed: with its id, and with parts in place of a string."""
    encoded: Json = {"id": item_id, "status": "completed"}
    encoded |= {field: value for field, value in msgspec.to_builtins(item).items() if value is not None}
    if isinstance(item, MessageItem) and isinstance(item.content, str):
        part = {"type": "output_text", "text": item.content} if item.role == "assistant" else None
        encoded["content"] = [part or {"type": "input_text", "text": item.content}]
    if isinstance(item, MessageItem) and item.role == "assistant":
        for part in encoded["content"]:
            if part["type"] == "output_text":
                part |= {"annotations": [], "logprobs": []}
    if isinstance(item, ReasoningItem):
        encoded.setdefault("summary", [])
    return encoded


def to_messages(items: list[Json]) -> tuple[Message, ...]:
    """The turns of a conversation. What an assistant thought, said and called in a row is one turn, as in the other
    dialects; an answer after an answer is another one."""
    messages: list[Message] = []
    said: list[Block] = []

    def end_turn() -> None:
        if said:
            messages.append(Message("assistant", tuple(said)))
            said.clear()

    decoded: list[Item] = convert(items, list[Item], "input")
    for item in decoded:
        blocks = _blocks_of(item, "input")
        match item:
            case MessageItem(role="assistant"):
                if said and isinstance(said[-1], Text):
                    end_turn()
                said += blocks
            case FunctionCall() | ReasoningItem():
                said += blocks
            case MessageItem(role="user"):
                end_turn()
                messages.append(Message("user", blocks, item.name))
            case MessageItem():
                end_turn()
                messages.append(Message("system", blocks, item.name))
            case FunctionCallOutput():
                end_turn()
                messages.append(Message("tool", blocks))
    end_turn()
    return tuple(messages)


def items_of(messages: Iterable[Message], request_id: uuid.UUID) -> list[Json]:
    """The items of turns that came in another dialect's words, as if they had come with the request `request_id`."""
    items = [item for message in messages for item in _items_of(message)]
    ids = (new_item_id(str(item.__struct_config__.tag), request_id, f"i{number}") for number, item in enumerate(items))
    return [encode_item(item, item_id) for item, item_id in zip(items, ids, strict=True)]


def _items_of(message: Message) -> Iterator[Item]:
    """A turn's texts and images in a row are one item."""
    said: list[Part] = []
    for block in message.content:
        match block:
            case Text(text):
                said.append(OutputText(text) if message.role == "assistant" else InputText(text))
            case Image(url, detail):
                said.append(InputImage(url, detail=detail))
            case _:
                if said:
                    yield _message_item(message, said)
                    said = []
                yield _other_item(block)
    if said:
        yield _message_item(message, said)


def _message_item(message: Message, said: list[Part]) -> MessageItem:
    # A tool's words are in its result.
    role = "user" if message.role == "tool" else message.role
    return MessageItem(role, said, message.name)


def _other_item(block: Reasoning | ToolCall | ToolResult) -> Item:
    match block:
        case Reasoning(text):
            return ReasoningItem(content=[ReasoningText(text)])
        case ToolCall(call_id, name, arguments):
            return FunctionCall(call_id, name, arguments)
        case ToolResult(call_id, (Text(text),)):
            return FunctionCallOutput(call_id, text)
        case ToolResult():
            parts = [
                InputText(part.text) if isinstance(part, Text) else InputImage(part.url, detail=part.detail)
                for part in block.content
            ]
            return FunctionCallOutput(block.call_id, parts)


def _blocks_of(item: Item | ItemReference, at: str) -> tuple[Block, ...]:
    match item:
        case MessageItem(content=str() as text):
            return (Text(text),)
        case MessageItem():
            return _parts(item.content, item.role, f"{at}.content")
        case FunctionCall(status="incomplete"):
            return ()  # it was cut off, so its arguments are half of an object
        case FunctionCall():
            return (ToolCall(item.call_id, item.name, arguments_of(item.arguments, f"{at}.arguments")),)
        case FunctionCallOutput(output=str() as text):
            return (ToolResult(item.call_id, (Text(text),)),)
        case FunctionCallOutput():
            parts = (_part(part, "tool", f"{at}.output[{i}]") for i, part in enumerate(item.output))
            return (ToolResult(item.call_id, tuple(parts)),)
        case ReasoningItem():
            return (Reasoning(item.text),) if item.text else ()
        case ItemReference():
            return ()


def _parts(parts: str | Sequence[Part], speaker: str, at: str) -> tuple[Block, ...]:
    if not parts:
        raise InvalidRequest(f"{at} is empty: a message must have at least one part.", at)
    return tuple(_part(part, speaker, f"{at}[{i}]") for i, part in enumerate(parts))


def _part(part: Any, speaker: str, at: str) -> Text | Image:
    match part:
        case InputText() | OutputText():
            return Text(part.text)
        case Refusal():
            return Text(part.refusal)
        case InputImage() if speaker not in ("user", "tool"):
            raise InvalidRequest(f"{at}.type: only a user and a tool can show images.", f"{at}.type")
        case InputImage(image_url=str() as url) if url:
            return Image(url, part.detail or "auto")
        case _:
            param = f"{at}.image_url"
            raise InvalidRequest(f"{param} is missing: images come as an URL here, not as a file's id.", param)
