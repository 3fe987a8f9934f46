"""What is measured: a real Leadline server in its own process, and the same engine bare. Both always stopped."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.openvino import Child
from leadline.administration.models import build
from leadline.config import load
from leadline.engines.embedded.engine import EmbeddedEngine
from leadline.engines.openvino.engine import OpenVinoEngine
from leadline.engines.openvino.link import Link
from leadline.engines.upstream.http import Address, HttpClient
from leadline.errors import EngineFailed
from leadline.weights.store import Store

MODELS = Path(os.environ.get("LEADLINE_TEST_MODELS") or Path(__file__).parent.parent / ".cache" / "models")
_HOST = "127.0.0.1"
_PULL_SECONDS = 1800.0
_COMMAND_SECONDS = 60.0
_START_SECONDS = 60.0
_LOAD_SECONDS = 300.0
_DRAIN_SECONDS = 40.0
_LOOK_EVERY_SECONDS = 0.05
_PASSWORD = "correct horse battery staple"
_CPU_CLOCK = 2
# The benchmark asks more than one client may; what a limit costs is measured, what it refuses is not.
LIMITS = """\
[limits.default]
requests_per_second = 0
requests_per_minute = 0
tokens_per_minute = 0
concurrent_requests = 0
"""
_MODEL = """\
[[engines]]
name = "default"
kind = "{kind}"

[[models]]
name = "smollm2-135m-instruct"
engine = "default"
prices = {{ input = 0.10, cached_input = 0.025, output = 0.40 }}
"""
_NO_MODEL = """\
[[engines]]
name = "elsewhere"
kind = "openai"
url = "http://{host}:{port}/v1"

[[models]]
name = "elsewhere"
engine = "elsewhere"
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running `leadline serve`. It is up after `seconds` from the start of its process."""

    pid: int
    port: int
    seconds: float

    def client(self, api_key: str) -> HttpClient:
        return HttpClient("Leadline", Address(_HOST, self.port), {"Authorization": f"Bearer {api_key}"})

    def cpu_seconds(self) -> float:
        """User and system time of the process so far, without its children: its clock_getcpuclockid(3), because
        /proc counts in hundredths of a second."""
        return time.clock_gettime(~self.pid << 3 | _CPU_CLOCK)

    def resident_megabytes(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text("utf-8").splitlines()
        [kibibytes] = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
        return int(kibibytes) * 1024 / 1e6


def prepare(data: Path, kind: str) -> str:
    """Make an instance with the default model, on an engine of this kind, and credits. Returns its key."""
    MODELS.mkdir(parents=True, exist_ok=True)
    (data / "models").symlink_to(MODELS.absolute(), target_is_directory=True)
    (data / "leadline.toml").write_text(LIMITS + _MODEL.format(kind=kind), "utf-8")
    _leadline(data, _PULL_SECONDS, "models", "pull", "--json")
    return _init(data)


def make_instance(data: Path, settings: str) -> str:
    """Make an instance with these settings and credits. Returns its key."""
    data.mkdir(mode=0o700)
    (data / "leadline.toml").write_text(settings, "utf-8")
    return _init(data)


def _init(data: Path) -> str:
    account = ("--email", "alice@northwind.example", "--org", "Northwind", "--credit", "1000")
    made = _leadline(data, _COMMAND_SECONDS, "init", *account, "--yes", "--json", "--password-stdin")
    return str(json.loads(made)["api_key"])


def _leadline(data: Path, seconds: float, *arguments: str) -> str:
    done = subprocess.run(
        (*_command(data), *arguments),
        input=f"{_PASSWORD}\n",
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds,
        env=_environment(),
        check=False,
    )
    if done.returncode != 0:
        raise EngineFailed(f"leadline {arguments[0]} ended with {done.returncode}.")
    return done.stdout


def _command(data: Path) -> tuple[str, ...]:
    return sys.executable, "-m", "leadline", "--data", str(data)


def _environment() -> dict[str, str]:
    """Ours without Leadline's settings: both sides run on what this module writes down."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LEADLINE_")}


@asynccontextmanager
async def serving(data: Path, before: tuple[str, ...] = ()) -> AsyncIterator[Server]:
    """A server on the instance in `data`, from its first answer to /health/live on; its command follows `before`."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(*before, *_command(data), "serve", "--port", "0", "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=_environment(),
    )
    told = asyncio.create_task(_drain(process, port := asyncio.get_running_loop().create_future()))
    try:
        number = await asyncio.wait_for(port, _START_SECONDS)
        await _get(number, "/health/live")
        yield Server(process.pid, number, time.perf_counter() - began)
    finally:
        await _stop(process)
        await told


async def _drain(process: asyncio.subprocess.Process, port: "asyncio.Future[int]") -> None:
    """Read what the server says, or it would block; it says its port first."""
    assert process.stdout is not None
    async for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "serving" and not port.done():
            port.set_result(int(event["base_url"].rpartition(":")[2]))
    if not port.done():
        port.set_exception(EngineFailed("The server ended before it served."))


async def _get(port: int, path: str) -> int:
    client = HttpClient("Leadline", Address(_HOST, port))
    response = await client.send("GET", path, None, _START_SECONDS)
    try:
        await response.read(_START_SECONDS)
        return response.status
    finally:
        response.close()
        client.close()


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _DRAIN_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()


async def until_ready(server: Server) -> None:
    async with asyncio.timeout(_LOAD_SECONDS):
        while await _get(server.port, "/health/ready") != 200:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


@asynccontextmanager
async def bare_engine(data: Path) -> AsyncIterator[HttpClient | Child]:
    """A child like the one that a server on `data` runs, made by the same code, reached on its own socket."""
    [engine], _ = build(load(data / "leadline.toml", {}), Store(data / "models"), 0)
    assert isinstance(engine, EmbeddedEngine)
    await engine.start()
    try:
        async with asyncio.timeout(_LOAD_SECONDS):
            while (child := engine.child) is None:
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
        if isinstance(engine, OpenVinoEngine):
            yield Child(await Link.open("the engine", child.socket, child.key))
            return
        address = Address("engine", 80, socket=child.socket)
        yield HttpClient("the engine", address, {"Authorization": f"Bearer {child.key}"})
    finally:
        await engine.close()


async def start_without_model(data: Path) -> tuple[float, float]:
    """Start a new instance whose engine is out of reach. Returns seconds to the first answer, and megabytes."""
    with socket.socket() as closed:
        # Bound and not listening: whoever connects is refused.
        closed.bind((_HOST, 0))
        settings = _NO_MODEL.format(host=_HOST, port=closed.getsockname()[1])
        (data / "leadline.toml").write_text(settings, "utf-8")
        async with serving(data) as server:
            return server.seconds, server.resident_megabytes()
