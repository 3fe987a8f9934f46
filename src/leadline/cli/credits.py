"""`leadline credits`."""

import sys

import click

from leadline.cli.options import common, run, show, table
from leadline.cli.spinner import spinner
from leadline.money import show_usd


@click.group()
def credits() -> None:
    """Prepaid credits and the ledger."""


@credits.command("grant")
@click.argument("email")
@click.argument("usd")
@click.option("--reason", required=True, help="Why, for the ledger.")
@click.option(
    "--expires",
    metavar="WHEN",
    help="The last day in UTC, a duration from now, or never  [default: credits.expire_after_days]",
)
@common
def grant(email: str, usd: str, reason: str, expires: str | None, *, as_json: bool) -> None:
    """Add credits to an organisation, for ever or until a day ends.

    \b
    Examples:
      leadline credits grant mara@northwind.example 25 --reason pilot
      leadline credits grant mara@northwind.example 25 --reason pilot --expires 2027-03-31
    """
    result = run("credits grant", {"email": email, "amount": usd, "reason": reason, "expires": expires})
    until = f" until {result['expires_at']}" if result["expires_at"] else ""
    given = f"Granted {show_usd(result['granted_ticks'])} to {result['organisation']}{until}."
    show(result, as_json=as_json, text=lambda: f"{given} Balance {show_usd(result['balance_ticks'])}.")


@credits.command("balance")
@click.argument("email")
@common
def balance(email: str, *, as_json: bool) -> None:
    """Show what an organisation has left.

    \b
    Examples:
      leadline credits balance mara@northwind.example
      leadline credits balance mara@northwind.example --json
    """
    result = run("credits balance", {"email": email})
    text = "Balance {}, of which {} is held by running requests and {} is available."
    amounts = [show_usd(result[name]) for name in ("balance_ticks", "held_ticks", "available_ticks")]
    show(result, as_json=as_json, text=lambda: text.format(*amounts))


@credits.command("ledger")
@click.argument("email")
@click.option("--limit", type=click.IntRange(1), help="Only the newest entries.")
@common
def ledger(email: str, limit: int | None, *, as_json: bool) -> None:
    """Show an organisation's ledger, the newest entry last.

    \b
    Examples:
      leadline credits ledger mara@northwind.example --limit 20
      leadline credits ledger mara@northwind.example --limit 20 --json
    """
    with spinner("reading the ledger"):
        result = run("credits ledger", {"email": email, "limit": limit})
    rows = [
        (entry["at"], entry["kind"], show_usd(entry["amount_ticks"]), entry["model"] or "", entry["reason"])
        for entry in result["entries"]
    ]
    show(result, as_json=as_json, text=lambda: table(("AT", "KIND", "AMOUNT", "MODEL", "REASON"), rows))


@credits.command("verify")
@common
def verify(*, as_json: bool) -> None:
    """Check that the books add up.

    \b
    Examples:
      leadline credits verify
      leadline credits verify --json
    """
    with spinner("checking the books"):
        result = run("credits verify", {})
    good = f"{result['checked']} entries checked: every rule holds."
    show(result, as_json=as_json, text=lambda: good if result["ok"] else "\n".join(result["broken"]))
    if not result["ok"]:
        sys.exit(1)
