"""`leadline init` and `leadline accounts`."""

import sys

import click

from leadline.cli.options import common, run, show, table


@click.command()
@click.option("--email", required=True, help="Yours.")
@click.option("--org", required=True, help="The organisation's name.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--credit", metavar="USD", help="Starter credit [default: credits.starter_usd].")
@click.option("--key", "key_name", help="Name of the first key [default: first-key].")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@common
def init(
    email: str, org: str, credit: str | None, key_name: str | None, *, password_stdin: bool, yes: bool, as_json: bool
) -> None:
    """Make the first organisation with its credit and key.

    \b
    Examples:
      leadline init --email mara@northwind.example --org "Northwind Labs"
      leadline init --email mara@north.example --org North --password-stdin --yes --json < password
    """
    password = _password(email, from_stdin=password_stdin, yes=yes)
    first = {"credit": credit, "key": key_name}
    result = run("init", {"email": email, "org": org, "password": password, "first": first})
    if "api_key" not in result:
        show(result, as_json=as_json, text=lambda: "This instance has an organisation already; nothing was changed.")
        return
    show(result, as_json=as_json, text=lambda: f"{result['api_key']}\nThe key is shown once: store it now.")


@click.group()
def accounts() -> None:
    """Organisations and their users."""


@accounts.command("create")
@click.option("--email", required=True, help="Its first user's.")
@click.option("--org", required=True, help="The organisation's name.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@common
def create_account(email: str, org: str, *, password_stdin: bool, yes: bool, as_json: bool) -> None:
    """Make a further organisation.

    \b
    Examples:
      leadline accounts create --email bob@south.example --org South --password-stdin < password
      leadline accounts create --email bob@south.example --org South
    """
    password = _password(email, from_stdin=password_stdin, yes=yes)
    result = run("accounts create", {"email": email, "org": org, "password": password})
    show(result, as_json=as_json, text=lambda: f"Made {org}: {result['organisation_id']}")


@accounts.command("list")
@common
def list_accounts(*, as_json: bool) -> None:
    """Show every organisation's users.

    \b
    Examples:
      leadline accounts list
      leadline accounts list --json
    """
    result = run("accounts list", {})
    rows = [
        (one["email"], one["organisation"], one["organisation_id"], "suspended" if one["suspended_at"] else "active")
        for one in result["accounts"]
    ]
    show(result, as_json=as_json, text=lambda: table(("EMAIL", "ORGANISATION", "ID", "STATE"), rows))


@accounts.command("suspend")
@click.argument("email")
@common
def suspend_account(email: str, *, as_json: bool) -> None:
    """Refuse all keys of a user's organisation from the next request on.

    \b
    Examples:
      leadline accounts suspend bob@south.example
      leadline accounts suspend bob@south.example --json
    """
    result = run("accounts suspend", {"email": email})
    show(result, as_json=as_json, text=lambda: f"{result['organisation']} is suspended: its keys are refused.")


@accounts.command("resume")
@click.argument("email")
@common
def resume_account(email: str, *, as_json: bool) -> None:
    """Let a suspended organisation's keys work again.

    \b
    Examples:
      leadline accounts resume bob@south.example
      leadline accounts resume bob@south.example --json
    """
    result = run("accounts resume", {"email": email})
    show(result, as_json=as_json, text=lambda: f"{result['organisation']} is active: its keys work.")


@accounts.command("change-email")
@click.argument("old")
@click.argument("new")
@common
def change_email(old: str, new: str, *, as_json: bool) -> None:
    """Give a user another e-mail.

    \b
    Examples:
      leadline accounts change-email bob@south.example robert@south.example
      leadline accounts change-email bob@south.example robert@south.example --json
    """
    result = run("accounts change-email", {"old": old, "new": new})
    show(result, as_json=as_json, text=lambda: f"{old} is {result['email']} from now on.")


def _password(email: str, *, from_stdin: bool, yes: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if yes or not sys.stdin.isatty():
        raise click.UsageError("Give the password with --password-stdin.")
    click.confirm(f"Is {email} right?", abort=True)
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password
