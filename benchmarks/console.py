"""`python -m benchmarks.console`: what the console's usage pages ask of the database. Exits with 1 on a missed goal.

Goals, over ten million requests: a page of the request log under 20 ms by whatever it is filtered, an answer of the
explorer under 200 ms, a whole page under 100 ms; all at the median. The first page after a restart is not measured.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.console_pages import browsing
from benchmarks.history import DATABASE, DAYS, ORGANISATION, prepare
from benchmarks.report import Goal, Machine
from leadline.clock import MICROSECONDS_PER_DAY, now_microseconds
from leadline.ledger.explorer import Explorer, Question
from leadline.ledger.latency import latency
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.overview import burn, last_day, sparks
from leadline.ledger.request_log import LogQuestion, RequestLog
from leadline.storage.database import Database

_ROUNDS = 20
_RESULTS = Path(__file__).parent / "results"
_PAGE, _ANSWER, _RENDERED = Goal("<", 20), Goal("<", 200), Goal("<", 100)
# Of the eight, so that no sum of a whole organisation tells it.
_MOST_MODELS = "&".join(f"model=model_{number}" for number in range(7))
_PATHS = (
    *("/home", "/keys", "/keys?show=all", "/keys/key_7", "/usage", "/usage?range=today", "/usage?range=7d"),
    *("/usage?by=key", "/usage?by=endpoint", "/usage?by=class&measure=tokens", "/usage?by=member&measure=requests"),
    *("/usage?model=model_3&range=month", "/usage?key=key_7&by=endpoint", "/usage?class=cached", "/usage?step=month"),
    *("/usage?range=7d&step=hour", "/usage?range=7d&step=hour&by=key", "/usage?range=7d&step=hour&by=class"),
    *(f"/usage?range=7d&step=hour&by={{}}&{_MOST_MODELS}".format(by) for by in ("key", "model")),
    *("/usage.csv", "/usage.csv?by=key&range=7d&step=hour"),
    *("/log", "/log?status=failed&model=model_3", "/log?status=no+credits", "/log?key=key_7", "/log?text=nowhere"),
    *("/log/{request}", "/billing", "/billing?before={entry}", "/billing/receipts/R-2026-000001"),
    *("/limits", "/models", "/members", "/audit", "/audit?q=nowhere", "/settings", "/playground"),
    *("/admin/engines", "/admin/users", "/admin/users?q=user77", "/admin/organisations", "/admin/organisations/org_0"),
    *("/admin/grants", "/admin/prices", "/admin/audit", "/admin/audit?q=nowhere", "/admin/mail", "/admin/system"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    milliseconds: tuple[float, ...]
    cpu_milliseconds: tuple[float, ...]
    goal: Goal | None = None

    @property
    def p50(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def p95(self) -> float:
        return sorted(self.milliseconds)[-(-len(self.milliseconds) * 95 // 100) - 1]

    @property
    def cpu(self) -> float:
        """Of the whole process, at the median."""
        return statistics.median(self.cpu_milliseconds)

    @property
    def met(self) -> bool:
        return self.goal is None or self.goal.met(self.p50)

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"goal {self.goal} {'✓' if self.met else '✗'}"
        figures = "".join(f"{value:>9.2f} ms" for value in (min(self.milliseconds), self.p50, self.p95, self.cpu))
        return f"  {self.name:<66}{figures}   {goal}"


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.console", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="requests [10 million]")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the requests there, or use those of before")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    machine = Machine.this()
    with (
        tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(_measure(options.keep or Path(folder), options.rows))
    print(f"{machine}\n  {options.rows:,} requests{'':<46}         best         p50         p95   CPU, p50")
    for figure in figures:
        print(figure)
    if options.save:
        rows = [asdict(figure) | {"p50": figure.p50, "p95": figure.p95, "cpu": figure.cpu} for figure in figures]
        document = {"machine": asdict(machine), "rows": options.rows, "figures": rows}
        path = _RESULTS / f"console-{machine.date}-{machine.commit}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(figure.met for figure in figures) else 1


async def _measure(folder: Path, requests: int) -> list[Figure]:
    await prepare(folder, requests)
    database = Database(folder / DATABASE)
    figures = [
        *await _pages(database, requests),
        *await _answers(database),
        *await _glances(database),
    ]
    [(request, entry)] = await database.rows(
        "SELECT request_id, number FROM entries WHERE number = (SELECT MAX(number) / 2 FROM entries)"
    )
    await database.close()
    return figures + await _renders(folder, [path.format(request=request, entry=entry) for path in _PATHS])


async def _timed(name: str, goal: Goal | None, work: Callable[[], Awaitable[Any]]) -> Figure:
    await work()
    times, cpu = [], []
    for _ in range(_ROUNDS):
        began, spent = time.perf_counter(), time.process_time()
        await work()
        times.append(1e3 * (time.perf_counter() - began))
        cpu.append(1e3 * (time.process_time() - spent))
    return Figure(name, tuple(times), tuple(cpu), goal)


async def _pages(database: Database, requests: int) -> list[Figure]:
    """The first page and one from the middle, by filters that fit many requests, few, and none."""
    log, now = RequestLog(database), now_microseconds()
    [(middle,)] = await database.rows(
        "SELECT request_id FROM records_of WHERE organisation_id = $1 ORDER BY request_id LIMIT 1 OFFSET $2",
        *(ORGANISATION, requests // 100),
    )
    everything = MeterFilter(ORGANISATION)
    model = MeterFilter(ORGANISATION, models=frozenset({"model_3"}))
    one = MeterFilter(ORGANISATION, frozenset({"model_3"}), frozenset({"key_7"}), frozenset({"/v1/endpoint/1"}))
    many = MeterFilter(ORGANISATION, models=frozenset(f"model_{number}" for number in range(7)))
    last_week = now - 7 * MICROSECONDS_PER_DAY
    questions = {
        "no filter": LogQuestion(everything),
        "status that is rare": LogQuestion(everything, frozenset({"no credits"})),
        "status that is common": LogQuestion(everything, frozenset({"finished"})),
        "four statuses": LogQuestion(everything, frozenset({"finished", "failed", "refused", "rate limited"})),
        "one model of 8": LogQuestion(model),
        "7 models of 8": LogQuestion(many),
        "one key of 40": LogQuestion(MeterFilter(ORGANISATION, keys=frozenset({"key_7"}))),
        "model, key and endpoint": LogQuestion(one),
        "model, key, endpoint and rare status": LogQuestion(one, frozenset({"no credits"})),
        "model that is not there": LogQuestion(MeterFilter(ORGANISATION, models=frozenset({"none"}))),
        "one model, a week until a week ago": LogQuestion(model, since=last_week - 7 * 86_400_000_000, until=last_week),
        "a part of an id that is nowhere": LogQuestion(everything, text="nowhere"),
        "a part of an id, one model, rare status": LogQuestion(model, frozenset({"no credits"}), text="ff"),
    }
    figures = []
    for name, question in questions.items():
        figures.append(await _timed(f"log: {name}", _PAGE, lambda question=question: log.page(question)))  # type: ignore[misc]
        figures.append(
            await _timed(f"log, old page: {name}", _PAGE, lambda question=question: log.page(question, middle))  # type: ignore[misc]
        )
    figures.append(await _timed("one request", _PAGE, lambda: log.find(ORGANISATION, middle)))
    figures.append(await _timed("its neighbours", _PAGE, lambda: log.neighbours(ORGANISATION, middle)))
    return figures


async def _answers(database: Database) -> list[Figure]:
    explorer, now = Explorer(database), now_microseconds()
    everything = MeterFilter(ORGANISATION)
    model = MeterFilter(ORGANISATION, models=frozenset({"model_3"}))
    month, week, two_months = (now - days * MICROSECONDS_PER_DAY for days in (30, 7, DAYS))
    questions = {
        "30 days by model": Question(everything, month, now),
        "30 days by key, tokens": Question(everything, month, now, "tokens", "key"),
        "30 days by class": Question(everything, month, now, by="class"),
        "30 days by endpoint, one model": Question(model, month, now, by="endpoint"),
        "60 days by month": Question(everything, two_months, now, step="month"),
        "7 days by hour and model": Question(everything, week, now, step="hour"),
        "7 days by hour and key, cached tokens": Question(everything, week, now, "cost", "key", "hour", "cached"),
        "14 days by hour and key": Question(everything, week - 6 * MICROSECONDS_PER_DAY, now, "cost", "key", "hour"),
    }
    figures = []
    for name, question in questions.items():
        figures.append(
            await _timed(f"explorer: {name}", _ANSWER, lambda question=question: explorer.explore(question))  # type: ignore[misc]
        )
    figures.append(await _timed("latency of 30 days", _ANSWER, lambda: latency(database, everything, month, now)))
    figures.append(await _timed("latency of one model", _ANSWER, lambda: latency(database, model, month, now)))
    return figures


async def _glances(database: Database) -> list[Figure]:
    now = now_microseconds()
    return [
        await _timed("last 24 hours", _ANSWER, lambda: last_day(database, ORGANISATION, now)),
        await _timed("days left", _ANSWER, lambda: burn(database, ORGANISATION, 10**12, now)),
        await _timed("14 days of each key", _ANSWER, lambda: sparks(database, ORGANISATION, now)),
    ]


async def _renders(folder: Path, paths: list[str]) -> list[Figure]:
    """Whole pages."""
    async with browsing(folder, ORGANISATION) as get:
        return [await _timed(f"page: {path}", _RENDERED, lambda path=path: get(path)) for path in paths]  # type: ignore[misc]


if __name__ == "__main__":
    sys.exit(main())
