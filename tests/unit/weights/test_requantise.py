"""Weights are made anew in a type that the engine computes fast with: once, whole, or not at all."""

import asyncio
import stat
import struct
from pathlib import Path

import pytest

from leadline.weights import requantise, requantiser
from leadline.weights.gguf import describe
from leadline.weights.pull import Progress
from leadline.weights.requantise import Q8_0, SLOW, requantised
from leadline.weights.store import Store
from tests.scripted.q4_1 import BLOCK, F32, NORM, NUMBERS, ROWS, WIDTH, q4_1_file


@pytest.fixture
def model(store: Store) -> Path:
    return store.put("tiny", [q4_1_file()])


async def test_slow_types_become_fast_ones_and_all_else_stays(store, model):
    seen: list[Progress] = []
    path = await requantised(store, model, seen.append)
    assert path is not None
    old, new = describe(model), describe(path)
    assert new.make.tensors == {("attn_norm.weight", F32), ("ffn_up.weight", Q8_0)}
    assert new.make.quantisation == "Q8_0"
    assert (new.special_tokens, new.chat_template) == (old.special_tokens, old.chat_template)
    data = path.read_bytes()[-len(NORM) - 7 * 32 :]
    packed = data[len(NORM) :][: 6 * 34]
    assert data.startswith(NORM)
    for start in range(0, len(packed), 34):
        scale, *steps = struct.unpack_from("<e32b", packed, start)
        assert [scale * step for step in steps] == pytest.approx(NUMBERS, abs=4 / 127)
    assert seen[-1] == Progress("re-quantising", len(NORM) + 20 * 6, len(q4_1_file()))


def test_pieces_of_a_tensor_fit_together(store, monkeypatch, tmp_path):
    """Rows that differ, read all at once and one by one."""
    block = q4_1_file()[-len(BLOCK) :]
    rows = [struct.pack("<e", number / 8) + block[2:] for number in range(1, 2 * ROWS + 1)]
    model = store.put("tiny", [q4_1_file()[: -len(BLOCK) * 2 * ROWS], *rows])
    requantiser.requantise(model, tmp_path / "whole", SLOW)
    monkeypatch.setattr(requantiser, "_CHUNK_NUMBERS", WIDTH)
    requantiser.requantise(model, tmp_path / "pieces", SLOW)
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


async def test_they_are_made_once(store, model):
    path = await requantised(store, model, lambda _: None)
    state = path.stat()
    assert await requantised(store, model, lambda _: None) == path
    assert path.stat() == state
    assert [weights.name for weights in store.list()] == ["tiny"]


async def test_they_go_with_the_model_that_they_were_made_of(store, model):
    path = await requantised(store, model, lambda _: None)
    other = await requantised(store, store.put("tiny.2", [q4_1_file()]), lambda _: None)
    store.remove("tiny")
    assert (path.exists(), other.exists()) == (False, True)
    newer = await requantised(store, store.put("tiny.2", [q4_1_file() + bytes(32)]), lambda _: None)
    assert (other.exists(), newer.exists()) == (True, True)
    store.remove("tiny.2")
    assert (other.exists(), newer.exists()) == (False, False)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-40], lambda whole: whole[:200] + bytes(len(whole) - 200)])
async def test_what_cannot_be_read_leaves_the_model_as_it_is(store, damage, caplog):
    model = store.put("tiny", [damage(q4_1_file())])
    assert await requantised(store, model, lambda _: None) is None
    assert "not re-quantised" in caplog.text
    assert sorted(file.name for file in store.folder.iterdir()) == ["tiny.gguf", "tiny.gguf.sha256.json"]


async def test_a_full_disk_leaves_the_model_as_it_is(store, model, monkeypatch, caplog):
    monkeypatch.setattr(requantise, "_SPARE_BYTES", 1 << 60)
    assert await requantised(store, model, lambda _: None) is None
    assert "the disk is too full" in caplog.text


async def test_a_folder_that_cannot_be_written_leaves_the_model_as_it_is(tmp_path, caplog):
    (tmp_path / "models").write_text("no folder")
    (tmp_path / "tiny.gguf").write_bytes(q4_1_file())
    assert await requantised(Store(tmp_path / "models"), tmp_path / "tiny.gguf", lambda _: None) is None
    assert "not re-quantised" in caplog.text


async def test_a_process_that_hangs_is_ended(store, model, monkeypatch, tmp_path, caplog):
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(hangs.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(requantise.sys, "executable", str(hangs))
    monkeypatch.setattr(requantise, "_SILENCE_SECONDS", 0.05)
    async with asyncio.timeout(60):
        assert await requantised(store, model, lambda _: None) is None
    assert caplog.records[-1].why == "its process hung"
