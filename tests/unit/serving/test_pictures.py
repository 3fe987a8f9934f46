"""Images on their way to an engine: what it sees is ours, in order, in the size that was asked for."""

import asyncio
import struct
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from leadline.chat.request import ChatRequest, Image, Message, Text, ToolResult
from leadline.errors import InvalidRequest
from leadline.images.decode import ImageDecoder
from leadline.serving.pictures import MOST_IMAGES, Pictures

RED, BLUE = "https://northwind.example/red", "https://northwind.example/blue"


@dataclass
class Shelf:
    """A fetcher that has its images at hand; `waits` are those that never come."""

    images: dict[str, bytes]
    waits: frozenset[str] = frozenset()
    fetched: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    async def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if url in self.waits:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(url)
        if url not in self.images:
            raise InvalidRequest("The image's server answered with status 404.")
        return self.images[url]

    def close(self) -> None: ...


@pytest.fixture
async def shelf() -> AsyncIterator[tuple[Shelf, Pictures]]:
    shelf: Any = Shelf({RED: png(2000, 10, (255, 0, 0)), BLUE: png(20, 10, (0, 0, 255))})
    pictures = Pictures(shelf, ImageDecoder())
    yield shelf, pictures
    await pictures.close()


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """An image of one colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(colour) * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _asks(*blocks: Any) -> ChatRequest:
    return ChatRequest("eyes", (Message("system", (Text("Look."),)), Message("user", blocks)))


def _size(url: str) -> tuple[int, int]:
    """Width and height of a PNG in a `data:` URL."""
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    width, height = struct.unpack(">II", b64decode(content)[16:24])
    return width, height


async def test_each_image_is_a_png_in_its_place(shelf: tuple[Shelf, Pictures]) -> None:
    fetcher, pictures = shelf
    request = _asks(Text("one"), Image(RED), Text("two"), Image(BLUE, "low"), Image(RED))
    seen = (await pictures.plain(request)).messages[1].content
    assert [type(block) for block in seen] == [Text, Image, Text, Image, Image]
    red, blue, again = (block for block in seen if isinstance(block, Image))
    assert (_size(red.url), red.detail) == ((1344, 7), "auto")
    assert (_size(blue.url), blue.detail) == ((20, 10), "low")
    assert again == red
    assert sorted(fetcher.fetched) == [BLUE, RED], "an image that comes twice is fetched once"


async def test_low_detail_is_smaller(shelf: tuple[Shelf, Pictures]) -> None:
    [seen] = (await shelf[1].plain(_asks(Image(RED, "low")))).messages[1].content
    assert isinstance(seen, Image)
    assert _size(seen.url)[0] == 448


async def test_images_in_a_tools_result_are_seen(shelf: tuple[Shelf, Pictures]) -> None:
    result = ToolResult("a", (Text("here"), Image(BLUE)))
    request = ChatRequest("eyes", (Message("tool", (result,)),))
    [seen] = (await shelf[1].plain(request)).messages[0].content
    assert isinstance(seen, ToolResult)
    assert seen.content[0] == Text("here")
    assert isinstance(seen.content[1], Image)
    assert _size(seen.content[1].url) == (20, 10)


async def test_without_images_nothing_happens(shelf: tuple[Shelf, Pictures]) -> None:
    request = _asks(Text("hi"))
    assert await shelf[1].plain(request) is request
    assert shelf[0].fetched == []


async def test_one_that_fails_is_named_and_ends_the_others(shelf: tuple[Shelf, Pictures]) -> None:
    fetcher, pictures = shelf
    fetcher.waits = frozenset((BLUE,))
    with pytest.raises(
        InvalidRequest, match=r"^messages: image 2: The image's server answered with status 404\.$"
    ) as no:
        await pictures.plain(_asks(Image(BLUE), Image("https://northwind.example/none")))
    assert no.value.param == "messages"
    assert fetcher.cancelled == [BLUE]


async def test_too_many_are_refused_before_any_is_fetched(shelf: tuple[Shelf, Pictures]) -> None:
    many = [Image(f"https://northwind.example/{number}") for number in range(MOST_IMAGES + 1)]
    with pytest.raises(InvalidRequest, match="more than 20 images"):
        await shelf[1].plain(_asks(*many))
    assert shelf[0].fetched == []
