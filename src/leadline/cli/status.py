"""`leadline status` and `leadline doctor`."""

import sys
import time
from typing import Any

import click

from leadline.cli.options import common, data_folder, is_set_up, run, show, table
from leadline.cli.spinner import spinner

_AGAIN_SECONDS = 2
_NOT_READY = 3
WORKER_HEADINGS = ("ENGINE", "WORKER", "STATE", "RUNNING", "FAILED", "CACHED")
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


@click.command("status")
@click.option("-w", "--watch", is_flag=True, help="Show it again every two seconds, until Ctrl C.")
@common
def status(*, watch: bool, as_json: bool) -> None:
    """Show on one screen how the server is: engines, requests, tokens a second.

    Ends with exit code 3 where no model can answer.

    \b
    Examples:
      leadline status
      leadline status -w
      leadline status --json
    """
    result = _status()
    while watch and not as_json:
        click.clear()
        click.echo(_screen(result))
        time.sleep(_AGAIN_SECONDS)
        result = _status()
    show(result, as_json=as_json, text=lambda: _screen(result))
    if not result["ready"]:
        sys.exit(_NOT_READY)


@click.command("doctor")
@common
def doctor(*, as_json: bool) -> None:
    """Check everything, and say how to fix what is wrong.

    Ends with exit code 1 where there is a problem; warnings alone are none.

    \b
    Examples:
      leadline doctor
      leadline doctor --json
    """
    if not is_set_up():
        result = _not_set_up()
    else:
        with spinner("checking"):
            result = run("doctor", {})
    show(result, as_json=as_json, text=lambda: _report(result))
    if not result["ok"]:
        sys.exit(1)


def _status() -> dict[str, Any]:
    if not is_set_up():
        return {"running": False, "ready": False, "data": str(data_folder()), "engines": []}
    return run("status", {})


def _not_set_up() -> dict[str, Any]:
    finding = {
        "level": "problem",
        "text": f"There is no instance in {data_folder()}.",
        "fix": "leadline serve   (or name the instance's folder with --data)",
    }
    return {"ok": False, "problems": 1, "warnings": 0, "findings": [finding]}


def _screen(result: dict[str, Any]) -> str:
    if not result["running"]:
        return f"No server runs on {result['data']}.\nStart one: leadline serve"
    hours, rest = divmod(result["uptime_seconds"], 3600)
    books = result["database"]
    writes = "the disk takes writes" if books["writable"] else "THE DISK TAKES NO WRITES"
    lines = [
        f"{result['base_url']}  {'ready' if result['ready'] else 'not ready'}, up {hours} h {rest // 60} min,"
        f" Leadline {result['version']}",
        f"{result['running_requests']} running, {result['tokens_per_second']:.1f} tokens/s,"
        f" memory {_size(result['memory_bytes'])}",
        f"database {_size(books['size_bytes'])}, {books['waiting']} waiting, {writes};"
        f" disk {_size(result['disk_free_bytes'])} free",
        "",
        table(
            ("ENGINE", "STATE", "RUNNING", "WAITING", "TOKENS/S", "MEMORY", "MODELS"),
            [_row(one) for one in result["engines"]],
        ),
    ]
    lines += [f"{one['name']}: {one['detail']}" for one in result["engines"] if not one["ready"]]
    workers = [worker_row(one["name"], worker) for one in result["engines"] for worker in one["workers"]]
    lines += ["", table(WORKER_HEADINGS, workers)] if workers else []
    return "\n".join(lines)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    waiting = "-" if one["waiting"] is None else str(one["waiting"])
    state = one["state"] or ("ready" if one["ready"] else "away")
    memory = _size(one["memory_bytes"]) if one["memory_bytes"] else "-"
    return (
        *(one["name"], state, str(one["running"]), waiting, f"{one['tokens_per_second']:.1f}", memory),
        ", ".join(one["models"]),
    )


def worker_row(engine: str, worker: dict[str, Any]) -> tuple[str, ...]:
    """A row under WORKER_HEADINGS."""
    read = worker["prompt_tokens"]
    cached = f"{100 * worker['cached_tokens'] // read} %" if read else "-"
    return engine, worker["at"], worker["state"], str(worker["running"]), str(worker["failures"]), cached


def _report(result: dict[str, Any]) -> str:
    lines = []
    for finding in result["findings"]:
        mark, colour = _MARKS[finding["level"]]
        lines.append(f"{click.style(mark, fg=colour)} {finding['text']}")
        if finding["fix"]:
            lines.append(f"    {finding['fix']}")
    counts = [_count(result["problems"], "problem"), _count(result["warnings"], "warning")]
    return "\n".join([*lines, ", ".join(filter(None, counts)) or "All is well"])


def _count(count: int, name: str) -> str:
    return "" if not count else f"{count} {name}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"
