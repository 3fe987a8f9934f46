"""`leadline keys`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from leadline.cli.options import common, run, show, table

_Command = TypeVar("_Command", bound=Callable[..., Any])
_EMAIL = click.option("--email", help="Whose organisation. Needed where there are several.")
_SCOPES = "chat, sample, embed, tokenize, models, image, files or batch"
# The command line's words, and the names of the limits that they set.
_LIMITS = {
    "rps": ("requests_per_second", "requests a second"),
    "rpm": ("requests_per_minute", "requests a minute"),
    "tpm": ("tokens_per_minute", "tokens a minute"),
    "concurrency": ("concurrent_requests", "requests at once"),
}


@click.group()
def keys() -> None:
    """API keys."""


def _options(command: _Command) -> _Command:
    """What a key may do. Each is text; the operation gives it its meaning."""
    for word, (limit, unit) in reversed(_LIMITS.items()):
        command = click.option(f"--{word}", limit, metavar="N", help=f"The most {unit}; 0: no limit.")(command)
    for option in (
        click.option("--expires", metavar="WHEN", help="A duration from now, or a date's end in UTC."),
        click.option("--cap", metavar="USD/PERIOD", help="The most to spend, per day, week or month."),
        click.option("--model", "models", multiple=True, help="A model that it may use; repeat for more."),
        click.option("--endpoint", "endpoints", multiple=True, help=f"{_SCOPES}; repeat for more."),
    ):
        command = option(command)
    return command


@keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@_options
@_EMAIL
@common
def create_key(name: str, email: str | None, *, as_json: bool, **options: Any) -> None:
    """Make a key and print it, alone, on standard output.

    It may do everything, without end, unless options say otherwise.

    \b
    Examples:
      leadline keys create --name my-app
      export XAI_API_KEY=$(leadline keys create --name shell)
      leadline keys create --name ci --endpoint chat --model grok-beta --cap 20/month --expires 90d
      leadline keys create --name batch --rpm 60 --tpm 100000 --concurrency 4 --expires 2027-03-31
    """
    result = run("keys create", {"name": name, "email": email, "options": _named(options)})
    show(result, as_json=as_json, text=lambda: str(result["api_key"]))
    click.echo(f"Created {result['name']}. The key is shown once: store it now.", err=True)
    if not options["endpoints"] or "chat" in options["endpoints"]:
        click.echo("Try it: export XAI_API_KEY=… && leadline chat", err=True)


@keys.command("list")
@_EMAIL
@common
def list_keys(email: str | None, *, as_json: bool) -> None:
    """Show the organisation's keys.

    \b
    Examples:
      leadline keys list
      leadline keys list --json
    """
    result = run("keys list", {"email": email})
    words = ("name", "redacted", "state", "created_at", "expires_at", "last_used_at")
    rows = [tuple(key[word] or "never" for word in words) for key in result["keys"]]
    show(result, as_json=as_json, text=lambda: table(("NAME", "KEY", "STATE", "CREATED", "EXPIRES", "LAST USED"), rows))


@keys.command("show")
@click.argument("key")
@_EMAIL
@common
def show_key(key: str, email: str | None, *, as_json: bool) -> None:
    """Show what a key may do.

    \b
    Examples:
      leadline keys show my-app
      leadline keys show my-app --json
    """
    result = run("keys show", {"key": key, "email": email})
    show(result, as_json=as_json, text=lambda: table(("KEY", result["redacted"]), _rows(result)))


@keys.command("change")
@click.argument("key")
@click.option("--name", help="A new name.")
@_options
@click.option("--no-cap", is_flag=True, help="Let it spend all credits.")
@click.option("--no-expiry", is_flag=True, help="Let it work without end.")
@click.option("--all-endpoints", is_flag=True, help="Let it use every endpoint.")
@click.option("--all-models", is_flag=True, help="Let it use every model.")
@_EMAIL
@common
def change_key(key: str, email: str | None, *, as_json: bool, **options: Any) -> None:
    """Change what a key may do, from the next request on. Only what is named changes.

    \b
    Examples:
      leadline keys change my-app --cap 5/day --rpm 30
      leadline keys change my-app --no-cap --all-models --rpm 0
      leadline keys change my-app --name my-old-app --expires 7d
    """
    lifted = _lifted(options)
    named = _named(options)
    for word in lifted.keys() & named.keys():
        raise click.UsageError(f"The options say two things about {word}. Give one of them.")
    if not lifted and not named:
        raise click.UsageError("Say what to change, such as --cap 5/day. `leadline keys change --help` shows it all.")
    result = run("keys change", {"key": key, "email": email, "options": named | lifted})
    show(result, as_json=as_json, text=lambda: table(("KEY", result["redacted"]), _rows(result)))


@keys.command("rotate")
@click.argument("key")
@click.option("--overlap", default="24h", show_default=True, help="How long the old secret still works; 0s: not.")
@_EMAIL
@common
def rotate_key(key: str, email: str | None, overlap: str, *, as_json: bool) -> None:
    """Give a key a new secret and print it, alone, on standard output. Its public id stays.

    \b
    Examples:
      leadline keys rotate my-app
      leadline keys rotate my-app --overlap 0s
    """
    result = run("keys rotate", {"key": key, "email": email, "overlap": overlap})
    show(result, as_json=as_json, text=lambda: str(result["api_key"]))
    old = f"The old secret stops working at {result['previous_expires_at']}."
    click.echo(f"Rotated {result['name']}. {old} The new one is shown once: store it now.", err=True)


def _key_command(verb: str, what: str) -> None:
    """A command that takes a key's name or public id and changes its state."""

    @common
    def command(key: str, email: str | None, *, as_json: bool) -> None:
        result = run(f"keys {verb}", {"key": key, "email": email})
        show(result, as_json=as_json, text=lambda: f"{result['name']} ({result['redacted']}) is {result['state']}.")

    command.__doc__ = f"{what}\n\n\b\nExamples:\n  leadline keys {verb} my-app\n  leadline keys {verb} my-app --json\n"
    keys.command(verb)(click.argument("key")(_EMAIL(command)))


_key_command("disable", "Stop a key from the next request on.")
_key_command("enable", "Let a disabled key work again.")
_key_command("revoke", "End a key for good.")


def _named(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {word: value for word, value in options.items() if value not in (None, ())}


def _lifted(options: dict[str, Any]) -> dict[str, Any]:
    """What the flags lift, taken out of `options`."""
    everything: list[str] = []
    flags = {
        "no_cap": ("cap", None),
        "no_expiry": ("expires", None),
        "all_endpoints": ("endpoints", everything),
        "all_models": ("models", everything),
    }
    return dict(lifted for flag, lifted in flags.items() if options.pop(flag))


def _rows(key: dict[str, Any]) -> list[tuple[str, str]]:
    cap, limits = key["cap"], key["limits"]
    return [
        ("NAME", key["name"]),
        ("STATE", key["state"]),
        ("ENDPOINTS", ", ".join(key["endpoints"]) or "all"),
        ("MODELS", ", ".join(key["models"]) or "all"),
        ("CAP", f"{cap['usd']} USD a {cap['period']}" if cap else "none"),
        ("LIMITS", ", ".join(f"{limits[name]} {unit}" for name, unit in _LIMITS.values() if limits[name]) or "none"),
        ("CREATED", key["created_at"]),
        ("EXPIRES", key["expires_at"] or "never"),
        ("LAST USED", key["last_used_at"] or "never"),
    ]
