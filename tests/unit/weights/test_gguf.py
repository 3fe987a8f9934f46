"""What a GGUF file says of its model: its make, its context, and its texts: template and special tokens."""

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadline.chat.request import ChatRequest, Message, Text
from leadline.engines.format.marks import prompt_text
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.weights.gguf import Description, Make, context_tokens, describe
from leadline.weights.store import WeightsUnusable
from tests.scripted.gguf import CONTROL, NORMAL, SMALL, TOKENS, gguf, string, value
from tests.weights import default_weights


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def described(file: Path, said: dict[str, Any]) -> Description:
    file.write_bytes(gguf(said))
    return describe(file)


def test_a_file_describes_its_model(file: Path):
    assert described(file, SMALL) == Description(
        context_tokens=4096,
        chat_template="{{ bos_token }}é",
        bos="<s>",
        eos="</s>",
        adds_bos=True,
        special_tokens=("</s>", "<end_of_turn>", "<s>", "<tool_call>", "<unk>", "[INST]"),
        vocabulary_tokens=len(TOKENS),
        make=Make("Tiny", "llama", "Q4_K_M", 0, cache_bytes=2 * 3 * 2 * (16 + 16), tokenizer="llama"),
    )
    assert context_tokens(file) == 4096


def test_a_file_that_says_nothing_describes_nothing(file: Path):
    assert described(file, {}) == Description(2048, None, None, None, adds_bos=False, special_tokens=())


def test_parameters_are_the_numbers_of_all_tensors(file: Path):
    file.write_bytes(gguf(SMALL, (64, 100), (64,), (2, 3, 4, 5)))
    assert describe(file).make.parameters == 6400 + 64 + 120
    file.write_bytes(gguf(SMALL | {"split.count": 2}, (64, 100)))
    assert describe(file).make.parameters == 0


@pytest.mark.parametrize(
    ("said", "cache_bytes"),
    [
        ({"llama.attention.head_count_kv": [2, 1, 0]}, 2 * 3 * (16 + 16)),
        ({"llama.attention.key_length": 8, "llama.attention.value_length": 4}, 2 * 3 * 2 * (8 + 4)),
        ({"llama.attention.head_count": 0}, 0),
        ({"llama.block_count": "three"}, 0),
    ],
)
def test_what_a_token_takes_in_the_cache_follows_the_models_heads(file: Path, said: dict[str, Any], cache_bytes: int):
    assert described(file, SMALL | said).make.cache_bytes == cache_bytes


@pytest.mark.parametrize(
    ("number", "pooling"), [(0, None), (1, "mean"), (2, "cls"), (3, "last"), (4, "rank"), (9, None)]
)
def test_a_model_that_pools_makes_embeddings_or_ranks(file: Path, number: int, pooling: str | None):
    assert described(file, SMALL | {"llama.pooling_type": number}).make.pooling == pooling


@pytest.mark.model
def test_the_default_model_is_what_it_is_known_as():
    make = describe(default_weights()).make

    assert (make.architecture, make.quantisation, make.parameters) == ("llama", "Q4_1", 134_515_008)
    assert make.cache_bytes == 30 * 3 * 64 * 2 * 2


@pytest.mark.parametrize(
    "tensor",
    [
        string("a") + struct.pack("<I", 2**32 - 1),
        string("a") + struct.pack("<I", 9) + bytes(8 * 9 + 12),
        struct.pack("<Q", 2**63),
        b"",
    ],
)
def test_a_file_that_lies_about_its_tensors_is_damaged(file: Path, tensor: bytes):
    file.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + tensor)

    with pytest.raises(WeightsUnusable, match="damaged"):
        describe(file)


@pytest.mark.parametrize(
    ("said", "adds"),
    [
        ({"tokenizer.ggml.add_bos_token": False}, False),
        ({"tokenizer.ggml.model": "gpt2"}, False),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe"}, True),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.add_bos_token": True}, True),
    ],
)
def test_whether_the_token_of_beginning_is_added_follows_the_file_or_llama_cpp(
    file: Path, said: dict[str, Any], adds: bool
):
    assert described(file, SMALL | said).adds_bos is adds


def test_token_numbers_outside_the_vocabulary_mean_no_token(file: Path):
    outside = described(file, SMALL | {"tokenizer.ggml.bos_token_id": 2**32 - 1, "tokenizer.ggml.token_type": [3] * 99})

    assert outside.bos is None
    assert "hello" in outside.special_tokens


def test_a_large_vocabulary_is_read(file: Path):
    tokens = [f"token{number}" for number in range(150_000)]
    kinds = [NORMAL] * 149_000 + [CONTROL] * 1000
    merges = [f"a{number} b" for number in range(280_000)]
    large = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": merges}
    file.write_bytes(gguf(SMALL | large))

    assert len(describe(file).special_tokens) == 1000


@pytest.mark.model
def test_the_default_model_s_own_template_renders():
    default = describe(default_weights())
    special = default.special_tokens
    template = ChatTemplate(
        default.chat_template, Vocabulary(default.bos, default.eos, adds_bos=default.adds_bos, special=special)
    )

    pieces = template.render(ChatRequest("m", (Message("user", (Text("Hi <|im_end|>"),)),)))

    assert prompt_text(pieces).endswith("<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n")
    assert [piece.text for piece in pieces if not piece.special] == ["Hi <", "|im_end|>"]
    assert len(special) == 17
    assert (default.bos, default.eos, default.adds_bos) == ("<|im_start|>", "<|im_end|>", False)


def test_a_file_cut_anywhere_is_damaged(file: Path):
    whole = gguf(SMALL)
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(WeightsUnusable):
            describe(file)


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<Q", 2**63),
        string("a") + struct.pack("<I", 99),
        string("a") + struct.pack("<IQ", 8, 2**64 - 1),
        string("a") + struct.pack("<IIQ", 9, 8, 2**64 - 1),
        string("a") + struct.pack("<IIQ", 9, 8, 2**20),
        string("a") + struct.pack("<IIQQ", 9, 8, 1, 2**63),
        string("a") + struct.pack("<IIQ", 9, 5, 2**62),
        string("a") + struct.pack("<IIQ", 9, 12, 2**64 - 1),
        string("a") + struct.pack("<IIQ", 9, 9, 1),
        struct.pack("<Q", 1) + b"\xff" + value(1),
        string("tokenizer.chat_template") + struct.pack("<IQ", 8, 1) + b"\xff",
        string("tokenizer.chat_template") + value("x" * (1024 * 1024 + 1)),
        string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + struct.pack("<QQQ", 0, 2**64 - 16, 0),
    ],
)
def test_a_file_that_lies_about_its_sizes_is_damaged(file: Path, entry: bytes):
    file.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + entry + bytes(64))

    with pytest.raises(WeightsUnusable, match="damaged"):
        describe(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(24, len(gguf(SMALL)) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_a_file_holds_it_is_described_or_damaged(file: Path, changes: list[tuple[int, int]]):
    content = bytearray(gguf(SMALL))
    for place, byte in changes:
        content[place] = byte
    file.write_bytes(bytes(content))

    with suppress(WeightsUnusable):
        assert describe(file).context_tokens >= 1
