"""What `serve` and `models pull` print: short lines for people, one object a line with `--json`."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from leadline import __version__
from leadline.money import show_usd
from leadline.operations.quickstart import Quickstart
from leadline.weights.pull import Progress as Pulled


@dataclass(slots=True)
class PullBar:
    """A bar where there is a terminal, else a line every tenth."""

    _bar: Progress | None = None
    _task: TaskID | None = None
    _told: tuple[str, int] = ("", -1)

    def show(self, name: str, now: Pulled) -> None:
        if sys.stderr.isatty():
            self._draw(name, now)
            return
        tenth = 10 * now.done_bytes // now.total_bytes if now.total_bytes else 0
        if (now.stage, tenth) != self._told:
            self._told = (now.stage, tenth)
            click.echo(f"  {now.stage} {name}: {now.done_bytes / 1e6:.0f} of {now.total_bytes / 1e6:.0f} MB", err=True)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, name: str, now: Pulled) -> None:
        if self._bar is None:
            columns = (TextColumn("  … {task.description}"), BarColumn(), DownloadColumn())
            self._bar = Progress(
                *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
            )
            self._bar.start()
            self._task = self._bar.add_task(name, total=None)
        assert self._task is not None
        words = f"{name}, {now.stage}"
        self._bar.update(self._task, description=words, completed=now.done_bytes, total=now.total_bytes or None)


@dataclass(slots=True)
class PullJson:
    """An object a line on standard error; the result alone is on standard output."""

    def show(self, name: str, now: Pulled) -> None:
        click.echo(json.dumps({"event": "pulling", "name": name, **asdict(now)}), err=True)

    def stop(self) -> None: ...


@dataclass(slots=True)
class ServeLines:
    """For people. The key and the password of a first run are printed here and nowhere else."""

    _bar: PullBar = field(default_factory=PullBar)

    def serving(self, base_url: str, grpc_address: str, data: Path) -> None:
        click.echo(f"\n  Leadline {__version__}   data in {data}\n")
        click.echo(f"  Console   {base_url}")
        click.echo(f"  API       {base_url}/v1       (OpenAI SDKs; Anthropic SDKs take {base_url})")
        click.echo(f"  gRPC      {grpc_address}       (xai-sdk takes it as api_host)")
        click.echo("\n  Ctrl C stops the server.\n")

    def pulling(self, name: str, progress: Pulled) -> None:
        self._bar.show(name, progress)

    def waiting(self, model: str, detail: str) -> None:
        self._bar.stop()
        click.echo(f"  … {model}: {detail}")

    def ready(self, model: str, detail: str) -> None:
        self._bar.stop()
        click.echo(f"  ✓ {model} is ready: {detail}")

    def quickstart(self, result: Quickstart) -> None:
        usage = result.usage
        cost = show_usd(usage["cost_in_usd_ticks"])
        click.echo(f"\n  ✓ Your first question, asked with your key: {result.question}")
        click.echo(f"    {result.model}: {result.answer}")
        click.echo(f"    {usage['prompt_tokens']} tokens in, {usage['completion_tokens']} out, {cost}\n")
        click.echo("  Your API key, shown once:\n")
        click.echo(f"    export XAI_API_KEY={result.api_key}\n")
        click.echo("  Try it:\n")
        click.echo(
            f"    curl {result.base_url}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
            '      -H "Authorization: Bearer $XAI_API_KEY" \\\n'
            f'      -d \'{{"model": "{result.model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\'\n'
        )
        click.echo(f"  Sign-in for the console, shown once: {result.email}, password {result.password}\n")

    def setup_link(self, url: str) -> None:
        click.echo("  Finish set-up in the browser (the link works once, for 30 minutes):\n")
        click.echo(f"    {url}\n")

    def management(self, base_url: str) -> None:
        click.echo(f"  Management API  {base_url}\n")

    def metrics(self, base_url: str) -> None:
        click.echo(f"  Metrics  {base_url}/metrics\n")

    def warn(self, sentence: str) -> None:
        self._bar.stop()
        click.echo(f"  ! {sentence}", err=True)


@dataclass(slots=True)
class ServeJson:
    """For programs: one JSON object a line on standard output."""

    def serving(self, base_url: str, grpc_address: str, data: Path) -> None:
        _line(
            event="serving",
            base_url=base_url,
            openai_base_url=f"{base_url}/v1",
            grpc_address=grpc_address,
            data=str(data),
        )

    def pulling(self, name: str, progress: Pulled) -> None:
        _line(event="pulling", name=name, **asdict(progress))

    def waiting(self, model: str, detail: str) -> None:
        _line(event="waiting", model=model, detail=detail)

    def ready(self, model: str, detail: str) -> None:
        _line(event="ready", model=model, detail=detail)

    def quickstart(self, result: Quickstart) -> None:
        _line(event="quickstart", **asdict(result))

    def setup_link(self, url: str) -> None:
        _line(event="setup_link", url=url)

    def management(self, base_url: str) -> None:
        _line(event="management", base_url=base_url)

    def metrics(self, base_url: str) -> None:
        _line(event="metrics", base_url=base_url)

    def warn(self, sentence: str) -> None:
        _line(event="warning", message=sentence)


def _line(**fields: object) -> None:
    click.echo(json.dumps(fields, ensure_ascii=False))
    sys.stdout.flush()
