"""`python -m tests.scripted.process DATA JOURNAL [PLANT]`: the scripted server as a process of its own, to be killed.

It prints its port as JSON and serves until it dies. What the journal holds outlives it. PLANT names a bug to run with.
"""

import asyncio
import json
import mmap
import os
import random
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog, Model
from leadline.chat.events import ChatEvent, ChoiceFinished, Finished, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest
from leadline.clock import now_microseconds
from leadline.errors import EngineFailed
from leadline.ids import new_uuid
from leadline.ledger import books
from leadline.ledger import ledger as ledgers
from leadline.ledger.books import Added, BatchResult, Entry, Noted
from leadline.ledger.ledger import Ledger
from leadline.operations.app import build_pipeline, create_app
from leadline.operations.control import serve_control
from leadline.serving import running
from leadline.serving.batch_runner import BatchRunner
from leadline.serving.batch_store import BatchStore, Pending
from leadline.serving.generation import Call, Generation
from leadline.serving.pipeline import Caller, Pipeline
from leadline.storage.database import Write
from tests.scripted.engine import Pause, ScriptedEngine, Step, prompt_tokens, words
from tests.scripted.server import PRICES

MODEL = "chatter"
# So that a life of less than a second has its checkpoints.
TICK_SECONDS = 0.05
_CAPACITY = 200_000
_TOKENS = re.compile(rb" t(\d);")


class Journal:
    """By a request's number: tokens that the engine made, and tokens that were given to the HTTP server. Mapped into
    memory, so that it is what it was when the process dies. `ids` tells each number's request ids."""

    def __init__(self, path: Path) -> None:
        self._ids = path.with_suffix(".ids")
        with path.open("a+b") as file:
            file.truncate(2 * 8 * _CAPACITY)
            numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self.made, self.sent = numbers[:_CAPACITY], numbers[_CAPACITY:]
        self._log = os.open(self._ids, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def admit(self, request_id: str, number: int) -> None:
        os.write(self._log, f"{request_id} {number}\n".encode())

    def numbers(self) -> dict[str, int]:
        """The number of each request id."""
        lines = self._ids.read_text("ascii").splitlines()
        return {request_id: int(number) for request_id, _, number in (line.partition(" ") for line in lines)}


def number_of(request: ChatRequest) -> int:
    """The prompt's second word."""
    return int(words(request.messages[-1].content)[1])


def chatter(journal: Journal) -> Callable[[ChatRequest], Iterable[Step]]:
    """For a second or so a few tokens at a time, which stand in the text. Slow enough that most clients are in their
    streams on a slow machine too."""

    def script(request: ChatRequest) -> Iterable[Step]:
        number, prompt, made = number_of(request), prompt_tokens(request), 0
        rng = random.Random(number)
        yield (Started(prompt, 0),)
        for _ in range(rng.randint(1, 14)):
            batch = tuple(_told(rng) for _ in range(rng.choice((1, 1, 3))))
            made += sum(event.tokens for event in batch)
            journal.made[number] = made
            yield batch
            yield Pause(rng.uniform(0.01, 0.16))
        yield (ChoiceFinished("stop"), Finished(Usage(prompt, output_tokens=made)))

    return script


def _told(rng: random.Random) -> TextDelta:
    tokens = rng.randint(1, 4)
    return TextDelta(f" t{tokens};", tokens)


def watched(app: Any, journal: Journal) -> Any:
    """The application, with a journal of what it asks for and sends."""
    start = Pipeline.start
    numbers: dict[str, int] = {}

    async def watched_start(pipeline: Pipeline, caller: Caller, request: ChatRequest, call: Call) -> Generation:
        numbers[str(call.request_id)] = number_of(request)
        journal.admit(str(call.request_id), number_of(request))
        return await start(pipeline, caller, request, call)

    async def watched_app(scope: Any, receive: Any, send: Any) -> None:
        number: int | None = None

        async def watched_send(message: Any) -> None:
            nonlocal number
            await send(message)
            if message["type"] == "http.response.start":
                number = numbers.get(dict(message["headers"]).get(b"x-request-id", b"").decode())
            elif number is not None:
                journal.sent[number] += sum(int(found) for found in _TOKENS.findall(message["body"]))

        await app(scope, receive, watched_send)

    Pipeline.start = watched_start  # type: ignore[method-assign]
    return watched_app


async def serve(data: Path, journal: Journal) -> None:
    running.TICK_SECONDS = TICK_SECONDS
    instance = await Instance.open(data)
    engine = ScriptedEngine({MODEL: chatter(journal)}, context_tokens=None)
    pipeline = build_pipeline(instance, Catalog([Model(MODEL, engine, MODEL, PRICES, 512)]))
    app = watched(create_app(instance, pipeline), journal)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    )
    control = await serve_control(instance)
    duties = [asyncio.create_task(duty) for duty in (pipeline.running.watch(), BatchRunner(pipeline).work())]
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    print(json.dumps({"port": server.servers[0].sockets[0].getsockname()[1]}), flush=True)
    await serving
    control.close()
    for duty in duties:
        duty.cancel()
    await instance.close()


def acknowledge_early() -> None:
    """The last event goes out before its charge is committed."""
    in_time = Generation._settled_in_time

    async def finish(generation: Generation, batch: tuple[ChatEvent, ...], usage: Usage) -> None:
        generation._final = usage
        generation.cost_ticks = generation._cost(usage)

    async def settle_later(generation: Generation) -> bool:
        await asyncio.sleep(0.02)
        return await in_time(generation)

    Generation._finish = finish  # type: ignore[method-assign]
    Generation._settled_in_time = settle_later  # type: ignore[method-assign]


def leave_holds() -> None:
    """What a crash left held stays held."""
    ledgers.interrupted = lambda row, now: Noted([])  # type: ignore[assignment, return-value]


def recover_twice() -> None:
    """What a crash cut is charged, and charged again."""
    load = Ledger.load

    async def load_twice(ledger: Ledger) -> int:
        holds = await ledger._database.rows(
            "SELECT organisation_id, request_id, key_id, model, reserved_ticks, used_ticks FROM holds"
            " WHERE used_ticks > 0 AND replayable = 0"
        )
        recovered = await load(ledger)
        for organisation_id, request_id, key_id, model, reserved_ticks, used_ticks in holds:
            again = (str(new_uuid()), now_microseconds(), "charge", -used_ticks, "interrupted")
            entry = Entry(*again, request_id, key_id, model, reserved_ticks)
            await ledger._write(Added(organisation_id, entry))
            ledger._balances[organisation_id] -= used_ticks
        return recovered

    Ledger.load = load_twice  # type: ignore[method-assign]


def keep_results_later() -> None:
    """The result of a batch's request is kept a moment after its charge."""
    keep, run, late = books._Page.keep, BatchRunner._run, dict[str, Any]()

    def keep_nothing(page: Any, organisation_id: str, request_id: str, kept: Any) -> None:
        if isinstance(kept, BatchResult):
            late[request_id] = kept.content, kept.at, kept.cost_ticks, request_id
        else:
            keep(page, organisation_id, request_id, kept)

    async def run_then_keep(runner: BatchRunner, queue: Any, pending: Pending, *more: Any) -> None:
        await run(runner, queue, pending, *more)
        await asyncio.sleep(0.1)
        await runner.store.database.commit(Write(books._PUT_BATCH_RESULT, late.pop(pending.request_id)))

    books._Page.keep = keep_nothing  # type: ignore[method-assign]
    BatchRunner._run = run_then_keep  # type: ignore[method-assign, assignment]


def give_up_what_was_cut() -> None:
    """What a crash cut of a batch has failed."""
    to_run = BatchStore.to_run

    async def give_up(store: BatchStore) -> list[tuple[str, str, int]]:
        for batch_id, model, _ in await to_run(store):
            while (pending := await store.next(batch_id, model, 0)) is not None:
                await store.fail(pending, EngineFailed())
        return []

    BatchStore.to_run = give_up  # type: ignore[method-assign]


_ALL = (acknowledge_early, leave_holds, recover_twice, keep_results_later, give_up_what_was_cut)
PLANTS = {plant.__name__: plant for plant in _ALL}


def main() -> None:
    data, journal, *plants = sys.argv[1:]
    for plant in plants:
        PLANTS[plant]()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(data), Journal(Path(journal))))


if __name__ == "__main__":
    main()
