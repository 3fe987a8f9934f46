"""Makes GGUF of a BERT encoder as it is published: safetensors, `config.json` and `vocab.txt` in one folder.

The forms are those of the safetensors format, of GGUF version 3, and of what llama.cpp reads as architecture `bert`.
Matrices become 16-bit floats, all else stays as it is, so that the same input always gives the same file.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_F32, _F16 = 0, 1
_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _INT32 = 4, 6, 7, 8, 9, 5
_ALIGNMENT = 32
_MEAN_POOLING = 1
# Kinds of token (llama.cpp, llama_token_type).
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_SPECIAL = {"[PAD]": "padding", "[UNK]": "unknown", "[CLS]": "bos", "[SEP]": "seperator", "[MASK]": "mask"}
# So many numbers are converted at a time.
_CHUNK_NUMBERS = 1 << 18

_EMBEDDINGS = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
# These are added to, not multiplied with, and llama.cpp wants them whole.
_WHOLE = ("position_embd.weight", "token_types.weight")


@dataclass(frozen=True, slots=True)
class _Tensor:
    """`shape` as GGUF tells it, the fastest dimension first; `numbers` are 32-bit floats."""

    name: str
    shape: tuple[int, ...]
    numbers: "memoryview[float]"

    @property
    def kind(self) -> int:
        return _F16 if len(self.shape) > 1 and self.name not in _WHOLE else _F32

    @property
    def size_bytes(self) -> int:
        return len(self.numbers) * (2 if self.kind == _F16 else 4)

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self.numbers), _CHUNK_NUMBERS):
            piece = self.numbers[start : start + _CHUNK_NUMBERS]
            yield struct.pack(f"<{len(piece)}e", *piece) if self.kind == _F16 else piece.tobytes()
        yield bytes(-self.size_bytes % _ALIGNMENT)


def bert_to_gguf(name: str, safetensors: bytes, config: bytes, vocabulary: bytes) -> Iterator[bytes]:
    """The pieces of the GGUF file of an encoder whose vectors are the mean over the tokens of its last layer.
    ValueError or LookupError where the files are none of a BERT model."""
    tensors = _tensors(safetensors)
    entries = [*_model_entries(name, json.loads(config)), *_vocabulary_entries(vocabulary.decode().splitlines())]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(entries)) + b"".join(entries)
    offset = 0
    for tensor in tensors:
        dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        head += _text(tensor.name) + dimensions + struct.pack("<IQ", tensor.kind, offset)
        offset += tensor.size_bytes + -tensor.size_bytes % _ALIGNMENT
    yield head + bytes(-len(head) % _ALIGNMENT)
    for tensor in tensors:
        yield from tensor.chunks()


def _tensors(safetensors: bytes) -> list[_Tensor]:
    """The encoder's own; what classifies or pools above it is left out."""
    length = int.from_bytes(safetensors[:8], "little")
    head: dict[str, Any] = json.loads(safetensors[8 : 8 + length])
    data = memoryview(safetensors)[8 + length :]
    tensors = []
    for published, facts in head.items():
        name = _name(published)
        if name is not None:
            start, end = facts["data_offsets"]
            if facts["dtype"] != "F32" or not 0 <= start <= end <= len(data):
                raise ValueError(f"{published} is no array of 32-bit floats")
            tensors.append(_Tensor(name, tuple(reversed(facts["shape"])), data[start:end].cast("f")))
    return tensors


def _name(published: str) -> str | None:
    module, _, part = published.rpartition(".")
    if module.startswith("embeddings."):
        name = _EMBEDDINGS.get(module.removeprefix("embeddings."))
        return name and f"{name}.{part}"
    if module.startswith("encoder.layer."):
        number, _, module = module.removeprefix("encoder.layer.").partition(".")
        return f"blk.{number}.{_LAYER[module]}.{part}"
    return None


def _model_entries(name: str, config: Mapping[str, Any]) -> list[bytes]:
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise ValueError("the model is no BERT encoder")
    return [
        _entry("general.architecture", "bert"),
        _entry("general.name", name),
        _entry("general.file_type", _F16),
        _entry("bert.context_length", config["max_position_embeddings"]),
        _entry("bert.embedding_length", config["hidden_size"]),
        _entry("bert.feed_forward_length", config["intermediate_size"]),
        _entry("bert.block_count", config["num_hidden_layers"]),
        _entry("bert.attention.head_count", config["num_attention_heads"]),
        _entry("bert.attention.layer_norm_epsilon", float(config["layer_norm_eps"])),
        _entry("bert.attention.causal", value=False),
        _entry("bert.pooling_type", _MEAN_POOLING),
        _entry("tokenizer.ggml.token_type_count", config["type_vocab_size"]),
    ]


def _vocabulary_entries(words: list[str]) -> list[bytes]:
    """llama.cpp marks where a word begins, WordPiece where one goes on."""
    kinds = [_UNKNOWN if word == "[UNK]" else _CONTROL if word in _SPECIAL else _NORMAL for word in words]
    texts = [_marked(word) for word in words]
    return [
        _entry("tokenizer.ggml.model", "bert"),
        *(_entry(f"tokenizer.ggml.{what}_token_id", words.index(word)) for word, what in _SPECIAL.items()),
        _key("tokenizer.ggml.tokens", _ARRAY) + struct.pack("<IQ", _STRING, len(texts)) + b"".join(map(_text, texts)),
        _key("tokenizer.ggml.token_type", _ARRAY) + struct.pack(f"<IQ{len(kinds)}i", _INT32, len(kinds), *kinds),
    ]


def _marked(word: str) -> str:
    if word in _SPECIAL:
        return word
    return word[2:] if word.startswith("##") else f"▁{word}"


def _entry(key: str, value: "str | int | float") -> bytes:
    match value:
        case str():
            return _key(key, _STRING) + _text(value)
        case bool():
            return _key(key, _BOOL) + struct.pack("<?", value)
        case int():
            return _key(key, _UINT32) + struct.pack("<I", value)
        case float():
            return _key(key, _FLOAT32) + struct.pack("<f", value)


def _key(key: str, kind: int) -> bytes:
    return _text(key) + struct.pack("<I", kind)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
