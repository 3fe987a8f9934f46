"""Files that organisations upload: rows in the database, contents sealed beside it. Anybody else's do not exist.

A content is whole and durable before its row is committed, and goes after its row has gone: a crash leaves at most a
content without a row, which `clean` removes.
"""

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from leadline.clock import MICROSECONDS_PER_SECOND, Clock
from leadline.config import FilesSection
from leadline.errors import FileNotFound, FilesFull, InvalidRequest, RateLimited, RequestTooLarge
from leadline.ids import new_id
from leadline.serving.file_contents import Content, FileContents, id_of
from leadline.serving.file_rows import File, FileOrder, FilePage, deletion, find_row, insertion, page_of_rows
from leadline.storage.database import Conflict, Database
from leadline.storage.sealed_pieces import PIECE_BYTES, SealedWriter

LARGEST_BYTES = 50_000_000
SHORTEST_TERM_SECONDS, LONGEST_TERM_SECONDS = 3600, 2_592_000
LONGEST_NAME, LONGEST_PURPOSE = 255, 64
# Uploads of one organisation that run at once.
MOST_AT_ONCE = 64
# Expired ones are deleted so many at a time, so that a commit stays short.
_PRUNED_AT_ONCE = 500
# No characters: controls, lone halves of pairs, and breaks of lines and paragraphs.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Room:
    """What an organisation has, its running uploads included, and the most that it may have; 0: no such bound."""

    most: FilesSection
    files: int = 0
    bytes: int = 0
    uploads: int = 0

    @property
    def may_be_full(self) -> bool:
        """Whether another file might not fit."""
        return 0 < self.most.per_organisation <= self.files or 0 < self._most_bytes < self.bytes + LARGEST_BYTES

    def claim_file(self) -> None:
        if self.uploads >= MOST_AT_ONCE:
            raise RateLimited(f"{MOST_AT_ONCE} files of your organisation are being uploaded. Wait for one of them.", 1)
        if 0 < self.most.per_organisation <= self.files:
            raise FilesFull(
                f"Your organisation has {self.files} of {self.most.per_organisation} files. Delete some, or let them"
                " expire by expires_after."
            )
        self.files += 1
        self.uploads += 1

    def claim_bytes(self, count: int) -> None:
        if 0 < self._most_bytes < self.bytes + count:
            raise FilesFull(
                f"Your organisation's files may have {self.most.megabytes_per_organisation} MB together, and with this"
                " one they would have more. Delete some."
            )
        self.bytes += count

    def release(self, size_bytes: int) -> None:
        """A file has gone."""
        self.files -= 1
        self.bytes -= size_bytes
        assert min(self.files, self.bytes) >= 0, "what goes was there"

    @property
    def _most_bytes(self) -> int:
        return self.most.megabytes_per_organisation * 1_000_000


class Upload:
    """One file on its way in: `write` its pieces in their order, then `keep` it. Left before that, it never was."""

    def __init__(self, files: "Files", organisation_id: str, file: File, writer: SealedWriter, room: Room) -> None:
        self._files, self._organisation_id, self._file = files, organisation_id, file
        self._writer, self._room = writer, room
        self._gathered, self._size_bytes = bytearray(), 0
        self.kept = False

    async def write(self, piece: bytes) -> None:
        """RequestTooLarge and FilesFull where it grows beyond its bounds, Unavailable where the disk refuses."""
        if self._size_bytes + len(piece) > LARGEST_BYTES:
            raise file_too_large()
        self._room.claim_bytes(len(piece))
        self._size_bytes += len(piece)
        rest = memoryview(piece)
        while rest:
            missing = PIECE_BYTES - len(self._gathered)
            self._gathered += rest[:missing]
            rest = rest[missing:]
            if len(self._gathered) == PIECE_BYTES:
                await self._flush()

    async def keep(self, purpose: str = "", expires_after_seconds: int | None = None) -> File:
        """Make it durable. Who is cut short from here on may have left the file."""
        check_text(purpose, "purpose", LONGEST_PURPOSE)
        check_term(expires_after_seconds)
        await self._flush()
        self.kept = True
        return await self._files.finish(self._keep(purpose, expires_after_seconds))

    async def _keep(self, purpose: str, expires_after_seconds: int | None) -> File:
        try:
            sha256 = await self._files.contents.written(self._writer.finish)
            at = self._file.created_at
            term = None if expires_after_seconds is None else at + expires_after_seconds * MICROSECONDS_PER_SECOND
            file = File(self._file.id, self._file.filename, purpose, self._size_bytes, sha256, at, term)
            await self._files.database.commit(insertion(self._organisation_id, file))
        except Exception:
            await self.discard()
            raise
        self._end()
        return file

    async def discard(self) -> None:
        """Leave nothing behind."""
        await self._files.contents.in_thread(self._writer.discard)
        self._room.release(self._size_bytes)
        self._end()

    def _end(self) -> None:
        self._room.uploads -= 1
        self._files.uploading.discard(self._file.id)

    async def _flush(self) -> None:
        gathered, self._gathered = bytes(self._gathered), bytearray()
        if gathered:
            await self._files.contents.written(self._writer.write, gathered)


@dataclass(slots=True)
class Files:
    database: Database
    contents: FileContents
    most: FilesSection
    clock: Clock
    # Ids of files whose contents may be there before their rows are.
    uploading: set[str] = field(default_factory=set)
    _rooms: dict[str, Room] | None = None
    _counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: "set[asyncio.Task[Any]]" = field(default_factory=set)

    @asynccontextmanager
    async def upload(self, organisation_id: str, filename: str) -> AsyncIterator[Upload]:
        """A new file of this organisation, created now: its id and its time are in one order. Left without `keep`, it
        leaves nothing."""
        check_text(filename, "filename", LONGEST_NAME)
        if not filename or filename in (".", "..") or "/" in filename or "\\" in filename:
            raise InvalidRequest("filename: it must be a name, without slashes.", "filename")
        if (room := await self._room(organisation_id)).may_be_full:
            await self.prune()
        room.claim_file()
        file_id = new_id("file")
        self.uploading.add(file_id)
        try:
            writer = await self.contents.new(organisation_id, file_id)
        except BaseException:
            room.release(0)
            room.uploads -= 1
            self.uploading.discard(file_id)
            raise
        upload = Upload(self, organisation_id, File(file_id, filename, "", 0, "", self.clock(), None), writer, room)
        try:
            yield upload
        finally:
            if not upload.kept:
                await self.finish(upload.discard())

    async def find(self, organisation_id: str, file_id: str) -> File:
        """FileNotFound where this organisation has no such file."""
        file = await find_row(self.database, organisation_id, file_id, self.clock())
        if file is None:
            raise FileNotFound
        return file

    async def page(self, organisation_id: str, order: FileOrder) -> FilePage:
        return await page_of_rows(self.database, organisation_id, order, self.clock())

    @asynccontextmanager
    async def open(self, organisation_id: str, file_id: str) -> AsyncIterator[Content]:
        """What a file holds, checked once as a whole. FileDamaged where it is not what was uploaded."""
        file = await self.find(organisation_id, file_id)
        async with self.contents.open(organisation_id, file) as content:
            yield content

    async def delete(self, organisation_id: str, file_id: str) -> None:
        """Of several who delete one only the first does not hear FileNotFound."""
        file = await self.find(organisation_id, file_id)
        try:
            await self.finish(self._delete([(file.id, organisation_id, file.size_bytes)]))
        except Conflict:
            raise FileNotFound from None

    async def prune(self) -> None:
        """Delete the files whose term is over."""
        while True:
            expired = await self.database.rows(
                "SELECT id, organisation_id, size_bytes FROM files WHERE expires_at <= $1 LIMIT $2",
                *(self.clock(), _PRUNED_AT_ONCE),
            )
            try:
                await self.finish(self._delete(expired))
            except Conflict:
                continue  # somebody deleted one of them meanwhile
            if len(expired) < _PRUNED_AT_ONCE:
                return

    async def clean(self) -> None:
        """Remove contents that have no row. They are listed first: what is neither being uploaded after that nor has a
        row after that will never have one."""
        there = await self.contents.names()
        candidates = [name for name in there if id_of(name) not in self.uploading]
        rows = await self.database.rows("SELECT id FROM files")
        known = {file_id for (file_id,) in rows}
        await self.contents.remove(name for name in candidates if name not in known)

    async def finish(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Bring it to its end, also where who asked for it is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def close(self, seconds: float) -> None:
        """Wait for what is being kept or deleted."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        self.contents.close()

    async def _delete(self, files: Sequence[tuple[str, str, int]]) -> None:
        """Rows first: ids, organisations and sizes."""
        if not files:
            return
        rooms = [(await self._room(organisation_id), size_bytes) for _, organisation_id, size_bytes in files]
        await self.database.commit(*(deletion(file_id) for file_id, _, _ in files))
        for room, size_bytes in rooms:
            room.release(size_bytes)
        await self.contents.remove(file_id for file_id, _, _ in files)

    async def _room(self, organisation_id: str) -> Room:
        """What each organisation has is counted once, before anything changes it."""
        async with self._counting:
            if self._rooms is None:
                rows = await self.database.rows(
                    "SELECT organisation_id, COUNT(*), SUM(size_bytes) FROM files GROUP BY organisation_id"
                )
                self._rooms = {owner: Room(self.most, files, size) for owner, files, size in rows}
        return self._rooms.setdefault(organisation_id, Room(self.most))


def check_text(text: str, name: str, longest: int) -> None:
    """InvalidRequest that names the field."""
    if len(text) > longest:
        raise InvalidRequest(f"{name}: it has more than {longest} characters.", name)
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise InvalidRequest(f"{name}: it holds a control character or a line break.", name)


def check_term(expires_after_seconds: int | None) -> None:
    if expires_after_seconds is None or SHORTEST_TERM_SECONDS <= expires_after_seconds <= LONGEST_TERM_SECONDS:
        return
    raise InvalidRequest(
        f"expires_after: it must be from {SHORTEST_TERM_SECONDS} to {LONGEST_TERM_SECONDS} seconds.", "expires_after"
    )


def file_too_large() -> RequestTooLarge:
    return RequestTooLarge(f"A file has at most {LARGEST_BYTES // 1_000_000} MB. Split it.")
