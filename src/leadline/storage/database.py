"""One database: SQLite in a file, or PostgreSQL. Only its driver knows which; all else is written once, here and above.

SQL is written once, with `$1` placeholders and in the words that both databases share. Writes are durable when their
await returns and share their fsync: the writer thread takes all work that gathered during the previous commit and
commits it as one transaction.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Flag, auto
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from leadline.errors import LeadlineError, Unavailable
from leadline.histogram import Histogram

Value = str | int | bytes | None
Row = tuple[Any, ...]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# More work than this that waits for the disk means that the disk is too slow for what is asked.
MOST_WAITING = 20_000
# The bounds by which commits are counted.
COMMIT_SECONDS = (0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_log = logging.getLogger("leadline.database")


class DatabaseUnusable(Unavailable):
    """The database cannot be used."""

    retry_after_seconds = 1


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """`product` is SQLite or PostgreSQL, `version` its version. `log_bytes` is what lies beside SQLite's file until it
    is folded in."""

    product: str
    version: str
    schema: int
    size_bytes: int
    log_bytes: int


class Conflict(LeadlineError):
    """A write did not find the row that it expected. Nothing of its unit was kept."""


@dataclass(frozen=True, slots=True)
class Write:
    """One statement. `rows` is how many rows it must touch; None: any number."""

    sql: str
    values: tuple[Value, ...] = ()
    rows: int | None = 1


class Snapshot(Protocol):
    """Reads that all see one moment."""

    def rows(self, sql: str, *values: Value) -> Iterator[Row]:
        """The rows of a query, fetched as they are asked for."""


class Transaction(Snapshot, Protocol):
    """What a piece of work may do, in the writer's thread. All of it is kept, or nothing."""

    def write(self, write: Write) -> None:
        """Raises Conflict where it touches another number of rows than it must."""

    def write_many(self, sql: str, rows: Sequence[tuple[Value, ...]]) -> None:
        """One statement for many rows of values."""


# Does to a transaction what `items` ask for: all that waited for the same work at once.
Work = Callable[[Transaction, Sequence[_Item]], None]


# Hears in the event loop's thread how a piece of work ended: None where it is durable.
Told = Callable[[Exception | None], None]


class Fault(Flag):
    """What an error says of the database. NOTHING: what was to be written is at fault."""

    NOTHING = 0
    # It takes no writes now,
    REFUSES = auto()
    # and from nobody: who asks at once again waits for the same.
    FOR_ALL = auto()
    # The connection is not to be trusted: what it has in memory may not be what is on the disk.
    BROKEN = auto()


class Driver(Protocol):
    """A database that is open and has the newest schema. `transact` and `reopen` belong to the writer's thread; the
    rest may come from any. Whatever they raise is told apart by `fault`; reads raise DatabaseUnusable."""

    # So many threads may read at once.
    readers: int

    def transact(self, work: Callable[[Transaction], None]) -> bool:
        """Durable when it returns. False where nothing was written, so that the disk was not asked."""

    def fault(self, error: Exception) -> Fault: ...

    def reopen(self) -> None:
        """Give the writer's connection up for a new one."""

    def read(self, sql: str, values: tuple[Value, ...]) -> list[Row]: ...

    def snapshot(self, work: Callable[[Snapshot], _Result]) -> _Result: ...

    def backup(self, path: Path) -> None: ...

    def facts(self) -> DatabaseFacts: ...

    def close(self) -> None: ...


class _Unit(NamedTuple):
    work: Work[Any]
    item: Any
    told: Told


class Database:
    """Opens a file of SQLite or the URL of a PostgreSQL database, brings it to the newest schema, and owns the threads
    that write and read. DatabaseUnusable where that cannot be done."""

    def __init__(self, place: Path | str) -> None:
        self._loop = asyncio.get_running_loop()
        self._driver = _driver(place)
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._closed = False
        # Set by the writer: what the last write that was refused said, if none was kept since.
        self._disk_fails = self._refuses_all = self._broken = False
        # Of transactions that wrote something, in seconds.
        self.commits = Histogram(COMMIT_SECONDS)
        self._reads = ThreadPoolExecutor(self._driver.readers, "database-reader")
        self._thread = threading.Thread(target=self._write_all, name="database-writer", daemon=True)
        self._thread.start()

    @property
    def writable(self) -> bool:
        """Whether the last write reached the disk. Until one does, nothing that costs money should be begun."""
        return not self._disk_fails

    @property
    def waiting(self) -> int:
        """How much work waits for the disk."""
        return self._units.qsize()

    async def facts(self) -> DatabaseFacts:
        """What it is now."""
        return await self._loop.run_in_executor(self._reads, self._driver.facts)

    async def commit(self, *writes: Write) -> None:
        """Make `writes` durable, all or none. Raises Conflict where one touched another number of rows."""
        await self.together(_write_each, writes)

    def together(self, work: Work[_Item], item: _Item) -> "asyncio.Future[None]":
        """Queue `item` for `work`, which gets it with all others that wait for the same work; done when durable."""
        future: asyncio.Future[None] = self._loop.create_future()

        def told(error: Exception | None) -> None:
            if future.done():
                return  # nobody waits any more
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.submit(work, item, told)
        return future

    def submit(self, work: Work[_Item], item: _Item, told: Told) -> None:
        """As `together`, for who needs no future: `told` hears how it ended, later."""
        if self._closed:
            self._loop.call_soon(told, DatabaseUnusable("The database is closed."))
        elif self._units.qsize() >= MOST_WAITING:
            slow = DatabaseUnusable("The disk is too slow for what is asked. Try again in a moment.")
            self._loop.call_soon(told, slow)
        else:
            self._units.put(_Unit(work, item, told))

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        """The rows of a query, as the last commit left them."""
        if self._closed:
            raise DatabaseUnusable("The database is closed.")
        return await self._loop.run_in_executor(self._reads, self._driver.read, sql, values)

    async def snapshot(self, work: Callable[[Snapshot], _Result]) -> _Result:
        """Run `work` in a thread of its own on one moment of the database, however long it takes."""
        return await asyncio.to_thread(self._driver.snapshot, work)

    async def backup(self, path: Path) -> None:
        """A copy of one moment of the database at `path`, which must not exist. Nobody waits for it."""
        await asyncio.to_thread(self._driver.backup, path)

    async def close(self) -> None:
        """Finish what is queued, then close."""
        self._closed = True
        self._units.put(None)
        await asyncio.to_thread(self._thread.join)
        self._reads.shutdown()
        self._driver.close()

    def _write_all(self) -> None:
        open_for_writes = True
        while open_for_writes:
            gathered = [self._units.get()]
            while not self._units.empty():
                gathered.append(self._units.get())
            open_for_writes = None not in gathered
            self._commit_together([unit for unit in gathered if unit is not None])

    def _commit_together(self, units: list[_Unit]) -> None:
        """One transaction for all; where one unit fails, each alone, so that it fails alone."""
        if not units:
            return
        error = self._transact(units)
        outcomes = [(unit, error) for unit in units]
        if error is not None and not self._refuses_all and len(units) > 1:
            outcomes = [(unit, self._transact([unit])) for unit in units]
        self._loop.call_soon_threadsafe(_tell, outcomes)

    def _transact(self, units: list[_Unit]) -> Exception | None:
        def work_all(transaction: Transaction) -> None:
            for work, group in groupby(units, key=lambda unit: unit.work):
                work(transaction, [unit.item for unit in group])

        try:
            if self._broken:
                self._driver.reopen()
                self._broken = False
            began = time.perf_counter()
            wrote = self._driver.transact(work_all)
        except Exception as error:  # whatever it is belongs to the units; the writer must outlive it
            return self._refused(error)
        self._refuses_all = False
        # A transaction that wrote nothing did not ask the disk.
        if wrote:
            self._disk_fails = False
            self.commits.add(time.perf_counter() - began)
        return None

    def _refused(self, error: Exception) -> Exception:
        if isinstance(error, Conflict):
            return error
        fault = self._driver.fault(error)
        self._disk_fails = Fault.REFUSES in fault
        self._refuses_all = Fault.FOR_ALL in fault
        self._broken = self._broken or Fault.BROKEN in fault
        _log.error("the database refused a write", exc_info=error)
        return DatabaseUnusable("The books cannot be written now, so nothing can be run. Try again in a moment.")


def _driver(place: Path | str) -> Driver:
    if isinstance(place, Path):
        from leadline.storage.sqlite import Sqlite

        return Sqlite(place)
    try:
        from leadline.storage.postgres import Postgres
    except ImportError as error:
        raise DatabaseUnusable(
            "database.url names PostgreSQL, whose library is missing. Install it: pip install 'leadline[postgres]'"
        ) from error
    return Postgres(place)


def _tell(outcomes: list[tuple[_Unit, Exception | None]]) -> None:
    for unit, error in outcomes:
        try:
            unit.told(error)
        except Exception:  # one who cannot hear it must not keep it from the others
            _log.exception("nobody heard how a write ended")


def _write_each(transaction: Transaction, units: Sequence[Sequence[Write]]) -> None:
    for writes in units:
        for write in writes:
            transaction.write(write)
