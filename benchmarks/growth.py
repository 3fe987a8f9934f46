"""`python -m benchmarks.growth`: whether a request costs more where there is much already. Exits with 1 on a missed
goal.

Two `leadline serve` in turn, over one upstream that has its answer ready: one of a new instance, one of an instance
with 100,000 API keys and ten million requests. Then streams that wait for their first token, 10,000 of them or as many
as the limit of open files lets through (a stream takes two), and requests beside them. The yardstick is that of
`benchmarks.gateway`.
"""

import argparse
import asyncio
import json
import math
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.gateway import HOST, LIMITS, Bench, Yardstick, chat, compiled, on, two_cores, upstream
from benchmarks.history import ORGANISATION, prepare
from benchmarks.money import Figure
from benchmarks.report import Goal, Machine
from benchmarks.servers import Server, make_instance, serving
from leadline.accounts.actor import COMMAND_LINE
from leadline.administration.instance import Instance

_RESULTS = Path(__file__).parent / "results"
_PATH = "/v1/chat/completions"
_PARALLEL = 32
_WARM_UP_SECONDS = 1.0
# Of a process: what is no stream.
_OTHER_FILES = 1_000
_OPENED_AT_ONCE = 100
_OPEN_SECONDS = 300.0
_IDLE_SECONDS = 15.0
# Of connections that the silent upstream has not taken yet.
_BACKLOG = 4_096
_SETTINGS = (
    LIMITS
    + """\
[[engines]]
name = "ready"
kind = "openai"
url = "http://{host}:{ready}/v1"

[[engines]]
name = "silent"
kind = "openai"
url = "http://{host}:{silent}/v1"

[[models]]
name = "mock"
engine = "ready"
prices.input = 0.10
prices.output = 0.40

[[models]]
name = "silent"
engine = "silent"
prices.input = 0.10
prices.output = 0.40
"""
)
_MODELS = b'{"object":"list","data":[{"id":"silent","object":"model"}]}'


@dataclass(slots=True)
class Silent:
    """An upstream that lists its model and answers no request. `asked` counts those."""

    asked: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def protocol(self) -> asyncio.Protocol:
        return _SilentConnection(self)


class _SilentConnection(asyncio.Protocol):
    def __init__(self, silent: Silent) -> None:
        self._silent = silent
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if data.startswith(b"GET"):
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_MODELS)
            self._transport.write(head + _MODELS)
        elif data.startswith(b"POST"):
            self._silent.asked += 1
            self._silent.more.set()


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="requests of the large instance [10 million]")
    parser.add_argument("--keys", type=int, default=100_000, help="its API keys [100,000]")
    parser.add_argument("--streams", type=int, default=10_000, help="that wait for their first token [10,000]")
    parser.add_argument("--rounds", type=int, default=5, help="how often both are measured [5]")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement [3]")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the large instance there, or use that of before"
    )
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    if shutil.which("cc") is None:
        print("The yardstick is in C, and there is no C compiler `cc` here.", file=sys.stderr)
        return 2
    machine = Machine.this()
    with tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder:
        figures = asyncio.run(_measure(Path(folder), options))
    print(machine)
    for figure in figures:
        print(figure)
    if options.save:
        document = {"machine": asdict(machine), "figures": [asdict(figure) for figure in figures]}
        path = _RESULTS / f"growth-{machine.date}-{machine.commit}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(figure.met for figure in figures) else 1


async def _measure(folder: Path, options: argparse.Namespace) -> list[Figure]:
    first, second = two_cores()
    os.sched_setaffinity(0, {first})
    mock, load = (compiled(folder, name) for name in ("mock", "load"))
    silent = Silent()
    listening = await asyncio.get_running_loop().create_server(silent.protocol, HOST, 0, backlog=_BACKLOG)
    with upstream(mock, first, 0) as ready:
        settings = _SETTINGS.format(host=HOST, ready=ready, silent=listening.sockets[0].getsockname()[1])
        grown = options.keep or folder / "grown"
        keys = {
            "new": make_instance(folder / "new", settings),
            "grown": await _grown(grown, settings, options.rows, options.keys),
        }
        async with serving(folder / "new", on(second)) as small, serving(grown, on(second)) as large:
            benches = {
                name: Bench(Yardstick(load, first, options.seconds, keys[name]), server, {})
                for name, server in (("new", small), ("grown", large))
            }
            figures = await _both(benches, options.rounds)
        async with serving(folder / "new", on(second)) as server:
            bench = Bench(Yardstick(load, first, options.seconds, keys["new"]), server, {})
            figures += await _beside_streams(bench, silent, options)
    listening.close()
    return figures


async def _grown(data: Path, settings: str, rows: int, keys: int) -> str:
    """An instance that has seen much. Returns a key of it."""
    await prepare(data, rows, keys)
    (data / "leadline.toml").write_text(settings, "utf-8")
    instance = await Instance.open(data)
    _, text = await instance.keys.create(ORGANISATION, "bench", COMMAND_LINE)
    await instance.close()
    return text


async def _both(benches: dict[str, Bench], rounds: int) -> list[Figure]:
    """In turn, each round the other one first."""
    measured: dict[str, dict[str, list[float]]] = {name: {} for name in benches}
    for bench in benches.values():
        await bench.load(_PATH, chat("mock"), _PARALLEL)
    for number in range(rounds):
        for name in list(benches)[:: 1 if number % 2 else -1]:
            alone = await benches[name].load(_PATH, chat("mock"), 1)
            many = await benches[name].load(_PATH, chat("mock"), _PARALLEL)
            for what, value in (
                ("alone, p50", alone.milliseconds("lat", "p50")),
                ("alone, CPU", alone.cpu_milliseconds),
                (f"{_PARALLEL} at once, p50", many.milliseconds("lat", "p50")),
                (f"{_PARALLEL} at once, CPU", many.cpu_milliseconds),
            ):
                measured[name].setdefault(what, []).append(value)
    figures = []
    for what, small in measured["new"].items():
        large = measured["grown"][what]
        ratios = tuple(one / other for one, other in zip(large, small, strict=True))
        figures += [Figure(f"request {what}: new", tuple(small), "ms"), Figure(f"{what}: grown", tuple(large), "ms")]
        figures.append(Figure(f"{what}: grown to new", ratios, "", Goal("≤", 1.1)))
    for name, bench in benches.items():
        figures.append(Figure(f"start: {name}", (bench.server.seconds,), "s"))
        figures.append(Figure(f"memory: {name}", (bench.server.resident_megabytes(),), "MB"))
    return figures


async def _beside_streams(bench: Bench, silent: Silent, options: argparse.Namespace) -> list[Figure]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    streams = min(options.streams, (most - _OTHER_FILES) // 2)
    before = [await _p50(bench) for _ in range(options.rounds)]
    resident = bench.server.resident_megabytes()
    async with _waiting(bench.server, bench.yardstick.api_key, silent, streams):
        beside = [await _p50(bench) for _ in range(options.rounds)]
        began, spent = time.monotonic(), bench.server.cpu_seconds()
        await asyncio.sleep(_IDLE_SECONDS)
        cpu = 100 * (bench.server.cpu_seconds() - spent) / (time.monotonic() - began)
        grown = bench.server.resident_megabytes()
    return [
        Figure("streams that wait", (streams,), ""),
        Figure("memory without them", (resident,), "MB"),
        Figure("memory with them", (grown,), "MB", Goal("≤", 400)),
        Figure("memory of a stream", (1000 * (grown - resident) / streams,), "kB"),
        Figure("CPU while they wait", (cpu,), "%"),
        Figure("request alone, p50: without them", tuple(before), "ms"),
        Figure("request alone, p50: beside them", tuple(beside), "ms"),
        Figure("beside to without", (statistics.median(beside) / statistics.median(before),), "", Goal("≤", 1.1)),
    ]


async def _p50(bench: Bench) -> float:
    loaded = await bench.load(_PATH, chat("mock"), 1)
    return loaded.milliseconds("lat", "p50") if loaded.seen["ok"] else math.inf


@asynccontextmanager
async def _waiting(server: Server, api_key: str, silent: Silent, streams: int) -> AsyncIterator[None]:
    """So many streams that were asked for and have not begun."""
    body = json.dumps(chat("silent", stream=True)).encode()
    head = f"POST {_PATH} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {api_key}\r\n"
    asked = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    writers: list[asyncio.StreamWriter] = []
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            while silent.asked < streams:
                for _ in range(min(_OPENED_AT_ONCE, streams - len(writers))):
                    _, writer = await asyncio.open_connection(HOST, server.port)
                    writer.write(asked)
                    writers.append(writer)
                while silent.asked < len(writers):
                    silent.more.clear()
                    await silent.more.wait()
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


if __name__ == "__main__":
    sys.exit(main())
