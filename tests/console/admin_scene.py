"""A server with engines to look after, for tests of the pages of its administrators."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadline.administration.pulls import Bring
from leadline.administration.served import Served
from leadline.config import EngineSection
from leadline.engines.engine import EngineStatus
from leadline.errors import Unavailable
from tests.console.organisation import People
from tests.scripted.engine import SCRIPTS, ScriptedEngine
from tests.scripted.gguf import SMALL, gguf
from tests.scripted.server import ScriptedServer

CONFIGURATION = """
[server]
public_url = "http://api.northwind.example"
[smtp]
url = "smtps://leadline:hush-hush@127.0.0.1:9"
from = "Leadline <leadline@northwind.example>"
[[engines]]
name = "gpu-1"
kind = "vllm"
url = "http://10.0.4.20:8000/v1"
api_key = "a-key-of-an-engine"
[[engines]]
name = "here"
kind = "llamacpp"
context_tokens = 4096
unload_after_seconds = 600
[[models]]
name = "large"
engine = "gpu-1"
aliases = ["grok-2"]
prices = { input = 2.00, cached_input = 0.50, output = 10.00 }
[[models]]
name = "small/instruct"
engine = "here"
"""

# What is claimed, of how much, and who waits.
_ROOM = 830_000_000, 6_400_000_000, 0


@dataclass
class LoadableEngine(ScriptedEngine):
    """One whose model comes and goes when it is told; `busy`: it will not go."""

    name: str = "here"
    busy: bool = False
    told: EngineStatus = field(
        default_factory=lambda: EngineStatus(
            *(True, "llama.cpp, 16 requests at once", "loaded"),
            memory_bytes=412_000_000,
            claimed_bytes=830_000_000,
            limit_bytes=6_400_000_000,
            waiting=0,
        )
    )

    @property
    def status(self) -> EngineStatus:
        return self.told

    def load(self) -> None:
        if self.busy:
            raise Unavailable("The engine here needs 830 MB of memory; what is loaded instead is in use.")
        self.told = EngineStatus(False, "loading here.gguf, 200 of 400 MB", "loading", 50, 200_000_000, *_ROOM)

    def unload(self) -> None:
        if self.busy:
            raise Unavailable("The engine here stays loaded: one request needs it now. Try again in a moment.")
        self.told = EngineStatus(True, "not loaded; loads at its next request", "unloaded", None, 0, 0, *_ROOM[1:])


class Scene:
    """The server, and its administrator."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server, self.people = server, People(server)
        self.engine = LoadableEngine(server.engine.scripts)
        self.away = ScriptedEngine(server.engine.scripts, name="gpu-1", ready=False)
        server.instance.engines = {"here": self.engine, "gpu-1": self.away}
        self.admin = self.people.owner()

    def serve(self) -> Served:
        """From now on what is offered changes while the server runs, on engines such as the one here."""
        instance = self.server.instance

        def make(section: EngineSection, _: Any) -> LoadableEngine:
            return self.engine if section.name == "here" else LoadableEngine(dict(SCRIPTS), name=section.name)

        instance.served = served = Served(make, instance.prices, 0, catalog=self.server.pipeline.catalog)
        instance.engines = served.engines
        self.server.run(served.follow(instance.config))
        return served

    def bring(self, bring: Bring) -> None:
        """What pulls do."""
        self.server.instance.pulls.bring = bring


@contextmanager
def scene(folder: Path, configuration: str = CONFIGURATION) -> Iterator[Scene]:
    data = folder / "data"
    data.mkdir(mode=0o700)
    (data / "leadline.toml").write_text(configuration, "utf-8")
    server = ScriptedServer(data)
    found = Scene(server)
    try:
        yield found
    finally:
        found.people.leave()
        server.stop()


async def never(_data: Path, _wanted: str, watch: Any) -> dict[str, Any]:
    """A pull that gets half way, and waits there."""
    from leadline.weights.pull import Progress

    watch("", Progress("downloading", 49_000_000, 98_000_000))
    await asyncio.Event().wait()
    return {}


async def tiny(data: Path, _wanted: str, _watch: Any) -> dict[str, Any]:
    """A pull that ends at once."""
    (data / "models").mkdir(exist_ok=True)
    (data / "models" / "tiny.gguf").write_bytes(gguf(SMALL, (64, 100)))
    return {"name": "tiny"}
