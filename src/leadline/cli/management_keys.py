"""`leadline management-keys`."""

import click

from leadline.cli.options import common, run, show, table

_EMAIL = click.option("--email", help="Whose organisation. Needed where there are several.")


@click.group("management-keys")
def management_keys() -> None:
    """Keys of the management API. They run no inference."""


@management_keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--acl", "acls", multiple=True, default=("*",), help="An operation such as ListApiKeys; repeat for more.")
@click.option("--ip-range", "ip_ranges", multiple=True, help="Where it may come from; repeat for more.")
@click.option("--expires", metavar="WHEN", help="A duration from now, or a date's end in UTC.")
@_EMAIL
@common
def create_management_key(
    name: str,
    email: str | None,
    acls: tuple[str, ...],
    ip_ranges: tuple[str, ...],
    expires: str | None,
    *,
    as_json: bool,
) -> None:
    """Make a key and print it, alone, on standard output.

    It may do everything that the management API does, without end, unless options say otherwise.

    \b
    Examples:
      leadline management-keys create --name terraform --expires 90d
      leadline management-keys create --name audit --acl ListAuditEvents --ip-range 10.0.0.0/8
    """
    arguments = {"name": name, "email": email, "acls": acls, "ip_ranges": ip_ranges, "expires": expires}
    result = run("management-keys create", arguments)
    show(result, as_json=as_json, text=lambda: str(result["management_key"]))
    click.echo(f"Created {result['name']}. The key is shown once: store it now.", err=True)


@management_keys.command("list")
@_EMAIL
@common
def list_management_keys(email: str | None, *, as_json: bool) -> None:
    """Show the organisation's management keys.

    \b
    Examples:
      leadline management-keys list
      leadline management-keys list --json
    """
    result = run("management-keys list", {"email": email})
    words = ("name", "redacted", "state", "created_at", "expires_at", "last_used_at")
    rows = [tuple(key[word] or "never" for word in words) for key in result["management_keys"]]
    show(result, as_json=as_json, text=lambda: table(("NAME", "KEY", "STATE", "CREATED", "EXPIRES", "LAST USED"), rows))


def _key_command(verb: str, what: str) -> None:
    """A command that takes a key's name or public id and changes its state."""

    @common
    def command(key: str, email: str | None, *, as_json: bool) -> None:
        result = run(f"management-keys {verb}", {"key": key, "email": email})
        show(result, as_json=as_json, text=lambda: f"{result['name']} ({result['redacted']}) is {result['state']}.")

    example = f"  leadline management-keys {verb} terraform"
    command.__doc__ = f"{what}\n\n\b\nExamples:\n{example}\n{example} --json\n"
    management_keys.command(verb)(click.argument("key")(_EMAIL(command)))


_key_command("disable", "Stop a key from the next request on.")
_key_command("enable", "Let a disabled key work again.")
_key_command("revoke", "End a key for good.")
