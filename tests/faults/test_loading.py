"""Two real children that share one memory: loaded when a request needs them, and really gone when they are not."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path

import pytest

from leadline.chat.request import ChatRequest, Message, Sampling, Text
from leadline.engines.embedded.loader import Policy
from leadline.engines.embedded.memory import Memory
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.llamacpp.model import memory_bytes
from leadline.errors import Unavailable
from leadline.weights.gguf import describe
from leadline.weights.store import Store
from tests.fold import collect
from tests.weights import FOLDER, default_weights

pytestmark = pytest.mark.model
DEADLINE_SECONDS = 120
ON_DEMAND = Policy(at_start=False, wait_seconds=DEADLINE_SECONDS)
SETTINGS = Settings(512, 2, 2, shares_cores=True)
ASK = ChatRequest("m", (Message("user", (Text("Hi"),)),), 8, Sampling(temperature=0.0))


@pytest.fixture(scope="module")
def weights() -> Weights:
    path = default_weights()
    said = describe(path)
    words = Vocabulary(said.bos, said.eos, said.adds_bos, said.special_tokens)
    return Weights(
        *(path, Store(FOLDER).digest(path), said.context_tokens, ChatTemplate(said.chat_template, words)),
        *(path.stat().st_size, said.make.cache_bytes),
    )


@asynccontextmanager
async def engine(
    name: str, weights: Weights, memory: Memory, policy: Policy = ON_DEMAND
) -> AsyncIterator[LlamaCppEngine]:
    async def provide(_: Callable[[str], None]) -> Weights:
        return weights

    engine = LlamaCppEngine(name, provide, SETTINGS, policy=policy, memory=memory)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def room_for(count: int, weights: Weights) -> Memory:
    return Memory(count * memory_bytes(SETTINGS, weights))


async def answer(engine: LlamaCppEngine) -> str:
    with closing(await engine.take()):
        async with aclosing(engine.generate(ASK)) as batches:
            [block] = (await collect(batches)).choices[0].content
    assert isinstance(block, Text)
    return block.text


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


def child_of(engine: LlamaCppEngine) -> int:
    assert engine.child is not None
    return engine.child.pid


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_two_models_take_turns_in_memory_for_one(weights):
    memory = room_for(1, weights)
    async with engine("a", weights, memory) as a, engine("b", weights, memory) as b:
        said = await answer(a)
        first = child_of(a)
        assert 100_000_000 < (a.status.memory_bytes or 0) < memory_bytes(SETTINGS, weights)
        assert await answer(b) == said
        assert (a.status.state, a.status.memory_bytes, b.status.state) == ("unloaded", 0, "loaded")
        assert not Path(f"/proc/{first}").exists()
        assert await answer(a) == said
        assert child_of(a) != first


async def test_two_models_stay_in_memory_for_two_and_answer_at_the_same_time(weights):
    memory = room_for(2, weights)
    async with engine("a", weights, memory) as a, engine("b", weights, memory) as b:
        one, other = await asyncio.gather(answer(a), answer(b))
        assert one == other
        assert (a.status.state, b.status.state) == ("loaded", "loaded")
        assert child_of(a) != child_of(b)


async def test_a_model_that_runs_a_request_is_not_unloaded_for_another(weights):
    memory = room_for(1, weights)
    async with engine("a", weights, memory) as a, engine("b", weights, memory) as b:
        with closing(await a.take()):
            with pytest.raises(Unavailable, match="in use: a"):
                await b.take()
            assert a.status.state == "loaded"
        assert await answer(b)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_model_that_nobody_asks_is_unloaded(weights):
    policy = Policy(at_start=False, wait_seconds=DEADLINE_SECONDS, idle_seconds=0.2)
    async with engine("a", weights, room_for(1, weights), policy) as a:
        await answer(a)
        child = child_of(a)
        await until(lambda: a.status.state == "unloaded")
        assert not Path(f"/proc/{child}").exists()
        assert await answer(a)


async def test_what_a_model_is_is_known_before_it_is_loaded(weights):
    async with engine("a", weights, room_for(1, weights)) as a:
        await until(lambda: a.status.ready)
        before = a.facts("m")
        assert a.child is None
        await answer(a)
        assert a.facts("m") == before
        assert before.context_tokens == 512
        assert before.fingerprint


async def test_weights_that_do_not_load_are_not_tried_again_at_once(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x00" * 100)
    async with engine("a", Weights(broken, "0", 512), Memory(10**9)) as a:
        for _ in range(2):
            with pytest.raises(Unavailable, match="could not load the model"):
                await a.take()
        assert (a.status.state, a.status.ready) == ("failed", False)
        assert a._loader._failures == 1
