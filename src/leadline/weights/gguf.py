"""Reads what a GGUF file says of its model (GGUF specification, version 3; little-endian). The file is not trusted."""

# ruff: noqa: RUF001 (DeepSeek writes its tokens with a fullwidth bar)

import math
import mmap
import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from leadline.weights.store import WeightsUnusable, check_gguf

# The description of a vocabulary of 260,000 tokens takes 15 MiB.
_LARGEST_DESCRIPTION_BYTES = 256 * 1024 * 1024
_LONGEST_KEY_BYTES = 65_535
_LONGEST_STRING_BYTES = 64 * 1024 * 1024
_LONGEST_TEMPLATE_BYTES = 1024 * 1024
_UNSAID_CONTEXT_TOKENS = 2048

_LONGEST_WORD = 200
_MOST_DIMENSIONS = 8

Pooling = Literal["mean", "cls", "last", "rank"]
_POOLINGS: dict[int, Pooling] = {1: "mean", 2: "cls", 3: "last", 4: "rank"}
# By general.file_type (llama.h, llama_ftype).
_QUANTISATIONS = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"},
    **{12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K"},
    **{19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL"},
    **{26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16"},
    **{36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4"},
}

_HEAD_BYTES = 24
_STRING, _ARRAY = 8, 9
# Struct formats of the plain value types by their number.
_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LENGTH = struct.Struct("<Q")
_LAYER = re.compile(r"^blk\.\d+\.")

# Kinds of token (llama.cpp, llama_token_type).
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
# Tokens that llama.cpp takes as control tokens by their text, whatever their kind (llama-vocab.cpp).
_CONTROL_BY_TEXT = frozenset(
    text.encode()
    for text in (
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>"),
        *("<|return|>", "<|call|>", "<EOT>", "_<EOT>", "[EOT]", "<end_of_utterance>", "<｜end▁of▁sentence｜>"),
        *("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    )
)
# Vocabularies before which llama.cpp sets the token of beginning where the file does not say (llama-vocab.cpp).
_BEGUN_MODELS = ("llama", "bert")
_BEGUN_BPE = frozenset(
    ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken", "chameleon")
)


@dataclass(frozen=True, slots=True)
class Make:
    """What the file says of how its model is made. `parameters`, and `cache_bytes` (what a token takes in a cache of 16
    bits), are 0 where it does not say, as where it is one of several files. `pooling` is how a model makes embeddings,
    or that it ranks."""

    name: str | None = None
    architecture: str | None = None
    quantisation: str | None = None
    parameters: int = 0
    cache_bytes: int = 0
    pooling: Pooling | None = None
    # Of which family a projector is.
    projector: str | None = None
    # How texts become tokens, and what the weights are made of: names without the layer's number, and types by number.
    tokenizer: str | None = None
    tensors: frozenset[tuple[str, int]] = frozenset()

    @property
    def embeds(self) -> bool:
        """Whether it makes embeddings, and no text."""
        return self.pooling in ("mean", "cls", "last")


@dataclass(frozen=True, slots=True)
class Description:
    """What the file says of its model's texts. `chat_template` is Jinja. `bos` and `eos` are the texts of the tokens of
    beginning and end; a model that `adds_bos` wants the former before each prompt. `special_tokens` are the texts that
    a tokenizer may turn into a token that is no text: control tokens, the unknown token, and those user-defined tokens
    that look like markup (others are ordinary text, such as runs of spaces)."""

    context_tokens: int
    chat_template: str | None
    bos: str | None
    eos: str | None
    adds_bos: bool
    special_tokens: tuple[str, ...]
    vocabulary_tokens: int = 0
    make: Make = Make()


def context_tokens(path: Path) -> int:
    """The context that the model was trained for. WeightsUnusable where the file is damaged."""
    with _Reader(path) as reader:
        for key, kind in reader.entries():
            value = reader.value(kind)
            if key.endswith(".context_length") and isinstance(value, int):
                return max(1, value)
    return _UNSAID_CONTEXT_TOKENS


def describe(path: Path) -> Description:
    """Reads the whole description: about 0.2 s for 150,000 tokens. WeightsUnusable where the file is damaged."""
    context = _UNSAID_CONTEXT_TOKENS
    said: dict[str, object] = {}
    with _Reader(path) as reader:
        for key, kind in reader.entries():
            said[key] = value = reader.value(kind)
            if key.endswith(".context_length") and isinstance(value, int):
                context = max(1, value)
        tokens, kinds = said.get("tokenizer.ggml.tokens"), said.get("tokenizer.ggml.token_type")
        vocabulary = tokens if isinstance(tokens, _Strings) else _Strings(b"", [])
        template = said.get("tokenizer.chat_template")
        if isinstance(template, bytes) and len(template) > _LONGEST_TEMPLATE_BYTES:
            raise ValueError
        return Description(
            context_tokens=context,
            chat_template=template.decode() if isinstance(template, bytes) else None,
            bos=vocabulary.text(said.get("tokenizer.ggml.bos_token_id")),
            eos=vocabulary.text(said.get("tokenizer.ggml.eos_token_id")),
            adds_bos=_adds_bos(said),
            special_tokens=_special(vocabulary, kinds if isinstance(kinds, array) else array("i")),
            vocabulary_tokens=len(vocabulary),
            make=_make(said, *((0, frozenset()) if _number(said, "split.count") > 1 else reader.tensors())),
        )


def _make(said: dict[str, object], parameters: int, tensors: frozenset[tuple[str, int]]) -> Make:
    architecture = _text(said, "general.architecture")
    file_type, pooling = said.get("general.file_type"), _number(said, f"{architecture}.pooling_type")
    return Make(
        *(_text(said, "general.name"), architecture),
        _QUANTISATIONS.get(file_type) if isinstance(file_type, int) else None,
        *(parameters, _cache_bytes(said, architecture)),
        _POOLINGS.get(pooling),
        *(_text(said, "clip.projector_type"), _text(said, "tokenizer.ggml.model")),
        tensors=tensors,
    )


def _cache_bytes(said: dict[str, object], architecture: str | None) -> int:
    """Two bytes for each number of a token's keys and values in every layer."""
    numbers = (_number(said, f"{architecture}.{name}") for name in ("block_count", "embedding_length"))
    layers, width = numbers
    every = said.get(f"{architecture}.attention.head_count")
    heads = max(every) if isinstance(every, array) and every else every if isinstance(every, int) else 0
    shared = said.get(f"{architecture}.attention.head_count_kv", heads)
    cached_heads = sum(shared) if isinstance(shared, array) else layers * shared if isinstance(shared, int) else 0
    usual = width // heads if heads > 0 else 0
    lengths = (_number(said, f"{architecture}.attention.{name}_length") or usual for name in ("key", "value"))
    return max(0, 2 * cached_heads * sum(lengths))


def _number(said: dict[str, object], key: str) -> int:
    value = said.get(key)
    return value if isinstance(value, int) else 0


def _text(said: dict[str, object], key: str) -> str | None:
    value = said.get(key)
    return value.decode("utf-8", "replace")[:_LONGEST_WORD] if isinstance(value, bytes) else None


def _adds_bos(said: dict[str, object]) -> bool:
    stated = said.get("tokenizer.ggml.add_bos_token")
    if isinstance(stated, bool):
        return stated
    model, pre = (said.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    words = [word.decode("utf-8", "replace") if isinstance(word, bytes) else "" for word in (model, pre)]
    return words[0] in _BEGUN_MODELS or (words[0] == "gpt2" and words[1] in _BEGUN_BPE)


def _special(vocabulary: "_Strings", kinds: "array[int]") -> tuple[str, ...]:
    texts = {text for text in vocabulary if text in _CONTROL_BY_TEXT}
    for number, kind in enumerate(kinds[: len(vocabulary)]):
        if kind in (_CONTROL, _UNKNOWN) or (kind == _USER_DEFINED and _looks_like_markup(vocabulary[number])):
            texts.add(vocabulary[number])
    decoded = {text.decode("utf-8", "replace") for text in texts}
    return tuple(sorted(text for text in decoded if text.strip()))


def _looks_like_markup(text: bytes) -> bool:
    return len(text) > 2 and text[:1] + text[-1:] in (b"<>", b"[]")


@dataclass(frozen=True, slots=True)
class _Strings:
    """An array of strings within `data`; `starts` are the places of their lengths."""

    data: "mmap.mmap | bytes"
    starts: list[int]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> bytes:
        start = self.starts[number]
        [length] = _LENGTH.unpack_from(self.data, start)
        return self.data[start + 8 : start + 8 + length]

    def __iter__(self) -> Iterator[bytes]:
        return (self[number] for number in range(len(self)))

    def text(self, number: object) -> str | None:
        if not isinstance(number, int) or not 0 <= number < len(self.starts):
            return None
        return self[number].decode("utf-8", "replace")


class _Reader:
    """The entries of one file's description, in their order; each value must be read before the next entry. What cannot
    be read is WeightsUnusable."""

    def __init__(self, path: Path) -> None:
        check_gguf(path)
        self._name = path.name
        with path.open("rb") as file:
            size = min(path.stat().st_size, _LARGEST_DESCRIPTION_BYTES)
            self._data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        self._at = _HEAD_BYTES

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        self._data.close()
        # Whichever of these it is: the file is not what it says.
        if isinstance(error, struct.error | LookupError | ValueError | OverflowError):
            raise WeightsUnusable(f"{self._name} is damaged: its description cannot be read.") from None

    def entries(self) -> Iterator[tuple[str, int]]:
        """Keys, and the kinds of their values."""
        [count] = _LENGTH.unpack_from(self._data, 16)
        for _ in range(count):
            key = self._string(_LONGEST_KEY_BYTES)
            [kind] = self._plain("I")
            yield key.decode(), kind

    def tensors(self) -> tuple[int, frozenset[tuple[str, int]]]:
        """The numbers in all tensors, and the tensors as `Make` tells them; they are listed after the entries."""
        [count] = _LENGTH.unpack_from(self._data, 8)
        total, found = 0, set()
        for _ in range(count):
            name = _LAYER.sub("", self._string(_LONGEST_KEY_BYTES).decode())
            [dimensions] = self._plain("I")
            if dimensions > _MOST_DIMENSIONS:
                raise ValueError
            total += math.prod(self._plain(f"{dimensions}Q"))
            [kind, _] = self._plain("IQ")
            found.add((name, kind))
        return total, frozenset(found)

    def value(self, kind: int) -> object:
        """The next value. Of arrays, strings and 32-bit numbers are read; others are passed over."""
        if kind == _STRING:
            return self._string(_LONGEST_STRING_BYTES)
        if kind == _ARRAY:
            return self._array()
        [value] = self._plain(_PLAIN[kind])
        return value

    def _array(self) -> "_Strings | array[int] | None":
        kind, count = self._plain("IQ")
        if kind == _STRING:
            return self._strings(count)
        length = count * struct.calcsize(f"<{_PLAIN[kind]}")
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise ValueError
        if _PLAIN[kind] not in "iI":
            return None
        numbers = array("i")
        numbers.frombytes(self._data[start : self._at])
        return numbers

    def _strings(self, count: int) -> _Strings:
        """Only their places: the loop is what takes time."""
        data, at, end, length_at = self._data, self._at, len(self._data), _LENGTH.unpack_from
        if count > (end - at) // 8:
            raise ValueError
        starts: list[int] = []
        for _ in range(count):
            starts.append(at)
            at += 8 + length_at(data, at)[0]
        if at > end:
            raise ValueError
        self._at = at
        return _Strings(data, starts)

    def _string(self, longest: int) -> bytes:
        [length] = self._plain("Q")
        start, self._at = self._at, self._at + length
        if length > longest or self._at > len(self._data):
            raise ValueError
        return self._data[start : self._at]

    def _plain(self, form: str) -> tuple[int, ...]:
        values: tuple[int, ...] = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values
