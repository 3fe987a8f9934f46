"""`leadline workers`: the servers behind an engine that has several."""

import click

from leadline.cli.configuration import tell_when
from leadline.cli.options import common, run, show, table
from leadline.cli.status import WORKER_HEADINGS, worker_row


@click.group("workers")
def workers() -> None:
    """The servers behind an engine that has several: list, add and remove them."""


@workers.command("list")
@common
def list_workers(*, as_json: bool) -> None:
    """Show each worker: whether it takes requests, what runs there, what it had cached.

    \b
    Examples:
      leadline workers list
      leadline workers list --json
    """
    result = run("workers list", {})
    rows = [worker_row(one["engine"], one) for one in result["workers"]]
    show(result, as_json=as_json, text=lambda: table(WORKER_HEADINGS, rows) if rows else "No engine has workers.")


@workers.command("add")
@click.argument("engine")
@click.argument("url")
@common
def add_worker(engine: str, url: str, *, as_json: bool) -> None:
    """Add a server to an engine. It gets requests as soon as it answers.

    \b
    Examples:
      leadline workers add gpus http://10.0.0.7:8000/v1
      leadline workers add gpus http://10.0.0.8:8000/v1 --json
    """
    result = run("workers add", {"engine": engine, "url": url})
    show(result, as_json=as_json, text=lambda: f"{engine} has {len(result['urls'])} workers.")
    tell_when(result)


@workers.command("remove")
@click.argument("engine")
@click.argument("url")
@common
def remove_worker(engine: str, url: str, *, as_json: bool) -> None:
    """Take a server from an engine. It gets no new requests; those that it has end there.

    \b
    Examples:
      leadline workers remove gpus http://10.0.0.7:8000/v1
      leadline workers remove gpus http://10.0.0.8:8000/v1 --json
    """
    result = run("workers remove", {"engine": engine, "url": url})
    left = len(result["urls"])
    show(result, as_json=as_json, text=lambda: f"{engine} has {left} worker{'' if left == 1 else 's'}.")
    tell_when(result)
