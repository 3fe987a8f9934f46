"""What the machine has for embedded engines, and what is chosen by it where no setting says otherwise.

Choices are functions of facts alone, and each says why, in words that follow its value.
"""

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

CacheType = Literal["f16", "q8_0"]
# A longer context than this costs memory that most requests do not need.
_CONTEXT_TOKENS = 8192
_PARALLEL_REQUESTS = 16
_SHARE_OF_MEMORY = 0.8
# Of two sibling threads of a core, one line of each.
_SIBLINGS = "devices/system/cpu/cpu{}/topology/thread_siblings_list"
_BY_SETTING = "as the setting says"


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` are those that this process may run on, `physical_cores` how many of them are not the same core twice.
    `quota_cores` is how many its control group lets it use at once; None: all. `memory_bytes` is what it may take."""

    cores: int
    physical_cores: int
    quota_cores: float | None
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    value: int
    why: str


@cache
def this_machine() -> Machine:
    """Read once: what it has does not change while we run."""
    return read_machine()


def read_machine(system: Path = Path("/sys")) -> Machine:
    """The facts of this machine. What the system does not say is taken to be no bound."""
    numbers = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]
    siblings = {_said(system / _SIBLINGS.format(number)) or str(number) for number in numbers}
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(ValueError):
        memory_bytes = min(memory_bytes, int(_said(system / "fs/cgroup/memory.max")))
    return Machine(len(numbers), len(siblings), _quota(_said(system / "fs/cgroup/cpu.max")), memory_bytes)


def _said(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _quota(said: str) -> float | None:
    """Of `cpu.max`: microseconds of processor in a period of so many; the first is `max` where there is no bound."""
    with suppress(ValueError, ZeroDivisionError):
        quota, period = said.split()
        return int(quota) / int(period)
    return None


def threads(machine: Machine, asked: int) -> Choice:
    """How many threads compute; `asked` 0 leaves it to the machine."""
    if asked:
        return Choice(asked, _BY_SETTING)
    within_quota = machine.cores if machine.quota_cores is None else max(1, math.floor(machine.quota_cores))
    if within_quota < machine.physical_cores:
        return Choice(within_quota, f"as its control group allows {machine.quota_cores:g} of {machine.cores} cores")
    if machine.physical_cores < machine.cores:
        return Choice(machine.physical_cores, f"one for each physical core: {machine.cores} are some of them twice")
    return Choice(machine.physical_cores, "one for each core")


def parallel_requests(asked: int) -> Choice:
    """How many requests run at once; more wait."""
    if asked:
        return Choice(asked, _BY_SETTING)
    return Choice(_PARALLEL_REQUESTS, "beyond which tokens a second in all did not grow")


def context_tokens(asked: int) -> Choice:
    """The context of one request, at most what the weights were made for."""
    if asked:
        return Choice(asked, _BY_SETTING)
    return Choice(_CONTEXT_TOKENS, "as longer ones cost memory that few requests need")


def memory_bytes(machine: Machine, asked_megabytes: int) -> Choice:
    """What all embedded engines take together."""
    if asked_megabytes:
        return Choice(asked_megabytes * 1_000_000, _BY_SETTING)
    return Choice(int(_SHARE_OF_MEMORY * machine.memory_bytes), "four fifths of what this process may take")


def cache_type(asked: CacheType | None, need_bytes: int, budget_bytes: int) -> tuple[CacheType, str]:
    """How a token is kept whose engine needs `need_bytes` with 16 bits for each number; None leaves it to memory."""
    if asked is not None:
        return asked, _BY_SETTING
    if need_bytes > budget_bytes:
        return "q8_0", "as with f16 it does not fit into memory; long prompts are read more slowly"
    return "f16", "which is read fastest"
