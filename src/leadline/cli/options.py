"""What every command has: `--data`, `--json`, errors with an exit code, and a way to the instance."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import platformdirs

from leadline.errors import LeadlineError

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DATA_HELP = "The folder of the instance [default: LEADLINE_DATA, else the user's data folder]."


def common(command: _Command) -> _Command:
    """Give a command `--data` and `--json`."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return click.option("--data", type=click.Path(path_type=Path), expose_value=False, callback=_keep, help=_DATA_HELP)(
        command
    )


def _keep(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.find_root().ensure_object(dict)["data"] = value


def data_folder() -> Path:
    """`--data`, wherever it stood on the line, else LEADLINE_DATA, else the platform's folder."""
    given = click.get_current_context().find_root().ensure_object(dict).get("data")
    if given is None and os.environ.get("LEADLINE_DATA"):
        given = Path(os.environ["LEADLINE_DATA"])
    return Path(given) if given is not None else Path(platformdirs.user_data_dir("leadline", appauthor=False))


def is_set_up() -> bool:
    """Whether the folder has an instance. Most commands would make one where there is none."""
    from leadline.administration.instance import is_set_up as was_made

    try:
        return was_made(data_folder())
    except LeadlineError as error:
        fail(error)


def run(command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run a command on the instance: in its running server, or on the folder itself."""
    from leadline.operations.control import call

    try:
        return asyncio.run(call(data_folder(), command, arguments))
    except LeadlineError as error:
        fail(error)


def fail(error: LeadlineError) -> NoReturn:
    """End with the error's sentence and its exit code."""
    from leadline.operations.control import exit_code

    click.echo(str(error), err=True)
    sys.exit(exit_code(error))


def show(result: Mapping[str, Any], *, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result for programs or for people."""
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else text())


def table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Left-aligned columns."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = "  ".join(cell.ljust(width) for cell, width in zip(headings, widths, strict=True)).rstrip()
    return "\n".join([head, *lines])
