"""What files hold, on the disk: sealed in pieces, each content under its file's id. Threads wait for the disk."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from leadline.errors import FileDamaged, FileNotFound, Unavailable
from leadline.serving.file_rows import File
from leadline.storage.sealed import Sealer
from leadline.storage.sealed_pieces import PART, Damaged, SealedReader, SealedWriter, names_in

# Files never take the last of a disk: the books need it.
SPARE_BYTES = 256 * 1024 * 1024
_THREADS = 4
_Result = TypeVar("_Result")
_log = logging.getLogger("leadline.files")


class Content:
    """A file and what it holds, which was read and checked once."""

    def __init__(self, contents: "FileContents", file: File, reader: SealedReader) -> None:
        self.file, self._contents, self._reader = file, contents, reader

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """At most 256 KiB at a time. FileDamaged where it was damaged since it was checked."""
        for number in range(self._reader.pieces):
            with _telling_damage(self.file):
                piece = await self._contents.in_thread(self._reader.read, number)
            yield piece


class FileContents:
    """`folder` is made when the first content comes."""

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self._folder, self._sealer = folder, sealer
        self._threads = ThreadPoolExecutor(_THREADS, "files")

    async def in_thread(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """Who is cancelled meanwhile does not wait: the thread comes to its end by itself."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments))

    async def written(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """As `in_thread`, for what writes. Unavailable where the disk refuses."""
        try:
            return await self.in_thread(work, *arguments)
        except OSError as error:
            _log.error("the disk refused a file", exc_info=error)
            raise Unavailable(
                "The server's disk has no room for this file, or cannot be written. Try again later."
            ) from error

    async def new(self, organisation_id: str, file_id: str) -> SealedWriter:
        """A content to be written."""

        def begin() -> SealedWriter:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            return SealedWriter(self._folder / file_id, self._sealer, _place(organisation_id, file_id), SPARE_BYTES)

        return await self.written(begin)

    @asynccontextmanager
    async def open(self, organisation_id: str, file: File) -> AsyncIterator[Content]:
        """What `file` holds. FileNotFound where its content has gone, FileDamaged where it is another one."""
        reader = await self.in_thread(self._reader, organisation_id, file)
        try:
            with _telling_damage(file):
                await self.in_thread(reader.check, file.sha256)
            yield Content(self, file, reader)
        finally:
            await self.in_thread(reader.close)

    async def remove(self, names: Iterable[str]) -> None:
        """What cannot be removed is tried again by housekeeping."""

        def remove_all() -> None:
            for name in names:
                try:
                    (self._folder / name).unlink(missing_ok=True)
                except OSError as error:
                    _log.warning("a file's content could not be removed", extra={"why": os.strerror(error.errno or 0)})

        await self.in_thread(remove_all)

    async def names(self) -> set[str]:
        """Of all contents, those included that never became whole."""
        return await self.in_thread(lambda: set(names_in(self._folder)) if self._folder.exists() else set())

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def _reader(self, organisation_id: str, file: File) -> SealedReader:
        try:
            return SealedReader(self._folder / file.id, self._sealer, _place(organisation_id, file.id), file.size_bytes)
        except FileNotFoundError:
            _log.error("a file's content is missing", extra={"file_id": file.id})
            raise FileNotFound(f"What {file.id} held is not on this server any more. Upload it again.") from None


def id_of(name: str) -> str:
    """The id of the file to which a content of this name belongs."""
    return name.removesuffix(PART)


@contextmanager
def _telling_damage(file: File) -> Iterator[None]:
    try:
        yield
    except (Damaged, OSError) as error:
        _log.error("a file's content is damaged", exc_info=error, extra={"file_id": file.id})
        raise FileDamaged from error


def _place(organisation_id: str, file_id: str) -> str:
    return f"files {organisation_id} {file_id}"
