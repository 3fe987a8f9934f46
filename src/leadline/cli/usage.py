"""`leadline usage`."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from leadline.cli.explore import explore
from leadline.cli.options import common, run, show
from leadline.cli.requests import DEFAULT_LIMIT, MOST_RECORDS, log_csv, request, requests
from leadline.cli.spinner import spinner
from leadline.cli.usage_tables import SUMMED, key_shown, log_table, sums_table


@click.group(invoke_without_command=True)
@click.option(
    "--by", type=click.Choice(["model", "key", "endpoint", "day", "hour"]), help="What to group by [default: model]."
)
@click.option("--since", metavar="WHEN", help="The first day in UTC, or a duration until now [default: 7d].")
@click.option("--until", metavar="DATE", help="The last day in UTC [default: today].")
@click.option("--log", is_flag=True, help="Show single requests instead, the newest first.")
@click.option("--limit", type=click.IntRange(1, MOST_RECORDS), help=f"With --log: how many [default: {DEFAULT_LIMIT}].")
@click.option("--before", metavar="REQUEST_ID", help="With --log: only those before this one.")
@click.option("--email", help="Whose organisation. Needed where there are several.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with costs in ticks and in USD.")
@common
@click.pass_context
def usage(
    context: click.Context,
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
    if context.invoked_subcommand is not None:
        if any((by, since, until, limit, before, email, log, as_csv, as_json)):
            raise click.UsageError(f"Give options after the word {context.invoked_subcommand!r}.")
        return
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
            result = run("usage log", {"limit": limit or DEFAULT_LIMIT, "before": before, "email": email})
        else:
            result = run("usage", {"by": by or "model", "since": since, "until": until, "email": email})
    if as_csv:
        _echo(log_csv(result["records"]) if log else _sums_csv(result))
    else:
        show(result, as_json=as_json, text=lambda: log_table(result["records"]) if log else _sums(result))


for _command in (explore, requests, request):
    usage.add_command(_command)


def _sums(result: Mapping[str, Any]) -> str:
    rows = [(key_shown(row) if result["by"] == "key" else row["group"], row) for row in result["rows"]]
    period = f"From {result['since']} until {result['until']}, tokens and cost:"
    return f"{period}\n\n{sums_table(result['by'].upper(), rows, result['total'])}"


def _sums_csv(result: Mapping[str, Any]) -> Iterable[str]:
    from leadline.administration.spreadsheet import csv_lines

    groups = ("group", "key_name", "key") if result["by"] == "key" else ("group",)
    return csv_lines((*groups, *SUMMED), result["rows"])


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line, nl=False)
