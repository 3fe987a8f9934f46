"""When models are loaded and unloaded: on scripted children and a memory of a few bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from leadline.engines.embedded import loader as loader_module
from leadline.engines.embedded.loader import Loader, Policy, Use
from leadline.engines.embedded.memory import Memory
from leadline.errors import Unavailable

ON_DEMAND = Policy(at_start=False, wait_seconds=30)
REFUSING = Policy(at_start=False)


@dataclass
class Children:
    """Stands for the supervisor. `loads` counts the loads; each waits for `go`, and fails with the next of
    `failures`."""

    loads: int = 0
    running: bool = False
    go: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[str] = field(default_factory=list)
    loader: Loader = field(init=False)

    async def run(self) -> str:
        self.loads += 1
        self.running = True
        try:
            await self.go.wait()
            if self.failures:
                return self.failures.pop(0)
            self.loader.loaded("runs")
            await asyncio.Event().wait()
        finally:
            self.running = False
        raise AssertionError


@asynccontextmanager
async def engine(
    name: str = "a", policy: Policy = ON_DEMAND, memory: Memory | None = None, need_bytes: int = 10
) -> AsyncIterator[tuple[Loader, Children]]:
    children = Children()
    loader = children.loader = Loader(name, policy, memory or Memory(10), children.run)
    keeping = asyncio.create_task(loader.keep(need_bytes))
    await settle()
    try:
        yield loader, children
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        assert not children.running


async def settle() -> None:
    """Let all tasks go as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.001)


async def loaded(loader: Loader, children: Children) -> Use:
    children.go.set()
    return await loader.take()


async def test_what_loads_at_the_start_is_not_ready_before_and_what_loads_on_demand_is():
    async with engine(policy=Policy()) as (loader, children):
        assert (loader.status.ready, loader.state, children.loads) == (False, "loading", 1)
        children.go.set()
        await settle()
        assert (loader.status.ready, loader.state) == (True, "loaded")
    async with engine() as (loader, children):
        assert (loader.status.ready, loader.state, children.loads) == (True, "unloaded", 0)


@pytest.mark.parametrize("policy", [Policy(), ON_DEMAND])
async def test_what_never_fits_is_not_ready_and_says_why(policy: Policy):
    async with engine(policy=policy, memory=Memory(5_000_000), need_bytes=7_000_000) as (loader, children):
        assert (loader.status.ready, loader.state, children.loads) == (False, "unloaded", 0)
        assert "needs 7 MB of memory, more than the 5 MB" in loader.status.detail


async def test_many_requests_wait_for_one_load():
    async with engine() as (loader, children):
        waiting = [asyncio.create_task(loader.take()) for _ in range(50)]
        await settle()
        assert (loader.state, children.loads) == ("loading", 1)
        children.go.set()
        uses = await asyncio.gather(*waiting)
        assert (loader.state, children.loads) == ("loaded", 1)
        assert loader.unneeded_since is None
        for use in uses:
            use.close()
            use.close()
        assert loader.unneeded_since is not None


async def test_a_request_that_may_not_wait_is_told_when_to_come_again_and_the_load_goes_on():
    async with engine(policy=REFUSING) as (loader, children):
        with pytest.raises(Unavailable, match="engine a is not ready: loading"):
            await loader.take()
        loader.progress(0.5, "loading, half of it")
        loader._began_at -= 20
        with pytest.raises(Unavailable, match="half of it") as refused:
            await loader.take()
        assert refused.value.retry_after_seconds in (20, 21)
        assert (loader.status.loaded_percent, children.loads) == (50, 1)
        use = None
        children.go.set()
        await settle()
        use = await loader.take()
        use.close()


async def test_the_time_to_come_again_is_never_above_a_minute_nor_below_a_second():
    async with engine(policy=REFUSING) as (loader, _):
        for fraction, seconds in ((0.001, 60), (0.9999, 1)):
            with pytest.raises(Unavailable) as refused:
                await loader.take()
            loader.progress(fraction, "loading")
            loader._began_at -= 10
            with pytest.raises(Unavailable) as refused:
                await loader.take()
            assert refused.value.retry_after_seconds == seconds


async def test_a_wait_has_an_end():
    async with engine(policy=Policy(at_start=False, wait_seconds=0.01)) as (loader, children):
        with pytest.raises(Unavailable):
            await loader.take()
        assert (loader._uses, loader._waiting, children.loads) == (0, 0, 1)


async def test_a_request_that_hangs_up_while_it_waits_leaves_nothing():
    async with engine() as (loader, children):
        waiting = asyncio.create_task(loader.take())
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (loader._uses, loader._waiting) == (0, 0)
        use = await loaded(loader, children)
        assert children.loads == 1
        use.close()


async def test_no_more_wait_than_are_allowed(monkeypatch):
    monkeypatch.setattr(loader_module, "MOST_WAITING", 1)
    async with engine() as (loader, children):
        first = asyncio.create_task(loader.take())
        await settle()
        with pytest.raises(Unavailable, match="Too many requests wait"):
            await loader.take()
        children.go.set()
        (await first).close()


async def test_a_failed_load_is_told_to_all_who_wait_and_not_tried_again_at_once():
    async with engine() as (loader, children):
        children.failures = ["the file is broken"]
        waiting = [asyncio.create_task(loader.take()) for _ in range(3)]
        await settle()
        children.go.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, Unavailable) and "the file is broken" in str(one) for one in outcomes)
        with pytest.raises(Unavailable) as refused:
            await loader.take()
        assert (refused.value.retry_after_seconds, children.loads, loader.status.ready) == (1, 1, False)
        loader._again_at = 0
        use = await loader.take()
        assert (children.loads, loader.state) == (2, "loaded")
        use.close()


async def test_the_time_between_failed_loads_doubles(monkeypatch):
    async with engine(policy=REFUSING) as (loader, children):
        children.failures = ["no"] * 12
        children.go.set()
        seconds = []
        for _ in range(12):
            with pytest.raises(Unavailable):
                await loader.take()
            await settle()
            seconds.append(round(loader._again_at - asyncio.get_running_loop().time()))
            loader._again_at = 0
    assert seconds == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_what_loads_at_the_start_is_tried_again_by_itself(monkeypatch):
    monkeypatch.setattr(loader_module, "_FIRST_BACK_OFF_SECONDS", 0.001)
    async with engine(policy=Policy()) as (loader, children):
        children.failures = ["no", "no"]
        children.go.set()
        await until(lambda: loader.state == "loaded")
        assert children.loads == 3


async def test_after_idle_seconds_without_a_request_it_is_unloaded_and_then_loads_again():
    async with engine(policy=Policy(at_start=False, wait_seconds=30, idle_seconds=0.01)) as (loader, children):
        use = await loaded(loader, children)
        await asyncio.sleep(0.03)
        assert loader.state == "loaded"
        use.close()
        await until(lambda: loader.state == "unloaded")
        assert (children.running, loader.memory._claims, loader.status.ready) == (False, {}, True)
        (await loader.take()).close()
        assert children.loads == 2


async def test_the_one_that_was_not_needed_for_longest_goes_first():
    memory = Memory(20)
    async with engine("a", memory=memory) as (a, in_a), engine("b", memory=memory) as (b, in_b):
        async with engine("c", memory=memory) as (c, in_c):
            for loader, children in ((a, in_a), (b, in_b), (a, in_a)):
                (await loaded(loader, children)).close()
                await asyncio.sleep(0.002)
            use = await loaded(c, in_c)
            assert (a.state, b.state, c.state) == ("loaded", "unloaded", "loaded")
            use.close()


async def test_the_place_is_free_before_the_next_one_loads():
    memory = Memory(10)
    async with engine("a", memory=memory) as (a, in_a), engine("b", memory=memory) as (b, in_b):
        (await loaded(a, in_a)).close()
        waiting = asyncio.create_task(b.take())
        await until(lambda: in_b.loads == 1)
        assert (a.state, in_a.running) == ("unloaded", False)
        in_b.go.set()
        (await waiting).close()


async def test_one_that_is_unloading_makes_place_too():
    memory = Memory(10)
    async with engine("a", memory=memory) as (a, in_a), engine("b", memory=memory) as (b, in_b):
        (await loaded(a, in_a)).close()
        a.leave()
        (await loaded(b, in_b)).close()
        assert (a.state, b.state) == ("unloaded", "loaded")


async def test_one_with_running_requests_stays_and_the_other_is_told_why():
    memory = Memory(10)
    async with engine("a", memory=memory) as (a, in_a), engine("b", memory=memory) as (b, in_b):
        use = await loaded(a, in_a)
        with pytest.raises(Unavailable, match=r"engine b needs 0 MB of memory; what is loaded instead is in use: a"):
            await b.take()
        assert (a.state, in_b.loads, b.state) == ("loaded", 0, "unloaded")
        use.close()
        (await loaded(b, in_b)).close()
        assert a.state == "unloaded"


async def test_nobody_goes_in_vain():
    memory = Memory(30)
    async with engine("a", memory=memory) as (a, in_a), engine("b", memory=memory) as (b, in_b):
        async with engine("c", memory=memory, need_bytes=30) as (c, _):
            (await loaded(a, in_a)).close()
            use = await loaded(b, in_b)
            with pytest.raises(Unavailable, match="in use"):
                await c.take()
            assert (a.state, b.state) == ("loaded", "loaded")
            use.close()


async def test_what_was_loaded_for_a_request_that_is_to_come_again_is_kept_for_it(monkeypatch):
    memory = Memory(10)
    async with engine("a", REFUSING, memory) as (a, in_a), engine("b", REFUSING, memory) as (b, _):
        in_a.go.set()
        with pytest.raises(Unavailable):
            await a.take()
        await settle()
        with pytest.raises(Unavailable, match="in use: a"):
            await b.take()
        (await a.take()).close()
        with pytest.raises(Unavailable, match="loading"):
            await b.take()


async def test_what_can_never_fit_says_both_figures():
    async with engine(memory=Memory(5_000_000), need_bytes=7_000_000) as (loader, children):
        with pytest.raises(Unavailable, match="needs 7 MB of memory, more than the 5 MB"):
            await loader.take()
        assert children.loads == 0


async def test_what_does_not_fit_at_the_start_waits_for_a_request():
    memory = Memory(10)
    async with engine("a", Policy(), memory) as (a, in_a), engine("b", Policy(at_start=True), memory) as (b, in_b):
        assert (a.state, b.state, b.status.ready, in_b.loads) == ("loading", "unloaded", True, 0)
        assert "in use: a" in b.status.detail
        in_a.go.set()
        await settle()


async def test_a_child_that_ended_by_itself_is_waited_for_and_not_unloaded():
    memory = Memory(10)
    async with engine("a", memory=memory) as (a, in_a), engine("b", memory=memory) as (b, _):
        (await loaded(a, in_a)).close()
        a.lost("it ended")
        assert (a.state, a.status.ready) == ("restarting", False)
        with pytest.raises(Unavailable, match="in use: a"):
            await b.take()
        waiting = asyncio.create_task(a.take())
        await settle()
        a.loaded("runs")
        (await waiting).close()
        assert in_a.loads == 1


async def test_a_request_that_comes_while_it_unloads_loads_it_again():
    async with engine() as (loader, children):
        (await loaded(loader, children)).close()
        loader.leave()
        (await loader.take()).close()
        assert (children.loads, loader.state) == (2, "loaded")


async def test_a_model_is_loaded_and_unloaded_by_hand_without_a_request():
    async with engine() as (loader, children):
        loader.load()
        children.go.set()
        await until(lambda: loader.state == "loaded")
        loader.load()
        loader.unload()
        await until(lambda: loader.state == "unloaded")
        assert (children.loads, loader.status.ready, loader.memory.claimed_by("a")) == (1, True, 0)
        await loaded(loader, children)
        assert children.loads == 2


async def test_what_a_request_needs_is_not_unloaded_by_hand():
    async with engine() as (loader, children):
        use = await loaded(loader, children)
        with pytest.raises(Unavailable, match="one request needs it now"):
            loader.unload()
        assert (loader.state, loader.memory.claimed_by("a")) == ("loaded", 10)
        use.close()
        loader.unload()
        assert loader.state == "unloading"


async def test_a_load_that_nobody_waits_for_is_ended_by_hand():
    async with engine(policy=Policy()) as (loader, children):
        loader.unload()
        await until(lambda: loader.state == "unloaded")
        assert children.loads == 1
        loader.unload()
        assert loader.state == "unloaded"


async def test_what_failed_to_load_is_tried_again_at_once_by_hand():
    async with engine() as (loader, children):
        children.failures = ["no such file"]
        children.go.set()
        loader.load()
        await until(lambda: loader.state == "failed")
        loader.load()
        await until(lambda: loader.state == "loaded")
        assert children.loads == 2


async def test_what_does_not_fit_is_not_loaded_by_hand_and_says_why():
    memory = Memory(10)
    async with engine("a", memory=memory) as (first, children), engine("b", memory=memory) as (second, _):
        await loaded(first, children)
        with pytest.raises(Unavailable, match="what is loaded instead is in use: a"):
            second.load()
        assert second.state == "unloaded"


async def test_it_is_loaded_anew_once_and_stays_where_a_request_needs_it():
    async with engine() as (loader, children):
        use = await loaded(loader, children)
        loader.reload()
        await settle()
        assert (loader.state, children.loads) == ("loaded", 1)
        use.close()
        loader.reload()
        await settle()
        assert (loader.state, children.loads) == ("loaded", 2)


async def test_a_request_that_may_not_wait_waits_where_it_is_loaded_anew_and_only_then():
    async with engine(policy=REFUSING) as (loader, children):
        loader.load()
        children.go.set()
        await until(lambda: loader.state == "loaded")
        loader.reload()
        (await loader.take()).close()
        assert children.loads == 2
        loader.unload()
        await until(lambda: loader.state == "unloaded")
        with pytest.raises(Unavailable):
            await loader.take()


async def test_what_was_closed_loads_for_nobody_and_holds_no_memory():
    memory = Memory(10)
    async with engine(memory=memory) as (loader, children):
        (await loaded(loader, children)).close()
    loader.close()
    with pytest.raises(Unavailable, match="was stopped"):
        await loader.take()
    assert (loader.status.ready, memory.claimed_by("a")) == (False, 0)
