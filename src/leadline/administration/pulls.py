"""Pulls of weights that run beside the server: a few at once, each until it ends or is cancelled."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from leadline.clock import Clock, now_microseconds
from leadline.errors import InvalidRequest, LeadlineError, NotFound, Unavailable
from leadline.ids import new_id
from leadline.weights.hub import reference
from leadline.weights.known import KNOWN
from leadline.weights.pull import Progress

MOST_AT_ONCE = 2
KEPT = 8
# What is slower than this is no pull that anybody waits for.
LONGEST_SECONDS = 12 * 3600.0
_LONGEST_NAME = 300
_log = logging.getLogger("leadline.models")

# Brings the weights of a name into a data folder, and tells how far it is.
Bring = Callable[[Path, str, Callable[[str, Progress], None]], Awaitable[dict[str, Any]]]


@dataclass(slots=True, eq=False)
class Pull:
    """One pull. Times are in microseconds; `error` is why it failed, and `weights` what they are called once here."""

    id: str
    wanted: str
    began_at: int
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    progress: Progress | None = None
    ended_at: int | None = None
    error: str = ""
    weights: str | None = None

    @property
    def percent(self) -> int | None:
        """None where nobody knows how much is left."""
        if self.progress is None or not self.progress.total_bytes:
            return None
        return min(100, self.progress.done_bytes * 100 // self.progress.total_bytes)


@dataclass(slots=True)
class Pulls:
    """Those of one instance, in the folder `data`. They end with it."""

    data: Path
    bring: Bring | None = None
    clock: Clock = now_microseconds
    _pulls: list[Pull] = field(default_factory=list)
    _tasks: "dict[str, asyncio.Task[None]]" = field(default_factory=dict)

    def all(self) -> list[Pull]:
        """Those that run and the last ones that ended, the newest first."""
        return list(reversed(self._pulls))

    def begin(self, wanted: str) -> Pull:
        """Pull a known model by its name, or what a hub has. It goes on by itself."""
        wanted = wanted.strip()[:_LONGEST_NAME]
        if wanted not in KNOWN and reference(wanted) is None:
            raise InvalidRequest(
                f"{wanted!r} is nothing to pull. Name one of {', '.join(KNOWN)}, or what a hub has as"
                " hf:OWNER/REPOSITORY/FILE.gguf.",
                "wanted",
            )
        running = [pull.wanted for pull in self._pulls if pull.state == "running"]
        if wanted in running:
            raise InvalidRequest(f"{wanted} is being pulled already.", "wanted")
        if len(running) >= MOST_AT_ONCE:
            raise Unavailable(f"{MOST_AT_ONCE} pulls run already. Wait until one has ended, or cancel one.")
        pull = Pull(new_id("pull"), wanted, self.clock())
        ended = [one for one in self._pulls if one.state != "running"]
        for old in ended[: max(0, len(self._pulls) - KEPT + 1)]:
            self._pulls.remove(old)
        self._pulls.append(pull)
        self._tasks[pull.id] = asyncio.create_task(self._run(pull))
        return pull

    def found(self, pull_id: str) -> Pull:
        """The pull of this id, or NotFound."""
        for pull in self._pulls:
            if pull.id == pull_id:
                return pull
        raise NotFound("There is no such pull.")

    async def cancel(self, pull_id: str) -> Pull:
        """What was fetched of it is gone. One that has ended stays as it ended."""
        pull = self.found(pull_id)
        task = self._tasks.get(pull_id)
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if pull.state == "running":  # it was cancelled before its first step
            pull.state, pull.ended_at = "cancelled", self.clock()
            self._tasks.pop(pull_id, None)
        return pull

    async def close(self) -> None:
        """Cancel all."""
        for pull_id in list(self._tasks):
            await self.cancel(pull_id)

    async def _run(self, pull: Pull) -> None:
        def watch(_: str, progress: Progress) -> None:
            pull.progress = progress

        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                brought = await (self.bring or _bring)(self.data, pull.wanted, watch)
            pull.state, pull.weights = "done", brought.get("name")
        except asyncio.CancelledError:
            pull.state = "cancelled"
            raise
        except LeadlineError as error:
            pull.state, pull.error = "failed", str(error)
        except Exception:
            _log.exception("a pull failed", extra={"weights": pull.wanted})
            pull.state, pull.error = "failed", "It failed; the log says why."
        finally:
            pull.ended_at = self.clock()
            del self._tasks[pull.id]


async def _bring(data: Path, wanted: str, watch: Callable[[str, Progress], None]) -> dict[str, Any]:
    # Engines are loaded late: most commands need none.
    from leadline.administration.models import pull_weights

    return await pull_weights(data, wanted, watch)
