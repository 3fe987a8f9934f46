"""`python -m benchmarks.rpc`: what a call over gRPC costs the server, beside REST and beside the gRPC library alone.

Goals, on one core with all checks on: a whole answer at most 0.35 ms of CPU, a message of a stream at most 0.05 ms; and
gRPC costs no more beyond REST than the library alone. Exits with 1 on a missed goal.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import uvloop

from benchmarks.money import Figure
from benchmarks.report import Goal, Machine
from benchmarks.rpc_server import MESSAGES, MODEL, STREAMED
from benchmarks.servers import Server
from leadline.dialects.xai.protos import chat

CALLS, STREAMS, PARALLEL = 2000, 40, 16
_ROUNDS = 5
_SECONDS = 60.0
_RESULTS = Path(__file__).parent / "results"
_CHANNEL = (("grpc.use_local_subchannel_pool", 1),)
Call = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Side:
    """A server, and the two calls that it answers."""

    server: Server
    whole: Call
    streamed: Call

    async def cpu_milliseconds(self, call: Call, count: int) -> float:
        """The server's CPU for each of `count` calls, `PARALLEL` of them at a time."""
        turns = iter(range(count))

        async def caller() -> None:
            for _ in turns:
                await call()

        before = self.server.cpu_seconds()
        await asyncio.gather(*(caller() for _ in range(PARALLEL)))
        return (self.server.cpu_seconds() - before) * 1000 / count


@dataclass(slots=True)
class Measured:
    whole: dict[str, list[float]] = field(default_factory=dict)
    message: dict[str, list[float]] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.rpc", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"how often each side is measured [{_ROUNDS}]")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    machine = Machine.this()
    with (
        tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(_measure(Path(folder), options.rounds))
    print(machine)
    for figure in figures:
        print(figure)
    if options.save:
        document = {"machine": asdict(machine), "figures": [asdict(figure) for figure in figures]}
        path = _RESULTS / f"rpc-{machine.date}-{machine.commit}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(figure.met for figure in figures) else 1


async def _measure(folder: Path, rounds: int) -> list[Figure]:
    measured = Measured()
    with _server(folder) as leadline, _server(folder, "--bare") as bare:
        sides = {"REST": _rest(*leadline), "gRPC": _grpc(*leadline), "gRPC library alone": _grpc(*bare)}
        for side in sides.values():
            await side.cpu_milliseconds(side.whole, CALLS // 10)
            await side.cpu_milliseconds(side.streamed, STREAMS // 4)
        for _ in range(rounds):
            for name, side in sides.items():
                whole = await side.cpu_milliseconds(side.whole, CALLS)
                streamed = await side.cpu_milliseconds(side.streamed, STREAMS)
                measured.whole.setdefault(name, []).append(whole)
                measured.message.setdefault(name, []).append((streamed - whole) / MESSAGES)
    return [*_figures("whole answer", measured.whole, 0.35), *_figures("message of a stream", measured.message, 0.05)]


def _figures(what: str, measured: dict[str, list[float]], most: float) -> list[Figure]:
    figures = [
        Figure(f"{what}, {name}: CPU", tuple(values), "ms", Goal("≤", most) if name == "gRPC" else None)
        for name, values in measured.items()
    ]
    alone = statistics.median(measured["gRPC library alone"])
    beyond = tuple(ours - rest for ours, rest in zip(measured["gRPC"], measured["REST"], strict=True))
    return [*figures, Figure(f"{what}, gRPC beyond REST: CPU", beyond, "ms", Goal("≤", alone))]


def _rest(server: Server, facts: dict[str, Any]) -> Side:
    client = server.client(facts["api_key"])

    def call(*, stream: bool) -> Call:
        said = STREAMED if stream else "whole"
        body = msgspec.json.encode({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": said}]})

        async def send() -> None:
            response = await client.send("POST", "/v1/chat/completions", body, _SECONDS)
            try:
                assert response.status == 200
                while await response.piece(_SECONDS):
                    pass
            finally:
                response.close()

        return send

    return Side(server, call(stream=False), call(stream=True))


def _grpc(server: Server, facts: dict[str, Any]) -> Side:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{facts['grpc_port']}", options=_CHANNEL)
    metadata = (("authorization", f"Bearer {facts['api_key']}"),)
    unary: Any = channel.unary_unary("/xai_api.Chat/GetCompletion")
    stream: Any = channel.unary_stream("/xai_api.Chat/GetCompletionChunk")

    def request(said: str) -> bytes:
        message = chat.Message(role=chat.ROLE_USER, content=[chat.Content(text=said)])
        content: bytes = chat.GetCompletionsRequest(model=MODEL, n=1, messages=[message]).SerializeToString()
        return content

    async def whole() -> None:
        await unary(request("whole"), metadata=metadata, timeout=_SECONDS)

    async def streamed() -> None:
        async for _ in stream(request(STREAMED), metadata=metadata, timeout=_SECONDS):
            pass

    return Side(server, whole, streamed)


@contextmanager
def _server(folder: Path, *options: str) -> Iterator[tuple[Server, dict[str, Any]]]:
    data = folder / ("bare" if options else "leadline")
    data.mkdir(mode=0o700)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.rpc_server", str(data), *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        yield Server(process.pid, facts["port"], time.perf_counter() - began), facts
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
