"""`python -m benchmarks.gateway`: what a request and a chunk cost Leadline, beside a bare upstream in the same run.

The yardstick is in C (`yardstick/`, compiled with `cc`): an upstream that has its answer ready, and a load generator,
both on the first core. Leadline is one `leadline serve` on the second, over that upstream, with key check, limits,
ledger (SQLite, synchronous=FULL) and usage on. CPU is user and system time of Leadline's whole process. Exits with 1 on
a missed goal.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import apsw

from benchmarks.money import Figure
from benchmarks.report import Goal, Machine
from benchmarks.servers import Server, make_instance, serving

CHUNKS, GAP_MICROSECONDS = 64, 10_000
_HERE = Path(__file__).parent
_SOURCES = _HERE / "yardstick"
_RESULTS = _HERE / "results"
HOST = "127.0.0.1"
_WARM_UP_SECONDS = 1.0
_COMMITS = 300
_MODEL = "mock"
# Large enough to refuse nothing; what it costs to look is measured.
LIMITS = """\
[limits.default]
requests_per_second = 1000000
requests_per_minute = 60000000
tokens_per_minute = 100000000000
concurrent_requests = 100000

"""
_SETTINGS = (
    LIMITS
    + """\
[[engines]]
name = "burst"
kind = "openai"
url = "http://{host}:{burst}/v1"

[[engines]]
name = "paced"
kind = "openai"
url = "http://{host}:{paced}/v1"

[[models]]
name = "mock"
engine = "burst"
prices.input = 0.10
prices.output = 0.40

[[models]]
name = "paced"
engine = "paced"
prices.input = 0.10
prices.output = 0.40
"""
)
_SYSTEM = "You are a helpful assistant. Answer briefly and to the point, in plain words. " * 6
_ASKED = "Describe the quick brown fox, what it jumps over, and why that was worth a sentence that everybody knows."


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one run of the load generator saw, and what Leadline's CPU did meanwhile."""

    seen: dict[str, Any]
    cpu_seconds: float
    seconds: float

    @property
    def requests(self) -> float:
        """While CPU was counted, the warm-up among it."""
        return float(self.seen["rps"]) * self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """Of a request."""
        return self.cpu_seconds * 1000 / self.requests

    def milliseconds(self, what: str, percentile: str) -> float:
        return float(self.seen[what][percentile]) / 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """The same request again and again, on so many connections."""

    path: str
    body: dict[str, Any]
    connections: int


@dataclass(frozen=True, slots=True)
class Yardstick:
    """`load` is the compiled load generator, `core` where it runs, `seconds` for how long."""

    load: Path
    core: int
    seconds: float
    api_key: str

    def run(self, port: int, asked: Asked) -> dict[str, Any]:
        with tempfile.NamedTemporaryFile() as file:
            file.write(json.dumps(asked.body).encode())
            file.flush()
            done = subprocess.run(
                [
                    *on(self.core, str(self.load)),
                    *("-p", str(port), "-u", asked.path, "-c", str(asked.connections), "-d", str(self.seconds)),
                    *("-w", str(_WARM_UP_SECONDS), "-f", file.name),
                    *("-H", f"Authorization: Bearer {self.api_key}", "-H", "anthropic-version: 2023-06-01"),
                ],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=self.seconds + 30,
            )
        seen: dict[str, Any] = json.loads(done.stdout)
        assert seen["bad"] == seen["err"] == 0, seen
        return seen


@dataclass(slots=True)
class Bench:
    """One server, and everything that is asked of it."""

    yardstick: Yardstick
    server: Server
    ports: dict[str, int]
    measured: dict[str, list[float]] = field(default_factory=dict)

    async def load(self, path: str, body: dict[str, Any], connections: int) -> Loaded:
        began, before = time.monotonic(), self.server.cpu_seconds()
        seen = await asyncio.to_thread(self.yardstick.run, self.server.port, Asked(path, body, connections))
        return Loaded(seen, self.server.cpu_seconds() - before, time.monotonic() - began)

    async def bare(self, engine: str, body: dict[str, Any], connections: int) -> dict[str, Any]:
        asked = Asked("/v1/chat/completions", body, connections)
        return await asyncio.to_thread(self.yardstick.run, self.ports[engine], asked)

    def note(self, name: str, value: float) -> None:
        self.measured.setdefault(name, []).append(value)


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured [3]")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement [4]")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    if shutil.which("cc") is None:
        print("The yardstick is in C, and there is no C compiler `cc` here.", file=sys.stderr)
        return 2
    machine = Machine.this()
    with tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder:
        figures = asyncio.run(_measure(Path(folder), options.rounds, options.seconds))
    print(machine)
    for figure in figures:
        print(figure)
    if options.save:
        document = {"machine": asdict(machine), "figures": [asdict(figure) for figure in figures]}
        path = _RESULTS / f"gateway-{machine.date}-{machine.commit}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(figure.met for figure in figures) else 1


async def _measure(folder: Path, rounds: int, seconds: float) -> list[Figure]:
    first, second = two_cores()
    mock, load = (compiled(folder, name) for name in ("mock", "load"))
    data = folder / "data"
    with upstream(mock, first, 0) as burst, upstream(mock, first, GAP_MICROSECONDS) as paced:
        settings = _SETTINGS.format(host=HOST, burst=burst, paced=paced)
        api_key = make_instance(data, settings)
        async with serving(data, on(second)) as server:
            yardstick = Yardstick(load, first, seconds, api_key)
            bench = Bench(yardstick, server, {"burst": burst, "paced": paced})
            await bench.load("/v1/chat/completions", chat(_MODEL), 32)  # pages are made and code is warm from here on
            for _ in range(rounds):
                await _whole(bench, folder)
                await _streams(bench)
    return _figures(bench.measured)


async def _whole(bench: Bench, folder: Path) -> None:
    """Answers that come whole."""
    body = chat(_MODEL)
    many = await bench.load("/v1/chat/completions", body, 32)
    bench.note("whole answer: CPU", many.cpu_milliseconds)
    bench.note("whole answers, 32 at once", many.seen["rps"])
    alone, bare = await bench.load("/v1/chat/completions", body, 1), await bench.bare("burst", body, 1)
    added = alone.milliseconds("lat", "p50") - bare["lat"]["p50"] / 1000
    commit = _commit_milliseconds(folder)
    bench.note("a durable commit, p50", commit)
    bench.note("whole answer, alone: added p50", added)
    bench.note("the same beyond the commit", added - commit)


async def _streams(bench: Bench) -> None:
    """Streams of 64 chunks: 10 ms apart, and all at once."""
    for name, path, body in (
        ("OpenAI", "/v1/chat/completions", chat("paced", stream=True)),
        ("Anthropic", "/v1/messages", chat("paced", stream=True)),
        ("Responses", "/v1/responses", {"model": "paced", "instructions": _SYSTEM, "input": _ASKED, "stream": True}),
    ):
        many = await bench.load(path, body, 128)
        bench.note(f"paced chunk, 128 streams, {name}: CPU", many.cpu_milliseconds / CHUNKS)
        if name == "OpenAI":
            bare = await bench.bare("paced", body, 128)
            added = (many.seen["gap"]["p99"] - bare["gap"]["p99"]) / 1000
            bench.note("gap between chunks, 128 streams: added p99", added)
    few = await bench.load("/v1/chat/completions", chat("paced", stream=True), 32)
    bench.note("first byte, 32 paced streams: p50", few.milliseconds("ttfb", "p50"))
    bench.note("first byte, 32 paced streams: p99", few.milliseconds("ttfb", "p99"))
    burst = await bench.load("/v1/chat/completions", chat(_MODEL, stream=True), 128)
    bench.note("bursts of 64 chunks, 128 at once", burst.seen["rps"])


def _figures(measured: dict[str, list[float]]) -> list[Figure]:
    goals = {
        "whole answer: CPU": ("ms", Goal("≤", 0.060)),
        "whole answers, 32 at once": ("/s", Goal("≥", 15_000)),
        "the same beyond the commit": ("ms", Goal("≤", 0.15)),
        "paced chunk, 128 streams, OpenAI: CPU": ("ms", Goal("≤", 0.020)),
        "gap between chunks, 128 streams: added p99": ("ms", Goal("≤", 2)),
        "first byte, 32 paced streams: p50": ("ms", Goal("≤", 1)),
        "first byte, 32 paced streams: p99": ("ms", Goal("≤", 3)),
        "bursts of 64 chunks, 128 at once": ("/s", Goal("≥", 3_000)),
    }
    figures = [Figure(name, tuple(values), *goals.get(name, ("ms", None))) for name, values in measured.items()]
    openai = measured["paced chunk, 128 streams, OpenAI: CPU"]
    for name in ("Anthropic", "Responses"):
        theirs = measured[f"paced chunk, 128 streams, {name}: CPU"]
        ratios = tuple(one / other for one, other in zip(theirs, openai, strict=True))
        figures.append(Figure(f"a chunk of {name} to one of OpenAI: CPU", ratios, "", Goal("≤", 1.5)))
    return figures


def chat(model: str, *, stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": _SYSTEM + _ASKED}]
    return {"model": model, "messages": messages, "max_tokens": 256, "temperature": 0.5, "stream": stream}


def two_cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


def on(core: int, *command: str) -> tuple[str, ...]:
    return "taskset", "-c", str(core), *command


def compiled(folder: Path, name: str) -> Path:
    program = folder / name
    subprocess.run(["cc", "-O2", "-w", "-o", str(program), str(_SOURCES / f"{name}.c")], check=True)
    return program


@contextmanager
def upstream(mock: Path, core: int, gap_microseconds: int) -> Iterator[int]:
    port = _free_port()
    process = subprocess.Popen(on(core, str(mock), str(port), str(CHUNKS), str(gap_microseconds)))
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def _commit_milliseconds(folder: Path) -> float:
    """The median time of a durable commit of one row on this disk."""
    connection = apsw.Connection(str(folder / "commit.sqlite"))
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE IF NOT EXISTS t (x)"):
        connection.execute(statement).fetchall()
    times = []
    for number in range(_COMMITS):
        began = time.perf_counter()
        connection.execute("INSERT INTO t VALUES (?)", (number,))
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
