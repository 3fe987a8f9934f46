"""The folder of pulled models."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leadline.weights.pull import adopt
from leadline.weights.store import Store, WeightsMissing, WeightsUnusable, check_gguf

Gguf = Callable[..., bytes]


def test_an_empty_store_lists_nothing_and_makes_no_folder(store: Store):
    assert store.list() == []
    assert not store.folder.exists()


def test_a_kept_model_is_found_by_its_name_with_its_size_and_digest(gguf: Gguf, store: Store):
    path = store.put("alpha-1.5b", [gguf()[:10], gguf()[10:]])

    (weights,) = store.list()
    assert path.read_bytes() == gguf()
    assert store.path("alpha-1.5b") == weights.path == path
    assert (weights.name, weights.size_bytes) == ("alpha-1.5b", len(gguf()))
    assert weights.sha256 == hashlib.sha256(gguf()).hexdigest()


def test_a_model_that_is_not_the_expected_file_leaves_the_earlier_one(gguf: Gguf, store: Store):
    store.put("alpha", [gguf(seed=1)])

    with pytest.raises(WeightsUnusable, match="checksum"):
        store.put("alpha", [gguf(seed=2)], sha256="0" * 64)

    assert store.folder.joinpath("alpha.gguf").read_bytes() == gguf(seed=1)
    assert sorted(entry.name for entry in store.folder.iterdir()) == ["alpha.gguf", "alpha.gguf.sha256.json"]


@pytest.mark.parametrize("name", ["", "..", "../secret", "a/b", "Alpha", "-a", "a" * 101, "a\n"])
def test_a_name_never_reaches_outside_the_store(gguf: Gguf, store: Store, tmp_path: Path, name: str):
    (tmp_path / "secret.gguf").write_bytes(gguf())
    store.put("alpha", [gguf()])

    assert store.path(name) is None
    with pytest.raises(WeightsMissing):
        store.remove(name)


def test_weights_resolve_to_a_file_by_its_path(
    gguf: Gguf, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "Mine.GGUF"
    file.write_bytes(gguf())
    monkeypatch.chdir(tmp_path)

    assert store.resolve(str(file)) == file
    assert store.resolve("Mine.GGUF") == file


def test_weights_resolve_to_a_pulled_model_by_its_name(gguf: Gguf, store: Store):
    path = store.put("alpha", [gguf()])

    assert store.resolve("alpha") == path


def test_weights_that_were_not_pulled_name_the_command_that_pulls_them(store: Store):
    with pytest.raises(WeightsMissing, match="`leadline models pull alpha`"):
        store.resolve("alpha")


def test_a_file_that_is_not_there_is_named_beside_the_command_that_pulls(store: Store):
    with pytest.raises(WeightsMissing, match=r"'lost\.gguf'.*`leadline models pull NAME`"):
        store.resolve("lost.gguf")


def test_a_removed_model_is_gone_with_its_note(gguf: Gguf, store: Store):
    store.put("alpha", [gguf()])

    store.remove("alpha")

    assert store.path("alpha") is None
    assert list(store.folder.iterdir()) == []


def test_a_digest_is_read_from_its_note_while_the_file_stays_as_it_is(gguf: Gguf, store: Store):
    path = store.put("alpha", [gguf()])
    note = path.with_name("alpha.gguf.sha256.json")
    note.write_text(note.read_text().replace(hashlib.sha256(gguf()).hexdigest(), "noted"))

    assert store.digest(path) == "noted"


@pytest.mark.parametrize("inside", [True, False])
def test_a_digest_is_taken_anew_when_the_file_has_changed(gguf: Gguf, store: Store, tmp_path: Path, inside: bool):
    path = store.put("alpha", [gguf(seed=1)]) if inside else tmp_path / "mine.gguf"
    path.write_bytes(gguf(seed=1))
    before = store.digest(path)

    path.write_bytes(gguf(seed=2))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))

    assert before == hashlib.sha256(gguf(seed=1)).hexdigest()
    assert store.digest(path) == hashlib.sha256(gguf(seed=2)).hexdigest()


def test_a_damaged_note_is_made_anew(gguf: Gguf, store: Store):
    path = store.put("alpha", [gguf()])
    note = path.with_name("alpha.gguf.sha256.json")
    whole = note.read_bytes()
    note.write_bytes(whole[:20])

    assert store.digest(path) == hashlib.sha256(gguf()).hexdigest()
    assert note.read_bytes() == whole


def test_the_note_on_a_file_elsewhere_lies_in_the_store(gguf: Gguf, store: Store, tmp_path: Path):
    file = tmp_path / "elsewhere" / "mine.gguf"
    file.parent.mkdir()
    file.write_bytes(gguf())

    store.digest(file)

    assert list(file.parent.iterdir()) == [file]
    assert len(list(store.folder.glob("elsewhere-*.json"))) == 1
    assert store.list() == []


def test_a_folder_that_a_killed_pull_left_goes_with_a_later_one_and_a_fresh_one_stays(gguf: Gguf, store: Store):
    with store.temporary() as abandoned, store.temporary() as fresh:
        (abandoned / "half.whl").write_bytes(b"half")
        os.utime(abandoned, (0, 0))

        store.put("alpha", [gguf()])

        assert not abandoned.exists()
        assert fresh.exists()


@pytest.mark.parametrize("content", [b"", b"GGUF\3\0\0\0", b"PK\3\4" + bytes(100)])
def test_a_file_that_is_no_gguf_is_refused_without_its_folder(tmp_path: Path, content: bytes):
    file = tmp_path / "odd.gguf"
    file.write_bytes(content)

    with pytest.raises(WeightsUnusable, match=r"^odd\.gguf is not a GGUF file"):
        check_gguf(file)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ({"version": 1}, "version 1 of GGUF"),
        ({"version": 4}, "version 4 of GGUF"),
        ({"tensors": 1_000_001}, "damaged"),
    ],
)
def test_a_gguf_file_that_no_engine_can_read_is_refused_with_the_reason(
    gguf: Gguf, tmp_path: Path, head: dict[str, int], reason: str
):
    file = tmp_path / "odd.gguf"
    file.write_bytes(gguf(**head))

    with pytest.raises(WeightsUnusable, match=reason):
        check_gguf(file)


@pytest.mark.parametrize("version", [2, 3])
def test_versions_two_and_three_of_gguf_are_taken(gguf: Gguf, tmp_path: Path, version: int):
    file = tmp_path / "fine.gguf"
    file.write_bytes(gguf(version=version))

    check_gguf(file)


def parts_of(gguf: Gguf, folder: Path, name: str = "Big-Q4_0", count: int = 3) -> list[Path]:
    """A model that was split into files."""
    files = [folder / f"{name}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for number, file in enumerate(files):
        file.write_bytes(gguf(seed=number))
    return files


async def test_a_split_model_is_adopted_with_all_its_files_and_removed_with_them(
    gguf: Gguf, store: Store, tmp_path: Path
):
    files = parts_of(gguf, tmp_path)

    path = await adopt(store, files[0], None)

    assert path == store.path("big-q4_0") == store.resolve("big-q4_0")
    assert [file.read_bytes() for file in store.files(path)] == [file.read_bytes() for file in files]
    [listed] = store.list()
    assert (listed.name, listed.size_bytes) == ("big-q4_0", 3 * len(gguf()))
    store.remove("big-q4_0")
    assert list(store.folder.glob("*.gguf*")) == []


def test_the_digest_of_a_split_model_covers_every_file(gguf: Gguf, store: Store, tmp_path: Path):
    files = parts_of(gguf, tmp_path)
    before = store.digest(files[0])

    files[2].write_bytes(gguf(seed=9, filling_bytes=1001))

    assert store.digest(files[0]) != before


async def test_a_split_model_that_lacks_a_file_is_not_there(gguf: Gguf, store: Store, tmp_path: Path):
    files = parts_of(gguf, tmp_path)
    path = await adopt(store, files[0], None)

    store.files(path)[1].unlink()

    assert store.path("big-q4_0") is None
    assert store.list() == []


async def test_a_linked_model_stays_where_it_is(gguf: Gguf, store: Store, tmp_path: Path):
    file = tmp_path / "Mine.gguf"
    file.write_bytes(gguf())

    path = await adopt(store, file, None, link=True)

    assert (path.is_symlink(), path.read_bytes()) == (True, gguf())
    assert store.list()[0].sha256 == hashlib.sha256(gguf()).hexdigest()
    store.remove("mine")
    assert file.read_bytes() == gguf()


async def test_a_link_whose_file_is_gone_is_no_model(gguf: Gguf, store: Store, tmp_path: Path):
    file = tmp_path / "mine.gguf"
    file.write_bytes(gguf())
    await adopt(store, file, None, link=True)

    file.unlink()

    assert store.path("mine") is None
    assert store.list() == []


def test_what_is_downloaded_is_forgotten_after_a_week(gguf: Gguf, store: Store):
    old, new = store.parts() / "old.part", store.parts() / "new.part"
    for part in (old, new):
        part.write_bytes(b"GG")
    os.utime(old, (0, 0))

    assert list(store.parts().iterdir()) == [new]


def test_files_with_another_digest_leave_the_store_as_it_was(gguf: Gguf, store: Store):
    good, bad = store.parts() / "good.part", store.parts() / "bad.part"
    for part in (good, bad):
        part.write_bytes(gguf())

    with pytest.raises(WeightsUnusable, match="checksum"):
        store.keep("big", [(good, hashlib.sha256(gguf()).hexdigest()), (bad, "0" * 64)], "hf:a/b")

    assert store.list() == []
    assert good.is_file()


@pytest.mark.parametrize("way", ["put", "link"])
def test_another_model_of_the_same_name_does_not_inherit_a_projector(
    gguf: Gguf, store: Store, tmp_path: Path, way: str
):
    path = store.put("tiny", [gguf()])
    path.with_suffix(".mmproj").write_bytes(gguf(seed=1))
    assert store.projector(path) == path.with_suffix(".mmproj")
    (tmp_path / "other.gguf").write_bytes(gguf(seed=2))

    other = store.put("tiny", [gguf(seed=2)]) if way == "put" else store.link("tiny", tmp_path / "other.gguf")

    assert store.projector(other) is None
