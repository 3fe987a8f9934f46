"""Contents in pieces: whole, in order, from their own place, or not at all."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from leadline.storage import sealed_pieces
from leadline.storage.sealed import SEAL_BYTES, Sealer
from leadline.storage.sealed_pieces import Damaged, SealedReader, SealedWriter

SEALER = Sealer(b"s" * 32)
PLACE = "files org_alice file_1"
PIECE = 8
SEALED_PIECE = PIECE + SEAL_BYTES
CONTENT = b"one two three four five"  # two pieces and seven bytes
Space = namedtuple("Space", "total used free")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_pieces, "PIECE_BYTES", PIECE)


def write(path: Path, content: bytes = CONTENT, place: str = PLACE, step: int = 5) -> str:
    writer = SealedWriter(path, SEALER, place, 0)
    for begin in range(0, len(content), step):
        writer.write(content[begin : begin + step])
    return writer.finish()


def read(path: Path, size: int = len(CONTENT), place: str = PLACE, digest: str = sha256(CONTENT).hexdigest()) -> bytes:
    reader = SealedReader(path, SEALER, place, size)
    try:
        reader.check(digest)
        return b"".join(reader.read(number) for number in range(reader.pieces))
    finally:
        reader.close()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 100])
def test_what_was_written_is_read_whatever_its_pieces(tmp_path: Path, size: int) -> None:
    content = bytes(range(size))
    for step in (1, 3, 8, 200):
        path = tmp_path / f"{step}"
        digest = write(path, content, step=step)
        assert digest == sha256(content).hexdigest()
        assert read(path, size, digest=digest) == content
    assert not list(tmp_path.glob("*.part"))
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_not_on_the_disk_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert b"two" not in (tmp_path / "a").read_bytes()


def test_a_single_changed_byte_is_found_before_anything_is_given_out(tmp_path: Path) -> None:
    write(tmp_path / "a")
    sealed = (tmp_path / "a").read_bytes()
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        (tmp_path / "a").write_bytes(changed)
        with pytest.raises(Damaged):
            read(tmp_path / "a")


FIRST, SECOND = slice(0, SEALED_PIECE), slice(SEALED_PIECE, 2 * SEALED_PIECE)
MUTILATIONS: dict[str, Callable[[bytes], bytes]] = {
    "cut within a piece": lambda sealed: sealed[:-1],
    "cut between pieces": lambda sealed: sealed[: 2 * SEALED_PIECE],
    "swapped": lambda sealed: sealed[SECOND] + sealed[FIRST] + sealed[2 * SEALED_PIECE :],
    "a piece twice": lambda sealed: sealed[FIRST] + sealed[FIRST] + sealed[2 * SEALED_PIECE :],
    "longer": lambda sealed: sealed + b"\0",
    "empty": lambda sealed: b"",
}


@pytest.mark.parametrize("what", MUTILATIONS)
def test_pieces_that_are_missing_or_elsewhere_are_found(tmp_path: Path, what: str) -> None:
    write(tmp_path / "a")
    (tmp_path / "a").write_bytes(MUTILATIONS[what]((tmp_path / "a").read_bytes()))
    with pytest.raises(Damaged):
        read(tmp_path / "a")


def test_a_piece_does_not_open_at_anothers_place(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "a").write_bytes(MUTILATIONS["swapped"]((tmp_path / "a").read_bytes()))
    reader = SealedReader(tmp_path / "a", SEALER, PLACE, len(CONTENT))
    for number in (0, 1):
        with pytest.raises(Damaged):
            reader.read(number)
    reader.close()


def test_a_cut_is_found_even_if_the_size_was_cut_with_it(tmp_path: Path) -> None:
    """The last piece is sealed as the last one."""
    write(tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[: 2 * SEALED_PIECE])
    with pytest.raises(Damaged, match="does not open"):
        read(tmp_path / "a", 2 * PIECE, digest=sha256(CONTENT[: 2 * PIECE]).hexdigest())


def test_another_contents_pieces_do_not_open(tmp_path: Path) -> None:
    write(tmp_path / "a", place="files org_charlie file_1")
    with pytest.raises(Damaged):
        read(tmp_path / "a")


def test_a_content_of_the_same_length_is_not_taken_for_another(tmp_path: Path) -> None:
    write(tmp_path / "a", CONTENT.upper())
    with pytest.raises(Damaged, match="digest"):
        read(tmp_path / "a")


def test_what_is_discarded_leaves_nothing_whenever_that_is(tmp_path: Path) -> None:
    begun = SealedWriter(tmp_path / "a", SEALER, PLACE, 0)
    begun.write(CONTENT)
    begun.discard()
    finished = SealedWriter(tmp_path / "b", SEALER, PLACE, 0)
    finished.finish()
    finished.discard()
    finished.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        begun.write(CONTENT)


def test_it_does_not_take_the_last_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SealedWriter(tmp_path / "a", SEALER, PLACE, 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Space(1000, 800, 105))
    writer.write(b"12345")
    with pytest.raises(OSError, match="space"):
        writer.write(b"123456")
    writer.discard()
