"""`leadline users` and `leadline setup-link`."""

from typing import Any

import click

from leadline.cli.options import common, run, show, table

_ROLES = "owner, admin, developer, billing or viewer"
_ORGANISATION = click.option("--org", "organisation", help="An organisation's id, or the e-mail of a member.")


@click.group()
def users() -> None:
    """People, and what they may do."""


@users.command("list")
@common
def list_users(*, as_json: bool) -> None:
    """Show everybody.

    \b
    Examples:
      leadline users list
      leadline users list --json
    """
    result = run("users list", {})
    show(result, as_json=as_json, text=lambda: table(("EMAIL", "NAME", "ROLES", "2FA", "STATE"), _rows(result)))


@users.command("invite")
@click.argument("email")
@click.option("--role", default="developer", show_default=True, help=f"{_ROLES}.")
@_ORGANISATION
@common
def invite_user(email: str, role: str, organisation: str | None, *, as_json: bool) -> None:
    """Invite somebody into an organisation, and print the link.

    It works once and for a week. With a mail server it is mailed as well.

    \b
    Examples:
      leadline users invite bob@northwind.example
      leadline users invite eve@northwind.example --role billing --org mara@northwind.example
    """
    result = run("users invite", {"email": email, "role": role, "organisation": organisation})
    show(result, as_json=as_json, text=lambda: str(result["link"]))
    click.echo(f"Invited {result['email']} into {result['organisation']} as {result['role']}.", err=True)


@users.command("role")
@click.argument("email")
@click.argument("role")
@_ORGANISATION
@common
def change_role(email: str, role: str, organisation: str | None, *, as_json: bool) -> None:
    """Give a member another role, or none: then he is a member no more.

    \b
    Examples:
      leadline users role bob@northwind.example admin
      leadline users role bob@northwind.example none --org mara@northwind.example
    """
    result = run("users role", {"email": email, "role": role, "organisation": organisation})
    where = result["organisation"]
    what = f"is no member of {where} now" if role == "none" else f"is {result['role']} in {where}"
    show(result, as_json=as_json, text=lambda: f"{result['email']} {what}.")


@users.command("suspend")
@click.argument("email")
@common
def suspend_user(email: str, *, as_json: bool) -> None:
    """Keep a user out of the console, at once. API keys go on.

    \b
    Examples:
      leadline users suspend bob@northwind.example
      leadline users suspend bob@northwind.example --json
    """
    result = run("users suspend", {"email": email})
    show(result, as_json=as_json, text=lambda: f"{result['email']} is suspended: all sessions ended.")


@users.command("resume")
@click.argument("email")
@common
def resume_user(email: str, *, as_json: bool) -> None:
    """Let a suspended user in again.

    \b
    Examples:
      leadline users resume bob@northwind.example
      leadline users resume bob@northwind.example --json
    """
    result = run("users resume", {"email": email})
    show(result, as_json=as_json, text=lambda: f"{result['email']} may sign in.")


@users.command("admin")
@click.argument("email")
@click.option("--off", is_flag=True, help="Make the user an admin no more.")
@common
def make_admin(email: str, *, off: bool, as_json: bool) -> None:
    """Make a user an admin of this server.

    \b
    Examples:
      leadline users admin bob@northwind.example
      leadline users admin bob@northwind.example --off
    """
    result = run("users admin", {"email": email, "off": off})
    what = "an admin" if result["is_admin"] else "no admin"
    show(result, as_json=as_json, text=lambda: f"{result['email']} is {what} of this server.")


@users.command("two-factor-off")
@click.argument("email")
@common
def turn_off_two_factor(email: str, *, as_json: bool) -> None:
    """Let a user in without a code who lost the phone and the recovery codes.

    \b
    Examples:
      leadline users two-factor-off bob@northwind.example
      leadline users two-factor-off bob@northwind.example --json
    """
    result = run("users two-factor-off", {"email": email})
    show(result, as_json=as_json, text=lambda: f"{result['email']} signs in with the password alone.")


@users.command("reset-link")
@click.argument("email")
@common
def make_reset_link(email: str, *, as_json: bool) -> None:
    """Print a link with which a user chooses a new password. It works once, for an hour.

    \b
    Examples:
      leadline users reset-link bob@northwind.example
      leadline users reset-link bob@northwind.example --json
    """
    result = run("users reset-link", {"email": email})
    show(result, as_json=as_json, text=lambda: str(result["link"]))


@users.command("change-email")
@click.argument("old")
@click.argument("new")
@common
def change_email(old: str, new: str, *, as_json: bool) -> None:
    """Give a user another e-mail.

    \b
    Examples:
      leadline users change-email bob@south.example robert@south.example
      leadline users change-email bob@south.example robert@south.example --json
    """
    result = run("users change-email", {"old": old, "new": new})
    show(result, as_json=as_json, text=lambda: f"{old} is {result['email']} from now on.")


@click.command("setup-link")
@common
def setup_link(*, as_json: bool) -> None:
    """Print a link to set a new server up in the browser. It works once, for 30 minutes.

    \b
    Examples:
      leadline setup-link
      leadline setup-link --json
    """
    result = run("setup-link", {})
    show(result, as_json=as_json, text=lambda: str(result["link"]))


def _rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            user["email"],
            user["name"],
            ", ".join(f"{one['role']} of {one['organisation']}" for one in user["organisations"]),
            "on" if user["two_factor"] else "off",
            "suspended" if user["suspended_at"] else "admin" if user["is_admin"] else "active",
        )
        for user in result["users"]
    ]
