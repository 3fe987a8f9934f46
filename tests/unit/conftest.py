"""What the tests of the money path share: a real database on disk, and Alice's organisation in it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from leadline.ledger.ledger import Ledger
from leadline.storage.database import Database, Write

HANGS_SECONDS = 30


class Commits:
    """The disk under the database: it counts what reaches it and can let it wait. After `spared` commits it is full for
    as many as `refusals`."""

    def __init__(self) -> None:
        self.count = 0
        self.spared = 0
        self.refusals = 0
        self._one_only = False
        self._open = threading.Event()
        self._open.set()
        self._standing = threading.Event()

    def let_wait(self) -> None:
        self._standing.clear()
        self._open.clear()

    async def one_waits(self) -> None:
        """Go on once the writer stands before the disk; what is queued from now on gathers behind it."""
        assert await asyncio.to_thread(self._standing.wait, HANGS_SECONDS)

    def let_go(self) -> None:
        self._one_only = False
        self._open.set()

    def let_one_go(self) -> None:
        """The one that stands there; the next one waits again."""
        self._one_only = True
        self._standing.clear()
        self._open.set()

    def watch(self, connection: apsw.Connection) -> None:
        connection.set_commit_hook(self._refuses)

    def _refuses(self) -> bool:
        self._standing.set()
        self._open.wait(HANGS_SECONDS)
        if self._one_only:
            self._open.clear()
        if self.spared:
            self.spared -= 1
        elif self.refusals:
            self.refusals -= 1
            raise apsw.FullError("database or disk is full")
        self.count += 1
        return False


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    watched = Commits()
    monkeypatch.setattr(apsw, "connection_hooks", [watched.watch])
    return watched


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "leadline.db"


@pytest.fixture
async def database(commits: Commits, database_path: Path) -> AsyncIterator[Database]:
    opened = Database(database_path)
    yield opened
    commits.let_go()
    await opened.close()


@pytest.fixture
async def alice(database: Database) -> str:
    """The id of Alice's organisation."""
    await database.commit(Write("INSERT INTO organisations (id, name, created_at) VALUES ('org_alice', 'Alice', 1)"))
    return "org_alice"


@pytest.fixture
async def ledger(database: Database, alice: str) -> Ledger:
    """A ledger in which Alice's organisation has an account with nothing in it."""
    opened = Ledger(database)
    await database.commit(opened.opening(alice))
    await opened.load()
    return opened
