"""`python -m benchmarks`: Leadline against the engine that it runs, in one go. Exits with 1 when a goal is missed."""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.load import bodies, burst
from benchmarks.report import Machine, Pair, Report, pair_rows, result_file, save_table, start_rows
from benchmarks.servers import Server, bare_engine, prepare, serving, start_without_model, until_ready
from leadline.engines.upstream.http import HttpClient
from leadline.errors import LeadlineError

_STARTS = 5
_WARM_UP = -1


def main() -> int:
    options = _options()
    try:
        with tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder:
            api_key = prepare(Path(folder))
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(_measure(Path(folder), api_key, options))
    except* LeadlineError as errors:
        print(*errors.exceptions, sep="\n", file=sys.stderr)
        sys.exit(1)
    _show(report, options)
    return 0 if report.met else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="how often each side is measured [5]")
    parser.add_argument("--concurrency", default="1,4,8,16", help="requests at once [1,4,8,16]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/")
    options = parser.parse_args()
    options.concurrency = [int(number) for number in options.concurrency.split(",")]
    if options.pairs < 1 or min(options.concurrency) < 1:
        parser.error("At least one pair, and one request at once.")
    return options


async def _measure(data: Path, api_key: str, options: argparse.Namespace) -> Report:
    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, the servers are stopped all the same.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    starts = [await _start() for _ in range(_STARTS)]
    pairs: list[Pair] = []
    async with serving(data) as server, bare_engine(data) as bare:
        await until_ready(server)
        leadline = server.client(api_key)
        for concurrency in options.concurrency:
            for client in (bare, leadline):
                await burst(client, bodies(concurrency, _WARM_UP), concurrency)
            for number in range(options.pairs):
                _tell(f"{concurrency} at once, pair {number + 1} of {options.pairs}")
                pairs.append(await _pair(server, leadline, bare, concurrency, number))
    return Report(Machine.this(), tuple(pairs), (*pair_rows(pairs), *start_rows(starts)))


async def _start() -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder:
        _tell("start without a model")
        return await start_without_model(Path(folder))


async def _pair(server: Server, leadline: HttpClient, bare: HttpClient, concurrency: int, number: int) -> Pair:
    """One side after the other, never together; the one that goes first changes from pair to pair."""
    requests = bodies(concurrency, number)
    if number % 2 == 0:
        from_bare = await burst(bare, requests, concurrency)
    before = server.cpu_seconds()
    from_leadline = await burst(leadline, requests, concurrency)
    spent = server.cpu_seconds() - before
    if number % 2 == 1:
        from_bare = await burst(bare, requests, concurrency)
    return Pair(concurrency, from_bare, from_leadline, spent)


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def _show(report: Report, options: argparse.Namespace) -> None:
    print(report.text())
    text = json.dumps(report.document(), ensure_ascii=False, indent=1) + "\n"
    if options.json is not None:
        options.json.write_text(text, "utf-8")
    if options.save:
        path = result_file(report.machine)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        save_table(report)


if __name__ == "__main__":
    sys.exit(main())
