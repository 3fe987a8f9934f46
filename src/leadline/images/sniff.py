"""What an image is and how large, read from its first bytes before anything decodes it.

Content types and file names are not asked: the bytes decide. InvalidRequest says what is refused.
"""

import struct
from dataclasses import dataclass
from typing import Literal

from leadline.errors import InvalidRequest

Kind = Literal["PNG", "JPEG", "WEBP", "GIF"]

MOST_PIXELS = 25_000_000
# libwebp by way of Pillow keeps four copies of an image.
MOST_WEBP_PIXELS = 6_000_000
LONGEST_SIDE_PIXELS = 12_000

# Markers of JPEG without a length: restarts, the beginning, a private one.
_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
# Frames that libjpeg decodes: baseline, extended and progressive, by Huffman or arithmetic coding.
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
_OTHER_FRAMES = frozenset((0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF))
# Markers and bytes of padding before the frame.
_MOST_MARKERS = 4096


@dataclass(frozen=True, slots=True)
class Header:
    """`width` and `height` in pixels, as the header says, before the image is turned upright."""

    kind: Kind
    width: int
    height: int


def sniff(content: bytes) -> Header:
    """The header of a PNG, JPEG, WebP or GIF whose size is within the bounds."""
    try:
        header = _header(content)
    except (struct.error, IndexError):
        header = None
    if header is None or not header.width or not header.height:
        raise InvalidRequest("The image's header is damaged or cut short.")
    if max(header.width, header.height) > LONGEST_SIDE_PIXELS:
        raise InvalidRequest(f"The image is larger than {LONGEST_SIDE_PIXELS} pixels on a side.")
    most = MOST_WEBP_PIXELS if header.kind == "WEBP" else MOST_PIXELS
    if header.width * header.height > most:
        of_kind = "A WebP" if header.kind == "WEBP" else "The"
        raise InvalidRequest(f"{of_kind} image must not have more than {most // 1_000_000} million pixels.")
    return header


def _header(content: bytes) -> Header | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(content)
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content.startswith((b"GIF87a", b"GIF89a")):
        return _gif(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp(content)
    raise InvalidRequest("The image is not a PNG, JPEG, WebP or GIF.")


def _png(content: bytes) -> Header | None:
    length, name, width, height = struct.unpack_from(">I4sII", content, 8)
    return Header("PNG", width, height) if (length, name) == (13, b"IHDR") else None


def _gif(content: bytes) -> Header | None:
    """The canvas; its first frame must not be larger, which the decoder looks at."""
    return Header("GIF", *struct.unpack_from("<HH", content, 6))


def _webp(content: bytes) -> Header | None:
    name = content[12:16]
    if name == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        return Header("WEBP", width, height) if len(content) >= 30 else None
    if name == b"VP8L" and content[20] == 0x2F:
        [bits] = struct.unpack_from("<I", content, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if name == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", content, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg(content: bytes) -> Header | None:
    """Walks from marker to marker up to the frame."""
    at = 2
    for _ in range(_MOST_MARKERS):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        at += 2
        if marker in _BARE_MARKERS:
            continue
        if marker in _OTHER_FRAMES:
            raise InvalidRequest("The image is a JPEG of a kind that is not supported: lossless or hierarchical.")
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 3)
            return Header("JPEG", width, height)
        [length] = struct.unpack_from(">H", content, at)
        if length < 2 or marker in (0xD9, 0xDA):
            return None
        at += length
    return None
