"""Reads what a GGUF file says of its model (GGUF specification, version 3; little-endian). The file is not trusted."""

import struct
from pathlib import Path
from typing import BinaryIO

from leadline.weights.store import WeightsUnusable, check_gguf

_HEAD_BYTES = 24
_STRING, _ARRAY = 8, 9
# Struct formats of the plain value types by their number.
_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LONGEST_KEY_BYTES = 65_535
_LONGEST_STRING_BYTES = 64 * 1024 * 1024
_UNSAID_CONTEXT_TOKENS = 2048


def context_tokens(path: Path) -> int:
    """The context that the model was trained for. WeightsUnusable where the file is damaged."""
    check_gguf(path)
    try:
        with path.open("rb") as file:
            _, _, _, entries = struct.unpack("<4sIQQ", file.read(_HEAD_BYTES))
            for _ in range(entries):
                key = _string(file, _LONGEST_KEY_BYTES)
                value = _value(file)
                if key.endswith(b".context_length") and isinstance(value, int):
                    return max(1, value)
    except (struct.error, KeyError, ValueError):
        raise WeightsUnusable(f"{path.name} is damaged: its description cannot be read.") from None
    return _UNSAID_CONTEXT_TOKENS


def _value(file: BinaryIO) -> object:
    """The next value; None for strings and arrays, which are only passed over."""
    [kind] = struct.unpack("<I", file.read(4))
    if kind == _STRING:
        _string(file, _LONGEST_STRING_BYTES)
        return None
    if kind == _ARRAY:
        _pass_array(file)
        return None
    form = f"<{_PLAIN[kind]}"
    [value] = struct.unpack(form, file.read(struct.calcsize(form)))
    return value


def _pass_array(file: BinaryIO) -> None:
    kind, count = struct.unpack("<IQ", file.read(12))
    if kind == _STRING:
        for _ in range(count):
            _string(file, _LONGEST_STRING_BYTES)
    elif kind in _PLAIN:
        file.seek(count * struct.calcsize(f"<{_PLAIN[kind]}"), 1)
    else:
        raise ValueError


def _string(file: BinaryIO, longest: int) -> bytes:
    [length] = struct.unpack("<Q", file.read(8))
    if length > longest:
        raise ValueError
    text = file.read(length)
    if len(text) != length:
        raise ValueError
    return text
