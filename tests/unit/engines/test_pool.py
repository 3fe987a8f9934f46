"""Several workers behind one model: what one of them does wrong, another one puts right before anything was heard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import Started, TextDelta
from leadline.chat.request import ChatRequest, Message, Text
from leadline.engines.pool.engine import Members, PoolEngine, _best
from leadline.engines.pool.prefixes import beginnings
from leadline.errors import DeadlineExceeded, EngineFailed, InvalidRequest, Unavailable
from tests.fold import collect
from tests.scripted.upstream import Reply, ScriptedUpstream, delta, finish, refusal, sse

ASK = ChatRequest("tiny", (Message("user", (Text("hi"),)),), max_output_tokens=50, cache_scope="alice")
BEGUN = Reply(pieces=(sse(delta(content="a"), done=False),), ends="never")
SILENT = Reply(ends="never")
SECONDS = 30


def says(text: str) -> Reply:
    return Reply(pieces=(sse(delta(content=text), finish("stop", prompt_tokens=9, completion_tokens=4)),))


def asks(text: str, scope: str = "alice") -> ChatRequest:
    return replace(ASK, messages=(Message("user", (Text(text),)),), cache_scope=scope)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def pool_of(
    *replies: Reply, most: int = 0, clock: Clock | None = None
) -> AsyncIterator[tuple[PoolEngine, list[ScriptedUpstream]]]:
    """A pool over one scripted worker for each reply, all of them ready."""
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(ScriptedUpstream(reply).listening()) for reply in replies]
        members = Members(tuple(worker.url for worker in workers), most=most)
        pool = PoolEngine("pool", "openai", members, clock=clock or Clock())
        stack.push_async_callback(pool.close)
        await pool.start()
        await until(lambda: [one.state for one in pool.status.workers] == ["ready"] * len(workers))
        yield pool, workers


async def until(true) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.001)


async def answer(pool: PoolEngine, request: ChatRequest = ASK) -> ChatAnswer:
    async with asyncio.timeout(SECONDS), aclosing(pool.generate(request)) as batches:
        return await collect(batches)


def text_of(whole: ChatAnswer) -> str:
    return "".join(block.text for block in whole.choices[0].content if isinstance(block, Text))


def favourite(pool: PoolEngine, workers: list[ScriptedUpstream], request: ChatRequest = ASK) -> ScriptedUpstream:
    """The worker that an idle pool asks first."""
    best = _best(list(pool._workers.values()), beginnings(request))
    assert best is not None
    return next(worker for worker in workers if worker.url == best.at)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        Reply(ends="broken", head=b" "),
        Reply(pieces=(), ends="broken"),
        Reply(pieces=()),
        Reply(pieces=(b"data: {half\n\n",)),
        Reply(pieces=(sse({"error": {"message": "their words"}}),)),
        refusal(500, {}),
        refusal(401, {}),
        refusal(429, {}),
        refusal(503, {}),
    ],
)
async def test_what_fails_before_it_began_succeeds_elsewhere(wrong, whole):
    async with pool_of(says("hello"), says("hello"), says("hello")) as (pool, workers):
        first = favourite(pool, workers)
        first.reply = wrong
        assert text_of(await answer(pool, replace(ASK, whole=whole))) == "hello"
        assert first.bodies


@pytest.mark.parametrize("whole", [False, True])
async def test_that_it_began_is_told_once_whoever_begins(whole):
    async with pool_of(says("hello"), says("hello")) as (pool, workers):
        favourite(pool, workers).reply = Reply(pieces=(sse({"choices": []}, done=False),), ends="broken")
        async with aclosing(pool.generate(replace(ASK, whole=whole))) as batches:
            told = [batch async for batch in batches]
        assert all(told), "no batch is empty"
        events = [event for batch in told for event in batch]
        assert [isinstance(event, Started) for event in events] == [True, False, False, False]


async def test_what_fails_once_it_has_begun_fails():
    async with pool_of(says("hello"), says("hello")) as (pool, workers):
        favourite(pool, workers).reply = replace(BEGUN, ends="broken")
        with pytest.raises(EngineFailed):
            await answer(pool)
        assert sum(len(worker.bodies) for worker in workers) == 1


async def test_a_request_that_is_wrong_is_not_asked_again():
    async with pool_of(refusal(400, {}), refusal(400, {})) as (pool, workers):
        with pytest.raises(InvalidRequest):
            await answer(pool)
        assert sum(len(worker.bodies) for worker in workers) == 1


async def test_no_request_is_tried_more_than_three_times():
    async with pool_of(*[refusal(500, {})] * 4) as (pool, workers):
        with pytest.raises(EngineFailed):
            await answer(pool)
        assert sorted(len(worker.bodies) for worker in workers) == [0, 1, 1, 1]


async def test_where_all_are_busy_it_says_when_to_come_back():
    async with pool_of(refusal(429, {}), refusal(503, {})) as (pool, _):
        with pytest.raises(Unavailable) as raised:
            await answer(pool)
        assert raised.value.retry_after_seconds
        with pytest.raises(Unavailable):
            await pool.take()


async def test_a_request_over_which_two_workers_died_is_not_given_to_the_third():
    async with pool_of(*[Reply(ends="broken", head=b" ")] * 3) as (pool, workers):
        with pytest.raises(InvalidRequest, match="crashed the engine twice"):
            await answer(pool)
        assert sorted(bool(worker.bodies) for worker in workers) == [False, True, True]
        with pytest.raises(InvalidRequest):
            await answer(pool)


async def test_a_killed_worker_is_left_out_at_once():
    async with pool_of(says("hello"), says("hello")) as (pool, workers):
        first = favourite(pool, workers)
        await first.halt()
        for _ in range(3):
            assert text_of(await answer(pool)) == "hello"
        assert {one.state for one in pool.status.workers if one.at == first.url} == {"away"}
        assert sum(one.failures for one in pool.status.workers) <= 1


async def test_a_worker_that_is_alive_but_does_not_begin_is_given_up(monkeypatch):
    monkeypatch.setattr("leadline.engines.pool.engine.BEGIN_SECONDS", 0.0)
    monkeypatch.setattr("leadline.engines.pool.engine._READ_TOKEN_SECONDS", 0.0)
    async with pool_of(SILENT, SILENT) as (pool, workers):
        with pytest.raises(DeadlineExceeded):
            await answer(pool)
        assert [len(worker.bodies) for worker in workers] == [1, 1]
        await asyncio.wait_for(workers[0].hung_up.wait(), SECONDS)


@pytest.mark.parametrize("whole", [False, True])
async def test_what_a_hung_worker_has_not_begun_moves_to_another(monkeypatch, whole):
    monkeypatch.setattr("leadline.engines.upstream.engine._PROBE_SECONDS", 0.05)
    async with pool_of(says("hello"), says("hello")) as (pool, workers):
        hung = favourite(pool, workers)
        hung.reply = hung.models = SILENT
        asked = asyncio.create_task(answer(pool, replace(ASK, whole=whole)))
        await asyncio.wait_for(hung.asked.wait(), SECONDS)
        next(one for one in pool._workers.values() if one.at == hung.url).engine.doubt("it is looked at")
        assert text_of(await asked) == "hello"
        await asyncio.wait_for(hung.hung_up.wait(), SECONDS)


async def test_a_hang_up_ends_the_work_and_leaves_nothing_behind():
    async with pool_of(BEGUN, BEGUN) as (pool, workers):
        first = favourite(pool, workers)
        batches = pool.generate(ASK)
        await anext(batches)
        assert sum(one.running for one in pool.status.workers) == 1
        await batches.aclose()
        await asyncio.wait_for(first.hung_up.wait(), SECONDS)
        assert sum(one.running for one in pool.status.workers) == 0


async def test_one_that_fails_again_and_again_is_left_alone_and_then_tried_with_one_request():
    clock = Clock()
    async with pool_of(says("hello"), says("hello"), clock=clock) as (pool, workers):
        bad = favourite(pool, workers)
        bad.reply = refusal(500, {})
        for _ in range(8):
            assert text_of(await answer(pool)) == "hello"
        assert len(bad.bodies) == 5
        assert [one.state for one in pool.status.workers if one.at == bad.url] == ["broken"]
        clock.now += 6
        await answer(pool)
        await answer(pool)
        assert len(bad.bodies) == 6
        bad.reply = says("back")
        clock.now += 11
        assert text_of(await answer(pool)) == "back"
        assert {one.state for one in pool.status.workers} == {"ready"}


async def test_workers_come_and_go_and_what_runs_ends_where_it_is():
    async with pool_of(BEGUN, says("new")) as (pool, workers):
        old, new = workers
        await pool.follow(Members((old.url,)))
        assert [one.at for one in pool.status.workers] == [old.url]
        batches = pool.generate(ASK)
        begun = await anext(batches)
        assert any(isinstance(event, TextDelta) for event in begun)
        await pool.follow(Members((new.url,)))
        await until(lambda: {one.state for one in pool.status.workers} == {"ready", "draining"})
        for _ in range(3):
            assert text_of(await answer(pool)) == "new"
        assert not old.hung_up.is_set()
        await batches.aclose()
        await asyncio.wait_for(old.hung_up.wait(), SECONDS)
        assert [one.at for one in pool.status.workers] == [new.url]


async def test_a_name_is_resolved_again_and_workers_that_it_names_no_more_go(monkeypatch):
    monkeypatch.setattr("leadline.engines.pool.engine.RESOLVE_EVERY_SECONDS", 0.0)
    found: list[list[str] | None] = [["127.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("workers.example", port_of)
        if found[0] is None:
            raise OSError("the name is not known")
        return found[0]

    async with ScriptedUpstream(says("hello")).listening() as worker:
        port_of = int(worker.url.split(":")[2].removesuffix("/v1"))
        members = Members((f"http://workers.example:{port_of}/v1",), by_name=True)
        pool = PoolEngine("pool", "openai", members, resolve=resolve)
        await pool.start()
        try:
            await until(lambda: pool.status.ready)
            assert text_of(await answer(pool)) == "hello"
            assert f"Host: workers.example:{port_of}" in worker.headers[0]
            found[0] = ["127.0.0.1", "127.0.0.2"]
            await until(lambda: len(pool.status.workers) == 2)
            found[0] = ["127.0.0.1"]
            await until(lambda: len(pool.status.workers) == 1)
            # Nobody knows the name now, which says nothing of the workers.
            found[0] = None
            for _ in range(20):
                await asyncio.sleep(0)
            assert [one.at for one in pool.status.workers] == [worker.url]
        finally:
            await pool.close()


async def test_a_worker_runs_as_many_as_it_may_and_the_others_wait():
    async with pool_of(BEGUN, most=1) as (pool, (worker,)):
        first = pool.generate(ASK)
        await anext(first)
        second = asyncio.create_task(answer(pool))
        await until(lambda: pool.status.waiting == 1)
        assert len(worker.bodies) == 1
        assert not pool.leaves_room(ASK)
        worker.reply = says("hello")
        await first.aclose()
        assert text_of(await second) == "hello"
        assert pool.status.waiting == 0


async def test_one_that_waits_and_hangs_up_waits_no_more():
    async with pool_of(BEGUN, most=1) as (pool, _):
        first = pool.generate(ASK)
        await anext(first)
        second = asyncio.create_task(answer(pool))
        await until(lambda: pool.status.waiting == 1)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert pool.status.waiting == 0
        await first.aclose()
        assert sum(one.running for one in pool.status.workers) == 0


async def test_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr("leadline.engines.pool.engine.WAIT_SECONDS", 0.0)
    async with pool_of(BEGUN, most=1) as (pool, _):
        first = pool.generate(ASK)
        await anext(first)
        with pytest.raises(Unavailable, match="busy for too long"):
            await answer(pool)
        await first.aclose()


async def test_without_a_worker_nothing_is_taken():
    pool = PoolEngine("pool", "openai", Members(("http://127.0.0.1:9/v1",)))
    await pool.start()
    try:
        with pytest.raises(Unavailable):
            await pool.take()
        with pytest.raises(Unavailable):
            await answer(pool)
    finally:
        await pool.close()
