"""`leadline usage log` and `leadline usage request`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from leadline.cli.options import common, run, show, table
from leadline.cli.spinner import spinner
from leadline.cli.usage_tables import LOGGED, key_shown, log_table, status_shown
from leadline.money import show_usd

DEFAULT_LIMIT = 100
MOST_RECORDS = 10_000
_STATUSES = ["finished", "interrupted", "failed", "refused", "rate limited", "no credits"]


@click.command("log")
@click.option("--status", "statuses", multiple=True, type=click.Choice(_STATUSES), help="Repeat it for more.")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Only this model. Repeat it for more.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Only this key, by name or id. Repeat it for more.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="PATH", help="Only this endpoint. Repeat it for more.")
@click.option("--id", "text", metavar="TEXT", help="Only ids that hold this.")
@click.option("--since", metavar="WHEN", help="The first day in UTC, or a duration until now [default: all].")
@click.option("--until", metavar="DATE", help="The last day in UTC.")
@click.option("--limit", type=click.IntRange(1, MOST_RECORDS), default=DEFAULT_LIMIT, show_default=True)
@click.option("--before", metavar="REQUEST_ID", help="Only those before this one.")
@click.option("--email", help="Whose organisation. Needed where there are several.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with costs in ticks and in USD.")
@common
def requests(*, limit: int, before: str | None, email: str | None, as_csv: bool, as_json: bool, **filters: Any) -> None:
    """Show single requests, the newest first.

    \b
    Examples:
      leadline usage log --status failed --since 24h
      leadline usage log --key my-app --model grok-4 --limit 20 --json
    """
    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in filters.items()}
    with spinner("reading the log"):
        result = run("usage log", {"limit": limit, "before": before, "email": email, "filters": asked})
    if as_csv:
        for line in log_csv(result["records"]):
            click.echo(line, nl=False)
        return
    show(result, as_json=as_json, text=lambda: log_table(result["records"]))
    if result["searched_back_to"] is not None and not as_json:
        more = f"Searched back to {result['searched_back_to']}. To go on: --before {result['before']}"
        click.echo(more, err=True)


@click.command("request")
@click.argument("request_id", metavar="ID")
@click.option("--email", help="Whose organisation. Needed where there are several.")
@common
def request(request_id: str, *, email: str | None, as_json: bool) -> None:
    """Show one request, and how its price came about.

    \b
    Examples:
      leadline usage request 0192f3a0-7c1e-7d44-8c52-0c5a3b1f9e21
      leadline usage request 0192f3a0-7c1e-7d44-8c52-0c5a3b1f9e21 --json
    """
    result = run("usage request", {"request": request_id, "email": email})
    show(result, as_json=as_json, text=lambda: _request(result))


def log_csv(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    from leadline.administration.spreadsheet import csv_lines

    return csv_lines(LOGGED, records)


def _request(result: Mapping[str, Any]) -> str:
    first = result["first_token_milliseconds"]
    facts = (
        ("Request", result["request_id"]),
        ("Began", result["began_at"]),
        ("Ended", result["at"]),
        ("Key", key_shown(result)),
        ("Model", result["model"]),
        ("Endpoint", result["endpoint"]),
        ("Status", status_shown(result)),
        ("Time", f"{result['total_milliseconds']} ms" + ("" if first is None else f", first token after {first} ms")),
    )
    lines = [
        (line["class"], str(line["tokens"]), line["usd_per_million"] or "", show_usd(line["ticks"]))
        for line in result["lines"]
    ]
    price = table(
        ("TOKENS OF", "COUNT", "USD PER MILLION", "COST"), [*lines, ("TOTAL", "", "", show_usd(result["cost_ticks"]))]
    )
    return "\n".join([*(f"{name:<9}{value}" for name, value in facts), "", price])
