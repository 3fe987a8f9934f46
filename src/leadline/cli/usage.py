"""`leadline usage`."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from leadline.cli.options import common, run, show, table
from leadline.cli.spinner import spinner
from leadline.money import TICKS_PER_USD, show_usd

# What a result calls a count, and the heading that people read above it.
_REQUESTS = {"requests": "REQUESTS", "failed": "FAILED", "refused": "REFUSED"}
_TOKENS = {
    "prompt_tokens": "PROMPT",
    "cached_tokens": "CACHED",
    "image_tokens": "IMAGE",
    "output_tokens": "OUTPUT",
    "reasoning_tokens": "REASONING",
}
_LOGGED = ("request_id", "began_at", "at", "key_name", "key", "model", "endpoint", "status", "error")
_TIMES = ("first_token_milliseconds", "total_milliseconds")
_DEFAULT_LIMIT = 100
_MOST_RECORDS = 10_000


@click.command()
@click.option(
    "--by", type=click.Choice(["model", "key", "endpoint", "day", "hour"]), help="What to group by [default: model]."
)
@click.option("--since", metavar="WHEN", help="The first day in UTC, or a duration until now [default: 7d].")
@click.option("--until", metavar="DATE", help="The last day in UTC [default: today].")
@click.option("--log", is_flag=True, help="Show single requests instead, the newest first.")
@click.option(
    "--limit", type=click.IntRange(1, _MOST_RECORDS), help=f"With --log: how many [default: {_DEFAULT_LIMIT}]."
)
@click.option("--before", metavar="REQUEST_ID", help="With --log: only those before this one.")
@click.option("--email", help="Whose organisation. Needed where there are several.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with costs in ticks and in USD.")
@common
def usage(
    *,
    by: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    before: str | None,
    email: str | None,
    log: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show what was used and what it cost. Days count whole; with --by hour, hours.

    \b
    Examples:
      leadline usage
      leadline usage --by key --since 2027-01-01 --until 2027-01-31 --csv
      leadline usage --log --limit 20
    """
    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    if log and (by or since or until):
        raise click.UsageError(
            "--log shows single requests: give it --limit and --before, not --by, --since or --until."
        )
    if not log and (limit or before):
        raise click.UsageError("--limit and --before belong to --log.")
    with spinner("reading the usage"):
        if log:
            asked = {"limit": limit or _DEFAULT_LIMIT, "before": before, "email": email}
            result = run("usage log", asked)
        else:
            result = run("usage", {"by": by or "model", "since": since, "until": until, "email": email})
    if as_csv:
        click.echo(_log_csv(result["records"]) if log else _sums_csv(result), nl=False)
    else:
        show(result, as_json=as_json, text=lambda: _log(result["records"]) if log else _sums(result))


def _sums(result: Mapping[str, Any]) -> str:
    headings = (result["by"].upper(), *_REQUESTS.values(), *_TOKENS.values(), "COST")
    rows = [(_named(row) if result["by"] == "key" else row["group"], *_counts(row)) for row in result["rows"]]
    period = f"From {result['since']} until {result['until']}, tokens and cost:"
    return f"{period}\n\n{table(headings, [*rows, ('TOTAL', *_counts(result['total']))])}"


def _log(records: Sequence[Mapping[str, Any]]) -> str:
    headings = ("AT", "REQUEST", "KEY", "MODEL", "ENDPOINT", "STATUS", *_TOKENS.values(), "COST")
    rows = [
        (
            *(record["at"], record["request_id"], _named(record), record["model"], record["endpoint"]),
            *(f"{record['status']} ({record['error']})" if record["error"] else record["status"],),
            *(str(record[name]) for name in _TOKENS),
            show_usd(record["cost_ticks"]),
        )
        for record in records
    ]
    return table(headings, rows)


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['key_name']} ({row['key']})"


def _counts(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(str(row[name]) for name in (*_REQUESTS, *_TOKENS)), show_usd(row["cost_ticks"]))


def _sums_csv(result: Mapping[str, Any]) -> str:
    groups = ("group", "key_name", "key") if result["by"] == "key" else ("group",)
    return _csv((*groups, *_REQUESTS, *_TOKENS), result["rows"])


def _log_csv(records: Sequence[Mapping[str, Any]]) -> str:
    return _csv((*_LOGGED, *_TOKENS, *_TIMES), records)


def _csv(columns: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> str:
    """The columns, then the cost in ticks and in dollars with all of their ten decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*columns, "cost_ticks", "cost_usd"))
    for row in rows:
        whole, fraction = divmod(row["cost_ticks"], TICKS_PER_USD)
        writer.writerow((*_cells(row, columns), row["cost_ticks"], f"{whole}.{fraction:010d}"))
    return text.getvalue()


def _cells(row: Mapping[str, Any], columns: tuple[str, ...]) -> Iterator[Any]:
    for column in columns:
        cell = row[column]
        # A spreadsheet would take a name that begins so for a formula.
        yield f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell
