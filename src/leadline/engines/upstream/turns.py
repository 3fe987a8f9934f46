"""The turns of a conversation as every server's chat template takes them: one system message, at the beginning; then
user and assistant in turn; images only with a user."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from leadline.chat.request import Block, Image, Message, Text, ToolResult
from leadline.engines.format.conversation import LATE_SYSTEM

_SHOWN = Text("The image follows.")


def settled(messages: Iterable[Message]) -> list[Message]:
    """The same conversation. A later system message is told to the model as the user's, a tool's images after its
    results, and what two messages of one role say as one."""
    turns: list[Message] = []
    for message in _images_after_results(messages):
        late = message.role == "system" and turns and turns[-1].role != "system"
        _add(turns, Message("user", (Text(LATE_SYSTEM + _joined(message)),)) if late else message)
    return turns


def _images_after_results(messages: Iterable[Message]) -> Iterator[Message]:
    images: list[Block] = []
    for message in messages:
        if message.role == "tool":
            [result] = message.content
            assert isinstance(result, ToolResult)
            seen = [block for block in result.content if isinstance(block, Image)]
            images += seen
            texts = tuple(block for block in result.content if isinstance(block, Text))
            yield replace(message, content=(replace(result, content=texts or (_SHOWN,)),)) if seen else message
            continue
        if images:
            yield Message("user", tuple(images))
            images.clear()
        yield message
    if images:
        yield Message("user", tuple(images))


def _joined(message: Message) -> str:
    return "\n".join(block.text for block in message.content if isinstance(block, Text))


def _add(turns: list[Message], message: Message) -> None:
    """As a turn of its own, or as a part of the one before. Each tool's result stays alone."""
    last = turns[-1] if turns else None
    if last is not None and message.role != "tool" and (last.role, last.name) == (message.role, message.name):
        turns[-1] = replace(last, content=last.content + message.content)
    else:
        turns.append(message)
