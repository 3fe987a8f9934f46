"""One admitted request while it runs: its events, what they have used, and its one settlement."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from leadline.catalog.catalog import Model
from leadline.catalog.prices import Prices
from leadline.chat.events import ChatEvent, Finished, Started, Usage
from leadline.chat.request import ChatRequest, Message, Text, ToolResult
from leadline.clock import Clock
from leadline.engines.engine import Use
from leadline.errors import CreditsHeld, LeadlineError, RateLimited, RateLimits, Unavailable
from leadline.ledger.books import Hold, Kept, Outcome
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import UsageRecord
from leadline.limits.limiter import Admission
from leadline.serving.choices import Batches, generate
from leadline.serving.meter import Meter
from leadline.storage.database import DatabaseUnusable

# How long the final event waits for the commit of its charge, where a client waits for it.
COMMIT_SECONDS = 10
# What puts a request of a batch off, and does not end it.
PUTS_OFF = (CreditsHeld, RateLimited, Unavailable)


# Adds to a request what has to be looked up, which is done once the limits let it in. Whatever it raises is a refusal.
LookUp = Callable[[ChatRequest], Awaitable[ChatRequest]]


async def nothing_more(request: ChatRequest) -> ChatRequest:
    """Of a request that is whole."""
    return request


@dataclass(frozen=True, slots=True)
class Call:
    """How the request came in. `endpoint` is its path, such as `/v1/chat/completions`, `scope` what a key must permit.
    A `replayable` request has an Idempotency-Key; `look_up` adds what its request still lacks. One of a batch
    (`batched`) is not limited, and no refusal that only puts it off is noted."""

    request_id: uuid.UUID
    endpoint: str
    stream: bool
    scope: str = "chat"
    replayable: bool = False
    look_up: LookUp = nothing_more
    batched: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may run. `upstream` is `request` in the engine's words, with its tokens bounded; `prices` are
    those of its admission; `use` is closed at its end."""

    request: ChatRequest
    upstream: ChatRequest
    call: Call
    model: Model
    prices: Prices
    hold: Hold
    admission: Admission
    use: Use


class Generation:
    """One admitted request. Use it as `async with`; leaving it settles, however it ends."""

    def __init__(self, admitted: Admitted, ledger: Ledger, clock: Clock) -> None:
        self.request_id = admitted.call.request_id
        self.created_at = int(time.time())
        self.model = admitted.model.name
        self.requested_model = admitted.request.model
        self.fingerprint = admitted.model.fingerprint
        self.choices = admitted.request.choices
        self.hold = admitted.hold
        self.streams = admitted.call.stream
        self.batched = admitted.call.batched
        self.cost_ticks = 0
        # From its admission on; None: nothing came of it yet.
        self.first_token_milliseconds: int | None = None
        # How long the final event waits for the commit of its charge.
        self.commit_seconds: float = COMMIT_SECONDS
        # Each makes something that is kept with the charge, from the last batch, or nothing.
        self.keepers: list[Callable[[tuple[ChatEvent, ...]], Kept | None]] = []
        # Whether its answer is kept for its owner. That is known before its last batch goes out.
        self.is_kept = False
        # Told when it has ended, for whatever reason.
        self.ended: Callable[[Generation], None] = lambda _: None
        # Why it was stopped from outside, if it was.
        self.stopped_by: LeadlineError | None = None
        self._admitted = admitted
        self._ledger = ledger
        self._clock = clock
        self._prompt_estimate = estimated_prompt_tokens(admitted.upstream)
        self._meter = Meter(self._prompt_estimate)
        self._began = time.monotonic_ns()
        self._failure: Exception | None = None
        # The engine's own count, once it has finished.
        self._final: Usage | None = None
        self._kept: tuple[Kept, ...] = ()
        self._outcome: Outcome | None = None
        self._reader: asyncio.Task[object] | None = None
        self._settlement: asyncio.Future[None] | None = None
        self._late = False

    @property
    def usage(self) -> Usage:
        """What would be charged if it ended now: of a stream what was delivered, of a whole answer what was made."""
        return self._final or self._meter.usage

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages that it answers, those that were looked up included."""
        return self._admitted.request.messages

    @property
    def limits(self) -> RateLimits:
        """What the limits leave."""
        return self._admitted.admission.limits

    def progress(self) -> tuple[Hold, int, Usage]:
        """What it has used so far and what that costs."""
        return self.hold, self._cost(self.usage), self.usage

    async def events(self) -> Batches:
        """The batches, in the grammar of `chat.events`. Finished comes once the charge is durable. What a stream
        yields counts as delivered when the next batch is asked for."""
        engine, upstream, streams = self._admitted.model.engine, self._admitted.upstream, self.streams
        self._reader = asyncio.current_task()
        try:
            async with aclosing(generate(engine, upstream, self._prompt_estimate)) as batches:
                async for batch in batches:
                    last = batch[-1]
                    if not streams:
                        self._meter.count(batch)
                    elif isinstance(batch[0], Started):
                        self._meter.count(batch[:1])
                    if self.first_token_milliseconds is None and not isinstance(last, Started):
                        self.first_token_milliseconds = self.milliseconds
                    if isinstance(last, Finished):
                        await self._finish(batch, last.usage)
                    yield batch
                    if streams and not isinstance(last, Finished):
                        self._meter.count(batch[1:] if isinstance(batch[0], Started) else batch)
        except Exception as error:
            self._failure = self._failure or error
            raise
        finally:
            self._reader = None

    def fail(self, error: Exception) -> None:
        """It ends by our own fault, whatever the cancellation looks like: an answer cut before it costs nothing."""
        self._failure = self._failure or error

    def stop(self, error: LeadlineError) -> None:
        """End it from outside with `error`, which its reader then finds in `stopped_by`."""
        if self._reader is not None and self._failure is None and self._final is None:
            self.fail(error)
            self.stopped_by = error
            self._reader.cancel()

    def why_cancelled(self, stopping: LeadlineError, *, gone: bool) -> BaseException:
        """What the cancellation of its reader is: the client's hang-up, where he has `gone`; or somebody stopped it; or
        it is our own stop, `stopping`. The latter two are errors like any other."""
        if gone:
            return asyncio.CancelledError()
        if self.stopped_by is not None:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return self.stopped_by
        self.fail(stopping)
        return stopping

    async def __aenter__(self) -> "Generation":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Settle what was used and let the next request in. Closing twice is harmless. While the disk refuses, the
        ledger goes on trying by itself."""
        try:
            if not self._late:
                if self._settlement is not None and self._settlement.done():
                    self._settlement.result()
                else:
                    await _despite_cancellation(asyncio.ensure_future(self._settled_in_time()))
        finally:
            self._admitted.use.close()
            self.ended(self)

    async def _finish(self, batch: tuple[ChatEvent, ...], usage: Usage) -> None:
        self.cost_ticks = self._cost(usage)
        self._kept = tuple(kept for keep in self.keepers if (kept := keep(batch)) is not None)
        self._final = usage
        if not await self._settled_in_time():
            # What is written from now on is what the client has.
            self._final, self._kept, self._outcome = None, (), None
            raise DatabaseUnusable("The charge could not be recorded in time, so the answer is not complete.")

    async def _settled_in_time(self) -> bool:
        """Wait for the one settlement of this generation, which begins with the first that asks."""
        if self._settlement is None:
            self._settlement = self._ledger.settle(self.hold, self._how_it_ended)
            usage = self._charged_usage()
            self._admitted.admission.close(usage.prompt_tokens + usage.output_tokens + usage.reasoning_tokens)
        # Where the disk refuses, the client hears so at once, and the ledger settles without him.
        seconds = 0 if isinstance(self._failure, DatabaseUnusable) else self.commit_seconds
        self._late = not await _done_within(self._settlement, seconds)
        if not self._late:
            self._settlement.result()
        return not self._late

    def _how_it_ended(self) -> Outcome:
        """What is to be written; asked anew for each try."""
        if self._outcome is None:
            usage = self._charged_usage()
            self.cost_ticks = self._cost(usage)
            again = self.batched and self._final is None and isinstance(self._failure, PUTS_OFF)
            self._outcome = Outcome(self._record(usage), self._kept, again)
        return self._outcome

    def _cost(self, usage: Usage) -> int:
        """The engine's count is the truth, and the reservation the promise: a charge never exceeds it."""
        return min(self._admitted.prices.cost(usage), self.hold.ticks)

    def _record(self, usage: Usage) -> UsageRecord:
        hold, failure = self.hold, self._failure
        charged = usage.prompt_tokens > 0
        error = failure.fact if isinstance(failure, LeadlineError) else "" if failure is None else "internal_error"
        return UsageRecord(
            *(hold.organisation_id, hold.request_id, hold.opened_at, self._clock(), hold.key_id, hold.model),
            endpoint=hold.endpoint,
            status="finished" if self._final else "interrupted" if charged else "failed",
            error=error,
            streamed=self.streams,
            usage=usage,
            cost_ticks=self.cost_ticks,
            first_token_milliseconds=self.first_token_milliseconds,
            total_milliseconds=self.milliseconds,
        )

    @property
    def milliseconds(self) -> int:
        """Since it was admitted."""
        return (time.monotonic_ns() - self._began) // 1_000_000

    def _charged_usage(self) -> Usage:
        """What was made, or nothing where we failed before the client had anything of it, or has a key to ask again."""
        usage = self.usage
        if self._failure is None or self._final:
            return usage
        call = self._admitted.call
        # Who has an Idempotency-Key asks again, but not with a key that was revoked.
        asks_again = call.replayable and self.stopped_by is None
        delivered = call.stream and not asks_again and usage.output_tokens + usage.reasoning_tokens > 0
        return usage if delivered else Usage()


def estimated_prompt_tokens(request: ChatRequest) -> int:
    """Where an engine tells the prompt's tokens only at the end: a token for each four bytes, at least one. Of several
    prompts it is the mean."""
    if request.prompts:
        sizes = [len(prompt.encode()) // 4 if isinstance(prompt, str) else len(prompt) for prompt in request.prompts]
        return max(1, -(-sum(sizes) // len(sizes)))
    size = 0
    for message in request.messages:
        for block in message.content:
            match block:
                case Text():
                    size += len(block.text.encode())
                case ToolResult():
                    size += sum(len(part.text.encode()) for part in block.content if isinstance(part, Text))
                case _:
                    pass
    return max(1, size // 4)


async def _done_within(future: "asyncio.Future[None]", seconds: float) -> bool:
    """Whether `future` is done in time. It is left alone where it is not, and where its waiter is cancelled."""
    if not future.done() and seconds > 0:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake(_: object = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        timer = loop.call_later(seconds, wake)
        future.add_done_callback(wake)
        try:
            await waiter
        finally:
            timer.cancel()
            future.remove_done_callback(wake)
    return future.done()


async def _despite_cancellation(task: "asyncio.Future[Any]") -> None:
    """Wait for `task` even if the client hangs up meanwhile; then let the cancellation through."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled:
        raise cancelled
