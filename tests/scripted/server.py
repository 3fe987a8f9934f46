"""A whole server on the scripted engine: real HTTP, real SQLite, in a thread of this process."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import uvicorn
import uvloop

from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog, Model, build_catalog
from leadline.catalog.prices import prices_of
from leadline.config import PriceSection
from leadline.engines.engine import Engine
from leadline.ledger.ledger import Balance, Entry
from leadline.operations.app import build_pipeline, create_app
from leadline.operations.grpc import GrpcServer
from leadline.serving.batch_runner import BatchRunner
from tests.conformance.grammar.listener import Listener
from tests.scripted.engine import CAPABILITIES, SCRIPTS, Script, ScriptedEngine

EMAIL = "alice@northwind.example"
DEADLINE_SECONDS = 30
_Result = TypeVar("_Result")
# Ticks per token: 10,000 for each USD per million.
PRICES = prices_of(PriceSection(input=Decimal(1), cached_input=Decimal("0.5"), output=Decimal(2)))


class _Server(uvicorn.Server):
    """uvicorn without its ten looks a second at whether it should stop, and has stopped: tests would wait for them."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()

    async def shutdown(self, sockets: object = None) -> None:
        for listening in self.servers:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:
            await asyncio.sleep(0.002)


class ScriptedServer:
    """Alice's organisation has `usd` of credits and one key. Models that the folder's `leadline.toml` names are there
    beside the scripts, on the scripted engine, with their prices from the price book. The application may be wrapped,
    to look on; `engines` are further ones, by the model that runs on them; `like_serve` takes the event loop of
    `leadline serve`. All that it answers is held against its grammar when it stops."""

    def __init__(
        self,
        data: Path,
        usd: str = "1",
        scripts: Mapping[str, Script] = SCRIPTS,
        wrap: Callable[[Any], Any] = lambda app: app,
        engines: Mapping[str, Engine] = MappingProxyType({}),
        *,
        like_serve: bool = False,
    ) -> None:
        self.data, self._usd, self._scripts, self._wrap, self._engines = data, usd, scripts, wrap, engines
        self._new_loop = uvloop.new_event_loop if like_serve else asyncio.new_event_loop
        self.api_key = ""
        self.listener = Listener()
        self._rpcs: GrpcServer | None = None
        self._start()

    def _start(self) -> None:
        self._up, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(DEADLINE_SECONDS), "the server did not come up"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = ScriptedEngine(dict(self._scripts))
        self.instance = await Instance.open(self.data)
        arguments = {"email": EMAIL, "org": "Northwind", "password": "correct horse"}
        made = await run(self.instance, "init", arguments | {"first": {"credit": self._usd, "key": None}})
        # A second start makes no key.
        self.api_key, self.organisation_id = made.get("api_key", self.api_key), made["organisation_id"]
        models = [
            Model(name, self.engine, name, PRICES, 512, aliases=("echo-latest", "claude-*") if name == "echo" else ())
            for name in self._scripts
        ]
        for name, engine in self._engines.items():
            models.append(Model(name, engine, name, PRICES, 512, declared_capabilities=CAPABILITIES | {"vision"}))
            await engine.start()
        configured = self.instance.config.models
        await self.instance.prices.follow(configured)
        engines = {section.engine: self.engine for section in configured}
        models += build_catalog(configured, engines, 0, self.instance.prices).models
        self.pipeline = build_pipeline(self.instance, Catalog(models))
        app = self.listener.wrap(self._wrap(create_app(self.instance, self.pipeline)))
        self.server = _Server(
            uvicorn.Config(app, port=0, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
        )
        serving = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.005)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._up.set()
        self.batches = BatchRunner(self.pipeline)
        duties = [asyncio.create_task(duty) for duty in (self.pipeline.running.watch(), self.batches.work())]
        await self._stop.wait()
        if self._drains:
            self.engine.release.set()
        self.batches.stop()
        self.server.stopping.set()
        if self._rpcs is not None:
            await self._rpcs.drain(DEADLINE_SECONDS if self._drains else 0)
            self._rpcs = None
        await serving
        await self.pipeline.replays.close(DEADLINE_SECONDS)
        await self.pipeline.deferred.close(DEADLINE_SECONDS)
        await self.pipeline.pictures.close()
        for duty in duties:
            duty.cancel()
        await asyncio.wait(duties)
        for engine in self._engines.values():
            await engine.close()
        await self.instance.close()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Await something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_SECONDS)

    def command(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self.run(run(self.instance, command, arguments))

    @property
    def grpc_address(self) -> str:
        """Where xAI's SDK finds it. gRPC is served from the first time on that anybody asks."""
        if self._rpcs is None:
            grpc = self.instance.config.grpc
            self._rpcs = self.run(GrpcServer.start(self.pipeline, ("127.0.0.1",), 0, grpc))
        return f"localhost:{self._rpcs.port}"

    def balance(self) -> Balance:
        async def read() -> Balance:
            return self.instance.ledger.balance(self.organisation_id)

        return self.run(read())

    def entries(self) -> list[Entry]:
        return self.run(self.instance.ledger.entries(self.organisation_id))

    def charges(self) -> list[Entry]:
        return [entry for entry in self.entries() if entry.kind == "charge"]

    def wait_until(self, holds: Any) -> None:
        """Wait, in the server's loop, until `holds()` is true."""

        async def wait() -> None:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not holds():
                    await asyncio.sleep(0.002)

        self.run(wait())

    def stop(self, *, drains: bool = True) -> None:
        """Without `drains`, what the engine still does for requests whose clients have gone is cut short."""
        self._drains = drains
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"
        self.listener.check()

    def restart(self, *, drains: bool = True) -> None:
        """Stop, and start again on the same folder, with a fresh engine and on another port."""
        self.stop(drains=drains)
        self._start()

    def crash(self) -> None:
        """Lose all but what the disk holds at this moment, in which nothing may be written, and start again on that."""
        copy = shutil.copytree(self.data, self.data.with_name(f"{self.data.name}+"))
        for connection in list(self.server.server_state.connections):
            self.loop.call_soon_threadsafe(connection.transport.abort)
        self.stop(drains=False)
        self.data = copy
        self._start()
