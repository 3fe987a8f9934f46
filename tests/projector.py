"""A tiny projector for the default model: it turns a picture's colours into the model's own words for them.

Everything in it is computed here, in plain Python: one layer of a vision transformer that passes on each patch's mean
colour, and two matrices that turn a colour of the cube's corners into the embedding of its name. llama.cpp runs it as
it runs any other.
"""

import fcntl
import math
import random
import struct
from array import array
from pathlib import Path
from typing import Any

from tests.scripted.gguf import string, value
from tests.weights import FOLDER, default_weights

# The colours of the cube's corners; the bits of an index are red, green and blue.
COLOURS = ("black", "blue", "green", "cyan", "red", "purple", "yellow", "white")
# Every picture is brought to so many pixels by so many, and cut into patches; each of them becomes a token.
PATCH, SIDE = 16, 64
PICTURE_TOKENS = (SIDE // PATCH) ** 2
WIDTH, WIDER = 64, 128
_STEEPNESS = 8.0
_ALIGNMENT = 32
_Q8_0, _Q8_0_NUMBERS, _Q8_0_BYTES = 8, 32, 34
_F32 = 0
_PLAIN_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

Tensor = tuple[tuple[int, ...], array]


def default_projector() -> Path:
    """The projector's file, made once for all runs."""
    weights = default_weights()
    path = FOLDER.parent / "projectors" / "smollm2-colours.mmproj.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = projector(weights)
        if not path.is_file() or path.read_bytes() != made:
            path.write_bytes(made)
    return path


def projector(weights: Path) -> bytes:
    """The projector of the model in this file, whose embeddings are in Q8_0."""
    words = embeddings(weights, [f"Ġ{colour}" for colour in COLOURS])
    said: dict[str, Any] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": "Colours",
        "general.file_type": 0,
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        "clip.vision.image_size": SIDE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": WIDTH,
        "clip.vision.feed_forward_length": WIDER,
        "clip.vision.block_count": 1,
        "clip.vision.projection_dim": len(words[0]),
        "clip.vision.attention.head_count": 4,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }
    return written(said, tensors(words))


def tensors(words: list[list[float]]) -> dict[str, Tensor]:
    """By name. Attention and the layer within add nothing to what passes them by; they are computed all the same."""
    chance = random.Random(0)
    side, wide = len(words[0]), len(words)
    made: dict[str, Tensor] = {
        "v.patch_embd.weight": _mean_colours(),
        "v.patch_embd.bias": _zeros(WIDTH),
        "v.position_embd.weight": _zeros(WIDTH, PICTURE_TOKENS),
        "v.blk.0.attn_out.weight": _zeros(WIDTH, WIDTH),
        "v.blk.0.attn_out.bias": _zeros(WIDTH),
        "v.blk.0.ffn_up.weight": _noise(chance, WIDTH, WIDER),
        "v.blk.0.ffn_up.bias": _zeros(WIDER),
        "v.blk.0.ffn_down.weight": _zeros(WIDER, WIDTH),
        "v.blk.0.ffn_down.bias": _zeros(WIDTH),
    }
    for name in ("attn_q", "attn_k", "attn_v"):
        made[f"v.blk.0.{name}.weight"] = _noise(chance, WIDTH, WIDTH)
        made[f"v.blk.0.{name}.bias"] = _zeros(WIDTH)
    for name in ("ln1", "ln2"):
        made[f"v.blk.0.{name}.weight"] = ((WIDTH,), array("f", [1.0] * WIDTH))
        made[f"v.blk.0.{name}.bias"] = _zeros(WIDTH)
    made["mm.0.weight"] = _corners()
    # Of a picture of one colour only its own corner is above zero, and there it is what the next matrix divides by.
    made["mm.0.bias"] = ((wide,), array("f", [-2 * _STEEPNESS] * wide))
    made["mm.2.weight"] = (
        (wide, side),
        array("f", [word[number] / _STEEPNESS for number in range(side) for word in words]),
    )
    made["mm.2.bias"] = _zeros(side)
    return made


def _mean_colours() -> Tensor:
    """The mean of each colour of a patch, in the first three numbers."""
    pixels, numbers = PATCH * PATCH, array("f")
    for out in range(WIDTH):
        for colour in range(3):
            numbers.extend([1 / pixels if out == colour else 0.0] * pixels)
    return (PATCH, PATCH, 3, WIDTH), numbers


def _corners() -> Tensor:
    """How near the mean of a patch is to each corner of the cube."""
    numbers = array("f")
    for corner in range(len(COLOURS)):
        numbers.extend([_STEEPNESS if corner & bit else -_STEEPNESS for bit in (4, 2, 1)] + [0.0] * (WIDTH - 3))
    return (WIDTH, len(COLOURS)), numbers


def _zeros(*dimensions: int) -> Tensor:
    return dimensions, array("f", bytes(4 * math.prod(dimensions)))


def _noise(chance: random.Random, *dimensions: int) -> Tensor:
    return dimensions, array("f", [chance.gauss(0, 0.02) for _ in range(math.prod(dimensions))])


def written(said: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """A GGUF file with these tensors of 32-bit floats."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(said))
    head += b"".join(string(key) + value(item) for key, item in said.items())
    data = b""
    for name, (dimensions, numbers) in tensors.items():
        head += string(name)
        head += struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, _F32, len(data))
        data += _aligned(numbers.tobytes())
    return _aligned(head) + data


def _aligned(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)


def embeddings(weights: Path, words: list[str]) -> list[list[float]]:
    """The embeddings of these tokens of the model in the file."""
    data = weights.read_bytes()
    _, _, tensors, entries = struct.unpack_from("<4sIQQ", data)
    at, numbers = 24, {}
    for _ in range(entries):
        key, at = _text(data, at)
        [kind] = struct.unpack_from("<I", data, at)
        if key == b"tokenizer.ggml.tokens":
            numbers = {token: number for number, token in enumerate(_texts(data, at + 4))}
        at = _after(data, at + 4, kind)
    place, width, kind = 0, 0, -1
    for _ in range(tensors):
        name, at = _text(data, at)
        [count] = struct.unpack_from("<I", data, at)
        dimensions = struct.unpack_from(f"<{count}Q", data, at + 4)
        at += 4 + 8 * count
        if name == b"token_embd.weight":
            width, (kind, place) = dimensions[0], struct.unpack_from("<IQ", data, at)
        at += 12
    assert kind == _Q8_0
    start = at + -at % _ALIGNMENT + place
    row_bytes = width // _Q8_0_NUMBERS * _Q8_0_BYTES
    return [_row(data, start + numbers[word.encode()] * row_bytes, row_bytes) for word in words]


def _row(data: bytes, start: int, row_bytes: int) -> list[float]:
    row: list[float] = []
    for at in range(start, start + row_bytes, _Q8_0_BYTES):
        scale, *whole = struct.unpack_from(f"<e{_Q8_0_NUMBERS}b", data, at)
        row += [scale * number for number in whole]
    return row


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    [length] = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length], at + 8 + length


def _texts(data: bytes, at: int) -> list[bytes]:
    _, count = struct.unpack_from("<IQ", data, at)
    at, found = at + 12, []
    for _ in range(count):
        text, at = _text(data, at)
        found.append(text)
    return found


def _after(data: bytes, at: int, kind: int) -> int:
    """Where a value of this kind ends."""
    if kind == 8:
        return _text(data, at)[1]
    if kind != 9:
        return at + _PLAIN_SIZES[kind]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _PLAIN_SIZES:
        return at + count * _PLAIN_SIZES[inner]
    for _ in range(count):
        at = _after(data, at, inner)
    return at
