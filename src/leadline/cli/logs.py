"""`leadline logs`."""

import json
import sys
import time
from typing import Any

import click

from leadline.cli.options import common, data_folder
from leadline.cli.plain_text import harmless

DEFAULT_LINES = 50
_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}
# Told in the line's own places, or once more with colours.
_TOLD = (
    "at",
    "level",
    "logger",
    "message",
    "status",
    "method",
    "path",
    "seconds",
    "request_id",
    "exception",
    "color_message",
)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl C.")
@click.option(
    *("-n", "--lines"), type=click.IntRange(0, 1_000_000), default=DEFAULT_LINES, show_default=True, help="How many."
)
@common
def logs(*, follow: bool, lines: int, as_json: bool) -> None:
    """Show what the server logged, a short line each, in local time. With --json: as it stands in the log.

    \b
    Examples:
      leadline logs -f
      leadline logs --lines 1000 --json
    """
    from leadline.operations.log_lines import Follower, last_lines

    folder = data_folder() / "logs"
    # Opened first: a line between both is shown twice at worst, and never lost.
    follower = Follower(folder) if follow else None
    shown = last_lines(folder, lines) if lines else []
    if not shown and not follow and not folder.exists():
        click.echo(f"There is no log in {folder} yet. The server writes it: leadline serve", err=True)
        sys.exit(1)
    for line in shown:
        click.echo(_shown(line, as_json=as_json))
    if follower is not None:
        for line in follower.lines():
            click.echo(_shown(line, as_json=as_json))


def _shown(line: bytes, *, as_json: bool) -> str:
    text = line.decode("utf-8", "replace")
    if as_json:
        return text
    try:
        fields = json.loads(text)
        return _short(fields) if isinstance(fields, dict) else harmless(text, "")
    except (ValueError, KeyError, TypeError, OverflowError):
        return harmless(text, "")


def _short(fields: dict[str, Any]) -> str:
    at = time.strftime("%m-%d %H:%M:%S", time.localtime(float(fields["at"])))
    level, exception = str(fields["level"]), fields.get("exception")
    if "status" in fields and "path" in fields:
        what = f"{fields['status']} {fields.get('method', '')} {fields['path']}"
        what += f" {float(fields['seconds']) * 1000:.0f} ms" if "seconds" in fields else ""
        what += f" {fields['request_id']}" if "request_id" in fields else ""
    else:
        what = str(fields["message"])
    more = "".join(f" {name}={value}" for name, value in fields.items() if name not in _TOLD)
    word = "" if level == "info" else f"{click.style(level, fg=_COLOURS.get(level))} "
    first = f"{at} {word}{harmless(what + more, '')}"
    return first if not exception else f"{first}\n{harmless(str(exception))}"
