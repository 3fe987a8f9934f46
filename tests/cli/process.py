"""Runs the command `leadline` as a process, on a data folder of its own."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 120
EMAIL = "mara@northwind.example"
PASSWORD = "correct horse battery"
PERSON = ("--email", EMAIL, "--org", "Northwind Labs", "--password-stdin", "--yes", "--json")
# A remote engine that nobody answers for: the server starts at once and needs no model.
NO_MODEL = """
[[engines]]
name = "remote"
kind = "openai"
url = "http://127.0.0.1:9/v1"
[[models]]
name = "tiny"
engine = "remote"
prices = { input = 0.10, output = 0.40 }
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEADLINE_")}
    return kept | more


def leadline(*args: str, stdin: str = "", **more: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "leadline", *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        env=environment(**more),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def init(data: Path, *args: str) -> Done:
    return leadline("init", "--data", str(data), *PERSON, *args, stdin=f"{PASSWORD}\n")


class Serving:
    """A running `leadline serve --port 0 --json`; `event` waits for one of its lines."""

    def __init__(self, process: "asyncio.subprocess.Process") -> None:
        self.process = process

    @classmethod
    async def start(cls, data: Path, *args: str) -> "Serving":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "leadline", "serve", "--data", str(data), "--port", "0", "--json", *args),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
        )
        return cls(process)

    async def event(self, name: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while line := await self.process.stdout.readline():
                event: dict[str, Any] = json.loads(line)
                if event["event"] == name:
                    return event
        raise AssertionError(f"the server ended before it said {name}")

    async def stop(self) -> int:
        assert self.process.stdout is not None
        # One that has said all is ending. To signal it then looks for its end, which may take it from whoever waits.
        if self.process.returncode is None and not self.process.stdout.at_eof():
            self.process.terminate()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.process.communicate()
        return self.process.returncode or 0
