"""`leadline usage explore`."""

from collections.abc import Mapping
from typing import Any

import click

from leadline.cli.options import common, run, show
from leadline.cli.spinner import spinner
from leadline.cli.usage_tables import key_shown, sums_table


@click.command("explore")
@click.option("--measure", type=click.Choice(["cost", "tokens", "requests"]), help="[default: cost]")
@click.option(
    "--by",
    type=click.Choice(["model", "key", "endpoint", "class", "member", "none"]),
    help="What to group by; class: of tokens [default: model].",
)
@click.option("--step", type=click.Choice(["hour", "day", "month"]), help="The chart's steps [default: day].")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Only this model. Repeat it for more.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Only this key, by name or id. Repeat it for more.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="PATH", help="Only this endpoint. Repeat it for more.")
@click.option(
    "--class",
    "token_class",
    type=click.Choice(["input", "cached", "image", "output", "reasoning"]),
    help="Only tokens of this class, and what they cost.",
)
@click.option("--since", metavar="WHEN", help="The first day in UTC, or a duration until now [default: 7d].")
@click.option("--until", metavar="DATE", help="The last day in UTC [default: today].")
@click.option("--email", help="Whose organisation. Needed where there are several.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with costs in ticks and in USD.")
@common
def explore(*, token_class: str | None, email: str | None, as_csv: bool, as_json: bool, **options: Any) -> None:
    """Show what was used as the console's usage page does. The JSON has the chart, too.

    \b
    Examples:
      leadline usage explore --by class --since 30d
      leadline usage explore --by key --model grok-4 --measure tokens --csv
    """
    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    with spinner("reading the usage"):
        result = run("usage explore", {"email": email, "options": asked | {"class": token_class}})
    if as_csv:
        from leadline.administration.commands.explore import explored_csv

        for line in explored_csv(result):
            click.echo(line, nl=False)
    else:
        show(result, as_json=as_json, text=lambda: _table(result))


def _table(result: Mapping[str, Any]) -> str:
    period = f"From {result['since']} until {result['until']}, tokens and cost:"
    rows = [(_named(result["by"], row), row) for row in result["rows"]]
    return f"{period}\n\n{sums_table(result['by'].upper(), rows, result['total'])}"


def _named(by: str, row: Mapping[str, Any]) -> str:
    match by:
        case "key":
            return key_shown(row)
        case "member":
            return str(row["member"])
        case "none":
            return "all"
        case _:
            return str(row["group"])
