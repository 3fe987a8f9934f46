"""The server as a whole: its program, its data, its machine. For the System page, `leadline status` and `/metrics`."""

import asyncio
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from leadline import __version__
from leadline.administration.instance import Instance
from leadline.storage.database import DatabaseFacts


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """`opened_at` is in microseconds. `database_waiting` is how much work waits for the disk, `writable` whether the
    last write reached it."""

    version: str
    python: str
    machine: str
    data: str
    opened_at: int
    memory_bytes: int
    disk_free_bytes: int
    disk_bytes: int
    database: DatabaseFacts
    database_waiting: int
    writable: bool

    @property
    def disk_used_percent(self) -> int:
        return (self.disk_bytes - self.disk_free_bytes) * 100 // max(1, self.disk_bytes)


async def system_facts(instance: Instance) -> SystemFacts:
    disk = await asyncio.to_thread(shutil.disk_usage, instance.data)
    return SystemFacts(
        __version__,
        platform.python_version(),
        f"{platform.system()} {platform.release()}, {platform.machine()}",
        str(instance.data.absolute()),
        instance.opened_at,
        own_memory_bytes(),
        disk.free,
        disk.total,
        await instance.database.facts(),
        instance.database.waiting,
        instance.database.writable,
    )


def own_memory_bytes() -> int:
    """What this process has in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
