"""Pictures of one colour, as PNG."""

import base64
import struct
import zlib

# What the tests' projector knows (`projector.py`): red, green and blue, of which each is all there or not at all.
RGB = {
    **{"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)},
    **{"yellow": (255, 255, 0), "black": (0, 0, 0), "white": (255, 255, 255)},
}


def png(colour: str, width: int = 64, height: int = 64) -> bytes:
    row = b"\0" + bytes(RGB[colour]) * width
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def data_url(colour: str, width: int = 64, height: int = 64) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(colour, width, height)).decode()}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
