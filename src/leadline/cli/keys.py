"""`leadline keys`."""

import click

from leadline.cli.options import common, run, show, table

_EMAIL = click.option("--email", help="Whose organisation. Needed where there are several.")


@click.group()
def keys() -> None:
    """API keys."""


@keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@_EMAIL
@common
def create_key(name: str, email: str | None, *, as_json: bool) -> None:
    """Make a key and print it, alone, on standard output.

    \b
    Examples:
      leadline keys create --name my-app
      export XAI_API_KEY=$(leadline keys create --name shell)
    """
    result = run("keys create", {"name": name, "email": email})
    show(result, as_json=as_json, text=lambda: str(result["api_key"]))
    click.echo(f"Created {result['name']}. The key is shown once: store it now.", err=True)


@keys.command("list")
@_EMAIL
@common
def list_keys(email: str | None, *, as_json: bool) -> None:
    """Show the organisation's keys.

    \b
    Example:
      leadline keys list
    """
    result = run("keys list", {"email": email})
    rows = [(key["name"], key["redacted"], key["state"], key["created_at"]) for key in result["keys"]]
    show(result, as_json=as_json, text=lambda: table(("NAME", "KEY", "STATE", "CREATED"), rows))


def _key_command(verb: str, done: str, what: str) -> None:
    """A command that takes a key's name or public id."""

    @common
    def command(key: str, email: str | None, *, as_json: bool) -> None:
        result = run(f"keys {verb}", {"key": key, "email": email})
        show(result, as_json=as_json, text=lambda: f"{result['name']} ({result['redacted']}) is {done}.")

    command.__doc__ = f"{what}\n\n\b\nExample:\n  leadline keys {verb} my-app\n"
    keys.command(verb)(click.argument("key")(_EMAIL(command)))


_key_command("disable", "disabled", "Stop a key from the next request on.")
_key_command("enable", "active again", "Let a disabled key work again.")
_key_command("revoke", "revoked", "End a key for good.")
