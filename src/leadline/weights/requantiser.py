"""The child process that writes a GGUF file anew with other types of tensors.

Run as `python -m leadline.weights.requantiser SOURCE TARGET FROM:TO…`, with types by GGUF's number. It writes a line
`done total` of bytes after each tensor. The arithmetic, and the reading and writing of what describes the tensors, are
the C functions of ggml in the package xllamacpp, so that the numbers are those that the engine computes with. A file
that lies about itself costs this process at most.
"""

import ctypes
import mmap
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# ggml's names of the types, by their number: those from which there is a way to 32-bit floats.
_NAMES = {2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0"}
# llama.cpp's number of the whole file's type, by that of its tensors (llama.h, llama_ftype).
_FILE_TYPES = {2: 2, 8: 7}
# So many numbers are converted at a time.
_CHUNK_NUMBERS = 1 << 20


class _InitParams(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class _Tensor:
    """`start` is its place in the file; `width` the numbers of a row."""

    name: bytes
    kind: int
    start: int
    size_bytes: int
    width: int


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    kinds = {int(old): int(new) for old, new in (pair.split(":") for pair in sys.argv[3:])}
    requantise(source, target, kinds)


def requantise(source: Path, target: Path, kinds: Mapping[int, int]) -> None:
    """Write `source` to `target` with those tensors of the new kind that have an old one, down to the disk itself."""
    ggml = _library()
    description = ggml.gguf_init_from_file(os.fsencode(source), _InitParams(no_alloc=True, context=None))
    if not description:
        raise ValueError("the description cannot be read")
    tensors = _tensors(ggml, description, source.stat().st_size)
    for tensor in tensors:
        if tensor.kind in kinds:
            ggml.gguf_set_tensor_type(description, tensor.name, kinds[tensor.kind])
    ggml.gguf_set_val_u32(description, b"general.file_type", _FILE_TYPES[next(iter(kinds.values()))])
    if not ggml.gguf_write_to_file(description, os.fsencode(target), True):  # noqa: FBT003 (C)
        raise OSError("the description cannot be written")
    alignment, total = ggml.gguf_get_alignment(description), sum(tensor.size_bytes for tensor in tensors)
    with (
        source.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as old,
        target.open("ab") as new,
    ):
        done = 0
        for tensor in tensors:
            written = _write(ggml, old, new, tensor, kinds.get(tensor.kind))
            new.write(bytes(-written % alignment))
            done += tensor.size_bytes
            sys.stdout.write(f"{done} {total}\n")
            sys.stdout.flush()
        new.flush()
        os.fsync(new.fileno())


def _tensors(ggml: Any, description: int, size_bytes: int) -> list[_Tensor]:
    """ValueError where the file ends before one does."""
    data = ggml.gguf_get_data_offset(description)
    tensors = [
        _Tensor(
            ggml.gguf_get_tensor_name(description, number),
            ggml.gguf_get_tensor_type(description, number),
            data + ggml.gguf_get_tensor_offset(description, number),
            ggml.gguf_get_tensor_size(description, number),
            ggml.gguf_get_tensor_ne(description, number)[0],
        )
        for number in range(ggml.gguf_get_n_tensors(description))
    ]
    if any(tensor.start + tensor.size_bytes > size_bytes for tensor in tensors):
        raise ValueError("the file is cut")
    return tensors


def _write(ggml: Any, old: mmap.mmap, new: Any, tensor: _Tensor, kind: int | None) -> int:
    """Returns how many bytes were written."""
    if kind is None:
        return int(new.write(memoryview(old)[tensor.start : tensor.start + tensor.size_bytes]))
    row_bytes, new_row_bytes = (ggml.ggml_row_size(one, tensor.width) for one in (tensor.kind, kind))
    to_floats = getattr(ggml, f"dequantize_row_{_NAMES[tensor.kind]}")
    rows, step, written = tensor.size_bytes // row_bytes, max(1, _CHUNK_NUMBERS // tensor.width), 0
    floats, result = (ctypes.c_float * (step * tensor.width))(), (ctypes.c_char * (step * new_row_bytes))()
    for first in range(0, rows, step):
        count = min(step, rows - first)
        start = tensor.start + first * row_bytes
        packed = (ctypes.c_char * (count * row_bytes)).from_buffer(old, start)
        to_floats(packed, floats, count * tensor.width)
        del packed  # or the map cannot be closed
        made = ggml.ggml_quantize_chunk(kind, floats, result, 0, count, tensor.width, None)
        written += new.write(memoryview(result)[:made])
    return written


def _library() -> Any:
    """ggml, as it is in xllamacpp; its Python module is not loaded. OSError or AttributeError where it has none of
    these functions for others."""
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise OSError("xllamacpp is not installed")
    ggml = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("xllamacpp*.so"))))
    pointer, number, size, text, kind = (
        *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t, ctypes.c_char_p),
        ctypes.c_int,
    )
    signatures: dict[str, tuple[Any, ...]] = {
        "gguf_init_from_file": (pointer, text, _InitParams),
        "gguf_write_to_file": (ctypes.c_bool, pointer, text, ctypes.c_bool),
        "gguf_set_val_u32": (None, pointer, text, ctypes.c_uint32),
        "gguf_set_tensor_type": (None, pointer, text, kind),
        "gguf_get_alignment": (size, pointer),
        "gguf_get_data_offset": (size, pointer),
        "gguf_get_n_tensors": (number, pointer),
        "gguf_get_tensor_name": (text, pointer, number),
        "gguf_get_tensor_type": (kind, pointer, number),
        "gguf_get_tensor_offset": (size, pointer, number),
        "gguf_get_tensor_size": (size, pointer, number),
        "gguf_get_tensor_ne": (ctypes.POINTER(number), pointer, number),
        "ggml_row_size": (size, kind, number),
        "ggml_quantize_chunk": (size, kind, pointer, pointer, number, number, number, pointer),
        **{f"dequantize_row_{name}": (None, pointer, pointer, number) for name in _NAMES.values()},
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    return ggml


if __name__ == "__main__":
    main()
