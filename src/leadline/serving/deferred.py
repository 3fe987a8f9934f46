"""Deferred requests: they run without their client, who fetches the answer later, once.

An answer is kept in one commit with its charge, for 24 hours. Which requests still run is known to this process alone:
what a stop cuts short is kept as the error that it is, what a crash cuts short was never there.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from leadline.chat.events import ChatEvent
from leadline.errors import InvalidRequest, LeadlineError, NotFound
from leadline.serving.generation import Generation
from leadline.serving.stored import LARGEST_BYTES, StoredAnswers, known_id

_log = logging.getLogger("leadline.serving")


class DeferredAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What came of a request: an HTTP status and its JSON body."""

    status: int
    body: bytes


@dataclass(slots=True)
class Deferred:
    stored: StoredAnswers
    # The organisation of each request that runs, by the request's id.
    _running: dict[str, str] = field(default_factory=dict)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    def begin(self, generation: Generation) -> None:
        """From now on the request is known to run, until `end`."""
        self._running[generation.hold.request_id] = generation.hold.organisation_id

    def end(self, generation: Generation) -> None:
        self._running.pop(generation.hold.request_id, None)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, whoever hangs up meanwhile."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(self, generation: Generation, body_with: Callable[[tuple[ChatEvent, ...]], bytes]) -> None:
        """Keep the answer with its charge. `body_with` gives all of it, from the last batch."""

        def content_with(batch: tuple[ChatEvent, ...]) -> bytes:
            content = msgspec.msgpack.encode(DeferredAnswer(200, body_with(batch)))
            if len(content) > LARGEST_BYTES:
                raise InvalidRequest(
                    f"The answer is larger than the {LARGEST_BYTES // 1024**2} MiB that are kept of a deferred request."
                    " Ask for fewer choices or log probabilities."
                )
            return content

        self.stored.keep(generation, "deferred", content_with)

    async def fail(self, generation: Generation, status: int, body: bytes) -> None:
        """Keep the error in which the request ended. Where even that fails, its id is unknown from now on."""
        try:
            await self.stored.put(generation, "deferred", msgspec.msgpack.encode(DeferredAnswer(status, body)))
        except LeadlineError as error:
            _log.warning("a deferred request's error was not kept", extra={"why": str(error)})

    async def take(self, organisation_id: str, spelled_id: str) -> DeferredAnswer | None:
        """What came of the request; None while it runs. An answer is given out once, an error until its term. NotFound
        where there is no such request of this organisation."""
        if self._running.get(known_id(spelled_id) or "") == organisation_id:
            return None
        content = await self.stored.find(organisation_id, "deferred", spelled_id)
        if content is not None:
            answer = msgspec.msgpack.decode(content, type=DeferredAnswer)
            if answer.status != 200 or await self.stored.delete(organisation_id, "deferred", spelled_id):
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
