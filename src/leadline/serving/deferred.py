"""Deferred requests: they run without their client, who fetches the answer later, once.

An answer is kept in one commit with its charge, for 24 hours. Which requests still run is known to this process alone:
what a stop cuts short is kept as the error that it is, what a crash cuts short was never there.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.chat.collect import Collector
from leadline.chat.events import ChatEvent, Finished
from leadline.errors import InvalidRequest, LeadlineError, NotFound, Unavailable
from leadline.serving.codec import KeptAnswer, KeptError
from leadline.serving.generation import Generation
from leadline.serving.stored import LARGEST_BYTES, StoredAnswers, kept_of, known_id

_STOPPED = "The server was stopped before this deferred request had ended, so it cost nothing. Send it again."
_TOO_LARGE = (
    f"The answer is larger than the {LARGEST_BYTES // 1024**2} MiB that are kept of a deferred request. Ask for fewer"
    " choices or log probabilities."
)
_log = logging.getLogger("leadline.serving")


@dataclass(slots=True)
class Deferred:
    stored: StoredAnswers
    # The organisation of each request that runs, by the request's id.
    _running: dict[str, str] = field(default_factory=dict)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    def make(
        self,
        generation: Generation,
        notes: Mapping[str, bytes],
        told: Callable[[Exception], LeadlineError],
        *,
        stores: bool = False,
    ) -> Coroutine[Any, Any, None]:
        """The work that runs `generation` to its end, and keeps what came of it, with a dialect's `notes`. From now on
        the request is known to run. `told` is an error as a client may hear it. Where it `stores`, the answer is also a
        stored response, whenever it is fetched."""
        self._running[generation.hold.request_id] = generation.hold.organisation_id
        return self._make(generation, notes, told, stores=stores)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, whoever hangs up meanwhile."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def take(self, organisation_id: str, spelled_id: str) -> KeptAnswer | None:
        """What came of the request; None while it runs. An answer is given out once; an error is raised until its term.
        NotFound where there is no such request of this organisation."""
        if self._running.get(known_id(spelled_id) or "") == organisation_id:
            return None
        answer = await self.stored.find(organisation_id, "deferred", spelled_id)
        if answer is not None and await self.stored.delete(organisation_id, "deferred", spelled_id):
            return answer
        raise NotFound(
            "There is no such deferred request: it was fetched before, its 24 hours are over, or it never was."
        )

    async def close(self, seconds: float) -> None:
        """Stop what still runs. It costs nothing."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _make(
        self,
        generation: Generation,
        notes: Mapping[str, bytes],
        told: Callable[[Exception], LeadlineError],
        *,
        stores: bool,
    ) -> None:
        """Cut short by a stop it costs nothing."""
        try:
            async with generation:
                try:
                    await self._collect(generation, notes, stores=stores)
                except asyncio.CancelledError:
                    generation.fail(Unavailable(_STOPPED))
                    raise
        except asyncio.CancelledError:
            await self._fail(generation, generation.stopped_by or Unavailable(_STOPPED))
            raise
        except Exception as error:
            await self._fail(generation, told(error))
        finally:
            self._running.pop(generation.hold.request_id, None)

    async def _collect(self, generation: Generation, notes: Mapping[str, bytes], *, stores: bool) -> None:
        """Run it, and keep its answer with its charge; where it is only deferred without its conversation, with which
        nobody goes on."""
        collector, kept = Collector(generation.choices), list[KeptAnswer]()

        def deferred_with(batch: tuple[ChatEvent, ...]) -> KeptAnswer:
            answer = collector.add(batch)
            assert answer is not None, "only the last batch is kept with"
            kept.append(kept_of(generation, answer, notes))
            return replace(kept[0], conversation=())

        self.stored.keep(generation, "deferred", deferred_with, too_large=InvalidRequest(_TOO_LARGE))
        if stores:
            self.stored.keep(generation, "response", lambda _: kept[0])
        async with aclosing(generation.events()) as batches:
            async for batch in batches:
                if not isinstance(batch[-1], Finished):
                    collector.add(batch)

    async def _fail(self, generation: Generation, error: LeadlineError) -> None:
        """Keep the error in which the request ended. Where even that fails, its id is unknown from now on."""
        try:
            await self.stored.put(generation, "deferred", KeptError.of(error))
        except LeadlineError as refused:
            _log.warning("a deferred request's error was not kept", extra={"why": str(refused)})
