"""Reads the log that `logs` writes: its last lines, and those that come, over every change of its file."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

NAME = "leadline.log"
AGAIN_SECONDS = 0.2
_PIECE_BYTES = 64 * 1024


def last_lines(folder: Path, count: int) -> list[bytes]:
    """The last lines, the oldest first, from older files too where the newest has fewer."""
    lines: deque[bytes] = deque()
    for path in reversed(_files(folder)):
        if len(lines) >= count:
            break
        lines.extendleft(reversed(_tail(path, count - len(lines))))
    return list(lines)


class Follower:
    """The lines that are written from now on. What a file still held when another took its place is not lost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._rest = b""
        newest = folder / NAME
        if newest.exists():
            self._open(newest).seek(0, os.SEEK_END)

    def lines(self, wait: Callable[[float], None] = time.sleep) -> Iterator[bytes]:
        """For ever."""
        while True:
            yield from self.new()
            wait(AGAIN_SECONDS)

    def new(self) -> Iterator[bytes]:
        """Those that came since the last call."""
        while True:
            # Asked before the file is read: what comes next is only looked at once this one is at its end.
            following = self._next()
            yield from self._read()
            if following is None:
                return
            self._open(following)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _next(self) -> Path | None:
        """The file that was begun after the open one; None where that is the newest."""
        files = _files(self._folder)
        if self._file is None:
            return files[-1] if files else None
        own = os.fstat(self._file.fileno())
        at = next((number for number, path in enumerate(files) if _is(path, own)), None)
        if at is None:  # it was deleted
            return files[-1] if files else None
        return files[at + 1] if at + 1 < len(files) else None

    def _open(self, path: Path) -> BinaryIO:
        self.close()
        self._file = file = path.open("rb")
        self._rest = b""
        return file

    def _read(self) -> Iterator[bytes]:
        while self._file is not None and (piece := self._file.read(_PIECE_BYTES)):
            *whole, self._rest = (self._rest + piece).split(b"\n")
            yield from whole


def _files(folder: Path) -> list[Path]:
    """All that are there, the oldest first."""
    older = [path for path in folder.glob(f"{NAME}.*") if path.suffix[1:].isdecimal()]
    older.sort(key=lambda path: -int(path.suffix[1:]))
    newest = folder / NAME
    return [*older, *([newest] if newest.exists() else [])]


def _is(path: Path, state: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), state)
    except FileNotFoundError:
        return False


def _tail(path: Path, count: int) -> list[bytes]:
    """The last lines of one file, of which only as much is read as they take."""
    with path.open("rb") as file:
        at, text = file.seek(0, os.SEEK_END), b""
        while at and text.count(b"\n") <= count:
            size = min(at, _PIECE_BYTES)
            at = file.seek(at - size)
            text = file.read(size) + text
    lines = text.split(b"\n")
    # What stands after the last end of a line is still being written.
    return lines[:-1][-count:] if count else []
