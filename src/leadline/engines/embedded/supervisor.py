"""Keeps one child process running: starts it, waits until it is ready, restarts it with back-off when it ends. One that
does not get ready is not started again."""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FIRST_BACK_OFF_SECONDS = 0.5
_LONGEST_BACK_OFF_SECONDS = 30.0
# A child that ran this long was well; the next restart is quick again.
_WELL_SECONDS = 60.0
_LOAD_SECONDS = 900.0
_LOADING_EVERY_SECONDS = 0.1
_HEARTBEAT_EVERY_SECONDS = 5.0
_HEARTBEATS_MISSED = 6
_TAIL_LINES = 20
# What a child needs of our environment: where programs, libraries and temporary files are. Nothing that holds a secret.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
_log = logging.getLogger("leadline.engines")


@dataclass(frozen=True, slots=True)
class Child:
    """A child that is ready. `version` is the engine's."""

    pid: int
    socket: Path
    key: str
    version: str


@dataclass(slots=True)
class Supervisor:
    """`module` is the child's program, and `settings` go to every new one. `loading` hears how many bytes it has in
    memory, now and then until it is ready; `ready` and `gone` tell of each one; `alive` asks it for a sign of life."""

    name: str
    module: str
    settings: dict[str, Any]
    loading: Callable[[int], None]
    ready: Callable[[Child], Awaitable[None]]
    gone: Callable[[str], None]
    alive: Callable[[], Awaitable[bool]]
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    async def run(self) -> str:
        """Run children one after another until cancelled. Returns why, where one could not load the model."""
        back_off_seconds = _FIRST_BACK_OFF_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            with tempfile.TemporaryDirectory(prefix="leadline-", ignore_cleanup_errors=True) as folder:
                why, was_ready = await self._one_child(Path(folder))
            if not was_ready:
                return why
            if loop.time() - began > _WELL_SECONDS:
                back_off_seconds = _FIRST_BACK_OFF_SECONDS
            _log.warning(
                "engine ended", extra={"engine": self.name, "why": why, "restart_in_seconds": back_off_seconds}
            )
            self.gone(f"{why}; it starts again in {back_off_seconds:g} s")
            await asyncio.sleep(back_off_seconds)
            back_off_seconds = min(_LONGEST_BACK_OFF_SECONDS, back_off_seconds * 2)

    async def _one_child(self, folder: Path) -> tuple[str, bool]:
        """Run one child to its end. Returns why it ended, and whether it ever was ready."""
        socket, key = folder / "engine.sock", secrets.token_urlsafe(32)
        self._tail.clear()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", self.module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
        drain = asyncio.create_task(self._drain(process))
        try:
            child = await self._loaded(process, socket, key)
            if child is None:
                return "the engine could not load the model", False
            _log.info("engine ready", extra={"engine": self.name, "child": child.pid})
            await self.ready(child)
            return await self._watch(process), True
        finally:
            await self._stop(process)
            drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drain

    async def _loaded(self, process: "asyncio.subprocess.Process", socket: Path, key: str) -> Child | None:
        assert process.stdin is not None
        assert process.stdout is not None
        line = json.dumps(self.settings | {"socket": str(socket), "key": key})
        with contextlib.suppress(ConnectionError, TimeoutError):
            process.stdin.write(line.encode() + b"\n")
            await process.stdin.drain()
            reply = await self._reply(process.pid, process.stdout)
            message = json.loads(reply) if reply else {}
            if message.get("ready"):
                return Child(process.pid, socket, key, str(message["version"]))
        # Before a model is loaded no prompt has been seen, so what the child printed is safe to log.
        _log.error("engine did not load", extra={"engine": self.name, "printed": "\n".join(self._tail)})
        return None

    async def _reply(self, pid: int, stdout: asyncio.StreamReader) -> bytes:
        """The child's one line, or TimeoutError."""
        async with asyncio.timeout(_LOAD_SECONDS):
            line = asyncio.ensure_future(stdout.readline())
            try:
                while not line.done():
                    self.loading(resident_bytes(pid))
                    await asyncio.wait([line], timeout=_LOADING_EVERY_SECONDS)
                return line.result()
            finally:
                line.cancel()

    async def _watch(self, process: "asyncio.subprocess.Process") -> str:
        """Wait for the child's end; kill it when it gives no sign of life for long."""
        ended = asyncio.create_task(process.wait())
        missed = 0
        try:
            while True:
                done, _ = await asyncio.wait([ended], timeout=_HEARTBEAT_EVERY_SECONDS)
                if done:
                    return f"the engine's process ended with {_exit_words(process.returncode)}"
                missed = 0 if await self.alive() else missed + 1
                if missed >= _HEARTBEATS_MISSED:
                    return "the engine's process hung"
        finally:
            ended.cancel()

    async def _stop(self, process: "asyncio.subprocess.Process") -> None:
        """The child keeps nothing that a kill could harm."""
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _drain(self, process: "asyncio.subprocess.Process") -> None:
        """Read what the child prints, or it would block. Only the last lines before it is ready are ever kept."""
        assert process.stderr is not None
        while piece := await process.stderr.read(4096):
            self._tail.extend(piece.decode("utf-8", "replace").splitlines())


def resident_bytes(pid: int) -> int:
    """What the process has in memory, its weights among it. 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
