"""The check of the books that an administrator asks for: it reads the whole ledger in a thread, once at a time."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from leadline.clock import Clock, now_microseconds
from leadline.errors import LeadlineError
from leadline.ledger.audit import audit
from leadline.ledger.ledger import Ledger
from leadline.storage.database import Database

_log = logging.getLogger("leadline.ledger")


@dataclass(frozen=True, slots=True)
class Checked:
    """How it ended, at `at` in microseconds. `broken` names the rules that do not hold; `error` is why it could not be
    done."""

    at: int
    entries: int = 0
    broken: tuple[str, ...] = ()
    error: str = ""


@dataclass(slots=True)
class LedgerCheck:
    """The one that runs and the last one that ended, of one instance."""

    database: Database
    ledger: Ledger
    clock: Clock = now_microseconds
    last: Checked | None = None
    # The entries that were read so far.
    read: int = 0
    _task: "asyncio.Task[None] | None" = None

    @property
    def runs(self) -> bool:
        return self._task is not None

    def begin(self) -> None:
        """Check now, unless a check runs already."""
        if self._task is None:
            self.read = 0
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            audited = await audit(self.database, self.ledger, tell=self._tell)
            self.last = Checked(self.clock(), audited.checked, audited.broken)
        except LeadlineError as error:
            self.last = Checked(self.clock(), error=str(error))
        except Exception:
            _log.exception("the books could not be checked")
            self.last = Checked(self.clock(), error="It failed; the log says why.")
        finally:
            self._task = None

    def _tell(self, entries: int) -> None:
        self.read = entries
