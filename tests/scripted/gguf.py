"""Makes small GGUF files: their description is whole, their tensors have no numbers."""

import struct
from typing import Any

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4


def string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(said: Any) -> bytes:
    """The kind and the value: text, numbers, truths, and lists of texts or of 32-bit numbers."""
    match said:
        case bool():
            return struct.pack("<I?", 7, said)
        case str():
            return struct.pack("<I", 8) + string(said)
        case int():
            return struct.pack("<II", 4, said)
        case float():
            return struct.pack("<If", 6, said)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(said)) + b"".join(map(string, said))
        case [float(), *_]:
            return struct.pack("<IIQ", 9, 6, len(said)) + struct.pack(f"<{len(said)}f", *said)
        case _:
            return struct.pack("<IIQ", 9, 5, len(said)) + struct.pack(f"<{len(said)}i", *said)


def gguf(said: dict[str, Any], *tensors: tuple[int, ...]) -> bytes:
    """Tensors by their dimensions, without their numbers."""
    entries = b"".join(string(key) + value(item) for key, item in said.items())
    for dimensions in tensors:
        entries += string("tensor") + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, 0, 0)
    return struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(said)) + entries


PROJECTOR = {"general.architecture": "clip", "clip.has_vision_encoder": True, "clip.vision.image_mean": [0.5, 0.5, 0.5]}
TOKENS = {
    "<unk>": UNKNOWN,
    "<s>": CONTROL,
    "</s>": CONTROL,
    "hello": NORMAL,
    "<tool_call>": USER_DEFINED,
    "[INST]": USER_DEFINED,
    "    ": USER_DEFINED,
    "<end_of_turn>": NORMAL,
    "\n": CONTROL,
}
SMALL = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 15,
    "llama.block_count": 3,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": list(TOKENS),
    "tokenizer.ggml.scores": [0, 1, 2],
    "tokenizer.ggml.token_type": list(TOKENS.values()),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.chat_template": "{{ bos_token }}é",
    "llama.context_length": 4096,
}
