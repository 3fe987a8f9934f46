"""Bringing a backup back into a data folder that nobody has open.

All is checked beside what is there; then the database takes its place by one rename. Whenever that is cut short, the
folder has the old database or the new one, whole, and the secret fits.
"""

import asyncio
import filecmp
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from leadline.administration.backup import (
    CONFIGURATION,
    SECRET,
    BackupRefused,
    Manifest,
    pieces_of,
    secret_print,
    sync_folder,
    unpack,
    write_file,
)
from leadline.administration.commands.command import Result
from leadline.administration.instance import DATABASE, InstanceInUse, lock_folder
from leadline.config import load
from leadline.errors import LeadlineError, PermissionDenied
from leadline.ledger.audit import Audit, audit
from leadline.ledger.ledger import Ledger
from leadline.storage.closed import BESIDE, fold, is_sound, schema_of
from leadline.storage.database import Database, DatabaseUnusable
from leadline.storage.schema import newest_schema

# Where a backup is unpacked, inside the data folder: a rename does not cross disks.
_STAGED = "restoring"


async def restore(data: Path, archive: Path, *, replace: bool) -> Result:
    """Bring `archive` into the folder, then audit its books. PermissionDenied where that would hurt what is there; with
    `replace`, a database and a configuration that are there are kept aside."""
    try:
        lock = await asyncio.to_thread(_lock, data)
        try:
            restored = await asyncio.to_thread(_restore, data, archive, replace)
            audited = await _audit(data / DATABASE)
        finally:
            lock.close()
    except OSError as error:
        raise LeadlineError(f"{archive} could not be restored to {data}: {error.strerror}.") from error
    return restored | {"ok": not audited.broken, "checked": audited.checked, "broken": list(audited.broken)}


def _lock(data: Path) -> IO[str]:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return lock_folder(data)
    except InstanceInUse:
        raise PermissionDenied(
            f"A Leadline has {data} open, and a restore would take its database from under it. Stop it first."
        ) from None


def _restore(data: Path, archive: Path, replace: bool) -> Result:  # noqa: FBT001 to_thread passes it on
    if not load(data / CONFIGURATION).database.in_folder:
        raise PermissionDenied(
            "The books of this instance are in PostgreSQL (database.url). Restore to another folder with --data, then"
            " move them: leadline db move-to-postgres"
        )
    if (data / DATABASE).exists() and not replace:
        raise PermissionDenied(
            f"{data} has a database. Restore to another folder with --data, or give --replace: the one that is there"
            " is then kept aside."
        )
    staged = data / _STAGED
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(mode=0o700)
    try:
        manifest = unpack(archive, staged)
        _refuse_unusable(archive, staged / DATABASE, manifest)
        stamp = f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        _bring_secret(data, staged, manifest)
        kept_aside = _bring_configuration(data, staged, stamp, replace=replace)
        differs = (staged / CONFIGURATION).exists()
        kept_aside += _bring_database(data, staged, stamp)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return {
        "data": str(data),
        "created_at": manifest.created_at,
        "schema": manifest.schema,
        "configuration_differs": differs,
        "kept_aside": [str(path) for path in kept_aside],
    }


def _refuse_unusable(archive: Path, database: Path, manifest: Manifest) -> None:
    known = newest_schema()
    if manifest.schema > known:
        raise BackupRefused(
            f"{archive} has schema {manifest.schema}, this Leadline knows {known}. Install the newer Leadline."
        )
    try:
        usable = is_sound(database) and schema_of(database) == manifest.schema
    except DatabaseUnusable:
        usable = False
    if not usable:
        raise BackupRefused(
            f"The database in {archive} is damaged, or not what its manifest tells. Take another backup."
        )


def _bring_secret(data: Path, staged: Path, manifest: Manifest) -> None:
    """Without the secret that the API keys were hashed with, none of them would work."""
    given, present, brought = os.environ.get("LEADLINE_SECRET"), data / SECRET, staged / SECRET
    if given is not None:
        where, secret = "LEADLINE_SECRET", given.encode()
    elif present.exists() or brought.exists():
        where = str(present) if present.exists() else "the backup"
        secret = (present if present.exists() else brought).read_bytes()
    else:
        raise BackupRefused(
            f"The backup was made without the instance's secret, and {data} has none: no API key would work. Put the"
            f" instance's file `secret` there, or set LEADLINE_SECRET, then restore again."
        )
    if secret_print(secret.strip()) != manifest.secret_print:
        own = " Or take it away: the backup has its own." if brought.exists() else ""
        raise BackupRefused(
            f"The secret in {where} is not that of this backup's instance: no API key would work. Put that instance's"
            f" secret there, then restore again.{own}"
        )
    if given is None and not present.exists():
        os.replace(brought, present)


def _bring_configuration(data: Path, staged: Path, stamp: str, *, replace: bool) -> list[Path]:
    """Without `replace` a configuration that is there stays, and the backup's is left where it was unpacked."""
    present, brought = data / CONFIGURATION, staged / CONFIGURATION
    if not brought.exists():
        return []
    kept_aside = []
    if present.exists():
        if filecmp.cmp(present, brought, shallow=False):
            brought.unlink()
            return []
        if not replace:
            return []
        kept_aside.append(data / f"{CONFIGURATION}.{stamp}")
        _keep_aside(present, kept_aside[0])
    os.replace(brought, present)
    return kept_aside


def _bring_database(data: Path, staged: Path, stamp: str) -> list[Path]:
    present, aside = data / DATABASE, data / f"{DATABASE}.{stamp}"
    kept_aside = []
    if present.exists():
        fold(present)
        _keep_aside(present, aside)
        kept_aside.append(aside)
    # Of a database that is too damaged to fold, or that somebody took away: the new one must not find them.
    for end in BESIDE:
        if (data / f"{DATABASE}{end}").exists():
            os.replace(data / f"{DATABASE}{end}", data / f"{aside.name}{end}")
    os.replace(staged / DATABASE, present)
    sync_folder(data)
    return kept_aside


def _keep_aside(path: Path, aside: Path) -> None:
    """A second name, so that the first one is never without a file; a copy where the disk knows no second names."""
    try:
        os.link(path, aside)
    except OSError:
        write_file(aside, pieces_of(path))


async def _audit(path: Path) -> Audit:
    database = Database(path)
    try:
        ledger = Ledger(database)
        await ledger.load()
        return await audit(database, ledger)
    finally:
        await database.close()
