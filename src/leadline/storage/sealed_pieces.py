"""Content too large for a row: sealed piece by piece in a file of its own, and never whole in memory.

Each piece is sealed for its number in this content, and the last one as the last: a piece that was changed, moved, cut
off or taken from elsewhere does not open. All here waits for the disk, so it is for threads. A writer and a reader let
one thread in at a time: who is given up while it works is closed after it, not under it.
"""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from leadline.errors import LeadlineError
from leadline.storage.sealed import SEAL_BYTES, Sealer

PIECE_BYTES = 256 * 1024
# The name of what is not whole yet ends so.
PART = ".part"


class Damaged(LeadlineError):
    """What lies on the disk is not what was sealed."""


class SealedWriter:
    """Writes a content that is at `path` only once it is whole and durable. `place` says what it belongs to. OSError
    where the disk refuses, also where it would leave less than `spare_bytes` free."""

    def __init__(self, path: Path, sealer: Sealer, place: str, spare_bytes: int) -> None:
        self._path, self._sealer, self._place, self._spare_bytes = path, sealer, place, spare_bytes
        self._part = path.with_name(path.name + PART)
        self._pending, self._number, self._digest = bytearray(), 0, hashlib.sha256()
        self._lock = threading.Lock()
        self._file = open(self._part, "xb", opener=_private)  # noqa: SIM115 `finish` or `discard` closes it

    def write(self, content: bytes) -> None:
        with self._lock:
            if shutil.disk_usage(self._part.parent).free < self._spare_bytes + len(content):
                raise OSError("the disk has too little space left")
            self._digest.update(content)
            self._pending += content
            # What may be the last piece stays back: it is sealed as the last.
            while len(self._pending) > PIECE_BYTES:
                self._put(bytes(self._pending[:PIECE_BYTES]), last=False)
                del self._pending[:PIECE_BYTES]

    def finish(self) -> str:
        """Make it whole and durable. The SHA-256 of the plain content, in hex."""
        with self._lock:
            self._put(bytes(self._pending), last=True)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._part, self._path)
            sync_folder(self._path.parent)
            return self._digest.hexdigest()

    def discard(self) -> None:
        """Leave nothing behind, whatever was done before; on a disk that refuses even that, it stays."""
        with self._lock:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
                self._path.unlink(missing_ok=True)

    def _put(self, piece: bytes, *, last: bool) -> None:
        self._file.write(self._sealer.seal(piece, _place(self._place, self._number, last=last)))
        self._number += 1


class SealedReader:
    """Reads a content of `size_bytes`. FileNotFoundError where there is none, Damaged where it is another one."""

    def __init__(self, path: Path, sealer: Sealer, place: str, size_bytes: int) -> None:
        self._sealer, self._place, self._size_bytes = sealer, place, size_bytes
        self.pieces = max(1, -(-size_bytes // PIECE_BYTES))
        self._lock = threading.Lock()
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 `close` does

    def check(self, sha256: str) -> None:
        """Read all of it once."""
        if os.fstat(self._file.fileno()).st_size != self._size_bytes + self.pieces * SEAL_BYTES:
            raise Damaged("it has another length")
        digest = hashlib.sha256()
        for number in range(self.pieces):
            digest.update(self.read(number))
        if digest.hexdigest() != sha256:
            raise Damaged("it has another digest")

    def read(self, number: int) -> bytes:
        """One piece of the plain content, the first is 0."""
        with self._lock:
            self._file.seek(number * (PIECE_BYTES + SEAL_BYTES))
            sealed = self._file.read(PIECE_BYTES + SEAL_BYTES) or b""
        content = self._sealer.open(sealed, _place(self._place, number, last=number == self.pieces - 1))
        if content is None:
            raise Damaged(f"piece {number} does not open")
        return content

    def close(self) -> None:
        with self._lock:
            self._file.close()


def names_in(folder: Path) -> Iterator[str]:
    """The names of all contents in a folder, also of such that never became whole."""
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(place: str, number: int, *, last: bool) -> str:
    return f"{place} {number} {'last' if last else 'more'}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
