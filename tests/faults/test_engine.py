"""The real engine in its child process: several requests at once, hang-ups, crashes, hangs, and its end."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import Started, TextDelta
from leadline.chat.request import (
    ChatRequest,
    JsonFormat,
    Message,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from leadline.engines.embedded.engine import EmbeddedEngine
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.openvino import wire
from leadline.engines.openvino.engine import OpenVinoEngine
from leadline.engines.openvino.model import installed
from leadline.engines.upstream.http import ConnectionBroken
from leadline.errors import InvalidRequest
from leadline.weights.gguf import describe
from leadline.weights.store import Store
from tests.fold import collect
from tests.weights import FOLDER, default_weights

pytestmark = pytest.mark.model
DEADLINE_SECONDS = 120


@pytest.fixture(scope="module")
def weights() -> Path:
    return default_weights()


@pytest.fixture(params=[LlamaCppEngine, OpenVinoEngine], ids=["llamacpp", "openvino"])
def make(request: pytest.FixtureRequest) -> type[EmbeddedEngine]:
    """Each embedded engine: what one does for a request the other one does."""
    if request.param is OpenVinoEngine and not installed():
        pytest.skip("the package openvino-genai is not installed")
    engine: type[EmbeddedEngine] = request.param
    return engine


Running = Callable[..., AbstractAsyncContextManager[EmbeddedEngine]]


@pytest.fixture
def running(make: type[EmbeddedEngine]) -> Running:
    return partial(running_engine, make)


@asynccontextmanager
async def running_engine(
    make: type[EmbeddedEngine], weights: Path, context_tokens: int = 2048, parallel: int = 4
) -> AsyncIterator[EmbeddedEngine]:
    async def provide(_: Callable[[str], None]) -> Weights:
        description = describe(weights)
        words = Vocabulary(description.bos, description.eos, description.adds_bos, description.special_tokens)
        template = ChatTemplate(description.chat_template, words)
        return Weights(weights, Store(FOLDER).digest(weights), 8192, template)

    engine = make("default", provide, Settings(context_tokens, parallel, 2))
    await engine.start()
    try:
        await until(lambda: engine.status.ready)
        yield engine
    finally:
        await engine.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


async def busy_slots(engine: EmbeddedEngine) -> int:
    """The requests that run, as the child itself says."""
    if isinstance(engine, OpenVinoEngine):
        link = engine._ready_link()
        said = await link.ask(wire.Ask(link.number()), DEADLINE_SECONDS)
        assert isinstance(said, wire.Alive)
        return said.running
    assert isinstance(engine, LlamaCppEngine)
    slots = await engine._ready_client().get("/slots", 10)
    return sum(slot["is_processing"] for slot in slots)


def ask(text: str, tokens: int = 16, **sampling: float) -> ChatRequest:
    return ChatRequest("m", (Message("user", (Text(text),)),), tokens, Sampling(temperature=0.0, **sampling))


async def answer(engine: EmbeddedEngine, request: ChatRequest) -> ChatAnswer:
    async with aclosing(engine.generate(request)) as batches:
        return await collect(batches)


async def test_a_real_model_answers_and_counts_truly(running, weights):
    async with running(weights) as engine:
        request = ask("What is the capital of France?", 32)
        whole = await answer(engine, request)
        [text] = whole.choices[0].content
        assert text.text
        assert whole.usage.prompt_tokens == await engine.count_prompt_tokens(request)
        assert whole.usage.prompt_tokens <= engine.most_prompt_tokens(request)
        again = await answer(engine, request)
        assert again.usage.cached_tokens > 0


WEATHER = Tool(
    "get_weather",
    "The weather of a city",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
    },
)
CLOCK = Tool("get_time", "The time of day")


@pytest.mark.parametrize("name", ["get_weather", "get_time"])
async def test_a_forced_call_is_valid_however_small_the_model_is(running, weights, name):
    asked = replace(ask("What is the weather in Paris?", 80), tools=(WEATHER, CLOCK), parallel_tool_calls=False)
    async with running(weights) as engine:
        answered = await answer(engine, replace(asked, tool_choice=ToolChoice("named", name)))
    [call] = answered.choices[0].content
    assert isinstance(call, ToolCall)
    assert (call.name, answered.choices[0].finish_reason) == (name, "tool_calls")
    arguments = json.loads(call.arguments)
    assert (
        arguments == {}
        if name == "get_time"
        else (arguments.keys(), arguments["unit"] in "CF")
        == (
            {"city", "unit"},
            True,
        )
    )


async def test_a_required_call_is_one_of_the_tools_and_its_result_is_read(running, weights):
    asked = replace(ask("What is the weather in Paris?", 80), tools=(WEATHER, CLOCK), parallel_tool_calls=False)
    async with running(weights) as engine:
        first = await answer(engine, replace(asked, tool_choice=ToolChoice("required")))
        [call] = first.choices[0].content
        assert isinstance(call, ToolCall)
        result = Message("tool", (ToolResult(call.call_id, (Text("21 degrees"),)),))
        told = (*asked.messages, Message("assistant", (call,)), result)
        second = await answer(engine, replace(asked, messages=told, tool_choice=ToolChoice("none")))
        alone = await engine.count_prompt_tokens(replace(asked, tools=()))
    assert call.name in ("get_weather", "get_time")
    assert all(isinstance(block, Text) for block in second.choices[0].content)
    assert second.usage.prompt_tokens > alone


async def test_an_answer_that_must_be_json_is_json_of_its_schema(running, weights):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 120}},
        "required": ["name", "age"],
    }
    asked = replace(ask("Describe Bob, who is 42.", 80), json_format=JsonFormat(schema))
    async with running(weights) as engine:
        [block] = (await answer(engine, asked)).choices[0].content
    assert isinstance(block, Text)
    assert json.loads(block.text).keys() == {"name", "age"}


async def test_control_tokens_in_user_text_are_ordinary_text(running, weights):
    """The same words take more tokens than a control token, and the model sees one turn."""
    async with running(weights) as engine:
        plain = await engine.count_prompt_tokens(ask("say"))
        for token in describe(weights).special_tokens:
            spelt = await engine.count_prompt_tokens(ask(f"say{token}"))
            assert spelt - plain > 1, token


async def test_a_repeated_prefix_is_reused_and_told_truly(running, weights):
    async with running(weights) as engine:
        story = "Once there was a fox who lived by the sea. " * 12
        first = await answer(engine, ask(story + "Who lived there?", 2))
        second = await answer(engine, ask(story + "What did it eat?", 2))
        other = await answer(engine, ask("Name a colour.", 2))
    assert first.usage.cached_tokens < 30
    assert 100 < second.usage.cached_tokens < second.usage.prompt_tokens
    assert other.usage.cached_tokens < 30


async def test_requests_are_decoded_together(running, weights):
    async with running(weights) as engine:
        order: list[int] = []

        async def one(number: int) -> None:
            async with aclosing(engine.generate(ask(f"Tell me a long story about {number}.", 24))) as batches:
                async for batch in batches:
                    order.extend(number for event in batch if isinstance(event, TextDelta))

        await asyncio.gather(*(one(number) for number in range(4)))
    switches = sum(before != after for before, after in itertools.pairwise(order))
    assert switches > 20


@pytest.mark.parametrize("when", ["in the prompt", "in the answer"])
async def test_a_hang_up_frees_the_slot(running, weights, when):
    async with running(weights) as engine:
        long = "word " * (1500 if when == "in the prompt" else 3)
        batches = engine.generate(ask(f"Tell me a story of {long}", 400))
        assert isinstance((await anext(batches))[0], Started)
        if when == "in the answer":
            await anext(batches)
        assert await busy_slots(engine) == 1
        await batches.aclose()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await busy_slots(engine):
                await asyncio.sleep(0.005)
        assert engine._room.free_places == 4
        assert engine._room.free_tokens == 4096


async def test_more_requests_than_the_cache_holds_wait_and_none_fails(running, weights):
    async with running(weights, context_tokens=512, parallel=4) as engine:
        answers = await asyncio.gather(*(answer(engine, ask(f"Count to {n}. " * 20, 200)) for n in range(8)))
    assert len(answers) == 8


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(running, weights):
    async with running(weights, context_tokens=256) as engine:
        with pytest.raises(InvalidRequest, match=r"context is 256 tokens, but the prompt has \d+"):
            await answer(engine, ask("word " * 400))


async def test_a_killed_child_comes_back_and_a_request_that_had_not_begun_is_answered(running, weights):
    async with running(weights) as engine:
        before = engine.child
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        whole = await answer(engine, ask("What is the capital of France?", 12))
        assert whole.usage.output_tokens > 0
        assert engine.child is not None
        assert engine.child.pid != before.pid
        assert engine.child.key != before.key


async def test_a_stream_whose_child_is_killed_breaks_with_an_error(running, weights):
    async with running(weights) as engine:
        batches = engine.generate(ask("Tell me a long story.", 400))
        await anext(batches)
        await anext(batches)
        assert engine.child is not None
        os.kill(engine.child.pid, signal.SIGKILL)
        with pytest.raises(ConnectionBroken):
            async for _ in batches:
                pass
        await until(lambda: engine.status.ready)


async def test_a_request_over_which_two_children_were_lost_is_not_run_again(running, weights):
    async with running(weights) as engine:
        poison = ask("Tell me a long story.", 400)
        for _ in range(2):
            await until(lambda: engine.status.ready)
            batches = engine.generate(poison)
            await anext(batches)
            assert engine.child is not None
            os.kill(engine.child.pid, signal.SIGKILL)
            with pytest.raises(ConnectionBroken):
                async for _ in batches:
                    pass
        await until(lambda: engine.status.ready)
        with pytest.raises(InvalidRequest, match="crashed the engine twice"):
            await anext(engine.generate(poison))
        assert (await answer(engine, ask("Tell me a short story.", 4))).usage.output_tokens > 0


async def test_a_hung_child_is_killed_and_replaced(running, weights, monkeypatch):
    monkeypatch.setattr("leadline.engines.embedded.supervisor._HEARTBEAT_EVERY_SECONDS", 0.05)
    monkeypatch.setattr("leadline.engines.embedded.supervisor._HEARTBEATS_MISSED", 2)
    monkeypatch.setattr("leadline.engines.llamacpp.engine._HEARTBEAT_SECONDS", 0.5)
    monkeypatch.setattr("leadline.engines.openvino.engine._HEARTBEAT_SECONDS", 0.5)
    async with running(weights) as engine:
        hung = engine.child
        assert hung is not None
        os.kill(hung.pid, signal.SIGSTOP)
        await until(lambda: engine.child not in (None, hung))
        assert not Path(f"/proc/{hung.pid}").exists()


async def test_weights_that_cannot_be_loaded_are_said_so_and_tried_again(make, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x00" * 100)

    async def provide(_: Callable[[str], None]) -> Weights:
        return Weights(broken, "0", 8192)

    engine = make("default", provide, Settings(512, 1, 1))
    await engine.start()
    await until(lambda: "could not load" in engine.status.detail)
    assert not engine.status.ready
    await engine.close()


async def test_the_fingerprint_holds_across_restarts_and_changes_with_a_setting(running, weights):
    async with running(weights) as engine:
        first = engine.facts("m").fingerprint
    async with running(weights) as engine:
        assert engine.facts("m").fingerprint == first
    async with running(weights, context_tokens=1024) as engine:
        assert engine.facts("m").fingerprint != first


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_child_has_no_secret_in_its_environment(running, weights, monkeypatch):
    monkeypatch.setenv("LEADLINE_SECRET", "s" * 40)
    monkeypatch.setenv("GPU_1_KEY", "a-key")
    async with running(weights) as engine:
        assert engine.child is not None
        environment = Path(f"/proc/{engine.child.pid}/environ").read_bytes()
        command = Path(f"/proc/{engine.child.pid}/cmdline").read_bytes()
    for secret in (b"s" * 40, b"a-key", b"LEADLINE"):
        assert secret not in environment
        assert secret not in command


PARENT = """
import asyncio, sys
from pathlib import Path
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.engines.embedded.model import Settings, Weights
from {module} import {name}

async def main():
    async def provide(tell):
        return Weights(Path(sys.argv[1]), "0", 8192)
    engine = {name}("default", provide, Settings(512, 1, 1))
    await engine.start()
    while not engine.status.ready:
        await asyncio.sleep(0.01)
    print(engine.child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_child_dies_with_a_parent_that_is_killed(make, weights):
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT.format(module=make.__module__, name=make.__name__), str(weights)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(await asyncio.wait_for(parent.stdout.readline(), DEADLINE_SECONDS))
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    await parent.wait()
    await until(lambda: not _lives(child))


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
