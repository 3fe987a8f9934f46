"""Power goes at any write or sync: what was acknowledged is there afterwards, and the books add up.

A kill does not prove that, since the kernel keeps what a dead process wrote. Here each file keeps in memory what was
written since its last sync, and of that a power loss leaves what a disk may: nothing, the first part, or any sectors.
"""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from leadline.chat.events import Usage
from leadline.clock import now_microseconds
from leadline.errors import Refused
from leadline.ids import new_uuid
from leadline.ledger.audit import audit
from leadline.ledger.books import Hold, Outcome
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import UsageRecord
from leadline.money import Ticks
from leadline.storage import sqlite as storage
from leadline.storage.database import Database, Write
from tests.proof import count, keep

pytestmark = pytest.mark.slow

Facts = dict[str, int]

ORGANISATIONS = ("org_alice", "org_bob", "org_charlie")
AT_ONCE = 8
SECTOR = 512
# The power goes after at most so many writes and syncs.
MOST_OPERATIONS = 400
CYCLES_PER_FOLDER = 20
NAME = "leadline.db"


class Content:
    """One file: what is on the disk, what the system has of it in memory, and the writes that lie between."""

    def __init__(self, stored: bytes) -> None:
        self.synced, self.seen = bytearray(stored), bytearray(stored)
        self.unsynced: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, data: bytes) -> None:
        self.unsynced.append((offset, data))
        _apply(self.seen, offset, data)

    def truncate(self, size: int) -> None:
        self.unsynced.append((size, None))
        _apply(self.seen, size, None)

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _apply(self.synced, offset, data)
        self.unsynced.clear()

    def after_power_loss(self, rng: random.Random) -> bytes:
        left = bytearray(self.synced)
        match rng.choice(("nothing", "first part", "any writes", "any sectors", "all")):
            case "nothing":
                kept = []
            case "first part":
                kept = self.unsynced[: rng.randint(0, len(self.unsynced))]
            case "any writes":
                kept = [one for one in self.unsynced if rng.random() < 0.5]
            case "any sectors":
                kept = [sector for one in self.unsynced for sector in _sectors(*one) if rng.random() < 0.7]
            case _:
                kept = self.unsynced
        for offset, data in kept:
            _apply(left, offset, data)
        return bytes(left)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes | None) -> list[tuple[int, bytes | None]]:
    if data is None:
        return [(offset, None)]
    return [(offset + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]


class Disk(apsw.VFS):
    """Counts writes and syncs; before the one that was chosen, the power goes: `lost` is called, in the thread that
    writes. Whoever still works on it afterwards works in a world that has ended."""

    def __init__(self) -> None:
        self.files: dict[str, Content] = {}
        self.operations = 0
        self.power_goes_at: int | None = None
        self.lost: Callable[[], None] = lambda: None
        super().__init__("losing disk", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> "apsw.VFSFile":
        if not flags[0] & (apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL):
            return apsw.VFSFile("unix", name, flags)
        return _File(self, name, flags)

    def xDelete(self, filename: str, sync: bool) -> None:
        super().xDelete(filename, sync)
        self.files.pop(filename, None)

    def operate(self) -> None:
        self.operations += 1
        if self.operations == self.power_goes_at:
            self.lost()


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)
        path = name if isinstance(name, str) else name.filename()
        if path not in disk.files:
            disk.files[path] = Content(Path(path).read_bytes())
        self._content = disk.files[path]

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._content.seen[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.operate()
        self._content.write(offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        self._disk.operate()
        self._content.truncate(size)

    def xSync(self, flags: int) -> None:
        self._disk.operate()
        self._content.sync()

    def xFileSize(self) -> int:
        return len(self._content.seen)


@dataclass
class Told:
    """What the ledger acknowledged: ticks by the id of a charge, the reason of a grant, the id of a hold, and the id of
    a hold with a checkpoint."""

    charges: Facts = field(default_factory=dict)
    grants: Facts = field(default_factory=dict)
    holds: Facts = field(default_factory=dict)
    checkpoints: Facts = field(default_factory=dict)

    def copy(self) -> "Told":
        return Told(dict(self.charges), dict(self.grants), dict(self.holds), dict(self.checkpoints))


@dataclass
class Loss:
    """What the power loss left: the files, and what had been acknowledged by then."""

    files: dict[str, bytes]
    told: Told
    in_recovery: bool = False

    def put(self, folder: Path) -> Path:
        folder.mkdir()
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder


@contextmanager
def losing_disk() -> Iterator[Disk]:
    disk = Disk()
    try:
        yield disk
    finally:
        disk.unregister()
        apsw.set_default_vfs("unix")


async def work_until_the_power_goes(folder: Path, told: Told, rng: random.Random) -> Loss:
    """Open the folder and let several at once reserve, secure, settle and grant. Adds to `told` what they hear."""
    losses: list[Loss] = []
    loaded, gone, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def lose() -> None:
        acknowledged = told.copy()  # first: what is told from now on is told by nobody
        files = {Path(path).name: content.after_power_loss(rng) for path, content in disk.files.items()}
        losses.append(Loss(files, acknowledged, not loaded.is_set()))
        loop.call_soon_threadsafe(gone.set)

    with losing_disk() as disk:
        disk.lost, disk.power_goes_at = lose, rng.randint(1, MOST_OPERATIONS)
        database = Database(folder / NAME)
        ledger = Ledger(database)
        await ledger.load()
        await _open_accounts(database, ledger)
        loaded.set()
        await asyncio.gather(*(_ask(ledger, told, random.Random(rng.random()), gone) for _ in range(AT_ONCE)))
        await database.close()
    return losses[0]


async def _open_accounts(database: Database, ledger: Ledger) -> None:
    known = {organisation for (organisation,) in await database.rows("SELECT id FROM organisations")}
    for organisation in ORGANISATIONS:
        if organisation not in known:
            await database.commit(
                Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (organisation,)),
                ledger.opening(organisation),
            )
            ledger.opened(organisation)


async def _ask(ledger: Ledger, told: Told, rng: random.Random, gone: asyncio.Event) -> None:
    while not gone.is_set():
        organisation = rng.choice(ORGANISATIONS)
        hold = Hold(
            *(str(new_uuid()), organisation, "key", "mock", "/v1/chat/completions", Ticks(rng.randint(1, 1000))),
            opened_at=now_microseconds(),
        )
        try:
            ledger.reserve(hold)
        except Refused:
            reason, ticks = str(new_uuid()), rng.randint(500, 5000)
            await ledger.grant(organisation, Ticks(ticks), reason)
            told.grants[reason] = ticks
            continue
        if rng.random() < 0.6:
            await ledger.checkpoint([(hold, 0, Usage())])
            told.holds[hold.request_id] = hold.ticks
            if rng.random() < 0.5:
                used = rng.randint(0, hold.ticks)
                await ledger.checkpoint([(hold, used, Usage(prompt_tokens=1))])
                told.checkpoints[hold.request_id] = used
        cost = rng.randint(0, hold.ticks)
        await ledger.settle(hold, lambda: _finished(hold, cost))  # noqa: B023 settled within this turn
        told.charges[hold.request_id] = cost


def _finished(hold: Hold, ticks: int) -> Outcome:
    return Outcome(
        UsageRecord(
            *(hold.organisation_id, hold.request_id, hold.opened_at, now_microseconds(), hold.key_id, hold.model),
            endpoint=hold.endpoint,
            status="finished",
            usage=Usage(prompt_tokens=1),
            cost_ticks=ticks,
        )
    )


async def faults(folder: Path, told: Told) -> list[str]:
    """What is wrong with what a power loss left: acknowledged facts that are gone, a broken file, wrong books."""
    connection = apsw.Connection(str(folder / NAME))
    [(integrity,)] = connection.execute("PRAGMA integrity_check")
    found = [] if integrity == "ok" else [f"integrity: {integrity}"]
    if any(vars(told).values()):
        found += _lost(connection, told)
    connection.close()
    database = Database(folder / NAME)
    ledger = Ledger(database)
    await ledger.load()
    found += (await audit(database, ledger)).broken
    found += [f"{one} is still held" for (one,) in await database.rows("SELECT request_id FROM holds")]
    await database.close()
    return found


def _lost(connection: apsw.Connection, told: Told) -> list[str]:
    charges = dict(connection.execute("SELECT id, -amount_ticks FROM entries WHERE kind = 'charge'"))
    grants = dict(connection.execute("SELECT reason, amount_ticks FROM entries WHERE kind = 'grant'"))
    used = dict(connection.execute("SELECT request_id, used_ticks FROM holds"))
    ended = {one for (one,) in connection.execute("SELECT request_id FROM usage_records")}
    return [
        *(f"lost charge {one}" for one, ticks in told.charges.items() if charges.get(one) != ticks),
        *(f"lost grant {one}" for one, ticks in told.grants.items() if grants.get(one) != ticks),
        *(f"lost hold {one}" for one in told.holds if one not in used and one not in ended),
        *(f"lost checkpoint {one}" for one, ticks in told.checkpoints.items() if used.get(one, ticks) < ticks),
    ]


def lose_power(folder: Path, cycles: int, seed: str) -> tuple[Counter[str], list[str]]:
    """So many power losses, most of them on what the last one left: figures, and what was wrong."""
    figures, found = Counter[str](), list[str]()
    for first in range(0, cycles, CYCLES_PER_FOLDER):
        told, left = Told(), Loss({}, Told())
        for cycle in range(first, min(first + CYCLES_PER_FOLDER, cycles)):
            rng = random.Random(f"{seed} {cycle}")
            now, afterwards = folder / f"{cycle}", folder / f"{cycle} afterwards"
            left = asyncio.run(work_until_the_power_goes(left.put(now), told, rng))
            told = left.told
            found += asyncio.run(faults(left.put(afterwards), told))
            shutil.rmtree(now)
            shutil.rmtree(afterwards)
            figures.update(cycles=1, in_recovery=left.in_recovery and cycle > first)
        figures.update({f"acknowledged_{name}": len(facts) for name, facts in vars(told).items()})
    return figures, found


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the power goes in the middle of them, too."""
    connect, rng = storage._connect, random.Random("checkpoints")

    def connect_and_checkpoint(path: Path) -> apsw.Connection:
        connection = connect(path)
        connection.execute(f"PRAGMA wal_autocheckpoint = {rng.choice((10, 30, 100))}")
        return connection

    monkeypatch.setattr(storage, "_connect", connect_and_checkpoint)


def test_no_power_loss_takes_back_what_was_acknowledged(tmp_path: Path) -> None:
    figures, found = lose_power(tmp_path, count(100, 500), "power")

    keep("power loss", **figures, lost=len(found))
    assert found == []
    assert figures["acknowledged_charges"] > figures["cycles"]
    assert figures["in_recovery"] > 0


def test_a_database_that_does_not_sync_each_commit_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = storage._connect

    def careless(path: Path) -> apsw.Connection:
        connection = connect(path)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    monkeypatch.setattr(storage, "_connect", careless)
    _, found = lose_power(tmp_path, 10, "careless")

    assert any(fault.startswith("lost charge") for fault in found)
