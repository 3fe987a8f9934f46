"""The messages of a chat: as clients send them -> the turns that an engine sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leadline.chat.request import Block, Image, Message, Reasoning, Role, Text, ToolCall, ToolResult
from leadline.dialects.tool_arguments import arguments_of
from leadline.dialects.xai.fields import word_of
from leadline.dialects.xai.protos import chat, image
from leadline.errors import InvalidRequest
from leadline.ids import new_uuid

_ROLES: dict[int, Role] = {
    chat.ROLE_USER: "user",
    chat.ROLE_ASSISTANT: "assistant",
    chat.ROLE_SYSTEM: "system",
    chat.ROLE_DEVELOPER: "system",
    chat.ROLE_TOOL: "tool",
    chat.ROLE_FUNCTION: "tool",
}
_DETAILS: dict[int, Literal["auto", "low", "high"]] = {
    image.DETAIL_INVALID: "auto",
    image.DETAIL_AUTO: "auto",
    image.DETAIL_LOW: "low",
    image.DETAIL_HIGH: "high",
}
_LARGEST_DATA_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Seals:
    """Open what this server sealed for the caller: what a model thought, and a context that was compacted. None where
    it is not his."""

    reasoning: Callable[[str], str | None]
    context: Callable[[str], tuple[Message, ...] | None]


def to_messages(wire: Sequence[Any], seals: Seals, field: str = "messages") -> tuple[Message, ...]:
    """The turns, or InvalidRequest. A result without an id is that of the earliest call that has none yet.
    `field` is where they are in their request."""
    if not wire:
        raise InvalidRequest(f"{field} is empty. Send at least one message.", field)
    messages: list[Message] = []
    open_calls: list[str] = []
    for index, message in enumerate(wire):
        at = f"{field}[{index}]"
        role = _ROLES.get(message.role)
        if role is None:
            raise InvalidRequest(f"{at}.role is missing or none that there is.", f"{at}.role")
        if message.tool_calls and role != "assistant":
            raise InvalidRequest(f"{at}.tool_calls belong to an assistant's message.", f"{at}.tool_calls")
        if role == "user" and message.encrypted_content and not message.content:
            # It stands for all that was said before it.
            messages[:] = _context(message, seals, at)
            open_calls.clear()
        elif role == "tool":
            messages.append(Message("tool", (_result(message, open_calls, at),)))
        elif role == "assistant":
            said = _said(message, seals, at)
            open_calls += [block.call_id for block in said if isinstance(block, ToolCall)]
            messages.append(Message("assistant", said, message.name or None))
        else:
            messages.append(Message(role, _blocks(message.content, at), message.name or None))
    return tuple(messages)


def _context(message: Any, seals: Seals, at: str) -> tuple[Message, ...]:
    context = seals.context(message.encrypted_content)
    if context is None:
        raise InvalidRequest(
            f"{at}.encrypted_content is no context that was compacted here for this organisation. Send the messages"
            " themselves.",
            f"{at}.encrypted_content",
        )
    return context


def _said(message: Any, seals: Seals, at: str) -> tuple[Block, ...]:
    """What is sealed is the whole of it, so it wins over what is plain. What is none of ours is left out."""
    thought = seals.reasoning(message.encrypted_content) if message.encrypted_content else None
    thought = thought or message.reasoning_content
    reasoning = (Reasoning(thought),) if thought else ()
    calls = tuple(_call(call, f"{at}.tool_calls[{index}]") for index, call in enumerate(message.tool_calls))
    if not message.content and not calls:
        raise InvalidRequest(
            f"{at}.content is missing: an assistant's message has content or tool_calls.", f"{at}.content"
        )
    content = tuple(block for block in _blocks(message.content, at) if block != Text("")) if message.content else ()
    return (*reasoning, *(content if content or calls else (Text(""),)), *calls)


def _result(message: Any, open_calls: list[str], at: str) -> ToolResult:
    call_id = message.tool_call_id or next(iter(open_calls), "")
    if not call_id:
        raise InvalidRequest(f"{at} is a tool's result, but there is no call that waits for one.", f"{at}.tool_call_id")
    if call_id in open_calls:
        open_calls.remove(call_id)
    return ToolResult(call_id, _blocks(message.content, at))


def _blocks(content: Sequence[Any], at: str) -> tuple[Text | Image, ...]:
    if not content:
        raise InvalidRequest(f"{at}.content is empty: a message must have at least one part.", f"{at}.content")
    return tuple(_block(part, f"{at}.content[{index}]") for index, part in enumerate(content))


def _block(part: Any, at: str) -> Text | Image:
    match part.WhichOneof("content"):
        case "text":
            return Text(part.text)
        case "image_url":
            return _image(part.image_url, f"{at}.image_url")
        case "file":
            return _file(part.file, f"{at}.file")
    raise InvalidRequest(f"{at} is empty. Send text, image_url or file.", at)


def _image(part: Any, at: str) -> Image:
    if part.WhichOneof("source") != "image_url" or not part.image_url:
        raise InvalidRequest(f"{at}: send the image as an http(s) or a data: URL.", at)
    return Image(part.image_url, word_of(part.detail, _DETAILS, f"{at}.detail"))


def _file(part: Any, at: str) -> Text:
    """The text of a file whose content is here. One that has to be fetched was put in its place before."""
    if part.url:
        raise InvalidRequest(f"{at}.url is not supported: files are not fetched. Upload it, or send its data.", at)
    if not part.data:
        raise InvalidRequest(f"{at} is empty. Send file_id, or data.", at)
    return text_of_file(part.filename, part.data, at)


def text_of_file(name: str, content: bytes, at: str) -> Text:
    """What a model reads of a text file, or InvalidRequest."""
    if len(content) > _LARGEST_DATA_BYTES:
        raise InvalidRequest(f"{at} is larger than the {_LARGEST_DATA_BYTES // 1024**2} MiB that are read of it.", at)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidRequest(f"{at} is no text: only files of UTF-8 text can be read. Send its text.", at)
    return Text(f"File {name}:\n{text}" if name else text)


def _call(call: Any, at: str) -> ToolCall:
    if call.WhichOneof("tool") != "function":
        raise InvalidRequest(f"{at}.function is missing.", f"{at}.function")
    arguments = arguments_of(call.function.arguments, f"{at}.function.arguments")
    return ToolCall(call.id or f"call_{new_uuid().hex}", call.function.name, arguments)
