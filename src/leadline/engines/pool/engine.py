"""Several remote servers of one model as an engine: each request goes to one of them, and to another where that fails
before it began. Workers come and go while it runs."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field

from leadline.chat.events import ChatEvent, Finished, Started
from leadline.chat.request import ChatRequest
from leadline.engines.engine import EngineStatus, ModelFacts, Token, Unneeded, Use
from leadline.engines.pool.breaker import Breaker
from leadline.engines.pool.discovery import RESOLVE_EVERY_SECONDS, Place, Resolve, listed, places, resolve
from leadline.engines.pool.prefixes import Beginnings, beginnings
from leadline.engines.pool.queue import FairQueue, Waiting
from leadline.engines.pool.worker import Try, Worker
from leadline.engines.suspects import Suspects
from leadline.engines.upstream.client import FIRST_BYTE_SECONDS, most_prompt_tokens
from leadline.engines.upstream.engine import UpstreamEngine
from leadline.errors import DeadlineExceeded, InvalidRequest, LeadlineError, Unavailable
from leadline.timers import Within

# A request has so many tries, on as many workers.
MOST_TRIES = 3
# How long a request waits for a worker that has room.
WAIT_SECONDS = 120.0
# A worker that is alive but does not begin in this time is given up for another one. What a slow server takes comes to
# it: for each token that it reads first, and for each of a whole answer, of which nothing is heard before its end.
BEGIN_SECONDS = 60.0
_READ_TOKEN_SECONDS = 0.02
_TOKEN_SECONDS = 0.1
# Workers whose costs differ by less than this are alike.
_ALIKE_TOKENS = 256
_PROBE_EVERY_SECONDS = 2.0
_log = logging.getLogger("leadline.engines")

Batches = AsyncGenerator[tuple[ChatEvent, ...], None]


@dataclass(frozen=True, slots=True)
class Members:
    """Who belongs to a pool: servers by their `urls`, or, where `by_name`, every address of the one URL's host. Each
    runs `most` requests at once; 0: any number."""

    urls: tuple[str, ...]
    by_name: bool = False
    most: int = 0


@dataclass(slots=True)
class PoolEngine:
    """`clock` is monotonic, in seconds. Without `affinity` prompts do not count where a worker is chosen."""

    name: str
    kind: str
    members: Members
    api_key: str | None = None
    affinity: bool = True
    clock: Callable[[], float] = time.monotonic
    resolve: Resolve = resolve
    _workers: dict[Place, Worker] = field(default_factory=dict)
    _leaving: list[Worker] = field(default_factory=list)
    _queue: FairQueue[Try] = field(default_factory=FairQueue)
    _suspects: Suspects = field(default_factory=Suspects)
    _closing: "set[asyncio.Task[None]]" = field(default_factory=set)
    _discovering: "asyncio.Task[None] | None" = None

    @property
    def status(self) -> EngineStatus:
        workers = list(self._workers.values())
        found = tuple(worker.status for worker in (*workers, *self._leaving))
        usable = sum(worker.usable for worker in workers)
        detail = f"{usable} of {len(workers)} workers take requests" if workers else "no worker has been found yet"
        return EngineStatus(ready=usable > 0, detail=detail, waiting=len(self._queue), workers=found)

    async def start(self) -> None:
        await self.follow(self.members)

    async def close(self) -> None:
        await self._stop_discovering()
        for worker in [*self._workers.values(), *self._leaving]:
            await worker.engine.close()
        await asyncio.gather(*self._closing)

    async def follow(self, members: Members) -> None:
        """Have these members from now on. One that is no longer among them takes no new requests, and goes once those
        that it has have ended."""
        await self._stop_discovering()
        self.members = members
        if members.by_name:
            self._discovering = asyncio.create_task(self._discover(members.urls[0]))
        else:
            await self._have(listed(members.urls))

    async def take(self) -> Use:
        if not any(worker.usable for worker in self._workers.values()):
            raise self._nobody()
        return Unneeded()

    def facts(self, model: str) -> ModelFacts:
        """What holds for every worker: of several contexts the shortest."""
        known = [worker.engine.facts(model) for worker in self._workers.values()]
        contexts = [one.context_tokens for one in known if one.context_tokens is not None]
        capabilities = (
            known[0].capabilities if known else UpstreamEngine(self.name, self.kind, "").facts("").capabilities
        )
        return ModelFacts(min(contexts, default=None), capabilities, (self.kind, *sorted(self.members.urls), model))

    def leaves_room(self, request: ChatRequest) -> bool:
        """Where the workers have a limit: requests of batches go last."""
        usable = [worker for worker in self._workers.values() if worker.usable]
        if not self.members.most or not usable:
            return True
        room = sum(worker.most - len(worker.tries) for worker in usable) - request.choices
        return not len(self._queue) and 2 * room >= self.members.most * len(usable)

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        return most_prompt_tokens(request)

    async def count_prompt_tokens(self, request: ChatRequest) -> int | None:
        return None

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...] | None:
        return None

    def generate(self, request: ChatRequest) -> Batches:
        return self._run(request, UpstreamEngine.generate)

    def embed(self, request: ChatRequest) -> Batches:
        return self._run(request, UpstreamEngine.embed)

    async def _run(self, request: ChatRequest, run: Callable[[UpstreamEngine, ChatRequest], Batches]) -> Batches:
        """Try it on one worker after another, until one begins. What begins ends there, however."""
        prompt = beginnings(request)
        if not self.affinity:
            prompt = Beginnings((), prompt.tokens, os.urandom(16))
        until, told = self.clock() + FIRST_BYTE_SECONDS, False
        tried: list[Worker] = []
        failure: LeadlineError | None = None
        while True:
            self._suspects.refuse(request)
            one = await self._begin(request.cache_scope, prompt, tried, failure)
            seconds = min(_patience(request, one), until - self.clock())
            try:
                async with aclosing(run(one.worker.engine, request)) as batches:
                    while not one.begun and (batch := await _next(one, batches, seconds)):
                        if not isinstance(batch[-1], Started):
                            one.begin()
                        elif told:
                            continue
                        _note(one, batch)
                        # That it began was told once, by whichever worker.
                        yield tuple(event for event in batch if not isinstance(event, Started)) if told else batch
                        told = told or isinstance(batch[0], Started)
                    async for batch in batches:
                        _note(one, batch)
                        yield batch
                return
            except LeadlineError as error:
                one.fail(error)
                self._suspects.note(request, error)
                if one.begun or isinstance(error, InvalidRequest):
                    raise
                failure = error
                tried.append(one.worker)
                _log.warning("a worker failed", extra={"engine": self.name, "worker": one.worker.at, "why": error.fact})
                if len(tried) == MOST_TRIES or self.clock() >= until:
                    raise
            finally:
                one.close()

    async def _begin(
        self, scope: str, prompt: Beginnings, tried: Collection[Worker], failure: LeadlineError | None
    ) -> Try:
        """A try on the best worker that was not tried, which may have to be waited for. Where there is none: `failure`,
        or Unavailable."""
        others = [worker for worker in self._workers.values() if worker.usable and worker not in tried]
        if not others:
            raise failure or self._nobody()

        def claim() -> Try | None:
            best = _best([w for w in self._workers.values() if w.usable and w.has_room and w not in tried], prompt)
            return None if best is None else best.begin(prompt)

        if not len(self._queue) and (one := claim()) is not None:
            return one
        turn: asyncio.Future[Try] = asyncio.get_running_loop().create_future()
        waiting = Waiting(scope, prompt.all_tokens, turn, claim)
        self._queue.add(waiting)
        # Those before it may wait for workers that it does not.
        self._queue.let_in()
        try:
            with Within(WAIT_SECONDS):
                return await turn
        except BaseException as error:
            self._queue.remove(waiting)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().close()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"The engine {self.name} was busy for too long. Try again in a moment.") from None
            raise

    def _nobody(self) -> Unavailable:
        why = self.status.detail.rstrip(".")
        return Unavailable(f"The engine {self.name} is not ready: {why}. Try again in a moment.")

    async def _discover(self, url: str) -> None:
        known = True
        while True:
            found = await places(url, self.resolve)
            # Who cannot be asked says nothing of the workers: they stay, and each is asked whether it is there.
            if found is not None:
                await self._have(found)
            elif known:
                _log.warning("a name of workers is not resolved", extra={"engine": self.name, "url": url})
            known = found is not None
            await asyncio.sleep(RESOLVE_EVERY_SECONDS)

    async def _stop_discovering(self) -> None:
        if self._discovering is not None:
            self._discovering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._discovering
            self._discovering = None

    async def _have(self, wanted: Collection[Place]) -> None:
        for place in [place for place in self._workers if place not in wanted]:
            worker = self._workers.pop(place)
            worker.leaving = True
            self._leaving.append(worker)
            _log.info("a worker leaves", extra={"engine": self.name, "worker": worker.at})
        for worker in self._workers.values():
            worker.most = self.members.most
        for place in [place for place in wanted if place not in self._workers]:
            engine = UpstreamEngine(
                *(self.name, self.kind, place.url, self.api_key, place.ip), probe_every_seconds=_PROBE_EVERY_SECONDS
            )
            worker = Worker(place.at, engine, Breaker(self.clock), self.members.most, self._changed)
            self._workers[place] = worker
            _log.info("a worker joins", extra={"engine": self.name, "worker": worker.at})
            await engine.start()
        self._changed()

    def _changed(self) -> None:
        """A worker has room, or is there, or not any more."""
        for worker in [worker for worker in self._leaving if not worker.tries]:
            self._leaving.remove(worker)
            closing = asyncio.create_task(worker.engine.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._queue.let_in()


def _best(workers: Collection[Worker], prompt: Beginnings) -> Worker | None:
    """Where the prompt is read first: its own worker, unless that is clearly busier than others."""
    if not workers:
        return None
    costs = [(worker.cost(prompt), worker) for worker in workers]
    least = min(cost for cost, _ in costs)
    alike = (worker for cost, worker in costs if cost <= least + _ALIKE_TOKENS)
    return max(alike, key=lambda worker: worker.rank(prompt.lead))


def _patience(request: ChatRequest, one: Try) -> float:
    """How long a worker may take to begin, in seconds."""
    answer_seconds = _TOKEN_SECONDS * (request.max_output_tokens or 0) if request.whole else 0.0
    return BEGIN_SECONDS + _READ_TOKEN_SECONDS * one.cost_tokens + answer_seconds


async def _next(one: Try, batches: Batches, seconds: float) -> tuple[ChatEvent, ...] | None:
    """The next batch of one that has not begun; None at the end."""
    try:
        with Within(max(0.0, seconds)) as one.patience:
            return await anext(batches, None)
    except TimeoutError:
        raise DeadlineExceeded("The engine did not begin in time.") from None
    finally:
        one.patience = None


def _note(one: Try, batch: tuple[ChatEvent, ...]) -> None:
    """Whoever reads the last batch may ask for no more."""
    if isinstance(batch[-1], Finished):
        one.succeed(batch[-1].usage)
