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

import apsw
import uvloop

from benchmarks.console_pages import browsing
from benchmarks.report import Goal, Machine
from leadline.clock import MICROSECONDS_PER_DAY, now_microseconds
from leadline.ledger.explorer import Explorer, Question
from leadline.ledger.latency import latency
from leadline.ledger.ledger import Ledger
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.overview import burn, last_day, sparks
from leadline.ledger.request_log import LogQuestion, RequestLog
from leadline.ledger.usage import COUNTS, index_records
from leadline.money import usd
from leadline.storage.database import Database, Transaction, Write

DAYS = 60
_ROUNDS = 20
_ORGANISATION = "org_0"
_RESULTS = Path(__file__).parent / "results"
_PAGE, _ANSWER, _RENDERED = Goal("<", 20), Goal("<", 200), Goal("<", 100)
_PATHS = (
    *("/usage", "/usage?range=7d&step=hour", "/usage?by=key", "/usage?by=class&measure=tokens"),
    *("/usage?model=model_3&range=month", "/usage.csv", "/log", "/log?status=failed&model=model_3"),
    *("/log?status=no+credits", "/log?text=nowhere", "/limits", "/models"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    milliseconds: tuple[float, ...]
    goal: Goal | None = None

    @property
    def p50(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def p95(self) -> float:
        return sorted(self.milliseconds)[-(-len(self.milliseconds) * 95 // 100) - 1]

    @property
    def met(self) -> bool:
        return self.goal is None or self.goal.met(self.p50)

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"goal {self.goal} {'✓' if self.met else '✗'}"
        return f"  {self.name:<58}{self.p50:>9.2f} ms {self.p95:>9.2f} ms   {goal}"


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.console", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="requests [10 million]")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    machine = Machine.this()
    with (
        tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(_measure(Path(folder), options.rows))
    print(f"{machine}\n  {options.rows:,} requests{'':<40}      p50          p95")
    for figure in figures:
        print(figure)
    if options.save:
        rows = [asdict(figure) | {"p50": figure.p50, "p95": figure.p95} for figure in figures]
        document = {"machine": asdict(machine), "rows": options.rows, "figures": rows}
        path = _RESULTS / f"console-{machine.date}-{machine.commit}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(figure.met for figure in figures) else 1


async def _measure(folder: Path, requests: int) -> list[Figure]:
    path = folder / "leadline.db"
    database = Database(path)
    ledger = Ledger(database)
    await database.commit(
        Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (_ORGANISATION,)),
        ledger.opening(_ORGANISATION),
    )
    ledger.opened(_ORGANISATION)
    await ledger.grant(_ORGANISATION, usd("1000"), "benchmark")
    _tell(f"writing {requests:,} usage records …")
    await asyncio.to_thread(_fill, path, requests)
    figures = [
        *await _pages(database, requests),
        *await _answers(database),
        *await _glances(database),
    ]
    await database.close()
    return figures + await _renders(folder)


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


async def _timed(name: str, goal: Goal | None, work: Callable[[], Awaitable[Any]]) -> Figure:
    await work()
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await work()
        times.append(1e3 * (time.perf_counter() - began))
    return Figure(name, tuple(times), goal)


async def _pages(database: Database, requests: int) -> list[Figure]:
    """The first page and one from the middle, by filters that fit many requests, few, and none."""
    log, now = RequestLog(database), now_microseconds()
    [(middle,)] = await database.rows(
        "SELECT request_id FROM records_of WHERE organisation_id = $1 ORDER BY request_id LIMIT 1 OFFSET $2",
        *(_ORGANISATION, requests // 100),
    )
    everything = MeterFilter(_ORGANISATION)
    model = MeterFilter(_ORGANISATION, models=frozenset({"model_3"}))
    one = MeterFilter(_ORGANISATION, frozenset({"model_3"}), frozenset({"key_7"}), frozenset({"/v1/endpoint/1"}))
    many = MeterFilter(_ORGANISATION, models=frozenset(f"model_{number}" for number in range(7)))
    last_week = now - 7 * MICROSECONDS_PER_DAY
    questions = {
        "no filter": LogQuestion(everything),
        "status that is rare": LogQuestion(everything, frozenset({"no credits"})),
        "status that is common": LogQuestion(everything, frozenset({"finished"})),
        "four statuses": LogQuestion(everything, frozenset({"finished", "failed", "refused", "rate limited"})),
        "one model of 8": LogQuestion(model),
        "7 models of 8": LogQuestion(many),
        "one key of 40": LogQuestion(MeterFilter(_ORGANISATION, keys=frozenset({"key_7"}))),
        "model, key and endpoint": LogQuestion(one),
        "model, key, endpoint and rare status": LogQuestion(one, frozenset({"no credits"})),
        "model that is not there": LogQuestion(MeterFilter(_ORGANISATION, models=frozenset({"none"}))),
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
    figures.append(await _timed("one request", _PAGE, lambda: log.find(_ORGANISATION, middle)))
    figures.append(await _timed("its neighbours", _PAGE, lambda: log.neighbours(_ORGANISATION, middle)))
    return figures


async def _answers(database: Database) -> list[Figure]:
    explorer, now = Explorer(database), now_microseconds()
    everything = MeterFilter(_ORGANISATION)
    model = MeterFilter(_ORGANISATION, models=frozenset({"model_3"}))
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
        await _timed("last 24 hours", _ANSWER, lambda: last_day(database, _ORGANISATION, now)),
        await _timed("days left", _ANSWER, lambda: burn(database, _ORGANISATION, 10**12, now)),
        await _timed("14 days of each key", _ANSWER, lambda: sparks(database, _ORGANISATION, now)),
    ]


async def _renders(folder: Path) -> list[Figure]:
    """Whole pages."""
    async with browsing(folder, _ORGANISATION) as get:
        return [await _timed(f"page: {path}", _RENDERED, lambda path=path: get(path)) for path in _PATHS]  # type: ignore[misc]


def _fill(path: Path, requests: int) -> None:
    """Requests of 40 keys, 8 models and 3 endpoints of the last sixty days, straight into the tables. One of fifty is
    rate limited, one of a hundred failed; one of ten thousand had no credits, all of them long ago."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-200000")
    now = now_microseconds()
    connection.execute(
        "INSERT INTO meters (organisation_id, key_id, model, endpoint)"
        " WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 959)"
        " SELECT ?, 'key_' || (i % 40), 'model_' || (i / 40 % 8), '/v1/endpoint/' || (i / 320) FROM n",
        (_ORGANISATION,),
    )
    connection.execute(
        "INSERT INTO prices WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 7)"
        " SELECT 'model_' || i, 0, 1, 'file', 3, 1, NULL, 5, NULL, 0, 0, 0, 0, 0, 0 FROM n"
    )
    connection.execute(
        "INSERT INTO usage_records (request_id, meter_id, began_at, at, status, error, streamed, prompt_tokens,"
        " cached_tokens, image_tokens, output_tokens, reasoning_tokens, cost_ticks, first_token_milliseconds,"
        " total_milliseconds) WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1),"
        " r AS (SELECT i, ?2 + i * ?3 AS at, (SELECT MIN(id) FROM meters) + i * 7919 % 960 AS meter_id,"
        " CASE WHEN i % 10007 = 0 AND i < ?1 / 2 THEN 'insufficient_credits' WHEN i % 50 = 3 THEN 'rate_limited'"
        " WHEN i % 100 = 7 THEN 'engine_failed' ELSE '' END AS error FROM n)"
        " SELECT substr(printf('%012x', at / 1000), 1, 8) || '-' || substr(printf('%012x', at / 1000), 9, 4)"
        " || printf('-7%03x-8%03x-%012x', i % 4096, i * 31 % 4096, i), meter_id, at, at,"
        " CASE error WHEN '' THEN 'finished' WHEN 'engine_failed' THEN 'failed' ELSE 'refused' END, error, 1,"
        " CASE error WHEN '' THEN 200 ELSE 0 END, CASE error WHEN '' THEN 100 ELSE 0 END, 0,"
        " CASE error WHEN '' THEN 50 ELSE 0 END, 0, CASE error WHEN '' THEN 650 ELSE 0 END, 12 + i % 500, 345 FROM r",
        (requests, now - DAYS * MICROSECONDS_PER_DAY, DAYS * MICROSECONDS_PER_DAY // requests),
    )
    tokens = "SUM(prompt_tokens), SUM(cached_tokens), SUM(image_tokens), SUM(output_tokens), SUM(reasoning_tokens)"
    for table, period, length in (("usage_hours", "hour", 3_600_000_000), ("usage_days", "day", 86_400_000_000)):
        connection.execute(
            f"INSERT INTO {table} (meter_id, {period}, {', '.join(COUNTS)}) SELECT meter_id, at / {length}, COUNT(*),"
            f" SUM(status = 'failed'), SUM(status = 'refused'), {tokens}, SUM(cost_ticks) FROM usage_records"
            " GROUP BY 1, 2"
        )
    [(index,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'records_by_meter'")
    with connection:  # one at a time, into an index that is there, they would take many times as long
        connection.execute("DROP INDEX records_by_meter")
        index_records(Transaction(connection), ())
        connection.execute(index)
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
