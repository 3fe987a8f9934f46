"""From measurements to a table, a JSON document, and the exit code."""

import os
import platform
import re
import statistics
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.load import Answer, Burst
from leadline import __version__

HERE = Path(__file__).parent
# Through Leadline to the bare engine: tokens per second, and how much later an answer may begin.
SPEED_RATIO = 0.95
TTFT_MILLISECONDS = 5
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"
_HEADINGS = ("", "bare engine", "Leadline", "Leadline to bare (min..max)", "goal", "")


@dataclass(frozen=True, slots=True)
class Side:
    """What one side of a pair answered, and in how many seconds."""

    answers: tuple[Answer, ...]
    seconds: float

    @classmethod
    def of(cls, bursts: list[Burst]) -> "Side":
        answers = tuple(answer for burst in bursts for answer in burst.answers)
        return cls(answers, sum(burst.seconds for burst in bursts))

    @property
    def output_tokens(self) -> int:
        return sum(answer.output_tokens for answer in self.answers)

    @property
    def tokens_per_second(self) -> float:
        return self.output_tokens / self.seconds

    @property
    def ttfts_milliseconds(self) -> list[float]:
        return [1000 * answer.ttft_seconds for answer in self.answers]


@dataclass(frozen=True, slots=True)
class Pair:
    """The same requests to both sides, in turn."""

    concurrency: int
    bare: Side
    leadline: Side
    # CPU time of Leadline's own process, without the engine's.
    leadline_cpu_seconds: float

    @property
    def more_ttft_milliseconds(self) -> float:
        """The median of how much later the first, the second, and each further answer of a burst began. By place and
        not by request: the engine takes a burst's requests in no certain order."""
        places = zip(self._by_place(self.leadline), self._by_place(self.bare), strict=True)
        return statistics.median(ours - theirs for ours, theirs in places)

    def _by_place(self, side: Side) -> list[float]:
        waits, size = side.ttfts_milliseconds, self.concurrency
        return [wait for first in range(0, len(waits), size) for wait in sorted(waits[first : first + size])]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a median must reach."""

    sign: Literal["≥", "≤", "<"]
    bound: float

    def met(self, value: float) -> bool:
        match self.sign:
            case "≥":
                return value >= self.bound
            case "≤":
                return value <= self.bound
            case "<":
                return value < self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a value for each repetition. Compared rows are judged by the comparison, others by themselves."""

    name: str
    digits: int
    leadline: tuple[float, ...]
    bare: tuple[float, ...] = ()
    compared: tuple[float, ...] = ()
    compared_digits: int = 0
    goal: Goal | None = None

    @property
    def met(self) -> bool:
        return self.goal is None or self.goal.met(statistics.median(self.compared or self.leadline))

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            _median(self.bare, self.digits),
            _spread(self.leadline, self.digits) if not self.compared else _median(self.leadline, self.digits),
            _spread(self.compared, self.compared_digits),
            "" if self.goal is None else str(self.goal),
            "" if self.goal is None else "✓" if self.met else "✗",
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and what was measured."""

    leadline: str
    commit: str
    date: str
    cores: int
    cpu: str
    python: str

    @classmethod
    def this(cls) -> "Machine":
        return cls(
            leadline=__version__,
            commit=_commit(),
            date=datetime.now(UTC).date().isoformat(),
            cores=len(os.sched_getaffinity(0)),
            cpu=_cpu(),
            python=platform.python_version(),
        )

    def __str__(self) -> str:
        return (
            f"Leadline {self.leadline}, commit {self.commit}, {self.date}; "
            f"{self.cores} cores of {self.cpu}, Python {self.python}."
        )


@dataclass(frozen=True, slots=True)
class Report:
    machine: Machine
    pairs: tuple[Pair, ...]
    rows: tuple[Row, ...]

    @property
    def met(self) -> bool:
        return all(row.met for row in self.rows)

    def text(self) -> str:
        return f"{self.machine}\n\n{_table([row.cells() for row in self.rows])}\n"

    def document(self) -> dict[str, Any]:
        rows = [asdict(row) | {"met": row.met} for row in self.rows]
        return {"machine": asdict(self.machine), "rows": rows, "pairs": [asdict(pair) for pair in self.pairs]}


def pair_rows(pairs: list[Pair]) -> list[Row]:
    """The rows that compare, by concurrency, and what the server's own process spent."""
    groups = [
        (f", {concurrency} at once", [pair for pair in pairs if pair.concurrency == concurrency])
        for concurrency in dict.fromkeys(pair.concurrency for pair in pairs)
    ]
    kinds = (_speed, _ttft, _slowest_ttft, _cpu_per_token, _cpu_per_request)
    return [row(suffix, group) for row in kinds for suffix, group in groups]


def _speed(suffix: str, pairs: list[Pair]) -> Row:
    bare = tuple(pair.bare.tokens_per_second for pair in pairs)
    leadline = tuple(pair.leadline.tokens_per_second for pair in pairs)
    ratios = tuple(ours / theirs for ours, theirs in zip(leadline, bare, strict=True))
    return Row(f"tokens/s{suffix}", 1, leadline, bare, ratios, 3, Goal("≥", SPEED_RATIO))


def _ttft(suffix: str, pairs: list[Pair]) -> Row:
    bare = tuple(statistics.median(pair.bare.ttfts_milliseconds) for pair in pairs)
    leadline = tuple(statistics.median(pair.leadline.ttfts_milliseconds) for pair in pairs)
    more = tuple(pair.more_ttft_milliseconds for pair in pairs)
    return Row(f"first token ms{suffix}", 0, leadline, bare, more, 1, Goal("≤", TTFT_MILLISECONDS))


def _slowest_ttft(suffix: str, pairs: list[Pair]) -> Row:
    bare = tuple(max(pair.bare.ttfts_milliseconds) for pair in pairs)
    leadline = tuple(max(pair.leadline.ttfts_milliseconds) for pair in pairs)
    more = tuple(ours - theirs for ours, theirs in zip(leadline, bare, strict=True))
    return Row(f"slowest first token ms{suffix}", 0, leadline, bare, more, 1)


def _cpu_per_token(suffix: str, pairs: list[Pair]) -> Row:
    spent = tuple(1e6 * pair.leadline_cpu_seconds / pair.leadline.output_tokens for pair in pairs)
    return Row(f"server CPU µs per token{suffix}", 0, spent)


def _cpu_per_request(suffix: str, pairs: list[Pair]) -> Row:
    spent = tuple(1e3 * pair.leadline_cpu_seconds / len(pair.leadline.answers) for pair in pairs)
    return Row(f"server CPU ms per request{suffix}", 1, spent)


def start_rows(starts: list[tuple[float, float]]) -> list[Row]:
    """`starts` holds the seconds and the megabytes of each."""
    seconds, megabytes = zip(*starts, strict=True)
    return [
        Row("start without a model, s", 2, seconds, goal=Goal("<", 1.5)),
        Row("memory after that, MB", 0, megabytes, goal=Goal("<", 90)),
    ]


def save_table(report: Report) -> None:
    """Put the table between the markers of the README."""
    readme = HERE / "README.md"
    before, marker, rest = readme.read_text("utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert marker, _BEGIN
    assert end, _END
    readme.write_text(f"{before}{_BEGIN}\n{report.text()}{_END}{after}", "utf-8")


def result_file(machine: Machine) -> Path:
    return HERE / "results" / f"{machine.date}-{machine.commit}.json"


def _table(rows: list[tuple[str, ...]]) -> str:
    """Markdown that reads as plain text."""
    widths = [max(3, *(len(row[i]) for row in (_HEADINGS, *rows))) for i in range(len(_HEADINGS))]
    rule = tuple("-" * width for width in widths)
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (_HEADINGS, rule, *rows)
    ]
    return "\n".join(lines)


def _median(values: tuple[float, ...], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f}" if values else ""


def _spread(values: tuple[float, ...], digits: int) -> str:
    if not values:
        return ""
    return f"{_median(values, digits)} ({min(values):,.{digits}f}..{max(values):,.{digits}f})"


def _commit() -> str:
    """The short commit, marked where what ran differs from it."""
    command = ("git", "describe", "--always", "--dirty", "--exclude", "*")
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    return found.group(1) if found else platform.machine()
