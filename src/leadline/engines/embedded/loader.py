"""Whether one engine's model is in memory: loaded at the start or when a request needs it, unloaded when none has
needed it for long or another one needs its memory."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from leadline.engines.embedded.memory import Memory, Tenant
from leadline.engines.engine import NOT_STARTED, EngineStatus, State
from leadline.errors import Unavailable

# Requests that wait for one load.
MOST_WAITING = 256
# What was loaded for a request that went away to come again is kept for it so long.
UNUSED_SECONDS = 60.0
# Nobody asked for a model to be loaded anew: requests wait for that, however they wait else.
RELOAD_WAIT_SECONDS = 60.0
_FIRST_BACK_OFF_SECONDS = 1.0
_LONGEST_BACK_OFF_SECONDS = 300.0
_LONGEST_RETRY_SECONDS = 60
_log = logging.getLogger("leadline.engines")


@dataclass(frozen=True, slots=True)
class Policy:
    """`at_start`: it loads without being asked, and again after a failure. A request waits `wait_seconds` for a load;
    0: it is refused at once. After `idle_seconds` without a request it is unloaded; 0: never."""

    at_start: bool = True
    wait_seconds: float = 0
    idle_seconds: float = 0


@dataclass(slots=True)
class Use:
    """One request's need of the model, from its admission to its end."""

    _loader: "Loader"
    _open: bool = True

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loader.release()


@dataclass(slots=True)
class Loader:
    """`run` keeps the model in a process until it is cancelled, and returns why if the model did not load. It tells us
    of what happens by `progress`, `loaded` and `lost`."""

    name: str
    policy: Policy
    memory: Memory
    run: Callable[[], Awaitable[str]]
    state: State = "unloaded"
    _detail: str = NOT_STARTED.detail
    # None until the weights are known.
    _need_bytes: int | None = None
    _uses: int = 0
    _waiting: int = 0
    _used: bool = False
    _last_used: float = 0.0
    # Whether the load at the start has come to an end, so that from now on loads are for requests.
    _settled: bool = False
    _began_at: float = 0.0
    _fraction: float = 0.0
    _load_seconds: float | None = None
    _failures: int = 0
    _again_at: float = 0.0
    _leaving: list[Tenant] = field(default_factory=list)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _leave: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.TimerHandle | None = None
    _reloads: bool = False
    _closed: bool = False

    @property
    def status(self) -> EngineStatus:
        """Ready is also what only has to be loaded for a request, if it can be."""
        fits = self._need_bytes is None or self.memory.fits(self._need_bytes)
        loadable = fits and self._settled and self.state in ("unloaded", "loading", "unloading")
        percent = int(100 * self._fraction) if self.state == "loading" else None
        return EngineStatus(self.state == "loaded" or loadable, self._detail, self.state, percent)

    @property
    def unneeded_since(self) -> float | None:
        if self.state == "unloading":
            return self._last_used
        if self.state != "loaded" or self._uses:
            return None
        if not self._used and _now() - self._last_used < UNUSED_SECONDS:
            return None
        return self._last_used

    async def take(self) -> Use:
        """See `Engine.take`. All who wait share one load."""
        self._uses += 1
        self._stay()
        try:
            if self.state != "loaded":
                await self._wait()
        except BaseException:
            self.release()
            raise
        self._used = True
        return Use(self)

    def release(self) -> None:
        """A request ended, or gave up."""
        self._uses -= 1
        self._last_used = _now()
        self._unload_later()

    async def keep(self, need_bytes: int) -> None:
        """Load and unload until cancelled. A load takes at most `need_bytes` of memory."""
        self._need_bytes = need_bytes
        self._settled = not self.policy.at_start
        # What never fits is told at once, too.
        if self.policy.at_start or not self.memory.fits(need_bytes):
            self._load_unasked()
        else:
            self._become("unloaded", "loads at its first request")
        while True:
            if self.policy.at_start and self.state == "failed":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), self._again_at - _now())
                self._again_at = 0.0
                self._load_unasked()
            if self._reloads and self.state == "unloaded":
                self._load_unasked()
            await self._wanted.wait()
            self._wanted.clear()
            await self._one_life()

    def load(self) -> None:
        """See `Loadable.load`. It does not wait until what failed is tried again by itself."""
        if self.state == "unloading" or self._need_bytes is None:
            raise Unavailable(f"The engine {self.name} cannot load now: {self._detail}. Try again in a moment.")
        self._again_at = 0.0
        self._want()

    def unload(self) -> None:
        """See `Loadable.unload`."""
        if self._uses:
            requests = "one request needs" if self._uses == 1 else f"{self._uses} requests need"
            raise Unavailable(f"The engine {self.name} stays loaded: {requests} it now. Try again in a moment.")
        if self.state in ("loading", "loaded", "restarting"):
            self._stay()
            self.leave()

    def reload(self) -> None:
        """Load anew, unless a request needs what is loaded. Those that come meanwhile wait."""
        if self.state == "loaded" and not self._uses:
            self._reloads = True
            self._stay()
            self.leave()

    def close(self) -> None:
        """It loads no more, and whoever still comes is told so. Nothing keeps it when this is called."""
        self._closed = True
        self._become("failed", "it was stopped")

    @property
    def waiting(self) -> int:
        """The requests that wait for the load."""
        return self._waiting

    def tell(self, detail: str) -> None:
        """What people are told of it, without a change."""
        self._detail = detail

    def progress(self, fraction: float, detail: str) -> None:
        self._fraction, self._detail = fraction, detail

    def loaded(self, detail: str) -> None:
        self._load_seconds, self._failures = _now() - self._began_at, 0
        self._settled, self._used, self._last_used = True, False, _now()
        self._reloads = False
        self._become("loaded", detail)
        self._unload_later()

    def lost(self, why: str) -> None:
        """Its process ended by itself; the next one is on its way."""
        self._begin("restarting", why)

    def leave(self) -> None:
        if self.state == "unloading":
            return
        self._become("unloading", "is unloaded")
        self._leave.set()

    async def gone(self) -> None:
        """Wait until it has left."""
        while self.state == "unloading":
            await self._changed.wait()

    async def _wait(self) -> None:
        if self._waiting >= MOST_WAITING:
            raise Unavailable(f"Too many requests wait for the engine {self.name} to load. Try again in a moment.")
        self._waiting += 1
        try:
            wait_seconds = max(self.policy.wait_seconds, RELOAD_WAIT_SECONDS if self._reloads else 0)
            async with asyncio.timeout(wait_seconds):
                while self.state != "loaded":
                    self._want()
                    await self._changed.wait()
        except TimeoutError:
            raise self._not_yet() from None
        finally:
            self._waiting -= 1

    def _want(self) -> None:
        """Begin to load where that is left to do, or Unavailable."""
        if self._closed:
            raise Unavailable(f"The engine {self.name} was stopped.")
        left_seconds = self._again_at - _now()
        if self.state == "failed" and left_seconds > 0:
            raise _later(f"The engine {self.name} is not ready: {self._detail}. Try again later.", left_seconds)
        if self.state in ("unloaded", "failed") and self._need_bytes is not None and not self._wanted.is_set():
            self._leaving = self.memory.claim(self, self._need_bytes)
            self._begin("loading", "loading")
            self._wanted.set()

    def _load_unasked(self) -> None:
        if self.state == "loading":
            return
        try:
            self._want()
        except Unavailable as error:
            self._settled = True
            self._become("unloaded", f"not loaded: {error}")

    async def _one_life(self) -> None:
        """From the load to the unload, or to a load that failed."""
        self._leave.clear()
        for other in self._leaving:
            await other.gone()
        self._leaving = []
        running, leaving = asyncio.ensure_future(self.run()), asyncio.ensure_future(self._leave.wait())
        try:
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, leaving):
                task.cancel()
            await asyncio.gather(running, leaving, return_exceptions=True)
            self.memory.release(self)
        if self._leave.is_set():
            _log.info("engine unloaded", extra={"engine": self.name})
            self._become("unloaded", "not loaded; loads at its next request")
        elif error := running.exception():
            _log.error("engine not started", extra={"engine": self.name}, exc_info=error)
            self._fail("its process could not be started; the log says why")
        else:
            self._fail(running.result())

    def _fail(self, why: str) -> None:
        self._reloads = False
        seconds = min(_LONGEST_BACK_OFF_SECONDS, _FIRST_BACK_OFF_SECONDS * 2**self._failures)
        self._failures += 1
        self._again_at = _now() + seconds
        when = "" if self.policy.at_start else " at the earliest, when a request needs it"
        self._become("failed", f"{why}; it is tried again in {seconds:g} s{when}")
        _log.warning("engine failed to load", extra={"engine": self.name, "why": why, "again_in_seconds": seconds})

    def _not_yet(self) -> Unavailable:
        """Why a request that wanted the model has to come again, and when."""
        spent_seconds, seconds = _now() - self._began_at, 2.0
        if self.state == "loading" and self._load_seconds is not None:
            seconds = self._load_seconds - spent_seconds
        elif self.state == "loading" and self._fraction > 0:
            seconds = spent_seconds * (1 - self._fraction) / self._fraction
        return _later(f"The engine {self.name} is not ready: {self._detail}. Try again in a moment.", seconds)

    def _unload_later(self) -> None:
        if self.policy.idle_seconds and self.state == "loaded" and not self._uses:
            self._stay()
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self.policy.idle_seconds, self._unload_if_idle)

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _unload_if_idle(self) -> None:
        if self.state == "loaded" and not self._uses:
            self.leave()

    def _begin(self, state: State, detail: str) -> None:
        self._began_at, self._fraction = _now(), 0.0
        self._become(state, detail)

    def _become(self, state: State, detail: str) -> None:
        self.state, self._detail = state, detail
        self._changed.set()
        self._changed = asyncio.Event()


def _later(message: str, seconds: float) -> Unavailable:
    error = Unavailable(message)
    error.retry_after_seconds = max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(seconds)))
    return error


def _now() -> float:
    return asyncio.get_running_loop().time()
