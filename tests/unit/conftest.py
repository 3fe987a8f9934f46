"""What the tests of the money path share: a real database on disk, and Alice's organisation in it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from leadline.ledger.ledger import Ledger
from leadline.storage import postgres
from leadline.storage.database import Database, Write
from tests.postgres import Emptied, new_database

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
        connection.set_commit_hook(lambda: self._stand(apsw.FullError("database or disk is full")))

    def stand(self) -> None:
        """As PostgreSQL's disk."""
        self._stand(psycopg.errors.DiskFull("no space left on device"))

    def _stand(self, full: Exception) -> bool:
        self._standing.set()
        self._open.wait(HANGS_SECONDS)
        if self._one_only:
            self._open.clear()
        if self.spared:
            self.spared -= 1
        elif self.refusals:
            self.refusals -= 1
            raise full
        self.count += 1
        return False


class _Watched(postgres._Connection):
    def execute(self, query: Any, *values: Any, **settings: Any) -> Any:
        if query == "COMMIT":
            self.commits.stand()
        return super().execute(query, *values, **settings)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    watched = Commits()
    monkeypatch.setattr(apsw, "connection_hooks", [watched.watch])
    monkeypatch.setattr(_Watched, "commits", watched, raising=False)
    monkeypatch.setattr(postgres, "_Connection", _Watched)
    return watched


@pytest.fixture(scope="session")
def emptied() -> Iterator[Emptied]:
    with new_database() as url:
        yield Emptied(url)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever has a database runs on both, but for what is about SQLite's own file."""
    if "database_product" in metafunc.fixturenames:
        of_sqlite = {"database_path", "disk"} & {*metafunc.fixturenames}
        metafunc.parametrize("database_product", ["SQLite"] if of_sqlite else ["SQLite", "PostgreSQL"])


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "leadline.db"


@pytest.fixture
def new_place(database_product: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Path | str]:
    """A file that is not there yet, or the URL of an empty database: one at a time."""
    if database_product == "SQLite":
        numbers = count()
        return lambda: tmp_path / f"{next(numbers) or 'leadline'}.db"
    emptied: Emptied = request.getfixturevalue("emptied")
    return emptied.empty


@pytest.fixture
def database_place(new_place: Callable[[], Path | str]) -> Path | str:
    return new_place()


@pytest.fixture
async def database(commits: Commits, database_place: Path | str) -> AsyncIterator[Database]:
    opened = Database(database_place)
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
