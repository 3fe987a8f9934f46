"""Weights as the engine computes fastest with, made once of those that were pulled, and kept in the store.

llama.cpp as its package is built reads prompts half as fast in the types Q4_1 and Q5_1 as in the others. Q8_0 holds
all that these hold, nearly without loss, and takes more memory. Q4_0 would be faster still, but answers get worse.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from pathlib import Path

from leadline.weights.pull import Progress
from leadline.weights.store import Store

Q4_1, Q5_1, Q8_0 = 3, 7, 8
# What is slow in llama.cpp, and what it becomes; by GGUF's numbers.
SLOW = {Q4_1: Q8_0, Q5_1: Q8_0}
# A block of 32 numbers has 20 bytes in Q4_1, 34 in Q8_0: no file grows more.
_MOST_GROWTH = 1.7
# It must not fill the disk: the books need it.
_SPARE_BYTES = 256 * 1024 * 1024
_SILENCE_SECONDS = 120.0
# What the child needs of our environment. Nothing that holds a secret.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
_log = logging.getLogger("leadline.models")


def most_bytes(size_bytes: int) -> int:
    """The most that weights of this size take afterwards."""
    return int(size_bytes * _MOST_GROWTH)


async def requantised(store: Store, path: Path, progress: Callable[[Progress], None]) -> Path | None:
    """The weights of the file `path` with no slow types. They are made where they are not there yet. None, and a line
    in the log, where they cannot be made. Cancelling ends the child."""
    digest = await asyncio.to_thread(store.digest, path)
    if (there := store.requantised(path, digest)).is_file():
        return there
    try:
        return await _made(store, path, there, progress)
    except OSError as error:
        _log.warning("weights are not re-quantised", extra={"weights": path.name, "why": str(error)})
        return None


async def _made(store: Store, path: Path, there: Path, progress: Callable[[Progress], None]) -> Path | None:
    size_bytes = store.size_bytes(path)
    if shutil.disk_usage(store.folder).free < most_bytes(size_bytes) + _SPARE_BYTES:
        _log.warning("weights are not re-quantised: the disk is too full", extra={"weights": path.name})
        return None
    with store.temporary() as folder:
        target = folder / f"{there.name}.part"
        why = await _run(path, target, lambda done: progress(Progress("re-quantising", done, size_bytes)))
        if why is not None:
            _log.warning("weights are not re-quantised", extra={"weights": path.name, "why": why})
            return None
        return await asyncio.to_thread(store.keep_requantised, target, there)


async def _run(path: Path, target: Path, done: Callable[[int], None]) -> str | None:
    """Run the child. Returns why it failed, if it did."""
    kinds = [f"{old}:{new}" for old, new in SLOW.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "leadline.weights.requantiser", str(path), str(target), *kinds),
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    assert process.stdout is not None
    try:
        while line := await asyncio.wait_for(process.stdout.readline(), _SILENCE_SECONDS):
            done(int(line.split()[0]))
        code = await asyncio.wait_for(process.wait(), _SILENCE_SECONDS)
    except (TimeoutError, ValueError, IndexError):
        return "its process hung"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return f"its process ended with exit code {code}" if code else None
