"""What a GGUF file says of its model's texts: template, tokens of beginning and end, special tokens, context."""

import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadline.chat.request import ChatRequest, Message, Text
from leadline.engines.format.marks import prompt_text
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.weights.gguf import Description, context_tokens, describe
from leadline.weights.store import WeightsUnusable

DEFAULT_MODEL = Path(__file__).parents[4] / ".cache" / "models" / "smollm2-135m-instruct.gguf"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4


def string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(said: Any) -> bytes:
    """The kind and the value: text, whole numbers, truths, and lists of texts or of 32-bit numbers."""
    match said:
        case bool():
            return struct.pack("<I?", 7, said)
        case str():
            return struct.pack("<I", 8) + string(said)
        case int():
            return struct.pack("<II", 4, said)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(said)) + b"".join(map(string, said))
        case _:
            return struct.pack("<IIQ", 9, 5, len(said)) + struct.pack(f"<{len(said)}i", *said)


def gguf(said: dict[str, Any]) -> bytes:
    entries = b"".join(string(key) + value(item) for key, item in said.items())
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(said)) + entries


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
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": list(TOKENS),
    "tokenizer.ggml.scores": [0, 1, 2],
    "tokenizer.ggml.token_type": list(TOKENS.values()),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.chat_template": "{{ bos_token }}é",
    "llama.context_length": 4096,
}


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
    )
    assert context_tokens(file) == 4096


def test_a_file_that_says_nothing_describes_nothing(file: Path):
    assert described(file, {}) == Description(2048, None, None, None, adds_bos=False, special_tokens=())


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


def test_a_large_vocabulary_is_read_in_half_a_second(file: Path):
    tokens = [f"token{number}" for number in range(150_000)]
    kinds = [NORMAL] * 149_000 + [CONTROL] * 1000
    merges = [f"a{number} b" for number in range(280_000)]
    large = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": merges}
    file.write_bytes(gguf(SMALL | large))

    # The machine may be busy: the best of three.
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert len(describe(file).special_tokens) == 1000
        seconds.append(time.perf_counter() - began)

    assert min(seconds) < 0.5


@pytest.mark.skipif(not DEFAULT_MODEL.is_file(), reason="the default model's weights are not here")
def test_the_default_model_s_own_template_renders():
    default = describe(DEFAULT_MODEL)
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
