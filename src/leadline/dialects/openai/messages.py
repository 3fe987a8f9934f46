"""The messages of a chat: as clients send them -> the turns that an engine sees."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from leadline.chat.request import Block, Image, Message, Reasoning, Text, ToolCall, ToolResult
from leadline.dialects.tool_arguments import arguments_of
from leadline.errors import InvalidRequest
from leadline.ids import new_uuid


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class ImageUrl(msgspec.Struct):
    url: Annotated[str, Meta(min_length=1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class FunctionCall(msgspec.Struct):
    name: str
    arguments: str = ""


class WireToolCall(msgspec.Struct):
    function: FunctionCall
    id: str | None = None


class SystemMessage(msgspec.Struct, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class FunctionMessage(msgspec.Struct, tag_field="role", tag="function"):
    """The result of a call in the words before `tools`: it has no id, only the function's name."""

    name: str
    content: str | None = None


class UserMessage(msgspec.Struct, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart]
    name: str | None = None


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[WireToolCall] | None = None
    function_call: FunctionCall | None = None
    name: str | None = None


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool"):
    content: str | list[TextPart | ImagePart]
    tool_call_id: str


WireMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


def to_messages(wire: list[WireMessage]) -> tuple[Message, ...]:
    """The result of a function is that of the latest call of this function that has none yet."""
    messages: list[Message] = []
    open_calls: dict[str, str] = {}
    for i, message in enumerate(wire):
        if isinstance(message, FunctionMessage):
            call_id = open_calls.pop(message.name, None)
            if call_id is None:
                raise InvalidRequest(
                    f"messages[{i}].name is not a function that was called before.", f"messages[{i}].name"
                )
            messages.append(Message("tool", (ToolResult(call_id, (Text(message.content or ""),)),)))
            continue
        messages.append(_message(message, f"messages[{i}]"))
        if isinstance(message, AssistantMessage) and message.function_call is not None:
            call = messages[-1].content[-1]
            assert isinstance(call, ToolCall)
            open_calls[call.name] = call.call_id
    return tuple(messages)


def _message(
    message: SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage, at: str
) -> Message:
    match message:
        case SystemMessage() | DeveloperMessage():
            return Message("system", _blocks(message.content, at), message.name)
        case UserMessage():
            return Message("user", _blocks(message.content, at), message.name)
        case ToolMessage():
            content = tuple(block for block in _blocks(message.content, at) if isinstance(block, Text | Image))
            return Message("tool", (ToolResult(message.tool_call_id, content),))
        case AssistantMessage():
            return Message("assistant", _said(message, at), message.name)


def _said(message: AssistantMessage, at: str) -> tuple[Block, ...]:
    reasoning = (Reasoning(message.reasoning_content),) if message.reasoning_content else ()
    calls = tuple(_call(call, f"{at}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ()))
    if message.function_call is not None:
        calls = (*calls, _legacy_call(message.function_call, at))
    if message.content is None and not calls:
        raise InvalidRequest(f"{at}.content is missing: an assistant's message has content or tool_calls.", at)
    return (*reasoning, *(_blocks(message.content, at) if message.content else ()), *calls)


def _blocks(content: str | list[Any], at: str) -> tuple[Block, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if not content:
        raise InvalidRequest(f"{at}.content is empty: a message must have at least one part.", f"{at}.content")
    return tuple(_block(part) for part in content)


def _block(part: TextPart | ImagePart | RefusalPart) -> Text | Image:
    match part:
        case TextPart():
            return Text(part.text)
        case ImagePart():
            detail = part.image_url.detail or "auto"
            return Image(part.image_url.url, "high" if detail == "original" else detail)
        case RefusalPart():
            return Text(part.refusal)


def _call(call: WireToolCall, at: str) -> ToolCall:
    """Some clients send no id back."""
    arguments = arguments_of(call.function.arguments, f"{at}.function.arguments")
    return ToolCall(call.id or f"call_{new_uuid().hex}", call.function.name, arguments)


def _legacy_call(call: FunctionCall, at: str) -> ToolCall:
    """Its id is its place, so that the same conversation is always the same prompt."""
    place = at.removeprefix("messages[").removesuffix("]")
    return ToolCall(f"call_of_{place}", call.name, arguments_of(call.arguments, f"{at}.function_call.arguments"))
