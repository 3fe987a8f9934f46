"""What parent and child say to each other: messages in MessagePack, each behind its length of four bytes,
little-endian, over one Unix socket that all requests share.

The parent says who it is first (`Hello`), in one message, or the child hangs up. Then each message of the parent has a
number of its choice, and answers carry it: `Began`, `Wrote`…, `Ended` for a `Generate`, one answer for each other
message but `Cancel`, and `Failed` for whatever cannot be done. What one step of the pipeline brought goes out in one
write. Child and parent are of one version, so nothing here has to be kept for older ones.
"""

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

MOST_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct("<I")

# A part of a prompt: a token, or a text and whether texts of special tokens in it are those tokens.
Part = int | tuple[str, bool]


class Broken(Exception):
    """What came is no message."""


class Message(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """What either side may say."""


class Hello(Message, frozen=True):
    key: str


class Generate(Message, frozen=True):
    """Continue `prompt` by at most `most_tokens`. `grammar` forces the form; `kept` are special tokens that are written
    as their texts; `logprobs`: those of the tokens are told. Prefixes are shared only within `scope`. 0 and None turn
    `top_k` and `min_p` off; a `temperature` of 0 takes the likeliest token."""

    number: int
    prompt: list[Part]
    most_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    seed: int
    grammar: str | None
    kept: list[str]
    logprobs: bool
    scope: str


class Cancel(Message, frozen=True):
    number: int


class Count(Message, frozen=True):
    number: int
    prompt: list[Part]


class Tokenize(Message, frozen=True):
    number: int
    prompt: list[Part]


class Ask(Message, frozen=True):
    """For a sign of life."""

    number: int


class Began(Message, frozen=True):
    number: int
    prompt_tokens: int
    cached_tokens: int


class Wrote(Message, frozen=True):
    """`tokens` were made; their `text` may be behind by a part of a character. `logprobs` are of each token."""

    number: int
    text: str
    tokens: int
    logprobs: list[tuple[bytes, float]]


class Ended(Message, frozen=True):
    number: int
    reason: Literal["stop", "length"]
    cached_tokens: int


class Counted(Message, frozen=True):
    number: int
    tokens: int


class Tokens(Message, frozen=True):
    number: int
    tokens: list[tuple[int, bytes]]


class Alive(Message, frozen=True):
    """It is, and so many requests run."""

    number: int
    running: int


class Pauses(Message, frozen=True):
    """The child makes its pipeline anew and says nothing until it has: `ends` tells that."""

    ends: bool


class Failed(Message, frozen=True):
    """`invalid`: the request is one that cannot be run."""

    number: int
    why: Literal["invalid", "failed"]


FromParent = Hello | Generate | Cancel | Count | Tokenize | Ask
FromChild = Began | Wrote | Ended | Counted | Tokens | Alive | Pauses | Failed

_encoder = msgspec.msgpack.Encoder()
decode_from_parent = msgspec.msgpack.Decoder(FromParent).decode
decode_from_child = msgspec.msgpack.Decoder(FromChild).decode


def encoded(message: Message) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts what was read into messages' bytes."""

    def __init__(self, most_bytes: int = MOST_FRAME_BYTES) -> None:
        self._most_bytes = most_bytes
        self._unread = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The whole messages that `piece` ends. Broken where one is too long."""
        self._unread += piece
        at = 0
        while len(self._unread) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._unread, at)
            if length > self._most_bytes:
                raise Broken
            end = at + _LENGTH.size + length
            if len(self._unread) < end:
                break
            yield bytes(self._unread[at + _LENGTH.size : end])
            at = end
        del self._unread[:at]
