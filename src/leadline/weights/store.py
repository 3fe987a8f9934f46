"""The folder of pulled model files: one `NAME.gguf` each, and beside it a note of its digest."""

import builtins
import hashlib
import os
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from leadline.errors import LeadlineError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_TEMPORARY = ".temporary-"
# No pull lives as long: what is older was left by a process that was killed.
_ABANDONED_SECONDS = 24 * 3600
# Half of a download is kept so long for the next try.
_PARTS = ".parts"
# Weights that were made of pulled ones, for an engine that computes faster with them.
_REQUANTISED = ".requantised"
_FORGOTTEN_SECONDS = 7 * 24 * 3600
# llama.cpp finds the others of several files by the name of the first.
_FIRST_OF_SPLIT = re.compile(r"(.+)-00001-of-(\d{5})")
# Not `.gguf`, since it is no model; the engine asks for no ending.
_PROJECTOR = ".mmproj"
_OF_SPLIT = re.compile(r".+-\d{5}-of-\d{5}")

_GGUF_HEAD = struct.Struct("<4sIQQ")
_GGUF_VERSIONS = (2, 3)
_GGUF_MOST_ENTRIES = 1_000_000


class WeightsMissing(LeadlineError):
    """There are no such weights. Pull them with `leadline models pull NAME`."""


class WeightsUnusable(LeadlineError):
    """The file holds no weights that this version can run."""


class PullFailed(LeadlineError):
    """The weights could not be pulled."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One pulled model file."""

    name: str
    path: Path
    size_bytes: int
    sha256: str


class _Note(msgspec.Struct, frozen=True):
    """A digest, and the state of the file that it was taken of. `source` is where it came from, if that was a hub."""

    size_bytes: int
    mtime_ns: int
    sha256: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """The pulled models in `folder`, which is made when the first one comes. A model that was split into several files
    is known by the first of them. Its methods block: call them in a thread where a loop runs and files are large."""

    folder: Path

    def path(self, name: str) -> Path | None:
        """The pulled file of that name, or the first one of several."""
        if not is_name(name):
            return None
        path = self.folder / f"{name}.gguf"
        if path.is_file():
            return path
        firsts = (self.folder / f"{name}-00001-of-{count:05}.gguf" for count in self._counts(name))
        return next((first for first in firsts if all(file.is_file() for file in self.files(first))), None)

    def _counts(self, name: str) -> builtins.list[int]:
        """Of how many files there is a first one of that name."""
        found = (_FIRST_OF_SPLIT.fullmatch(file.stem) for file in self.folder.glob(f"{name}-00001-of-*.gguf"))
        return [int(one[2]) for one in found if one and one[1] == name]

    def files(self, path: Path) -> builtins.list[Path]:
        """All files of a model that `path` is the first one of."""
        first = _FIRST_OF_SPLIT.fullmatch(path.stem)
        if first is None:
            return [path]
        return [path.with_stem(f"{first[1]}-{number:05}-of-{first[2]}") for number in range(1, int(first[2]) + 1)]

    def projector(self, path: Path) -> Path | None:
        """What makes a pulled model see, if it came with it."""
        if path.parent.absolute() != self.folder.absolute():
            return None
        file = self._projector_of(path)
        return file if file.is_file() else None

    def _projector_of(self, path: Path) -> Path:
        first = _FIRST_OF_SPLIT.fullmatch(path.stem)
        return self.folder / f"{first[1] if first else path.stem}{_PROJECTOR}"

    def size_bytes(self, path: Path) -> int:
        return sum(file.stat().st_size for file in self.files(path))

    # The method hides the built-in list in this class's annotations.
    def list(self) -> builtins.list[Weights]:
        """All pulled models by name."""
        stems = (file.stem for file in self.folder.glob("*.gguf"))
        firsts = ((stem, _FIRST_OF_SPLIT.fullmatch(stem)) for stem in stems)
        names = sorted(first[1] if first else stem for stem, first in firsts if first or not _OF_SPLIT.fullmatch(stem))
        pulled = [(name, path) for name in names if (path := self.path(name))]
        return [Weights(name, path, self.size_bytes(path), self.digest(path)) for name, path in pulled]

    def resolve(self, weights: str) -> Path:
        """The file that the setting `weights` means: a GGUF file by its path, else a pulled one by its name."""
        file = Path(weights)
        is_file = file.suffix.lower() == ".gguf"
        if is_file and file.is_file():
            return file.absolute()
        if pulled := self.path(weights) or self.pulled_from(weights):
            return pulled
        if is_file:
            raise WeightsMissing(
                f"There is no file {weights!r}. Correct its path, or pull weights with `leadline models pull NAME`."
            )
        raise WeightsMissing(
            f"No weights named {weights!r} have been pulled. Pull them with `leadline models pull {weights}`."
        )

    def pulled_from(self, source: str) -> Path | None:
        """The model that was pulled from there."""
        for one in self.folder.glob("*.sha256.json"):
            note, path = self._read_note(one), self.folder / one.name.removesuffix(".sha256.json")
            if note is not None and note.source == source and all(file.is_file() for file in self.files(path)):
                return path
        return None

    def digest(self, path: Path) -> str:
        """The SHA-256 of a model's file in hex; of several files that of their digests."""
        digests = [self.digest_of(file) for file in self.files(path)]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def digest_of(self, path: Path) -> str:
        """The SHA-256 of a file in hex. It is read from the file's note while size and time of change are the same."""
        state = path.stat()
        note = self._read_note(self._note_of(path))
        if note is not None and (note.size_bytes, note.mtime_ns) == (state.st_size, state.st_mtime_ns):
            return note.sha256
        sha256 = _sha256(path)
        self._write_note(path, _Note(state.st_size, state.st_mtime_ns, sha256))
        return sha256

    def put(self, name: str, chunks: Iterable[bytes], sha256: str | None = None) -> Path:
        """Keep a model under `name`, in place of an earlier one: whole and checked, or not at all."""
        assert is_name(name), name
        target = self.folder / f"{name}.gguf"
        with self.temporary() as folder:
            file = folder / target.name
            digest = _write(file, chunks)
            if sha256 is not None and digest != sha256:
                raise WeightsUnusable(f"This is not the expected file for {name!r}: its checksum differs.")
            check_gguf(file)
            # What came with an earlier model is not this one's.
            self._projector_of(target).unlink(missing_ok=True)
            file.replace(target)
        _sync(self.folder)
        state = target.stat()
        self._write_note(target, _Note(state.st_size, state.st_mtime_ns, digest))
        return target

    def keep(
        self, name: str, files: Sequence[tuple[Path, str]], source: str, projector: tuple[Path, str] | None = None
    ) -> Path:
        """Move a model's files, which lie on the store's disk, into the store, with the projector that makes it see:
        once all have their SHA-256, or none."""
        assert is_name(name), name
        for file, sha256 in [*files, *([projector] if projector else [])]:
            check_gguf(file)
            if _sha256(file) != sha256:
                raise WeightsUnusable(f"This is not the expected file for {name!r}: its checksum differs.")
        count = len(files)
        names = [f"{name}-{number:05}-of-{count:05}" for number in range(1, count + 1)] if count > 1 else [name]
        targets = [self.folder / f"{one}.gguf" for one in names]
        self._projector_of(targets[0]).unlink(missing_ok=True)
        if projector is not None:
            self._move(*projector, self._projector_of(targets[0]), None)
        # The first one last: without it the others are no model.
        for target, (file, sha256) in reversed([*zip(targets, files, strict=True)]):
            self._move(file, sha256, target, source)
        _sync(self.folder)
        return targets[0]

    def _move(self, file: Path, sha256: str, target: Path, source: str | None) -> None:
        file.replace(target)
        state = target.stat()
        self._write_note(target, _Note(state.st_size, state.st_mtime_ns, sha256, source))

    def link(self, name: str, file: Path) -> Path:
        """Keep a model that stays where it is."""
        assert is_name(name), name
        check_gguf(file)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self.folder / f"{name}.gguf"
        for old in (target, self._projector_of(target)):
            old.unlink(missing_ok=True)
        target.symlink_to(file.resolve())
        return target

    def remove(self, name: str) -> None:
        """Delete a pulled model. An engine that has it open keeps its copy until it ends."""
        path = self.path(name)
        if path is None:
            raise WeightsMissing(f"No weights named {name!r} have been pulled. `leadline models list` shows all.")
        self._forget_requantised(path)
        for file in (*self.files(path), self._projector_of(path)):
            file.unlink(missing_ok=True)
            self._note_of(file).unlink(missing_ok=True)

    def requantised(self, path: Path, sha256: str) -> Path:
        """Where weights are kept that were made of the file `path` with this SHA-256, in the type Q8_0."""
        return self.folder / _REQUANTISED / f"{path.stem}.{sha256[:16]}.q8_0.gguf"

    def keep_requantised(self, file: Path, target: Path) -> Path:
        """Move what was made on the store's disk to the place that `requantised` told."""
        target.parent.mkdir(mode=0o700, exist_ok=True)
        file.replace(target)
        _sync(target.parent)
        return target

    def _forget_requantised(self, path: Path) -> None:
        """Of a model that goes. Where it is only replaced, an engine may run what was made of the earlier one; that
        goes with the model, too."""
        for file in (self.folder / _REQUANTISED).glob(f"{path.stem}.{'[0-9a-f]' * 16}.q8_0.gguf"):
            file.unlink(missing_ok=True)

    def parts(self) -> Path:
        """The folder of what is being downloaded."""
        folder = self.folder / _PARTS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in folder.iterdir():
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _FORGOTTEN_SECONDS:
                    part.unlink()
        return folder

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A folder on the store's own disk, so that a rename suffices in the end. It goes when the block ends."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        for folder in self.folder.glob(f"{_TEMPORARY}*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(folder)

    def _note_of(self, path: Path) -> Path:
        """Where the digest of a file is noted: beside it, or in the store for files elsewhere."""
        if path.absolute().parent == self.folder.absolute():
            return self.folder / f"{path.name}.sha256.json"
        place = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
        return self.folder / f"elsewhere-{place}.sha256.json"

    def _read_note(self, note: Path) -> _Note | None:
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(note.read_bytes(), type=_Note)
        return None

    def _write_note(self, path: Path, note: _Note) -> None:
        # A note only saves time: one that cannot be written, or was cut, is made anew.
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._note_of(path).write_bytes(msgspec.json.encode(note))


def name_from(file: Path) -> str:
    """The name of weights that came as this file, or as the first one of several."""
    stem = file.stem.lower()
    if first := _FIRST_OF_SPLIT.fullmatch(stem):
        stem = first[1]
    name = re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:100]
    if not is_name(name):
        raise PullFailed(f"No name can be made from {file.name!r}. Give one, of a-z, 0-9, '.', '_' and '-'.")
    return name


def is_name(text: str) -> bool:
    """Whether weights can be pulled under this name: it is a part of a file's name, and of nothing above it."""
    return _NAME.fullmatch(text) is not None


def check_gguf(path: Path) -> None:
    """WeightsUnusable unless the file begins as a GGUF file does that the engine can read."""
    with path.open("rb") as file:
        head = file.read(_GGUF_HEAD.size)
    if len(head) < _GGUF_HEAD.size or not head.startswith(b"GGUF"):
        raise WeightsUnusable(f"{path.name} is not a GGUF file. Use weights in that format; such files end in .gguf.")
    _, version, tensors, pairs = _GGUF_HEAD.unpack(head)
    if version not in _GGUF_VERSIONS:
        raise WeightsUnusable(
            f"{path.name} is written in version {version} of GGUF; versions 2 and 3 can be read. Convert it anew."
        )
    if max(tensors, pairs) > _GGUF_MOST_ENTRIES:
        raise WeightsUnusable(
            f"{path.name} is damaged: it claims to hold {tensors} tensors and {pairs} properties. Fetch it anew."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(file: Path, chunks: Iterable[bytes]) -> str:
    """Write it down to the disk itself; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with file.open("xb") as target:
        for chunk in chunks:
            target.write(chunk)
            digest.update(chunk)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """Make a rename in the folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
