"""Runs the requests of batches beside live ones, which go first.

A request of a batch begins only where few others of its model run, of batches and live ones, and where its engine keeps
half of its room free with it: what live requests may take then is at least that half. So that nothing waits for ever, a
model that has begun none for a while begins one in any case. What runs is not cut for live requests.

A request that is put off, because credits are held or no engine is ready, is tried again while its batch lives. What a
stop or a crash cuts short has no result and no charge, and is run again at the next start.
"""

import asyncio
import logging
import uuid
from collections import Counter, deque
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal

from leadline.accounts.api_key import ApiKey
from leadline.chat.collect import Collector
from leadline.chat.events import ChatEvent, Finished
from leadline.chat.request import ChatRequest
from leadline.errors import (
    BatchDamaged,
    DeadlineExceeded,
    EngineFailed,
    InternalError,
    LeadlineError,
    ModelNotFound,
    Refused,
    Unavailable,
)
from leadline.ledger.books import BatchResult
from leadline.serving.batch_store import LIFE_MICROSECONDS, BatchStore, Pending
from leadline.serving.codec import decode
from leadline.serving.generation import COMMIT_SECONDS, PUTS_OFF, Call, Generation
from leadline.serving.pipeline import Pipeline
from leadline.serving.stored import kept_of

ENDPOINT = "/v1/batches"
# Of one model: requests of batches at once, and live ones beside which none begins.
MOST_AT_ONCE = 8
MOST_LIVE = 8
# A model that begins none for so long begins one, whatever else runs.
TURN_SECONDS = 30.0
# While something waits for its turn, it is looked for room so often.
LOOK_SECONDS = 0.25
# After a request was put off, its batch waits, from the former on, longer each time, up to the latter.
PUT_OFF_SECONDS = (1.0, 60.0)
_CLOSE_SECONDS = 5.0
_STOPPED = "The server was stopped before this request had ended. It is run again at the next start."
# What its owner is told of an error; all else is our own fault.
_TELLABLE = (Refused, DeadlineExceeded, EngineFailed)
_log = logging.getLogger("leadline.serving")


@dataclass(slots=True, eq=False)
class _Queue:
    """The requests of one batch for one model. Those up to number `after` have had their turn; once all have, those
    that were put off have theirs again. `not_before` is in seconds of the loop; it is `idle` while all that is left of
    it runs."""

    batch_id: str
    model: str
    expires_at: int
    after: int = 0
    running: int = 0
    not_before: float = 0.0
    put_off: int = 0
    idle: bool = False
    expired: bool = False


# What became of a queue's turn.
_Turn = Literal["began", "waits", "no room", "ended"]


@dataclass(slots=True)
class BatchRunner:
    """`work` is to be kept going beside the pipeline."""

    pipeline: Pipeline
    _queues: dict[str, deque[_Queue]] = field(default_factory=dict)
    _known: dict[tuple[str, str], _Queue] = field(default_factory=dict)
    _running: Counter[str] = field(default_factory=Counter)
    _began_at: dict[str, float] = field(default_factory=dict)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    _stopping: bool = False

    @property
    def store(self) -> BatchStore:
        return self.pipeline.batches.store

    async def work(self) -> None:
        """Go on until cancelled."""
        try:
            await self._take_up()
            while True:
                self.store.changed.clear()
                try:
                    await self._turn()
                except LeadlineError as error:
                    _log.warning("batches were put off", extra={"why": str(error)})
                    await asyncio.sleep(PUT_OFF_SECONDS[0])
                except Exception:
                    _log.exception("a turn of the batches failed")
                    await asyncio.sleep(PUT_OFF_SECONDS[0])
                await self._wait()
        finally:
            self.stop()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)

    def stop(self) -> None:
        """Begin nothing more, and leave what runs for the next start."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    async def _take_up(self) -> None:
        """Go on where the last process stopped."""
        while True:
            try:
                self._add(await self.store.to_run())
                return
            except LeadlineError as error:
                _log.warning("batches were not taken up yet", extra={"why": str(error)})
                await asyncio.sleep(PUT_OFF_SECONDS[0])

    async def _wait(self) -> None:
        """Until something changes; or for a moment, while something waits for room or for its time."""
        try:
            async with asyncio.timeout(LOOK_SECONDS if self._known else None):
                await self.store.changed.wait()
        except TimeoutError:
            pass

    def _add(self, filled: list[tuple[str, str, int]]) -> None:
        for batch_id, model, expires_at in filled:
            if (queue := self._known.get((batch_id, model))) is not None:
                queue.idle = False
            else:
                queue = self._known[batch_id, model] = _Queue(batch_id, model, expires_at)
                if model not in self._queues:
                    self._queues[model] = deque()
                    self._began_at[model] = asyncio.get_running_loop().time()  # it waits from now on
                self._queues[model].append(queue)

    async def _turn(self) -> None:
        """Begin what may begin, batch by batch, so that a large one does not keep the others waiting; of each model a
        few, so that a quick one does not either."""
        self._add(self.store.take_filled())
        await self._expire()
        for model, queues in list(self._queues.items()):
            passed = began = 0
            while passed < len(queues) and began < MOST_AT_ONCE and not self._stopping and self._has_turn(model):
                queue = queues.popleft()
                turn: _Turn = "waits"
                try:
                    turn = await self._begin_next(queue)
                finally:
                    if turn == "ended":
                        del self._known[queue.batch_id, model]
                    else:
                        queues.append(queue)
                if turn == "no room":
                    break
                passed = passed + 1 if turn == "waits" else 0
                began += turn == "began"
            if began:
                self.store.changed.set()
            if not queues:
                del self._queues[model]

    async def _expire(self) -> None:
        """End the batches whose day is over, also where none of their models has a turn."""
        now = self.pipeline.clock()
        for queue in [queue for queue in self._known.values() if queue.expires_at <= now and not queue.expired]:
            await self.store.expire(queue.batch_id)
            queue.expired = True

    def _has_turn(self, model: str) -> bool:
        if self._running[model] >= MOST_AT_ONCE:
            return False
        return self.pipeline.running.live(model) < MOST_LIVE or self._is_overdue(model)

    def _is_overdue(self, model: str) -> bool:
        waits_seconds = asyncio.get_running_loop().time() - self._began_at[model]
        return self._running[model] == 0 and waits_seconds >= TURN_SECONDS

    async def _begin_next(self, queue: _Queue) -> _Turn:
        """Begin the queue's next request, if it may."""
        if queue.idle or asyncio.get_running_loop().time() < queue.not_before:
            return "waits"
        if self.pipeline.clock() >= queue.expires_at:
            await self.store.expire(queue.batch_id)
            return self._nothing_left(queue, queue.running)
        moment, running = self.store.moment, queue.running
        pending = await self.store.next(queue.batch_id, queue.model, queue.after)
        if pending is None and queue.after > 0:
            queue.after = 0  # those that were put off have their turn again
            pending = await self.store.next(queue.batch_id, queue.model, queue.after)
        if pending is None:
            return self._nothing_left(queue, running)
        if pending.cancelled:
            # It ran when its batch was cancelled, and was put off or cut short after that.
            await self.store.end(queue.batch_id, "")
            return "waits"
        if pending.asked is None:
            await self.store.fail(pending, BatchDamaged())
            return "waits"
        request = decode(pending.asked.request, ChatRequest)
        if moment is None or moment != self.store.moment or self._stopping:
            return "waits"
        if not self._leaves_room(queue.model, request):
            return "no room"
        queue.after = pending.number
        self._begin(queue, pending, request, pending.asked.notes)
        return "began"

    def _nothing_left(self, queue: _Queue, running: int) -> _Turn:
        """Nothing could begin while so many were `running`. One of them that ended since may have been put off."""
        queue.idle = queue.running > 0
        return "waits" if queue.idle or running else "ended"

    def _leaves_room(self, model_name: str, request: ChatRequest) -> bool:
        try:
            model = self.pipeline.catalog.find(model_name)
        except ModelNotFound:
            return True  # which it is told
        output_tokens = request.max_output_tokens or model.default_max_output_tokens
        upstream = replace(request, model=model.upstream_model, max_output_tokens=output_tokens)
        return model.engine.leaves_room(upstream) or self._is_overdue(model_name)

    def _begin(self, queue: _Queue, pending: Pending, request: ChatRequest, notes: dict[str, bytes]) -> None:
        self.store.running.add(pending.request_id)
        self._running[queue.model] += 1
        self._began_at[queue.model] = asyncio.get_running_loop().time()
        queue.running += 1
        task = asyncio.create_task(self._run(queue, pending, request, notes))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, queue, pending))

    def _ended(self, task: "asyncio.Task[None]", queue: _Queue, pending: Pending) -> None:
        self._tasks.discard(task)
        self.store.running.discard(pending.request_id)
        self._running[queue.model] -= 1
        queue.running -= 1
        queue.idle = False
        self.store.changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a request of a batch was lost", exc_info=error, extra={"request_id": pending.request_id})

    async def _run(self, queue: _Queue, pending: Pending, request: ChatRequest, notes: dict[str, bytes]) -> None:
        """Run one request to its end, or put it off."""
        try:
            try:
                await self._answer(pending, request, notes)
            except PUTS_OFF:
                raise
            except _TELLABLE as error:
                await self.store.fail(pending, error)
            except Exception:
                _log.exception("a request of a batch failed", extra={"request_id": pending.request_id})
                await self.store.fail(pending, InternalError())
            queue.put_off = 0
        except PUTS_OFF:
            least, most = PUT_OFF_SECONDS
            seconds = min(most, least * 2 ** min(queue.put_off, 10))
            queue.put_off += 1
            queue.not_before = asyncio.get_running_loop().time() + seconds

    async def _answer(self, pending: Pending, request: ChatRequest, notes: dict[str, bytes]) -> None:
        """Answer the request, and keep the answer with its charge."""
        caller = self._caller(pending)
        call = Call(uuid.UUID(pending.request_id), ENDPOINT, stream=False, batched=True)
        generation = await self.pipeline.start(caller, request, call)
        # Nobody waits for it, so it can wait for the disk.
        generation.commit_seconds = LIFE_MICROSECONDS / 1_000_000
        async with generation:
            try:
                await self._collect(generation, pending, notes)
            except asyncio.CancelledError:
                generation.commit_seconds = COMMIT_SECONDS
                if generation.stopped_by is not None:
                    task = asyncio.current_task()
                    assert task is not None
                    task.uncancel()
                    raise generation.stopped_by from None
                generation.fail(Unavailable(_STOPPED))
                raise

    def _caller(self, pending: Pending) -> ApiKey:
        """The key that is charged, as it is now; or why it may not do anything."""
        caller = self.pipeline.keys.active(pending.key_id)
        self.pipeline.organisations.refuse_if_suspended(caller.organisation_id)
        return caller

    async def _collect(self, generation: Generation, pending: Pending, notes: dict[str, bytes]) -> None:
        collector = Collector(generation.choices)

        def result(batch: tuple[ChatEvent, ...]) -> BatchResult:
            answer = collector.add(batch)
            assert answer is not None, "only the last batch is kept with"
            kept = replace(kept_of(generation, answer, notes), conversation=())
            return self.store.result_of(pending, kept)

        generation.keepers.append(result)
        async with aclosing(generation.events()) as batches:
            async for batch in batches:
                if not isinstance(batch[-1], Finished):
                    collector.add(batch)
