"""`python -m benchmarks.login`: whether the time of a refusal tells who is here. Exits with 1 on a missed goal.

Goal, for sign-in, sign-up and forgotten passwords: the medians for an e-mail that is known and for one that is not
differ by less than 5 percent. Both are asked in turn, each time the other one first, of the application itself: a
network would only hide what there is to see.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import uvloop

from benchmarks.report import Goal, Machine
from leadline.accounts.guard import Guard
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog
from leadline.operations.app import build_pipeline, create_app

_GOAL = Goal("<", 5)
_WARM_UP = 5
_KNOWN = "alice@northwind.example"
_CONFIGURATION = '[accounts]\nsign_up = "open"\n'
Ask = Callable[[str], Awaitable[httpx2.Response]]


@dataclass(slots=True)
class Compared:
    """Milliseconds for known and unknown e-mails."""

    name: str
    known: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)

    @property
    def percent(self) -> float:
        """By how much the medians differ."""
        known, unknown = statistics.median(self.known), statistics.median(self.unknown)
        return abs(known - unknown) / min(known, unknown) * 100

    def __str__(self) -> str:
        medians = "".join(f"{statistics.median(one):10.2f} ms" for one in (self.known, self.unknown))
        return (
            f"  {self.name:<10}{medians}{self.percent:8.2f} %  {_GOAL} {'met' if _GOAL.met(self.percent) else 'MISSED'}"
        )


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.login", description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="of each kind [200]")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        compared = runner.run(_measure(Path(folder), options.pairs))
    print(f"{Machine.this()}\n  {options.pairs} pairs{'':<7}known{'':<6}unknown     differ")
    for one in compared:
        print(one)
    return 0 if all(_GOAL.met(one.percent) for one in compared) else 1


async def _measure(folder: Path, pairs: int) -> list[Compared]:
    (folder / "leadline.toml").write_text(_CONFIGURATION, "utf-8")
    instance = await Instance.open(folder)
    owner = {"email": _KNOWN, "org": "Northwind", "password": "four words that match"}
    await run(instance, "init", owner | {"first": {"credit": "1", "key": None}})
    pipeline = build_pipeline(instance, Catalog([]))
    application: Any = create_app(instance, pipeline)
    transport = httpx2.ASGITransport(application)
    headers = {"sec-fetch-site": "same-origin"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8080", headers=headers) as client:
        compared = [await _compare(name, ask, instance, pairs) for name, ask in _asks(client).items()]
    await pipeline.pictures.close()
    await instance.close()
    return compared


def _asks(client: httpx2.AsyncClient) -> dict[str, Ask]:
    def sign_in(email: str) -> Awaitable[httpx2.Response]:
        return client.post("/login", data={"email": email, "password": "not this one"})

    def sign_up(email: str) -> Awaitable[httpx2.Response]:
        named = {"name": "Bob", "org": "Harbour", "password": "seven other words"}
        return client.post("/signup", data=named | {"email": email, "email_again": email})

    def forgot(email: str) -> Awaitable[httpx2.Response]:
        return client.post("/forgot", data={"email": email})

    return {"sign-in": sign_in, "sign-up": sign_up, "forgotten": forgot}


async def _compare(name: str, ask: Ask, instance: Instance, pairs: int) -> Compared:
    compared = Compared(name)
    for pair in range(-_WARM_UP, pairs):
        sides = [(_KNOWN, compared.known), (f"nobo{pair % 10}@northwind.example", compared.unknown)]
        for email, milliseconds in sides[:: 1 if pair % 2 else -1]:
            # Nobody waits here for having tried too often.
            instance.guard = Guard()
            began = time.perf_counter()
            answer = await ask(email)
            took = (time.perf_counter() - began) * 1000
            assert answer.status_code in (200, 401), answer.text
            if pair >= 0:
                milliseconds.append(took)
    return compared


if __name__ == "__main__":
    sys.exit(main())
