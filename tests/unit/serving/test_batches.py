"""Batches as they are kept: a result comes with its charge, and what is cancelled has neither."""

import asyncio
import random
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from leadline.accounts.api_key import ApiKey
from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import Usage
from leadline.chat.request import ChatRequest, Message, Text
from leadline.errors import EngineFailed, InvalidRequest
from leadline.ledger.books import Outcome
from leadline.ledger.ledger import Ledger
from leadline.money import Ticks
from leadline.serving.batch_rows import Batch
from leadline.serving.batch_store import BatchStore, Pending
from leadline.serving.batches import Batches, NewRequest
from leadline.serving.codec import KeptAnswer, KeptError
from leadline.storage.database import Database, Row, Value, Write
from leadline.storage.sealed import Sealer
from tests.proof import count
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import SteppedClock, hold, record

ALICE = ApiKey("key-1", "org_alice", "laptop", "abcd", 1)
COST = 7


@dataclass(frozen=True)
class Named:
    name: str


class Catalog:
    """Every name is a model's."""

    def find(self, name: str) -> Named:
        return Named(name)


@pytest.fixture
async def batches(database: Database, ledger: Ledger) -> Batches:
    await ledger.grant("org_alice", Ticks(1_000_000), "welcome")
    store = BatchStore(database, Sealer(b"s" * 32), SteppedClock())
    catalog: Any = Catalog()
    return Batches(store, catalog, lambda line, at: new(line.decode()))


def new(name: str) -> NewRequest:
    request = ChatRequest("echo", (Message("user", (Text("hi"),)),))
    return NewRequest(request, f"batch_requests[{name}]", f"batch_requests[{name}].batch_request", name)


async def filled(batches: Batches, requests: int) -> Batch:
    batch = await batches.create(ALICE, "all of them")
    await batches.add(ALICE, batch.id, [new(str(number)) for number in range(requests)])
    return batch


def answer_to(pending: Pending) -> KeptAnswer:
    answer = ChatAnswer((Choice((Text("hello"),), "stop"),), Usage(1, output_tokens=1))
    return KeptAnswer(uuid.UUID(pending.request_id), 1, "echo", "echo", "fp", COST, (), answer)


async def settle(batches: Batches, ledger: Ledger, pending: Pending) -> None:
    """Charge the request and keep its result."""
    held = hold(COST, name=pending.request_id)
    ledger.reserve(held)
    kept = (batches.store.result_of(pending, answer_to(pending)),)
    await ledger.settle(held, lambda: Outcome(record(held, COST), kept))


async def first(batches: Batches, batch: Batch) -> Pending:
    pending = await batches.store.next(batch.id, "echo", 0)
    assert pending is not None
    return pending


async def test_a_result_is_kept_in_one_commit_with_its_charge(
    batches: Batches, ledger: Ledger, commits: Commits
) -> None:
    batch = await filled(batches, 1)
    pending, before = await first(batches, batch), commits.count

    await settle(batches, ledger, pending)

    assert commits.count == before + 1
    [result], more = await batches.results(ALICE, batch.id, 10)
    assert result.outcome == answer_to(pending)
    assert not more
    assert (await batches.find(ALICE, batch.id)).counts.cost_ticks == COST


async def test_a_disk_that_refuses_keeps_neither_until_it_keeps_both(
    batches: Batches, ledger: Ledger, commits: Commits
) -> None:
    batch = await filled(batches, 1)
    pending = await first(batches, batch)
    commits.refusals = 1

    await settle(batches, ledger, pending)

    counts = (await batches.find(ALICE, batch.id)).counts
    assert (counts.succeeded, counts.cost_ticks) == (1, COST)
    assert [entry.amount_ticks for entry in await ledger.entries("org_alice")] == [1_000_000, -COST]


async def test_what_was_read_before_a_cancellation_may_not_begin(batches: Batches, commits: Commits) -> None:
    batch = await filled(batches, 1)
    store, moment = batches.store, batches.store.moment
    await first(batches, batch)
    commits.let_wait()
    ending = asyncio.create_task(store.end(batch.id, ""))
    await commits.one_waits()

    assert store.moment is None
    assert (await first(batches, batch)).cancelled is False

    commits.let_go()
    await ending
    assert store.moment not in (None, moment)
    assert (await batches.find(ALICE, batch.id)).counts.cancelled == 1


async def test_what_ends_while_it_is_read_is_not_begun_again(
    batches: Batches, ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, store = await filled(batches, 1), batches.store
    pending, read = await first(batches, batch), database.rows
    store.running.add(pending.request_id)

    async def read_late(sql: str, *values: Value) -> list[Row]:
        rows = await read(sql, *values)
        await settle(batches, ledger, pending)
        store.running.discard(pending.request_id)
        return rows

    monkeypatch.setattr(database, "rows", read_late)
    assert await store.next(batch.id, "echo", 0) is None


async def test_whoever_is_cut_short_while_he_adds_has_added(batches: Batches, commits: Commits) -> None:
    batch = await batches.create(ALICE, "all of them")
    commits.let_wait()
    adding = asyncio.create_task(batches.add(ALICE, batch.id, [new("a")]))
    await commits.one_waits()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    commits.let_go()
    await batches.store.database.commit()

    assert batches.store.take_filled() == [(batch.id, "echo", batch.expires_at)]


async def test_an_error_is_kept_and_costs_nothing(batches: Batches) -> None:
    batch = await filled(batches, 1)
    await batches.store.fail(await first(batches, batch), EngineFailed("The engine broke."))

    [result], _ = await batches.results(ALICE, batch.id, 10)
    assert result.outcome == KeptError("EngineFailed", "The engine broke.")
    counts = (await batches.find(ALICE, batch.id)).counts
    assert (counts.failed, counts.requests, counts.cost_ticks) == (1, 1, 0)


async def test_a_request_that_is_damaged_on_the_disk_is_told_apart(batches: Batches, database: Database) -> None:
    batch = await filled(batches, 1)
    await database.commit(Write("UPDATE batch_requests SET request = $1", (b"x" * 40,)))

    assert (await first(batches, batch)).asked is None


async def test_what_was_cut_short_while_it_was_filled_is_never_run(batches: Batches, database: Database) -> None:
    async def lines() -> Any:
        for number in range(40):
            yield str(number).encode()
        raise InvalidRequest("cut")

    with pytest.raises(InvalidRequest):
        await batches.create_from_file(ALICE, "from a file", "file_1", lines())
    assert await batches.store.to_run() == []
    assert await database.rows("SELECT COUNT(*) FROM batch_requests") == [(0,)]


@pytest.mark.parametrize("planted", [False, True], ids=["", "planted: whoever reads may begin"])
async def test_whenever_a_batch_is_cancelled_its_requests_have_a_charge_and_a_result_or_neither(
    batches: Batches, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    if planted:
        monkeypatch.setattr(BatchStore, "moment", 0)
    found: list[str] = []
    for seed in range(count(60, 1_000)):
        found += await _history(batches, ledger, random.Random(seed))
    assert bool(found) == planted, found


async def _history(batches: Batches, ledger: Ledger, rng: random.Random) -> list[str]:
    """What is wrong after a runner and a cancellation at any moment."""
    batch, found, store = await filled(batches, 6), list[str](), batches.store

    async def wait() -> None:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)

    async def answer(pending: Pending) -> None:
        await wait()
        match rng.choice(("settle", "settle", "fail", "put off")):
            case "settle":
                await settle(batches, ledger, pending)
            case "fail":
                await store.fail(pending, EngineFailed())
        store.running.discard(pending.request_id)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                moment = store.moment
                pending = await store.next(batch.id, "echo", 0)
                if pending is not None and moment is not None and moment == store.moment:
                    store.running.add(pending.request_id)
                    tasks.create_task(answer(pending))

    async def cancel() -> None:
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        if rng.random() < 0.8:
            await batches.cancel(ALICE, batch.id)

    async def look() -> None:
        for _ in range(3):
            await wait()
            if (await batches.find(ALICE, batch.id)).counts.requests != 6:
                found.append("the states do not add up")

    await asyncio.gather(run(), cancel(), look())
    charges = Counter(entry.request_id for entry in await ledger.entries("org_alice") if entry.kind == "charge")
    requests, _ = await batches.requests(ALICE, batch.id, 10)
    return found + [
        f"{request.state}, charged {charges[request.request_id]} times"
        for request in requests
        if charges[request.request_id] != (request.state == "succeeded")
    ]
