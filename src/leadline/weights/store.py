"""The folder of pulled model files: one `NAME.gguf` each, and beside it a note of its digest."""

import builtins
import hashlib
import os
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from leadline.errors import LeadlineError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_TEMPORARY = ".temporary-"
# No pull lives as long: what is older was left by a process that was killed.
_ABANDONED_SECONDS = 24 * 3600

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
    """A digest, and the state of the file that it was taken of."""

    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Store:
    """The pulled models in `folder`, which is made when the first one comes. Its methods block: call them in a thread
    where a loop runs and files are large."""

    folder: Path

    def path(self, name: str) -> Path | None:
        """The pulled file of that name."""
        path = self.folder / f"{name}.gguf"
        return path if is_name(name) and path.is_file() else None

    # The method hides the built-in list in this class's annotations.
    def list(self) -> builtins.list[Weights]:
        """All pulled models by name."""
        names = sorted(file.stem for file in self.folder.glob("*.gguf"))
        pulled = [(name, path) for name in names if (path := self.path(name))]
        return [Weights(name, path, path.stat().st_size, self.digest(path)) for name, path in pulled]

    def resolve(self, weights: str) -> Path:
        """The file that the setting `weights` means: a GGUF file by its path, else a pulled one by its name."""
        file = Path(weights)
        is_file = file.suffix.lower() == ".gguf"
        if is_file and file.is_file():
            return file.absolute()
        if pulled := self.path(weights):
            return pulled
        if is_file:
            raise WeightsMissing(
                f"There is no file {weights!r}. Correct its path, or pull weights with `leadline models pull NAME`."
            )
        raise WeightsMissing(
            f"No weights named {weights!r} have been pulled. Pull them with `leadline models pull {weights}`."
        )

    def digest(self, path: Path) -> str:
        """The SHA-256 of a file in hex. It is read from the file's note while size and time of change are the same."""
        state = path.stat()
        with suppress(OSError, msgspec.MsgspecError):
            note = msgspec.json.decode(self._note_of(path).read_bytes(), type=_Note)
            if (note.size_bytes, note.mtime_ns) == (state.st_size, state.st_mtime_ns):
                return note.sha256
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
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
            file.replace(target)
        _sync(self.folder)
        state = target.stat()
        self._write_note(target, _Note(state.st_size, state.st_mtime_ns, digest))
        return target

    def remove(self, name: str) -> None:
        """Delete a pulled model. An engine that has it open keeps its copy until it ends."""
        path = self.path(name)
        if path is None:
            raise WeightsMissing(f"No weights named {name!r} have been pulled. `leadline models list` shows all.")
        path.unlink(missing_ok=True)
        self._note_of(path).unlink(missing_ok=True)

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

    def _write_note(self, path: Path, note: _Note) -> None:
        # A note only saves time: one that cannot be written, or was cut, is made anew.
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._note_of(path).write_bytes(msgspec.json.encode(note))


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
