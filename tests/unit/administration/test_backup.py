"""Backups of an instance under load, and what a restore takes, refuses and survives."""

import asyncio
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import apsw
import pytest

from leadline.administration.backup import BackupFailed, BackupRefused
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.administration.restore import restore
from leadline.chat.events import Usage
from leadline.errors import InvalidRequest, LeadlineError, PermissionDenied
from leadline.ids import new_uuid
from leadline.ledger.books import Hold, Outcome
from leadline.ledger.usage import UsageRecord
from leadline.money import Ticks
from leadline.storage.closed import schema_of
from leadline.storage.database import Database, DatabaseUnusable
from leadline.storage.schema import newest_schema

pytestmark = pytest.mark.slow

EMAIL = "alice@northwind.example"
GRANTED = 10**10
WRITERS = 4
TOML = '[server]\npublic_url = "https://alice.example"\n'


@pytest.fixture(autouse=True)
def no_secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADLINE_SECRET", raising=False)


class Alice:
    """Her instance in a folder, with one dollar and one key, and what can be done with the folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.api_key = ""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Instance]:
        instance = await Instance.open(self.data)
        try:
            yield instance
        finally:
            await instance.close()

    async def begin(self) -> None:
        self.data.mkdir()
        (self.data / "leadline.toml").write_text(TOML)
        arguments = {"email": EMAIL, "org": "Northwind", "password": "correct horse"}
        async with self.opened() as instance:
            made = await run(instance, "init", arguments | {"first": {"credit": "1", "key": None}})
        self.api_key = made["api_key"]

    async def backup(self, file: Path, *, with_secret: bool = False) -> Path:
        async with self.opened() as instance:
            await run(instance, "db backup", {"file": str(file), "with_secret": with_secret})
        return file

    async def grant(self, usd: str) -> None:
        async with self.opened() as instance:
            await run(instance, "credits grant", {"email": EMAIL, "amount": usd, "reason": "more"})

    async def balance(self) -> int:
        """What a server that starts now would find; its key works and its books are in order."""
        async with self.opened() as instance:
            instance.keys.authenticate(self.api_key)
            assert (await run(instance, "credits verify", {}))["ok"]
            balance: int = (await run(instance, "credits balance", {"email": EMAIL}))["balance_ticks"]
            return balance

    def moved_to(self, data: Path) -> "Alice":
        other = Alice(data)
        other.api_key = self.api_key
        return other


@pytest.fixture
async def alice(tmp_path: Path) -> Alice:
    alice = Alice(tmp_path / "alice")
    await alice.begin()
    return alice


@pytest.fixture
async def archive(alice: Alice, tmp_path: Path) -> Path:
    """A backup with the secret, from before Alice got another dollar."""
    archive = await alice.backup(tmp_path / "backup.tar", with_secret=True)
    await alice.grant("1")
    return archive


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def spend(instance: Instance, organisation_id: str, until: asyncio.Event) -> None:
    """A writer: one streamed request after the other, each held, secured and settled."""
    while not until.is_set():
        hold = Hold(str(new_uuid()), organisation_id, "key-1", "mock", "/v1/messages", Ticks(9), 1)
        instance.ledger.reserve(hold)
        await instance.ledger.checkpoint([(hold, 0, Usage())])
        record = UsageRecord(
            *(organisation_id, hold.request_id, 1, 2, hold.key_id, hold.model, hold.endpoint, "finished"),
            usage=Usage(prompt_tokens=3),
            cost_ticks=5,
        )
        await instance.ledger.settle(hold, lambda record=record: Outcome(record))  # type: ignore[misc]


async def test_a_backup_under_load_is_itself_balanced(alice: Alice, tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with alice.opened() as instance:
        organisation_id = (await instance.organisations.of_email(EMAIL)).id
        writers = [asyncio.create_task(spend(instance, organisation_id, stop)) for _ in range(WRITERS)]
        for number in range(5):
            file = str(tmp_path / f"{number}.tar")
            await run(instance, "db backup", {"file": file, "with_secret": True})
        stop.set()
        await asyncio.gather(*writers)
        final = await run(instance, "credits verify", {})

    restored = [await restore(tmp_path / f"{n}", tmp_path / f"{n}.tar", replace=False) for n in range(5)]

    assert [(one["ok"], one["broken"]) for one in restored] == [(True, [])] * 5
    counts = [one["checked"] for one in restored]
    assert counts == sorted(set(counts)), "the load went on between the backups"
    assert final["checked"] > counts[-1]
    assert await alice.moved_to(tmp_path / "4").balance() < GRANTED


@pytest.mark.parametrize("name", ["backup.tar", "backup.tar.gz"])
async def test_a_backup_comes_back_whole_and_its_keys_work(alice: Alice, tmp_path: Path, name: str) -> None:
    archive = await alice.backup(tmp_path / name, with_secret=True)
    await alice.grant("1")
    other = alice.moved_to(tmp_path / "deep" / "other")

    restored = await restore(other.data, archive, replace=False)

    assert await other.balance() == GRANTED
    assert (restored["ok"], restored["checked"], restored["kept_aside"]) == (True, 1, [])
    assert (other.data / "leadline.toml").read_text() == TOML
    assert (other.data / "secret").read_bytes() == (alice.data / "secret").read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in other.data.iterdir() if path.name != "lock"} == {0o600}
    assert not (other.data / "restoring").exists()


async def test_a_backup_is_a_plain_tar_whose_manifest_tells_its_members(alice: Alice, tmp_path: Path) -> None:
    plain = await alice.backup(tmp_path / "plain.tar")
    whole = await alice.backup(tmp_path / "whole.tgz.gz", with_secret=True)

    found, found_whole = members(plain), members(whole)
    manifest = json.loads(found.pop("manifest.json"))

    assert list(found) == ["leadline.db", "leadline.toml"]
    assert list(found_whole) == ["manifest.json", "leadline.db", "leadline.toml", "secret"]
    assert manifest["schema"] == newest_schema()
    assert manifest["members"] == {
        name: {"size_bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()} for name, text in found.items()
    }
    secret = (alice.data / "secret").read_bytes().strip()
    assert found_whole["secret"] == secret
    assert secret not in plain.read_bytes()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (plain, whole)] == [0o600, 0o600]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alice", "plain.tar", "whole.tgz.gz"]


async def test_a_secret_from_the_environment_is_the_one_that_counts(
    alice: Alice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = (alice.data / "secret").read_text()
    monkeypatch.setenv("LEADLINE_SECRET", secret)
    (alice.data / "secret").unlink()
    archive = await alice.backup(tmp_path / "backup.tar", with_secret=True)
    other = alice.moved_to(tmp_path / "other")

    await restore(other.data, archive, replace=False)

    assert members(archive)["secret"].decode() == secret
    assert not (other.data / "secret").exists()
    assert await other.balance() == GRANTED


async def test_a_file_that_exists_is_never_overwritten(alice: Alice, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    for name in ("precious", "dangling"):
        with pytest.raises(PermissionDenied, match="never overwrites"):
            await alice.backup(tmp_path / name)
    with pytest.raises(InvalidRequest, match="There is no folder"):
        await alice.backup(tmp_path / "nowhere" / "backup.tar")

    assert (tmp_path / "precious").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alice", "dangling", "precious"]


async def test_a_file_that_appears_meanwhile_is_not_overwritten_either(
    alice: Alice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Database.backup

    async def slowly(database: Database, path: Path) -> None:
        await copied(database, path)
        (tmp_path / "backup.tar").write_text("precious")

    monkeypatch.setattr(Database, "backup", slowly)
    with pytest.raises(PermissionDenied, match="never overwrites"):
        await alice.backup(tmp_path / "backup.tar")

    assert (tmp_path / "backup.tar").read_text() == "precious"


async def test_a_backup_that_fails_leaves_nothing_behind(
    alice: Alice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(BackupFailed, match=r"could not be written: No space left on device\."):
        await alice.backup(tmp_path / "backup.tar")

    assert [path.name for path in tmp_path.iterdir()] == ["alice"]


async def test_a_restore_needs_the_very_secret_of_the_backup(
    alice: Alice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = await alice.backup(tmp_path / "bare.tar")
    whole = await alice.backup(tmp_path / "whole.tar", with_secret=True)
    other = alice.moved_to(tmp_path / "other")

    with pytest.raises(BackupRefused, match=r"has none: no API key would work\. Put the instance's file `secret`"):
        await restore(other.data, bare, replace=False)
    (other.data / "secret").write_text("x" * 64)
    with pytest.raises(BackupRefused, match="is not that of this backup's instance"):
        await restore(other.data, bare, replace=False)
    with pytest.raises(BackupRefused, match="Or take it away: the backup has its own"):
        await restore(other.data, whole, replace=True)
    monkeypatch.setenv("LEADLINE_SECRET", "y" * 64)
    with pytest.raises(BackupRefused, match="The secret in LEADLINE_SECRET is not"):
        await restore(other.data, whole, replace=True)
    assert sorted(content(other.data)) == ["lock", "secret"]

    monkeypatch.delenv("LEADLINE_SECRET")
    shutil.copy(alice.data / "secret", other.data / "secret")
    await restore(other.data, bare, replace=False)

    assert await other.balance() == GRANTED


async def test_a_database_that_is_there_stays_unless_it_is_to_be_replaced_and_then_it_is_kept_aside(
    alice: Alice, archive: Path
) -> None:
    with pytest.raises(PermissionDenied, match="--replace"):
        await restore(alice.data, archive, replace=False)
    assert await alice.balance() == 2 * GRANTED

    [kept] = (await restore(alice.data, archive, replace=True))["kept_aside"]

    assert await alice.balance() == GRANTED
    assert Path(kept).name.startswith("leadline.db.before-restore-")
    shutil.copy(kept, alice.data / "leadline.db")
    assert await alice.balance() == 2 * GRANTED


async def test_a_configuration_of_its_own_stays_unless_it_is_to_be_replaced(
    alice: Alice, archive: Path, tmp_path: Path
) -> None:
    other = alice.moved_to(tmp_path / "other")
    other.data.mkdir()
    (other.data / "leadline.toml").write_text("# mine\n")

    first = await restore(other.data, archive, replace=False)
    stayed = (other.data / "leadline.toml").read_text()
    second = await restore(other.data, archive, replace=True)

    assert (first["configuration_differs"], stayed) == (True, "# mine\n")
    assert second["configuration_differs"] is False
    assert (other.data / "leadline.toml").read_text() == TOML
    assert [Path(path).read_text() for path in second["kept_aside"][:1]] == ["# mine\n"]


async def test_a_folder_that_is_open_is_refused_and_not_touched(alice: Alice, archive: Path) -> None:
    async with alice.opened():
        before = content(alice.data)
        with pytest.raises(PermissionDenied, match="Stop it first"):
            await restore(alice.data, archive, replace=True)
        assert content(alice.data) == before
    assert await alice.balance() == 2 * GRANTED


async def test_what_a_killed_server_had_only_in_its_log_is_kept_aside_too(
    alice: Alice, archive: Path, tmp_path: Path
) -> None:
    killed = alice.moved_to(tmp_path / "killed")
    async with alice.opened() as instance:
        await run(instance, "credits grant", {"email": EMAIL, "amount": "3", "reason": "in the log"})
        shutil.copytree(alice.data, killed.data)
    assert (killed.data / "leadline.db-wal").stat().st_size > 0

    [kept] = (await restore(killed.data, archive, replace=True))["kept_aside"]

    assert await killed.balance() == GRANTED
    assert not (killed.data / "leadline.db-wal").exists()
    shutil.copy(kept, killed.data / "leadline.db")
    assert await killed.balance() == 5 * GRANTED


async def test_a_damaged_database_can_be_replaced_and_is_kept_as_it_is(alice: Alice, archive: Path) -> None:
    (alice.data / "leadline.db").write_bytes(b"damaged" * 1000)

    [kept] = (await restore(alice.data, archive, replace=True))["kept_aside"]

    assert await alice.balance() == GRANTED
    assert Path(kept).read_bytes() == b"damaged" * 1000


async def test_a_log_without_its_database_is_not_taken_for_the_new_ones(
    alice: Alice, archive: Path, tmp_path: Path
) -> None:
    killed = alice.moved_to(tmp_path / "killed")
    async with alice.opened() as instance:
        await run(instance, "credits grant", {"email": EMAIL, "amount": "3", "reason": "in the log"})
        shutil.copytree(alice.data, killed.data)
    (killed.data / "leadline.db").unlink()

    await restore(killed.data, archive, replace=False)

    assert await killed.balance() == GRANTED


async def test_a_database_that_another_program_has_open_is_not_moved(alice: Alice, archive: Path) -> None:
    reader = apsw.Connection(str(alice.data / "leadline.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM entries").fetchall()

    with pytest.raises(DatabaseUnusable, match="Another program"):
        await restore(alice.data, archive, replace=True)

    reader.close()
    assert await alice.balance() == 2 * GRANTED


class Killed(BaseException):
    """The process ends here."""


class Disk:
    """Counts what a restore asks of the disk, and at `kill_at` does it no more. A killed process does not tidy up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self.kill_at: int | None = None
        self._rmtree = shutil.rmtree
        for name in ("link", "replace", "fsync", "open"):
            monkeypatch.setattr(os, name, self._step(getattr(os, name)))
        monkeypatch.setattr(shutil, "rmtree", self._tidy)

    def _step(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def acts(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps == self.kill_at:
                raise Killed
            return act(*args, **kwargs)

        return acts

    def _tidy(self, *args: Any, **kwargs: Any) -> None:
        if self.kill_at is None or self.steps < self.kill_at:
            self._rmtree(*args, **kwargs)


async def test_a_restore_that_is_killed_at_any_step_leaves_the_old_database_or_the_new_one(
    alice: Alice, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alice.data / "leadline.toml").write_text("# changed since\n")
    disk = Disk(monkeypatch)
    killed = [alice.moved_to(Path(shutil.copytree(alice.data, tmp_path / f"killed-{n}"))) for n in range(100)]
    await restore(killed[0].data, archive, replace=True)
    found = []

    for kill_at in range(1, disk.steps + 1):
        disk.steps, disk.kill_at = 0, kill_at
        with pytest.raises(Killed):
            await restore(killed[kill_at].data, archive, replace=True)
        disk.kill_at = None
        found.append(await killed[kill_at].balance())
        await restore(killed[kill_at].data, archive, replace=True)
        assert await killed[kill_at].balance() == GRANTED
        assert not (killed[kill_at].data / "restoring").exists()

    assert found == sorted(found, reverse=True), "once it is the new one it stays so"
    assert set(found) == {GRANTED, 2 * GRANTED}


@dataclass
class Archive:
    """The members of a backup, to be packed again after something was done to them."""

    files: dict[str, bytes]

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self.files["manifest.json"])
        return manifest

    @manifest.setter
    def manifest(self, manifest: dict[str, Any]) -> None:
        self.files["manifest.json"] = json.dumps(manifest).encode()

    def put(self, name: str, text: bytes) -> None:
        """A member that the manifest tells rightly."""
        self.files[name] = text
        manifest = self.manifest
        manifest["members"][name] = {"size_bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        self.manifest = manifest

    def pack(self, **headers: Any) -> bytes:
        """As a tar; `headers` change the header of the database."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=headers.pop("format", tarfile.GNU_FORMAT)) as tar:
            for name, text in self.files.items():
                header = tarfile.TarInfo(name)
                header.size = len(text)
                if name == "leadline.db":
                    vars_of = {"size": len(text)} | headers
                    for field, value in vars_of.items():
                        setattr(header, field, value)
                tar.addfile(header, io.BytesIO(text))
        return file.getvalue()


def _database(text: bytes, *statements: str) -> bytes:
    """The database after `statements`."""
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", text)
    for statement in statements:
        connection.execute(statement)
    changed = connection.serialize("main")
    connection.close()
    return changed


def _manifest(archive: Archive, **fields: Any) -> bytes:
    archive.manifest = archive.manifest | fields
    return archive.pack()


def _with(archive: Archive, name: str, text: bytes) -> bytes:
    archive.put(name, text)
    return archive.pack()


def _unlisted(archive: Archive, name: str, text: bytes = b"x") -> bytes:
    archive.files[name] = text
    return archive.pack()


def _flipped(archive: Archive) -> bytes:
    text = bytearray(archive.files["leadline.db"])
    text[len(text) // 2] ^= 1
    archive.files["leadline.db"] = bytes(text)
    return archive.pack()


def _torn_page(archive: Archive) -> bytes:
    text = archive.files["leadline.db"]
    return _with(archive, "leadline.db", text[:4096] + b"\xff" * 4096 + text[8192:])


def _twice(archive: Archive) -> bytes:
    packed = archive.pack()
    ends_at = packed.rindex(b"secret")
    return packed[:ends_at] + packed[ends_at : ends_at + 1024] + packed[ends_at:]


def _other_schema(archive: Archive) -> bytes:
    text = _database(archive.files["leadline.db"], "INSERT INTO migrations VALUES (9999, 'later', 1)")
    return _with(archive, "leadline.db", text)


def _no_database_of_ours(archive: Archive) -> bytes:
    return _with(archive, "leadline.db", _database(archive.files["leadline.db"], "DROP TABLE migrations"))


def _no_database(archive: Archive) -> bytes:
    members = archive.manifest["members"]
    del archive.files["leadline.db"], members["leadline.db"]
    return _manifest(archive, members=members)


def _reordered(archive: Archive) -> bytes:
    archive.files = dict(reversed(archive.files.items()))
    return archive.pack()


HOSTILE: dict[str, Callable[[Archive], bytes]] = {
    "nothing": lambda _: b"",
    "noise": lambda _: bytes(range(256)) * 40,
    "zeros": lambda _: bytes(10240),
    "a gzip of noise": lambda _: gzip.compress(bytes(range(256)) * 40),
    "a cut tar": lambda archive: archive.pack()[:9000],
    "a cut gzip": lambda archive: gzip.compress(archive.pack())[:-5000],
    "a damaged gzip": lambda archive: gzip.compress(archive.pack()).replace(b"\x00", b"\x01"),
    "a tar cut before a member": lambda archive: archive.pack()[:1024],
    "no manifest": lambda archive: (archive.files.pop("manifest.json"), archive.pack())[1],
    "a manifest too large": lambda archive: _manifest(archive, leadline="x" * 65536),
    "a manifest that is no JSON": lambda archive: _unlisted(archive, "manifest.json", b"{"),
    "a manifest that is no text": lambda archive: _unlisted(archive, "manifest.json", b'{"leadline": "\xff"}'),
    "a manifest of brackets": lambda archive: _unlisted(archive, "manifest.json", b'{"x":' + b"[" * 60000),
    "a manifest without fields": lambda archive: _unlisted(archive, "manifest.json", b"{}"),
    "a date that moves the cursor": lambda archive: _manifest(archive, created_at="2027-01-15T12:00:00Z\x1b[2J"),
    "a size below zero": lambda archive: _manifest(archive, members={"leadline.db": {"size_bytes": -1, "sha256": ""}}),
    "a path upwards in the manifest": lambda archive: _with(archive, "../evil", b"x"),
    "an absolute path in the manifest": lambda archive: _with(archive, "/tmp/evil", b"x"),
    "a file of another name in the manifest": lambda archive: _with(archive, "lock", b"x"),
    "a file that the manifest does not tell": lambda archive: _unlisted(archive, "evil"),
    "a path upwards": lambda archive: archive.pack(name="../leadline.db"),
    "an absolute path": lambda archive: archive.pack(name="/tmp/leadline.db"),
    "a symbolic link": lambda archive: archive.pack(type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
    "a hard link": lambda archive: archive.pack(type=tarfile.LNKTYPE, linkname="../alice/secret", size=0),
    "a device": lambda archive: archive.pack(type=tarfile.CHRTYPE, devmajor=1, devminor=5, size=0),
    "a pipe": lambda archive: archive.pack(type=tarfile.FIFOTYPE, size=0),
    "a folder": lambda archive: archive.pack(type=tarfile.DIRTYPE, size=0),
    "a sparse file": lambda archive: archive.pack(type=tarfile.GNUTYPE_SPARSE),
    "a long name in an extension": lambda archive: archive.pack(name="x" * 300),
    "a name in a pax header": lambda archive: archive.pack(format=tarfile.PAX_FORMAT, name="leadline\u2215db"),
    "a size that is not the manifest's": lambda archive: _unlisted(archive, "leadline.db", b"short"),
    "a member twice": _twice,
    "members in another order": _reordered,
    "a flipped bit": _flipped,
    "a damaged database that the manifest tells rightly": _torn_page,
    "a database that is none": lambda archive: _with(archive, "leadline.db", b"notes" * 1000),
    "a database of another program": _no_database_of_ours,
    "no database": _no_database,
    "a newer schema": lambda archive: _manifest(archive, schema=9999),
    "a newer schema in the database alone": _other_schema,
    "a secret that is not the one": lambda archive: _with(archive, "secret", b"x" * 64),
}


@pytest.mark.parametrize("attack", HOSTILE)
async def test_an_archive_that_is_no_whole_backup_is_refused_and_changes_nothing(
    archive: Path, alice: Alice, tmp_path: Path, attack: str
) -> None:
    hostile = tmp_path / "hostile.tar"
    hostile.write_bytes(HOSTILE[attack](Archive(members(archive))))
    (tmp_path / "fresh").mkdir()
    before = content(tmp_path)

    for data, replace in ((tmp_path / "fresh", False), (alice.data, True)):
        if attack == "a secret that is not the one" and replace:
            continue
        with pytest.raises(BackupRefused) as refused:
            await restore(data, hostile, replace=replace)
        assert str(refused.value).isprintable()

    after = content(tmp_path)
    after.pop("fresh/lock")
    assert after == before


async def test_an_archive_that_was_only_packed_again_is_taken(archive: Path, tmp_path: Path) -> None:
    """Or the others might be refused for how this test packs them."""
    (tmp_path / "again.tar").write_bytes(Archive(members(archive)).pack())
    (tmp_path / "again.tgz").write_bytes(gzip.compress(Archive(members(archive)).pack()))

    for name in ("again.tar", "again.tgz"):
        assert (await restore(tmp_path / name[-3:], tmp_path / name, replace=False))["ok"]


async def test_books_that_are_broken_are_brought_back_and_told_so(alice: Alice, archive: Path, tmp_path: Path) -> None:
    broken = Archive(members(archive))
    statement = "UPDATE accounts SET balance_ticks = balance_ticks + 1"
    broken.put("leadline.db", _database(broken.files["leadline.db"], statement))
    (tmp_path / "broken.tar").write_bytes(broken.pack())

    restored = await restore(tmp_path / "other", tmp_path / "broken.tar", replace=False)

    assert restored["ok"] is False
    assert restored["broken"][0].startswith("I1: the entries of")


async def test_a_backup_of_a_newer_leadline_is_refused_with_what_to_do(archive: Path, tmp_path: Path) -> None:
    newer = Archive(members(archive))
    newer.put("leadline.db", b"of a form that nobody knows yet")
    (tmp_path / "newer.tar").write_bytes(_manifest(newer, schema=9999))

    with pytest.raises(BackupRefused, match=r"has schema 9999, this Leadline knows \d+\. Install the newer Leadline"):
        await restore(tmp_path / "other", tmp_path / "newer.tar", replace=False)


async def test_a_backup_that_a_full_disk_cannot_take_is_refused_before_it_is_unpacked(
    archive: Path, tmp_path: Path
) -> None:
    huge = Archive(members(archive))
    members_of = huge.manifest["members"]
    members_of["leadline.db"]["size_bytes"] = 2**62
    (tmp_path / "huge.tar").write_bytes(_manifest(huge, members=members_of))

    with pytest.raises(LeadlineError, match="are free"):
        await restore(tmp_path / "other", tmp_path / "huge.tar", replace=False)

    assert list(content(tmp_path / "other")) == ["lock"]


class Migrations:
    """The migrations that this Leadline knows: its own, and what a test adds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own = Path(resources.files("leadline.storage") / "migrations")  # type: ignore[arg-type]
        shutil.copytree(own, folder / "migrations")
        self._folder = folder / "migrations"
        monkeypatch.setattr("leadline.storage.schema.resources.files", lambda _: folder)

    def add(self, number: int, sql: str) -> None:
        (self._folder / f"{number:04}_added.sql").write_text(sql)


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrations:
    return Migrations(tmp_path / "package", monkeypatch)


def copies(data: Path) -> list[str]:
    return sorted(path.name for path in data.iterdir() if "before-upgrade" in path.name)


async def test_a_database_is_copied_before_its_schema_changes(alice: Alice, migrations: Migrations) -> None:
    schema = newest_schema()
    assert copies(alice.data) == [], "a new database has nothing to lose"
    migrations.add(8888, "UPDATE organisations SET name = 'lost'")

    await alice.balance()
    await alice.balance()

    assert copies(alice.data) == [f"leadline.db.before-upgrade-{schema}"]
    copy = alice.data / copies(alice.data)[0]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert (schema_of(copy), schema_of(alice.data / "leadline.db")) == (schema, 8888)
    connection = apsw.Connection(str(copy))
    assert connection.execute("SELECT name FROM organisations").get == "Northwind"
    connection.close()


async def test_an_upgrade_that_fails_again_and_again_keeps_one_copy_and_the_old_schema(
    alice: Alice, migrations: Migrations
) -> None:
    schema = newest_schema()
    migrations.add(8888, "UPDATE organisations SET name = 'lost'; SELECT * FROM nowhere")

    for _ in range(3):
        with pytest.raises((apsw.Error, DatabaseUnusable)):
            await Instance.open(alice.data)

    assert copies(alice.data) == [f"leadline.db.before-upgrade-{schema}"]
    assert schema_of(alice.data / "leadline.db") == schema


async def test_a_copy_of_other_books_is_not_overwritten(alice: Alice, migrations: Migrations) -> None:
    schema = newest_schema()
    name = f"leadline.db.before-upgrade-{schema}"
    (alice.data / name).write_bytes(b"an older copy")
    migrations.add(8888, "SELECT 1")

    await alice.balance()

    assert copies(alice.data) == [name, f"{name}-2"]
    assert (alice.data / name).read_bytes() == b"an older copy"
    assert schema_of(alice.data / f"{name}-2") == schema


async def test_without_a_copy_there_is_no_upgrade(alice: Alice, migrations: Migrations) -> None:
    schema = newest_schema()
    migrations.add(8888, "SELECT 1")
    (alice.data / "leadline.db.before-upgrade").mkdir()  # nothing can be written there

    with pytest.raises(DatabaseUnusable, match="the copy that is kept of it before could not be made"):
        await Instance.open(alice.data)

    assert schema_of(alice.data / "leadline.db") == schema


async def test_a_backup_of_an_older_schema_is_upgraded_when_it_is_restored(
    alice: Alice, archive: Path, migrations: Migrations, tmp_path: Path
) -> None:
    migrations.add(8888, "CREATE TABLE added (x TEXT)")
    other = alice.moved_to(tmp_path / "other")

    restored = await restore(other.data, archive, replace=False)

    assert (restored["ok"], schema_of(other.data / "leadline.db")) == (True, 8888)
    assert await other.balance() == GRANTED
