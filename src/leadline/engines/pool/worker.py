"""One worker of a pool: a remote server, what runs there, how it fares, and which prompts it has read."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from leadline.chat.events import Usage
from leadline.engines.engine import WorkerState, WorkerStatus
from leadline.engines.pool.breaker import Breaker
from leadline.engines.pool.prefixes import Beginnings, WarmPrefixes
from leadline.engines.upstream.engine import UpstreamEngine
from leadline.engines.upstream.http import Unreachable
from leadline.errors import DeadlineExceeded, EngineFailed, Unavailable
from leadline.timers import Within

# One that has not answered so many looks has lost what it has not begun: a single one may only have been slow.
_MISSED = 2
# A worker that is busy is asked again after this, if others can take the request.
_BUSY_SECONDS = 1.0
# What a request that runs costs the next one, in prompt tokens that are read meanwhile.
_RUNNING_TOKENS = 128
_log = logging.getLogger("leadline.engines")


@dataclass(slots=True, eq=False)
class Worker:
    """`at` names it: its URL, with the address where one name has several. `most` requests run there at once; 0: any
    number. `changed` is called whenever it may take more or less than before."""

    at: str
    engine: UpstreamEngine
    breaker: Breaker
    most: int
    changed: Callable[[], None]
    leaving: bool = False
    tries: "set[Try]" = field(default_factory=set)
    warm: WarmPrefixes = field(default_factory=WarmPrefixes)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    failures: int = 0
    _unread_tokens: int = 0
    _missed: int = 0

    def __post_init__(self) -> None:
        self.engine.probed = self._probed

    @property
    def usable(self) -> bool:
        """Whether it takes requests, if need be once there is room."""
        return not self.leaving and self.engine.status.ready and self.breaker.permits

    @property
    def has_room(self) -> bool:
        return not self.most or len(self.tries) < self.most

    @property
    def status(self) -> WorkerStatus:
        state: WorkerState = "ready"
        detail = self.engine.status.detail
        if self.leaving:
            state, detail = "draining", "takes no new requests"
        elif not self.engine.status.ready:
            state = "away"
        elif self.breaker.circuit != "closed":
            state, detail = "broken", "fails, and is tried again now and then"
        counts = (len(self.tries), self.failures, self.prompt_tokens, self.cached_tokens)
        return WorkerStatus(self.at, state, detail, *counts)

    def cost(self, prompt: Beginnings) -> int:
        """The tokens that are read before the prompt is, its own included: what it waits for there."""
        cold = prompt.all_tokens - self.warm.tokens(prompt)
        return self._unread_tokens + _RUNNING_TOKENS * len(self.tries) + cold

    def rank(self, lead: bytes) -> bytes:
        """Of workers that are all alike, a conversation goes to the one of the highest rank (rendezvous hashing): it is
        the same in every node, and few conversations move when a worker comes or goes."""
        return hashlib.blake2b(self.at.encode(), key=lead, digest_size=8).digest()

    def begin(self, prompt: Beginnings) -> "Try":
        """A request goes there. Close what is returned."""
        cold = prompt.all_tokens - self.warm.tokens(prompt)
        one = Try(self, cold, self.cost(prompt), sees=self.breaker.begin())
        self._unread_tokens += one.unread_tokens
        self.tries.add(one)
        self.warm.remember(prompt)
        return one

    def read(self, one: "Try") -> None:
        """Its prompt was read."""
        self._unread_tokens -= one.unread_tokens
        one.unread_tokens = 0

    def _probed(self) -> None:
        if self.engine.status.ready:
            self._missed = 0
        else:
            self._missed += 1
            if self._missed == _MISSED:
                _log.warning("a worker is away", extra={"engine": self.engine.name, "worker": self.at})
                # Whatever it kept is gone with its process, most likely.
                self.warm.forget()
            if self._missed >= _MISSED:
                for one in self.tries:
                    one.give_up()
        self.changed()


@dataclass(slots=True, eq=False)
class Try:
    """One try at a request, on one worker. `cost_tokens` was its cost there; `sees`: it shows whether the worker works
    again."""

    worker: Worker
    unread_tokens: int
    cost_tokens: int
    sees: bool
    begun: bool = False
    # Runs while the worker has not begun.
    patience: Within | None = None
    _closed: bool = False

    def begin(self) -> None:
        """Something of the answer is here."""
        self.begun = True
        self.worker.read(self)

    def give_up(self) -> None:
        """It is not waited for any longer, unless it has begun."""
        if self.patience is not None:
            self.patience.end()

    def succeed(self, usage: Usage) -> None:
        """It was answered to its end. `usage` says what the worker read, and what it had read before."""
        self.worker.prompt_tokens += usage.prompt_tokens
        self.worker.cached_tokens += usage.cached_tokens
        self.worker.breaker.succeed()

    def fail(self, error: Exception) -> None:
        """What the error says of the worker."""
        worker = self.worker
        match error:
            case Unreachable():
                worker.failures += 1
                worker.breaker.fail()
                worker.engine.doubt("it cannot be reached")
            case EngineFailed() | DeadlineExceeded():
                worker.failures += 1
                worker.breaker.fail()
            case Unavailable():
                worker.breaker.pause(_BUSY_SECONDS)
            case _:  # the request was no good
                pass

    def close(self) -> None:
        """It has ended, however. Twice is harmless."""
        if not self._closed:
            self._closed = True
            self.worker.read(self)
            self.worker.tries.discard(self)
            if self.sees:
                self.worker.breaker.see_another()
            self.worker.changed()
