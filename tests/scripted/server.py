"""A whole server on the scripted engine: real HTTP, real SQLite, in a thread of this process."""

import asyncio
import threading
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from leadline.catalog.catalog import Catalog, Model
from leadline.catalog.prices import prices_of
from leadline.config import PriceSection
from leadline.ledger.ledger import Balance, Entry
from leadline.operations.app import create_app
from leadline.operations.commands.run import run
from leadline.operations.instance import Instance
from tests.scripted.engine import SCRIPTS, ScriptedEngine

EMAIL = "alice@northwind.example"
DEADLINE_SECONDS = 30
_Result = TypeVar("_Result")
# Ticks per token: 10,000 for each USD per million.
PRICES = prices_of(PriceSection(input=Decimal(1), cached_input=Decimal("0.5"), output=Decimal(2)))


class ScriptedServer:
    """Alice's organisation has `usd` of credits and one key."""

    def __init__(self, data: Path, usd: str = "1") -> None:
        self._data, self._usd = data, usd
        self._up, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._up.wait(DEADLINE_SECONDS), "the server did not come up"

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = ScriptedEngine(SCRIPTS)
        self.instance = await Instance.open(self._data)
        arguments = {"email": EMAIL, "org": "Northwind", "password": "correct horse"}
        made = await run(self.instance, "init", arguments | {"first": {"credit": self._usd, "key": None}})
        self.api_key, self.organisation_id = made["api_key"], made["organisation_id"]
        models = [
            Model(name, self.engine, name, PRICES, 512, aliases=("echo-latest", "claude-*") if name == "echo" else ())
            for name in SCRIPTS
        ]
        app = create_app(self.instance, Catalog(models))
        self.server = uvicorn.Server(
            uvicorn.Config(app, port=0, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
        )
        serving = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.005)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._up.set()
        await self._stop.wait()
        self.engine.release.set()
        self.server.should_exit = True
        await serving
        await self.instance.close()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Await something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_SECONDS)

    def command(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self.run(run(self.instance, command, arguments))

    def balance(self) -> Balance:
        async def read() -> Balance:
            return self.instance.ledger.balance(self.organisation_id)

        return self.run(read())

    def charges(self) -> list[Entry]:
        entries = self.run(self.instance.ledger.entries(self.organisation_id))
        return [entry for entry in entries if entry.kind == "charge"]

    def wait_until(self, holds: Any) -> None:
        """Wait, in the server's loop, until `holds()` is true."""

        async def wait() -> None:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not holds():
                    await asyncio.sleep(0.002)

        self.run(wait())

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"
