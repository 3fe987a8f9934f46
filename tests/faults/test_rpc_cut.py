"""gRPC streams that end before their answer does: cut by their client at any event, by his deadline or his slowness, by
a revoked key or by the server's stop. Each pays for what was delivered, to the token, and nothing leaks."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from leadline.chat.events import ChatEvent, ChoiceFinished, Finished, Started, TextDelta, Usage
from leadline.dialects.xai import rpc as rpc_module
from leadline.dialects.xai.rpc import Rpc
from leadline.serving.generation import Generation
from leadline.serving.pipeline import Pipeline
from tests.conformance.xai.questions import ask, said
from tests.conformance.xai.rpcs import bearer, plain_channel
from tests.faults.test_cut import (
    AT_A_TIME,
    LIMITS,
    OUTPUT_TICKS,
    PROMPT_TICKS,
    STEPS,
    Journal,
    Scene,
    Stream,
    number_of,
    pieces_of,
    tokens_in,
    written,
)
from tests.proof import count, keep
from tests.raw import DEADLINE_SECONDS
from tests.scripted.engine import SCRIPTS, prompt_tokens
from tests.scripted.server import ScriptedServer

WHOLE, STREAM = "/xai_api.Chat/GetCompletion", "/xai_api.Chat/GetCompletionChunk"
Channel = grpc.aio.Channel
# A client that reads ahead as little as the library lets it.
WINDOW = ("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)


class RpcJournal(Journal):
    """Looks on at what is written over gRPC."""

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        start, write = Pipeline.start, Rpc.write

        async def watched_start(*asked: Any) -> Generation:
            generation = await start(*asked)
            stream = self.streams[number_of(generation._admitted.request)]
            stream.request_id = str(generation.request_id)
            self._by_id[stream.request_id] = stream
            return generation

        async def watched_write(rpc: Rpc, answer: Any) -> None:
            await write(rpc, answer)
            self._by_id[str(rpc.request_id)].written += sum(tokens_in(rpc_module.serialized(answer)))

        patch.setattr(Pipeline, "start", watched_start)
        patch.setattr(Rpc, "write", watched_write)


class RpcScene(Scene):
    """Its clients speak gRPC."""

    def cut_streams(self, path: str, model: str, streams: int) -> None:
        """Until so many were cut after any piece of their answers: by a cancellation, by a deadline, or with all of
        their connection."""
        left, address = iter(range(streams)), self.server.grpc_address

        async def cut_one(number: int, shared: Channel) -> None:
            rng = random.Random(-number)
            seen = rng.randint(0, pieces_of(STEPS[model](number)))
            how = rng.choice(("cancel", "cancel", "close", "deadline"))
            channel = grpc.aio.insecure_channel(address) if how == "close" else shared
            self.journal.streams[number] = Stream()
            asked = ask(model, messages=[said(f"cut {number}{' on' * (number % 50)}")], max_tokens=1000)
            timeout = rng.random() * 0.05 if how == "deadline" else DEADLINE_SECONDS
            call = channel.unary_stream(path)(
                asked.SerializeToString(), metadata=bearer(self.server.api_key), timeout=timeout
            )
            try:
                received = 0
                while how == "deadline" or received < seen:
                    piece = await call.read()
                    if piece is grpc.aio.EOF:
                        break
                    received += len(tokens_in(piece))
                call.cancel()
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017
            if how == "close":
                await channel.close()

        async def client(shared: Channel) -> None:
            for number in left:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await cut_one(number, shared)

        async def clients() -> None:
            async with grpc.aio.insecure_channel(address) as shared:
                await asyncio.gather(*(client(shared) for _ in range(AT_A_TIME)))

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(clients())
        self.server.wait_until(self._is_quiet)

    def _is_quiet(self) -> bool:
        """Whether nothing runs. A call that was cut before it came in never does."""
        return not (self.server.instance.ledger.running() or self.server.engine.running or self._begins())

    def _begins(self) -> bool:
        assert self.server._rpcs is not None
        return bool(self.server._rpcs._service._running)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RpcScene]:
    (tmp_path / "leadline.toml").write_text(LIMITS, "utf-8")
    journal = RpcJournal()
    scripts = {name: journal.script(steps_of) for name, steps_of in STEPS.items()}
    server = ScriptedServer(tmp_path, usd="1000", scripts=scripts, like_serve=True)
    server.engine.context_tokens = None
    server.engine.on_end = journal.ended
    journal.watch(monkeypatch)
    yield RpcScene(server, journal)
    server.stop()


def assert_paid_for_what_was_written(scene: RpcScene, model: str, streams: int) -> Counter[str]:
    scene.cut_streams(STREAM, model, streams)
    admitted = {number: stream for number, stream in scene.journal.streams.items() if stream.request_id}
    scene.journal.streams = admitted
    assert scene.wrongly_charged(written) == []
    assert scene.leaks() == []
    return Counter(record.status for record in scene.records().values())


def test_a_few_streams_that_are_cut_pay_for_exactly_what_was_written(scene):
    assert assert_paid_for_what_was_written(scene, "telling", 20)["interrupted"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["telling", "bursting"])
def test_a_stream_that_is_cut_at_any_event_pays_for_exactly_what_was_written(scene, model):
    streams = count(200, 1000)
    statuses = assert_paid_for_what_was_written(scene, model, streams)
    keep(f"cut, gRPC, {model}", streams=streams, **statuses, wrongly_charged=0)
    assert statuses["interrupted"] > streams / 5


@pytest.mark.slow
def test_a_server_that_counts_before_it_writes_is_found_out(scene, monkeypatch):
    events = Generation.events

    async def one_ahead(generation: Generation) -> AsyncIterator[tuple[ChatEvent, ...]]:
        """What is asked for next counts as delivered before it is yielded."""
        async with aclosing(events(generation)) as batches:
            before = await anext(batches)
            async for batch in batches:
                yield before
                before = batch
            yield before

    monkeypatch.setattr(Generation, "events", one_ahead)
    scene.cut_streams(STREAM, "telling", 50)
    scene.journal.streams = {number: one for number, one in scene.journal.streams.items() if one.request_id}
    assert scene.wrongly_charged(written)


# Clients that do not read


def large(request):
    """A hundred times 100 tokens of 40,000 bytes."""
    yield (Started(prompt_tokens(request)),)
    for _ in range(100):
        yield (TextDelta("x" * 40_000, 100),)
    yield (ChoiceFinished("stop"), Finished(Usage(prompt_tokens(request), output_tokens=10_000)))


def larger(request):
    """A first token that fits into no window."""
    yield (Started(prompt_tokens(request)),)
    yield (TextDelta("x" * 10**6),)
    yield (ChoiceFinished("stop"), Finished(Usage(prompt_tokens(request), output_tokens=1)))


@pytest.fixture
def large_server(tmp_path: Path) -> Iterator[ScriptedServer]:
    server = ScriptedServer(tmp_path / "data", usd="1000", scripts=SCRIPTS | {"large": large, "larger": larger})
    server.engine.context_tokens = None
    yield server
    server.stop()


def test_a_client_that_does_not_read_is_given_up_and_pays_for_what_was_taken(large_server, monkeypatch):
    monkeypatch.setattr(rpc_module, "STALLED_SECONDS", 0.2)
    taken, write = [], Rpc.write

    async def counted(rpc: Rpc, answer: Any) -> None:
        await write(rpc, answer)
        taken.append(answer)

    monkeypatch.setattr(Rpc, "write", counted)
    with plain_channel(large_server.grpc_address, *WINDOW) as channel:
        asked = ask("large", max_tokens=20_000).SerializeToString()
        running = channel.unary_stream(STREAM)(asked, metadata=bearer(large_server.api_key), timeout=DEADLINE_SECONDS)
        large_server.wait_until(lambda: large_server.engine.aborted == ["large"])
        large_server.wait_until(lambda: not large_server.instance.ledger.running())
        with pytest.raises(grpc.RpcError) as given_up:
            list(running)
    assert (given_up.value.code(), "Read it as it comes" in given_up.value.details()) == (
        *(grpc.StatusCode.CANCELLED, True),
    )
    [charge] = large_server.charges()
    assert 0 < len(taken) < 100
    assert (-charge.amount_ticks, charge.reason) == (PROMPT_TICKS + len(taken) * 100 * OUTPUT_TICKS, "interrupted")
    assert large_server.command("credits verify")["ok"]


def test_a_client_that_does_not_even_read_the_first_message_is_given_up(large_server, monkeypatch):
    monkeypatch.setattr(rpc_module, "STALLED_SECONDS", 0.05)
    with plain_channel(large_server.grpc_address, *WINDOW) as channel:
        asked = ask("larger", max_tokens=20_000).SerializeToString()
        running = channel.unary_stream(STREAM)(asked, metadata=bearer(large_server.api_key), timeout=DEADLINE_SECONDS)
        large_server.wait_until(lambda: large_server.engine.aborted == ["larger"])
        large_server.wait_until(lambda: not large_server.instance.ledger.running())
        running.cancel()
    [charge] = large_server.charges()
    assert (-charge.amount_ticks, charge.reason) == (PROMPT_TICKS, "interrupted")


# The server's stop


def test_a_stop_waits_for_what_runs_and_ends_the_rest_with_an_error_that_says_so(server):
    asked = ask("slow").SerializeToString()
    with plain_channel(server.grpc_address) as channel:
        streaming = channel.unary_stream(STREAM)(asked, metadata=bearer(server.api_key))
        for _ in range(3):
            next(streaming)
        whole = channel.unary_unary(WHOLE).future(asked, metadata=bearer(server.api_key))
        server.wait_until(lambda: server.engine.running == 2)
        rpcs = server._rpcs
        assert rpcs is not None
        draining = asyncio.run_coroutine_threadsafe(rpcs.drain(DEADLINE_SECONDS), server.loop)
        server.wait_until(rpcs._service.draining.is_set)
        assert not draining.done()
        server.loop.call_soon_threadsafe(rpcs.hurry)
        for call in (streaming, whole):
            with pytest.raises(grpc.RpcError) as stopped:
                list(call) if call is streaming else call.result()
            assert stopped.value.code() == grpc.StatusCode.UNAVAILABLE
            assert stopped.value.details() == "The server is stopping. Send the request again."
            assert "x-request-id" in dict(stopped.value.trailing_metadata())
        draining.result(DEADLINE_SECONDS)
    assert server.engine.running == 0
    charges = [(-charge.amount_ticks, charge.reason) for charge in server.charges()]
    assert charges == [(PROMPT_TICKS + 3 * OUTPUT_TICKS, "interrupted")]


def test_a_stop_lets_a_stream_end(server):
    with plain_channel(server.grpc_address) as channel:
        streaming = channel.unary_stream(STREAM)(ask("slow").SerializeToString(), metadata=bearer(server.api_key))
        for _ in range(3):
            next(streaming)
        rpcs = server._rpcs
        assert rpcs is not None
        draining = asyncio.run_coroutine_threadsafe(rpcs.drain(DEADLINE_SECONDS), server.loop)
        server.wait_until(rpcs._service.draining.is_set)
        server.loop.call_soon_threadsafe(server.engine.release.set)
        assert len(list(streaming)) == 1
        draining.result(DEADLINE_SECONDS)
    [charge] = server.charges()
    assert (-charge.amount_ticks, charge.reason) == (PROMPT_TICKS + 3 * OUTPUT_TICKS, "")
