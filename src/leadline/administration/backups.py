"""Backups that the server itself keeps in its data folder. The secret is never in them."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.administration.backup import write_backup
from leadline.administration.instance import Instance, read_secret
from leadline.clock import MICROSECONDS_PER_SECOND, rfc3339
from leadline.errors import InvalidRequest, NotFound, Unavailable

FOLDER = "backups"
MOST_KEPT = 50
_NAME = re.compile(r"leadline-[0-9]{8}T[0-9]{6}Z\.tar\.gz")
# One at a time in each instance: each copies the whole database.
_writing: set[Path] = set()


@dataclass(frozen=True, slots=True)
class Backup:
    """A file in the folder. `at` is when it was written, in microseconds."""

    name: str
    size_bytes: int
    at: int


async def list_backups(data: Path) -> list[Backup]:
    """The newest first."""
    return await asyncio.to_thread(_list, data / FOLDER)


async def back_up(instance: Instance, actor: Actor) -> Backup:
    """Write one of this moment."""
    folder, now = instance.data / FOLDER, instance.keys.clock()
    if folder in _writing:
        raise Unavailable("A backup is being written already. Wait until it is done.")
    if len(await list_backups(instance.data)) >= MOST_KEPT:
        raise InvalidRequest(f"There are {MOST_KEPT} backups in {folder}. Delete some first.")
    name = f"leadline-{re.sub(r'[-:]', '', rfc3339(now)[:19])}Z.tar.gz"
    _writing.add(folder)
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
        await write_backup(instance, read_secret(instance.data), folder / name, with_secret=False)
    finally:
        _writing.discard(folder)
    await _tell(instance, actor, "backups create", name)
    return next(one for one in await list_backups(instance.data) if one.name == name)


async def download(instance: Instance, actor: Actor, name: str) -> Path:
    """The file of a backup for whoever takes it away, which is told in the audit log: all e-mails are in it."""
    path = _path(instance.data, name)
    await _tell(instance, actor, "backups download", name)
    return path


async def delete_backup(instance: Instance, actor: Actor, name: str) -> None:
    path = _path(instance.data, name)
    await asyncio.to_thread(path.unlink, missing_ok=True)
    await _tell(instance, actor, "backups delete", name)


async def _tell(instance: Instance, actor: Actor, action: str, name: str) -> None:
    await instance.database.commit(audited(instance.keys.clock(), actor, action, name, ({}, {})))


def _path(data: Path, name: str) -> Path:
    """NotFound where it is none of ours, whatever else lies there."""
    path = data / FOLDER / name
    if not _NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
        raise NotFound("There is no such backup.")
    return path


def _list(folder: Path) -> list[Backup]:
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and path.is_file():
            state = path.stat()
            found.append(Backup(path.name, state.st_size, int(state.st_mtime * MICROSECONDS_PER_SECOND)))
    return sorted(found, key=lambda one: one.name, reverse=True)
