"""A backup: one plain tar (or .gz of it) with the books of one moment, the configuration and, if asked for, the secret.

`manifest.json` comes first and tells every other member's size and SHA-256. The members are plain files with the names
below, in that order, and nothing else is one: an archive from elsewhere can neither leave its folder nor bring what
nobody asked for.
"""

import asyncio
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import msgspec

from leadline import __version__
from leadline.administration.instance import DATABASE, Instance
from leadline.clock import MICROSECONDS_PER_SECOND, now_microseconds, rfc3339
from leadline.errors import InvalidRequest, LeadlineError, PermissionDenied

MANIFEST = "manifest.json"
CONFIGURATION = "leadline.toml"
SECRET = "secret"  # noqa: S105 a file's name
_MEMBERS = (DATABASE, CONFIGURATION, SECRET)

_LARGEST_MANIFEST_BYTES = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"

# The next bytes of an archive, at most so many; none at its end.
_Read = Callable[[int], bytes]


# What reading bytes that are no backup ends in.
_NO_BACKUP = (
    *(EOFError, ValueError, RecursionError, zlib.error, gzip.BadGzipFile, tarfile.HeaderError),
    msgspec.MsgspecError,
)


class BackupFailed(LeadlineError):
    """The backup could not be written."""


class BackupRefused(PermissionDenied):
    """This backup cannot be restored."""


class Member(msgspec.Struct, frozen=True):
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """`created_at` is RFC 3339. `secret_print` tells the right secret from a wrong one."""

    leadline: str
    schema: int
    created_at: Annotated[str, msgspec.Meta(pattern="^[0-9TZ:.-]{20,30}$")]
    secret_print: str
    members: dict[str, Member]


def secret_print(secret: bytes) -> str:
    """A short digest of an instance's secret, from which it cannot be found."""
    return hashlib.blake2b(secret, digest_size=8, person=b"leadline-print").hexdigest()


async def write_backup(instance: Instance, secret: bytes, archive: Path, *, with_secret: bool) -> Manifest:
    """A backup of this moment as the new file `archive`, whole or not at all; the server's load goes on beside it.
    PermissionDenied where the file exists, BackupFailed where it cannot be written."""
    folder = await asyncio.to_thread(_folder_beside, archive)
    try:
        await instance.database.backup(folder / DATABASE)
        [(schema,)] = await instance.database.rows("SELECT MAX(number) FROM migrations")
        if with_secret:
            await asyncio.to_thread(write_file, folder / SECRET, [secret])
        return await asyncio.to_thread(_pack, instance.data, folder, archive, schema, secret_print(secret))
    except OSError as error:
        raise BackupFailed(f"{archive} could not be written: {error.strerror}.") from error
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> Manifest:
    """Put the members into the empty `folder`, each as its manifest tells it. BackupRefused where anything is off."""
    try:
        with _opened(archive) as read:
            manifest = _manifest(archive, read)
            needed, free = sum(one.size_bytes for one in manifest.members.values()), shutil.disk_usage(folder).free
            if needed > free:
                raise LeadlineError(f"{archive} needs {needed} bytes in {folder.parent}, and {free} are free.")
            for name, member in manifest.members.items():
                _refuse_other(archive, _header(read), name, member.size_bytes)
                if write_file(folder / name, _content(read, member.size_bytes)) != member:
                    raise BackupRefused(f"{archive} is damaged: {name} is not what its manifest tells.")
            if any(read(tarfile.BLOCKSIZE)):
                raise BackupRefused(f"{archive} holds more than its manifest tells.")
    except _NO_BACKUP as error:
        raise BackupRefused(f"{archive} is no backup of Leadline, or it is cut or damaged.") from error
    return manifest


def write_file(path: Path, pieces: Iterable[bytes]) -> Member:
    """A new, durable file of its owner's alone."""
    digest = hashlib.sha256()
    with open(path, "xb", opener=_private) as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        _sync(file)
        return Member(file.tell(), digest.hexdigest())


def pieces_of(path: Path) -> Iterator[bytes]:
    """A file's content."""
    with path.open("rb") as file:
        yield from iter(partial(file.read, _PIECE_BYTES), b"")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folder_beside(archive: Path) -> Path:
    """A private folder on the archive's disk, in which it is put together."""
    _refuse_existing(archive)
    if not archive.parent.is_dir():
        raise InvalidRequest(f"There is no folder {archive.parent}. Make it, or name another one.", "file")
    try:
        return Path(tempfile.mkdtemp(prefix=".leadline-backup-", dir=archive.parent))
    except OSError as error:
        raise BackupFailed(f"{archive} could not be written: {error.strerror}.") from error


def _refuse_existing(archive: Path) -> None:
    if os.path.lexists(archive):
        raise PermissionDenied(f"{archive} exists, and a backup never overwrites a file. Give it another name.")


def _pack(data: Path, folder: Path, archive: Path, schema: int, printed: str) -> Manifest:
    if (data / CONFIGURATION).exists():
        write_file(folder / CONFIGURATION, pieces_of(data / CONFIGURATION))
    members = {name: _member(folder / name) for name in _MEMBERS if (folder / name).exists()}
    manifest = Manifest(__version__, schema, rfc3339(now_microseconds()), printed, members)
    write_file(folder / MANIFEST, [msgspec.json.format(msgspec.json.encode(manifest)), b"\n"])
    packed = folder / "packed"
    with open(packed, "xb", opener=_private) as file:
        with _tar(file, compressed=archive.suffix == ".gz") as tar:
            for name in (MANIFEST, *members):
                header = tarfile.TarInfo(name)
                header.size, header.mode = (folder / name).stat().st_size, 0o600
                header.mtime = now_microseconds() // MICROSECONDS_PER_SECOND
                with (folder / name).open("rb") as content:
                    tar.addfile(header, content)
        _sync(file)
    _refuse_existing(archive)
    packed.rename(archive)
    sync_folder(archive.parent)
    return manifest


def _tar(file: IO[bytes], *, compressed: bool) -> tarfile.TarFile:
    """In GNU's format, where a header is one block whatever the size."""
    if compressed:
        return tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT, compresslevel=6)
    return tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)


def _member(path: Path) -> Member:
    with path.open("rb") as file:
        return Member(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _opened(archive: Path) -> Iterator[_Read]:
    """Reads the tar, whether or not it is compressed."""
    with archive.open("rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=file) as plain:
                yield plain.read
        else:
            yield file.read


def _manifest(archive: Path, read: _Read) -> Manifest:
    header = _header(read)
    _refuse_other(archive, header, MANIFEST, min(header.size, _LARGEST_MANIFEST_BYTES))
    manifest = msgspec.json.decode(b"".join(_content(read, header.size)), type=Manifest)
    if list(manifest.members) != [name for name in _MEMBERS if name in manifest.members]:
        raise BackupRefused(f"{archive} is no backup of Leadline: its manifest tells of other files than a backup has.")
    return manifest


def _header(read: _Read) -> tarfile.TarInfo:
    """The next header alone. tarfile would follow extensions of the format, and hold them in memory; we write none."""
    return tarfile.TarInfo.frombuf(read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")


def _refuse_other(archive: Path, header: tarfile.TarInfo, name: str, size_bytes: int) -> None:
    """Only a plain file of this name and size will do: no link, no device, no other path."""
    if header.name != name or header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.size != size_bytes:
        wanted = f"a plain file {name} of {size_bytes} bytes"
        raise BackupRefused(f"{archive} is no backup of Leadline: it holds {header.name[:200]!r} in place of {wanted}.")


def _content(read: _Read, size_bytes: int) -> Iterator[bytes]:
    """The content of the member whose header was just read, up to the next header."""
    left = size_bytes
    while left > 0:
        piece = read(min(left, _PIECE_BYTES))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece
    read(-size_bytes % tarfile.BLOCKSIZE)
