"""`python -m benchmarks.scale`: what a core, a machine and many machines carry, and what ends it first.

It computes from figures that were measured (`MEASURED`) and from what is only assumed (`ASSUMED`), each in its one
place, and prints the tables of docs/scale.md. `--save` writes them there; a test holds the page against this program.
"""

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
_DAY_SECONDS = 86_400
_SEED, _TASKS = 1, 200_000
_BUSY = (0.5, 0.7, 0.85, 0.95)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, its unit, and where it is from."""

    value: float
    unit: str
    source: str


MEASURED = {
    "request": Figure(0.67, "ms of CPU of a request, all checks and its charge", "`benchmarks.rpc`, REST, cd0d867"),
    "chunk": Figure(0.017, "ms of CPU of a chunk of a stream", "`benchmarks.rpc`, REST, cd0d867"),
    "commits": Figure(36_000, "charges a second that one writer makes durable", "`benchmarks.money`, 35bb1a5"),
    "record": Figure(510, "bytes on disk of a request: record and entry, their indexes", "a test measures it"),
    "entry": Figure(250, "of them the ledger's, which are never deleted", "a test measures it"),
    "chunk_bytes": Figure(235, "bytes of a chunk on the wire, before TLS and TCP", "a test measures it"),
    "memory": Figure(60, "MB of a server without a model", "`benchmarks`, aa04df1"),
}
ASSUMED = {
    "tokens": Figure(300, "tokens of an answer, one chunk each", "a chat"),
    "pace": Figure(40, "tokens a second of one stream", "a large model on a GPU, busy"),
    "gpu": Figure(2_500, "tokens a second of a GPU over all its streams", "the same; measure yours"),
    "busy": Figure(0.6, "of a core that is used at most", "the waits below"),
    "peak": Figure(3, "times the mean is the busiest hour", "people sleep"),
    "cores": Figure(16, "cores of a machine", ""),
    "disk": Figure(4, "TB of its disk for the books", ""),
    "network": Figure(10, "Gbit/s of its network", ""),
    "machines": Figure(20, "machines of a region", ""),
    "regions": Figure(5, "regions", ""),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """What clients ask for: `chunks` for each request, in which `tokens` come."""

    name: str
    chunks: int
    tokens: int

    @property
    def cpu_seconds(self) -> float:
        """Of one request."""
        return (MEASURED["request"].value + self.chunks * MEASURED["chunk"].value) / 1_000

    @property
    def open_seconds(self) -> float:
        return self.tokens / ASSUMED["pace"].value


def workloads() -> tuple[Workload, Workload]:
    tokens = int(ASSUMED["tokens"].value)
    return Workload("whole answers", 0, tokens), Workload("streams", tokens, tokens)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most requests a second that a part of one core's instance lets through."""

    part: str
    requests_per_second: float


def limits(workload: Workload) -> list[Limit]:
    """Of one instance on one core, its machine's disk and network shared by its cores; the lowest first."""
    cores, peak = ASSUMED["cores"].value, ASSUMED["peak"].value
    bits = max(1, workload.chunks) * MEASURED["chunk_bytes"].value * 8
    kept_a_year = MEASURED["record"].value * _DAY_SECONDS * 365
    found = [
        Limit("the event loop's core", 1 / workload.cpu_seconds),
        Limit("the ledger's writer", MEASURED["commits"].value),
        Limit("its part of the network", ASSUMED["network"].value * 1e9 / cores / bits),
        Limit("its part of the disk, a year of records", ASSUMED["disk"].value * 1e12 / cores / kept_a_year * peak),
    ]
    return sorted(found, key=lambda limit: limit.requests_per_second)


@dataclass(frozen=True, slots=True)
class Step:
    """So many instances, each on a core of its own, under streams at their peak. `bound` says what ends it."""

    name: str
    instances: int
    bound: str

    @property
    def requests_per_second(self) -> float:
        _, streams = workloads()
        return self.instances * ASSUMED["busy"].value / streams.cpu_seconds

    @property
    def tokens_per_second(self) -> float:
        return self.requests_per_second * ASSUMED["tokens"].value

    @property
    def open_streams(self) -> float:
        _, streams = workloads()
        return self.requests_per_second * streams.open_seconds

    @property
    def gpus(self) -> float:
        return self.tokens_per_second / ASSUMED["gpu"].value

    @property
    def requests_per_day(self) -> float:
        return self.requests_per_second / ASSUMED["peak"].value * _DAY_SECONDS


def steps() -> list[Step]:
    cores, machines = int(ASSUMED["cores"].value), int(ASSUMED["machines"].value)
    regions = int(ASSUMED["regions"].value)
    return [
        Step("one core", 1, "the event loop"),
        Step("one machine", cores, "disk for records; an organisation still has one core"),
        Step("a region", cores * machines, "the largest organisation; where a key's cell is looked up"),
        Step("all regions", cores * machines * regions, "GPUs; organisations that are in several regions"),
    ]


def kept_days(instances_of_a_machine: int) -> float:
    """How long a machine's disk keeps the records of its requests, at the mean of its load."""
    [one, *_] = steps()
    bytes_a_day = one.requests_per_day * instances_of_a_machine * MEASURED["record"].value
    return ASSUMED["disk"].value * 1e12 / bytes_a_day


def waits(busy: float, chunks_per_request: int, seed: int = _SEED) -> list[float]:
    """Milliseconds that tasks wait for the event loop, sorted: requests and chunks come at random, and each is done
    whole, in turn. One queue, one server; what is drawn is the same for a seed."""
    draw = random.Random(seed)
    request, chunk = MEASURED["request"].value, MEASURED["chunk"].value
    share = 1 / (1 + chunks_per_request)
    mean = share * request + (1 - share) * chunk
    now, free, waited = 0.0, 0.0, []
    for _ in range(_TASKS):
        now += draw.expovariate(busy / mean)
        begins = max(now, free)
        waited.append(begins - now)
        free = begins + (request if draw.random() < share else chunk)
    return sorted(waited)


def tables() -> str:
    """All that the page quotes."""
    parts = [
        _figures("measured", MEASURED),
        _figures("assumed", ASSUMED),
        _cores(),
        _limits(),
        _waits(),
        _steps(),
        _facts(),
    ]
    return "\n\n".join(parts)


def _figures(kind: str, figures: dict[str, Figure]) -> str:
    rows = [(_number(one.value), one.unit, one.source) for one in figures.values()]
    return _table((kind, "is", "from"), rows)


def _cores() -> str:
    rows = []
    for one in workloads():
        rate = 1 / one.cpu_seconds
        row = rate, rate * one.tokens, rate * one.open_seconds, rate * one.chunks * MEASURED["chunk_bytes"].value * 8e-6
        rows.append((one.name, f"{one.cpu_seconds * 1_000:.2f}", *map(_number, row)))
    headings = ("a core that is busy all the time", "CPU ms each", "requests/s", "tokens/s", "open at once", "Mbit/s")
    return _table(headings, rows)


def _limits() -> str:
    first, second = ({one.part: one.requests_per_second for one in limits(load)} for load in workloads())
    rows = [(part, _number(first[part]), _number(second[part])) for part in second]
    return _table(("what ends an instance, requests/s", *(load.name for load in workloads())), rows)


def _waits() -> str:
    _, streams = workloads()
    rows = []
    for busy in _BUSY:
        waited = waits(busy, streams.chunks)
        rows.append((f"{busy:.0%}", *(f"{waited[int(len(waited) * part)]:.2f}" for part in (0.5, 0.95, 0.99))))
    return _table(("a core is busy", "a chunk waits, ms, p50", "p95", "p99"), rows)


def _steps() -> str:
    rows = []
    for one in steps():
        row = one.instances, one.requests_per_second, one.tokens_per_second, one.open_streams, one.gpus
        rows.append((one.name, *map(_number, row), _number(one.requests_per_day / 1e6), one.bound))
    headings = ("", "instances", "streams/s", "tokens/s", "open at once", "GPUs behind", "million/day", "ends at")
    return _table(headings, rows)


def _facts() -> str:
    [one, machine, *_] = steps()
    entries = machine.requests_per_day * 365 * MEASURED["entry"].value / 1e12
    rows = [
        ("GPUs that one core of Leadline keeps busy", _number(one.gpus)),
        ("memory of a machine's instances, GB", _number(machine.instances * MEASURED["memory"].value / 1_000)),
        ("days that a machine's disk keeps all records", _number(kept_days(machine.instances))),
        ("TB of ledger entries that a machine gains in a year", _number(entries)),
        ("part of a region's organisations that one instance's end touches", f"{1 / steps()[2].instances:.2%}"),
    ]
    return _table(("and so", ""), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines(headings, rows))


def _lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _number(value: float) -> str:
    """Three figures that count, or more where it is whole."""
    if value == int(value):
        return f"{int(value):,}"
    if value >= 100:
        return f"{round(value, 2 - len(str(int(value))) + 1):,.0f}"
    return f"{value:.3g}"


def with_tables(page: str) -> str:
    """The page, with the tables of now between its marks: each table has a pair of its own."""
    found = iter(tables().split("\n\n"))
    return re.sub(
        r"(<!-- computed -->\n).*?(<!-- end -->)",
        lambda marks: f"{marks[1]}{next(found)}\n{marks[2]}",
        page,
        flags=re.DOTALL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What a core, a machine and many machines carry.")
    parser.add_argument("--save", action="store_true", help="write the tables into docs/scale.md")
    if parser.parse_args().save:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    print(tables())


if __name__ == "__main__":
    main()
