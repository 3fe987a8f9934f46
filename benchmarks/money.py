"""`python -m benchmarks.money`: what the money path costs, SQLite with synchronous=FULL. Exits with 1 on a missed goal.

Goals: ledger at most 20 µs of CPU per request at 32 parallel and 150 µs at 1, limit and key check together at most
3 µs, a usage query over ten million requests (30 days, by model) under 200 ms.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
import uvloop

from benchmarks.report import Goal, Machine
from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.keys import ApiKeys
from leadline.chat.events import Usage
from leadline.clock import MICROSECONDS_PER_DAY, now_microseconds
from leadline.config import Limit
from leadline.ids import new_uuid
from leadline.ledger.books import Hold, Outcome
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import COUNTS, UsageBook, UsageRecord
from leadline.limits.limiter import Limiter
from leadline.money import Ticks, usd
from leadline.storage.database import Database, Write

ACCOUNTS = 8
_SECONDS = 2.0
_ROUNDS = 5
_STREAMS = 200
_CHECKPOINTS = 100
# Made beforehand: they are no part of what the ledger costs.
_REQUEST_IDS = iter([str(new_uuid()) for _ in range(2_000_000)])
_RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    values: tuple[float, ...]
    unit: str
    goal: Goal | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        return self.goal is None or self.goal.met(self.median)

    def __str__(self) -> str:
        spread = f"({min(self.values):.3g}..{max(self.values):.3g})"
        goal = "" if self.goal is None else f"goal {self.goal} {'✓' if self.met else '✗'}"
        return f"  {self.name:<52}{self.median:>10.4g} {self.unit:<6} {spread:<20} {goal}"


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.money", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000, help="usage records for the query [10 million]")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    machine = Machine.this()
    with (
        tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(_measure(Path(folder), options.requests))
    print(machine)
    for figure in figures:
        print(figure)
    if options.save:
        document = {"machine": asdict(machine), "figures": [asdict(figure) for figure in figures]}
        path = _RESULTS / f"money-{machine.date}-{machine.commit}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(figure.met for figure in figures) else 1


async def _measure(folder: Path, requests: int) -> list[Figure]:
    figures = await _ledger(folder / "ledger.db")
    figures += await _checks(folder / "checks.db")
    return figures + await _query(folder / "usage.db", requests)


async def _ledger(path: Path) -> list[Figure]:
    database = Database(path)
    ledger = Ledger(database)
    await _open_accounts(database, ledger)
    figures = []
    goals = {1: Goal("≤", 150), 32: Goal("≤", 20)}
    for parallel in (1, 32, 128):
        runs = [await _load(ledger, parallel) for _ in range(_ROUNDS)]
        cpu, rate, waits = zip(*runs, strict=True)
        goal = goals.get(parallel)
        figures.append(Figure(f"ledger, {parallel} parallel: CPU per request", cpu, "µs", goal))
        figures.append(Figure(f"ledger, {parallel} parallel: requests", rate, "/s"))
        figures.append(Figure(f"ledger, {parallel} parallel: median wait", waits, "ms"))
    checkpoints = tuple([await _checkpoint(ledger) for _ in range(_ROUNDS)])
    figures.append(Figure(f"checkpoint of {_STREAMS} streams: CPU per stream", checkpoints, "µs"))
    await database.close()
    return figures


async def _open_accounts(database: Database, ledger: Ledger) -> None:
    for number in range(ACCOUNTS):
        organisation = f"org_{number}"
        await database.commit(
            Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (organisation,)),
            ledger.opening(organisation),
        )
        ledger.opened(organisation)
        await ledger.grant(organisation, usd("1000"), "benchmark")


async def _request(ledger: Ledger, number: int) -> None:
    """A whole answer, or a stream that ends within a second; its last byte waits for its charge."""
    hold = _hold(number)
    ledger.reserve(hold)
    outcome = _outcome(hold)
    await ledger.settle(hold, lambda: outcome)


async def _checkpoint(ledger: Ledger) -> float:
    """What running streams cost once a second: CPU µs of the whole process for each of them."""
    holds = [_hold(number) for number in range(_STREAMS)]
    for hold in holds:
        ledger.reserve(hold)
    used = [(hold, 777, Usage(200, 100, 0, 50, 0)) for hold in holds]
    spent = time.process_time()
    for _ in range(_CHECKPOINTS):
        await ledger.checkpoint(used)
    spent = time.process_time() - spent
    await asyncio.gather(*(ledger.settle(hold, lambda hold=hold: _outcome(hold)) for hold in holds))  # type: ignore[misc]
    return 1e6 * spent / (_STREAMS * _CHECKPOINTS)


def _hold(number: int) -> Hold:
    organisation = f"org_{number % ACCOUNTS}"
    key = f"key_{number % ACCOUNTS}"
    return Hold(
        *(next(_REQUEST_IDS), organisation, key, "model", "/v1/chat/completions", Ticks(1_000_000), now_microseconds())
    )


def _outcome(hold: Hold) -> Outcome:
    return Outcome(
        UsageRecord(
            organisation_id=hold.organisation_id,
            request_id=hold.request_id,
            began_at=hold.opened_at,
            at=now_microseconds(),
            key_id=hold.key_id,
            model=hold.model,
            endpoint=hold.endpoint,
            status="finished",
            streamed=True,
            usage=Usage(200, 100, 0, 50, 0),
            cost_ticks=777,
            first_token_milliseconds=12,
            total_milliseconds=345,
        )
    )


async def _load(ledger: Ledger, parallel: int) -> tuple[float, float, float]:
    """CPU µs per request of the whole process, requests per second, and the median wait in ms."""
    waits: list[float] = []
    until = time.monotonic() + _SECONDS
    numbers = iter(range(10**9))

    async def client() -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            await _request(ledger, next(numbers))
            waits.append(time.monotonic() - began)

    began, spent = time.monotonic(), time.process_time()
    await asyncio.gather(*(client() for _ in range(parallel)))
    spent, seconds = time.process_time() - spent, time.monotonic() - began
    return 1e6 * spent / len(waits), len(waits) / seconds, 1e3 * statistics.median(waits)


async def _checks(path: Path) -> list[Figure]:
    database = Database(path)
    await database.commit(Write("INSERT INTO organisations (id, name, created_at) VALUES ('org', 'org', 1)"))
    keys = ApiKeys(database, b"pepper" * 6)
    _, text = await keys.create("org", "bench", COMMAND_LINE)
    limiter = Limiter(Limit(requests_per_minute=10**9, tokens_per_minute=10**12))

    def both() -> None:
        key = keys.authenticate(text)
        admission = limiter.enter(key.organisation_id, "model", key.id, key.name, key.limit)
        admission.take_tokens(1000)
        admission.close(100)

    times = tuple(_microseconds(both) for _ in range(_ROUNDS))
    await database.close()
    return [Figure("key check and limits of one request", times, "µs", Goal("≤", 3))]


def _microseconds(work: Callable[[], None], count: int = 50_000) -> float:
    began = time.process_time()
    for _ in range(count):
        work()
    return 1e6 * (time.process_time() - began) / count


async def _query(path: Path, requests: int) -> list[Figure]:
    """An organisation of 40 keys, 8 models and 3 endpoints over 60 days; the query and a request's commit beside it."""
    database = Database(path)
    ledger = Ledger(database)
    await _open_accounts(database, ledger)
    print(f"  writing {requests:,} usage records …", file=sys.stderr)
    await asyncio.to_thread(_fill, path, requests)
    now = now_microseconds()
    book = UsageBook(database)
    queries: list[float] = []
    pages: list[float] = []
    for _ in range(_ROUNDS):
        began = time.monotonic()
        rows = await book.sums("org_0", now - 30 * MICROSECONDS_PER_DAY, now, "model")
        queries.append(1e3 * (time.monotonic() - began))
        assert len(rows) == 8, rows
        began = time.monotonic()
        await book.records("org_0", limit=100)
        pages.append(1e3 * (time.monotonic() - began))
    runs = [await _load(ledger, 32) for _ in range(_ROUNDS)]
    await database.close()
    return [
        Figure(f"usage query, {requests:,} requests, 30 days by model", tuple(queries), "ms", Goal("<", 200)),
        Figure(f"newest page of the request log of {requests:,}", tuple(pages), "ms"),
        Figure(f"ledger, 32 parallel beside {requests:,}: CPU per request", tuple(run[0] for run in runs), "µs"),
    ]


def _fill(path: Path, requests: int) -> None:
    """Requests of the last sixty days, straight into the tables."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous=OFF")
    now = now_microseconds()
    connection.execute(
        "INSERT INTO meters (organisation_id, key_id, model, endpoint)"
        " WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 959)"
        " SELECT 'org_0', 'key_' || (i % 40), 'model_' || (i / 40 % 8), '/v1/endpoint/' || (i / 320) FROM n"
    )
    connection.execute(
        "INSERT INTO usage_records (request_id, meter_id, began_at, at, status, error, streamed, prompt_tokens,"
        " cached_tokens, image_tokens, output_tokens, reasoning_tokens, cost_ticks, first_token_milliseconds,"
        " total_milliseconds) WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)"
        " SELECT printf('%016x-%08x', ?2 + i * ?3, i), i * 7919 % 960 + (SELECT MIN(id) FROM meters WHERE"
        " organisation_id = 'org_0'), ?2 + i * ?3, ?2 + i * ?3, 'finished', '', 1, 200, 100, 0, 50, 0, 777, 12, 345"
        " FROM n",
        (requests, now - 60 * MICROSECONDS_PER_DAY, 60 * MICROSECONDS_PER_DAY // requests),
    )
    for table, period, length in (("usage_hours", "hour", 3_600_000_000), ("usage_days", "day", 86_400_000_000)):
        connection.execute(
            f"INSERT INTO {table} (meter_id, {period}, {', '.join(COUNTS)})"
            f" SELECT meter_id, at / {length}, COUNT(*), 0, 0, SUM(prompt_tokens),"
            " SUM(cached_tokens), SUM(image_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(cost_ticks)"
            " FROM usage_records GROUP BY 1, 2"
        )
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
