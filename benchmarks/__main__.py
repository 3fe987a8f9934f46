"""`python -m benchmarks`: Leadline against the engine that it runs, in one go. Exits with 1 when a goal is missed."""

import argparse
import asyncio
import json
import math
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.load import Asked, Burst, bodies, burst
from benchmarks.report import Machine, Pair, Report, Side, pair_rows, result_file, save_table, start_rows
from benchmarks.servers import Server, bare_engine, prepare, serving, start_without_model, until_ready
from leadline.engines.upstream.http import HttpClient
from leadline.errors import LeadlineError

_STARTS = 5
# Few at once are repeated until they are this many: one answer alone says little.
_FEWEST_REQUESTS = 8


def main() -> int:
    options = _options()
    try:
        with tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder:
            api_key = prepare(Path(folder), options.engine)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(_measure(Path(folder), api_key, options))
    except LeadlineError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _fail("Stopped before the end.")
    _show(report, options)
    return 0 if report.met else 1


def _fail(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="how often each side is measured [5]")
    parser.add_argument("--concurrency", default="1,4,8,16", help="requests at once [1,4,8,16]")
    parser.add_argument(
        "--engine", choices=("llamacpp", "openvino"), default="llamacpp", help="which engine [llamacpp]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/")
    options = parser.parse_args()
    options.concurrency = [int(number) for number in options.concurrency.split(",")]
    if options.save and options.engine != "llamacpp":
        parser.error("Only llama.cpp's figures are kept in the table. Use --json.")
    if options.pairs < 1 or min(options.concurrency) < 1:
        parser.error("At least one pair, and one request at once.")
    return options


async def _measure(data: Path, api_key: str, options: argparse.Namespace) -> Report:
    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, the servers are stopped all the same.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    machine = Machine.this()
    starts = [await _start() for _ in range(_STARTS)]
    pairs: list[Pair] = []
    async with serving(data) as server, bare_engine(data) as bare:
        await until_ready(server)
        sides = Sides(server, server.client(api_key), bare)
        for concurrency in options.concurrency:
            await sides.warm_up(concurrency)
            for number in range(options.pairs):
                _tell(f"{concurrency} at once, pair {number + 1} of {options.pairs}")
                pairs.append(await sides.pair(concurrency, number))
    return Report(machine, tuple(pairs), (*pair_rows(pairs), *start_rows(starts)))


async def _start() -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="leadline-bench-") as folder:
        _tell("start without a model")
        return await start_without_model(Path(folder))


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides that are compared. They are asked in turn, never together."""

    server: Server
    leadline: HttpClient
    bare: HttpClient | Asked

    async def warm_up(self, concurrency: int) -> None:
        for client in (self.bare, self.leadline):
            await burst(client, bodies(concurrency, "warm-up"))

    async def pair(self, concurrency: int, number: int) -> Pair:
        """At least `_FEWEST_REQUESTS` to each side, a burst here, a burst there; each time the other side begins."""
        bursts = math.ceil(_FEWEST_REQUESTS / concurrency)
        from_bare, from_leadline, spent = list[Burst](), list[Burst](), 0.0
        for turn in range(number * bursts, (number + 1) * bursts):
            requests = bodies(concurrency, str(turn))
            if turn % 2 == 0:
                from_bare.append(await burst(self.bare, requests))
            before = self.server.cpu_seconds()
            from_leadline.append(await burst(self.leadline, requests))
            spent += self.server.cpu_seconds() - before
            if turn % 2 == 1:
                from_bare.append(await burst(self.bare, requests))
        return Pair(concurrency, Side.of(from_bare), Side.of(from_leadline), spent)


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
