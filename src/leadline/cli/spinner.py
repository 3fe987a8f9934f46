"""What shows that a command still works, without touching its result on standard output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

import click

PATIENCE_SECONDS = 1.0


@contextmanager
def spinner(words: str) -> Iterator[None]:
    """Once the work has taken a second: a spinner with the time where there is a terminal, else one line."""
    if not sys.stderr.isatty():
        timer = Timer(PATIENCE_SECONDS, lambda: click.echo(f"  {words} …", err=True))
        stop = timer.cancel
    else:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        progress.add_task(words)
        timer, stop = Timer(PATIENCE_SECONDS, progress.start), progress.stop
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        stop()
