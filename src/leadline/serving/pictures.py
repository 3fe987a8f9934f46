"""Images on their way to an engine. We fetch and decode them, so that no engine fetches anything, nor meets a bomb."""

import asyncio
from base64 import b64encode
from dataclasses import dataclass, replace

from leadline.chat.request import Block, ChatRequest, Image, Message, ToolResult
from leadline.errors import InvalidRequest
from leadline.images.decode import ImageDecoder
from leadline.images.fetch import ImageFetcher

# Of one request.
MOST_IMAGES = 20
# What an engine sees of an image has no side longer than so many pixels.
_LONGEST_SIDE = {"low": 448, "auto": 1344, "high": 1344}


@dataclass(frozen=True, slots=True)
class Pictures:
    fetcher: ImageFetcher
    decoder: ImageDecoder

    async def plain(self, request: ChatRequest) -> ChatRequest:
        """The request with each image as a PNG in a `data:` URL: upright, on white, in the size that its detail asks
        for. InvalidRequest says which image cannot be had, counted from 1 on, and why."""
        wanted: dict[tuple[str, str], int] = {}
        for number, image in enumerate(request.images, 1):
            wanted.setdefault((image.url, image.detail), number)
        if not wanted:
            return request
        if len(wanted) > MOST_IMAGES:
            raise InvalidRequest(f"messages hold more than {MOST_IMAGES} images. Send fewer.", "messages")
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(self._one(*key, number)) for key, number in wanted.items()}
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        seen = {key: task.result() for key, task in tasks.items()}

        def shown(message: Message) -> Message:
            return replace(message, content=tuple(_with(block, seen) for block in message.content))

        return replace(request, messages=tuple(shown(message) for message in request.messages))

    async def close(self) -> None:
        self.fetcher.close()
        await self.decoder.close()

    async def _one(self, url: str, detail: str, number: int) -> str:
        try:
            picture = await self.decoder.decode(await self.fetcher.fetch(url), _LONGEST_SIDE[detail])
        except InvalidRequest as error:
            raise InvalidRequest(f"messages: image {number}: {error}", "messages") from None
        return f"data:image/png;base64,{b64encode(picture.content).decode()}"


def _with(block: Block, seen: dict[tuple[str, str], str]) -> Block:
    match block:
        case Image():
            return _seen(block, seen)
        case ToolResult():
            parts = (_seen(part, seen) if isinstance(part, Image) else part for part in block.content)
            return replace(block, content=tuple(parts))
    return block


def _seen(image: Image, seen: dict[tuple[str, str], str]) -> Image:
    return replace(image, url=seen[image.url, image.detail])
