"""Prompts with images, as llama.cpp takes them: a text with markers, and the images beside it."""

import base64
import binascii
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, zip_longest
from typing import Any

from leadline.chat.request import ChatRequest, Image
from leadline.engines.format.places import parted
from leadline.engines.upstream.client import ChatClient
from leadline.engines.upstream.http import ConnectionBroken
from leadline.errors import EngineFailed, InvalidRequest

# Stands in a text for an image. The child is told it, and nobody else: what users write is never one.
MARKER = f"<{secrets.token_hex(16)}>"
# llama.cpp decodes without bounds, and would try a video player on what it does not know: it gets nothing but this.
_PNG = "data:image/png;base64"
_PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
_LONGEST_SIDE_PIXELS = 4096
_COUNT_SECONDS = 60.0
_MOST_KNOWN = 4096
_UNREADABLE = "This model cannot read an image of this request. Send it smaller, as PNG."
_BETWEEN = "."


@dataclass(frozen=True, slots=True)
class Picture:
    """`encoded` is PNG in base64."""

    encoded: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Illustrated:
    """A prompt with images: one text more than pictures, which stand between the texts."""

    texts: tuple[str, ...]
    pictures: tuple[Picture, ...]

    @property
    def body(self) -> dict[str, Any]:
        """As `POST /completion` takes it. All special tokens in it count."""
        return {
            "prompt_string": MARKER.join(self.texts),
            "multimodal_data": [picture.encoded for picture in self.pictures],
        }


@dataclass(frozen=True, slots=True)
class Layout:
    """The tokens of an illustrated prompt's texts and pictures. What a projector sets around a picture counts as it."""

    texts: tuple[int, ...]
    pictures: tuple[int, ...]

    @property
    def prompt_tokens(self) -> int:
        return sum(self.texts) + sum(self.pictures)

    def image_tokens(self, prompt_tokens: int) -> int:
        """Those of a prompt that took so many."""
        return max(0, prompt_tokens - sum(self.texts))

    def texts_within(self, tokens: int) -> int:
        """Of the prompt's first `tokens`, those of its texts."""
        found = 0
        for text, picture in zip_longest(self.texts, self.pictures, fillvalue=0):
            found += min(text, tokens)
            tokens = max(0, tokens - text - picture)
        return found


def illustrated(prompt: str, request: ChatRequest) -> Illustrated:
    """InvalidRequest where an image is missing from the prompt, or is none that llama.cpp reads."""
    texts, numbers = parted(prompt)
    if sorted(numbers) != [*range(len(request.images))]:
        raise InvalidRequest(
            "This model's chat template does not show each image of this conversation once. Put images into user "
            "messages.",
            "messages",
        )
    return Illustrated(texts, tuple(_picture(request.images[number]) for number in numbers))


def _picture(image: Image) -> Picture:
    head, _, encoded = image.url.partition(",")
    try:
        content = base64.b64decode(encoded, validate=True) if head == _PNG else b""
    except (binascii.Error, ValueError):
        content = b""
    if not 0 < _longest_side_pixels(content) <= _LONGEST_SIDE_PIXELS:
        raise InvalidRequest(_UNREADABLE, "messages")
    return Picture(encoded, blake2b(content, digest_size=16).digest())


def _longest_side_pixels(content: bytes) -> int:
    """As the header says; 0 where it is no PNG."""
    if not content.startswith(_PNG_BEGINS) or content[12:16] != b"IHDR" or len(content) < 24:
        return 0
    width, height = struct.unpack_from(">II", content, 16)
    return max(int(width), int(height))


@dataclass(slots=True)
class PictureSizes:
    """How many tokens pictures take, asked of the engine once for each. It reads a picture's size for that, and does
    not run its projector."""

    _known: dict[bytes, int] = field(default_factory=dict)
    # The tokens of the question around a picture.
    _around: int | None = None

    async def of(self, client: ChatClient, pictures: Sequence[Picture]) -> tuple[int, ...]:
        """InvalidRequest where the engine cannot read one."""
        return tuple([await self._tokens(client, picture) for picture in pictures])

    async def _tokens(self, client: ChatClient, picture: Picture) -> int:
        tokens = self._known.pop(picture.digest, None)
        if tokens is None:
            tokens = await self._asked(client, picture)
        self._known[picture.digest] = tokens
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return tokens

    async def _asked(self, client: ChatClient, picture: Picture) -> int:
        """The first one is asked for twice: what it adds the second time is its own, and the text's between."""
        try:
            once = await _counted(client, picture)
            if self._around is None:
                question = {"content": _BETWEEN, "add_special": False}
                between = len((await client.post("/tokenize", question, _COUNT_SECONDS))["tokens"])
                self._around = 2 * once + between - await _counted(client, picture, picture)
        except ConnectionBroken:
            raise
        except (EngineFailed, InvalidRequest):
            raise InvalidRequest(_UNREADABLE, "messages") from None
        return once - self._around


async def _counted(client: ChatClient, *pictures: Picture) -> int:
    """The tokens of a question with these pictures, and texts between them, so that texts are cut alike."""
    text = {"type": "text", "text": _BETWEEN}
    images = ({"type": "image_url", "image_url": {"url": f"{_PNG},{one.encoded}"}} for one in pictures)
    message = {"role": "user", "content": [text, *chain.from_iterable((image, text) for image in images)]}
    answer = await client.post("/v1/chat/completions/input_tokens", {"messages": [message]}, _COUNT_SECONDS)
    tokens: int = answer["input_tokens"]
    return tokens
