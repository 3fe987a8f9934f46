"""Where images stand in a prompt: each is rendered as a place, a text that no user can know, and the prompt is cut at
the places afterwards."""

import re
import secrets
from dataclasses import replace

from leadline.chat.request import Block, ChatRequest, Image, Message, Text, ToolResult

_SECRET = secrets.token_hex(16)
_PLACE = re.compile(rf"\[{_SECRET}:(\d+)\]")


def placed(request: ChatRequest) -> ChatRequest:
    """The request with places as the URLs of its images, by their numbers in `request.images`."""
    if not request.images:
        return request
    numbers = iter(range(len(request.images)))

    def part(block: Text | Image) -> Text | Image:
        return Image(f"[{_SECRET}:{next(numbers)}]") if isinstance(block, Image) else block

    def with_places(block: Block) -> Block:
        match block:
            case Image():
                return part(block)
            case ToolResult():
                return replace(block, content=tuple(map(part, block.content)))
        return block

    messages = (replace(message, content=tuple(map(with_places, message.content))) for message in request.messages)
    return replace(request, messages=tuple[Message, ...](messages))


def parted(prompt: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The texts around the places, and the numbers of the images that stand between them."""
    parts = _PLACE.split(prompt)
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))
