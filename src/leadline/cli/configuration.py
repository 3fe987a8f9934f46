"""`leadline config`."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from leadline.cli.options import common, data_folder, fail, is_set_up, run, show, table
from leadline.errors import LeadlineError


@click.group("config")
def configuration() -> None:
    """The configuration."""


@configuration.command("path")
@common
def config_path(*, as_json: bool) -> None:
    """Show where leadline.toml is, or would be.

    \b
    Examples:
      leadline config path
      leadline config path --data /srv/leadline
    """
    path = data_folder() / "leadline.toml"
    show({"path": str(path), "exists": path.exists()}, as_json=as_json, text=lambda: str(path))


@configuration.command("show")
@common
def config_show(*, as_json: bool) -> None:
    """Show every setting that holds now, and where it came from. Secrets are not shown.

    Beside a running server: those that it started with, and what the file has said since.

    \b
    Examples:
      leadline config show
      leadline config show --json --data /srv/leadline
    """
    result = _read("config show", {})
    show(result, as_json=as_json, text=lambda: _settings(result))


@configuration.command("get")
@click.argument("key")
@common
def config_get(key: str, *, as_json: bool) -> None:
    """Show one setting that holds now, or those of a section. One of a model is models.NAME.KEY.

    The value alone is on standard output: of a list an item a line, nothing where it is not set.

    \b
    Examples:
      leadline config get server.public_url
      leadline config get models.smollm2-135m-instruct.aliases
      leadline config get limits.default
    """
    result = _read("config get", {"key": key})
    if "settings" in result:
        show(result, as_json=as_json, text=lambda: _values(result))
        return
    show(result, as_json=as_json, text=lambda: _plain(result["value"]))
    click.echo(f"From: {result['source']}", err=True)


@configuration.command("set")
@click.argument("pairs", nargs=-1, required=True, metavar="KEY VALUE [KEY VALUE]...")
@common
def config_set(pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Write settings into leadline.toml. They hold after the next start of the server.

    Comments and order stay. Nothing is written unless the server could start with it, so give together what belongs
    together. A value is TOML where it is TOML, else a text; `-` reads it from standard input, for secrets. One of a
    model or an engine is models.NAME.KEY or engines.NAME.KEY.

    \b
    Examples:
      leadline config set server.public_url https://leadline.example
      leadline config set smtp.url smtp://mail.example smtp.from leadline@northwind.example
      leadline config set models.smollm2-135m-instruct.prices.output 0.80
    """
    keys, values = pairs[::2], pairs[1::2]
    if len(keys) != len(values):
        raise click.UsageError(f"{keys[-1]!r} has no value: give a VALUE after each KEY.")
    if len(set(keys)) != len(keys) or values.count("-") > 1:
        raise click.UsageError("Give each KEY once, and - for one VALUE at most.")
    settings = {key: _line() if value == "-" else value for key, value in zip(keys, values, strict=True)}
    result = run("config set", {"settings": settings})
    show(result, as_json=as_json, text=lambda: "\n".join(map(_changed, result["settings"])))
    for one in result["settings"]:
        tell_overridden(one["name"], one["overridden_by"])
    tell_when(result)


def tell_overridden(what: str, variable: str | None) -> None:
    if variable is not None:
        click.echo(f"! The environment variable {variable} holds instead of what the file says of {what}.", err=True)


def tell_when(result: Mapping[str, Any]) -> None:
    """When what was written holds."""
    if result.get("holds_now"):
        click.echo(f"Written to {result['path']}. It holds from the next request on.", err=True)
        return
    when = "after its next start: the running server goes on with what it read" if result["running"] else "at its start"
    click.echo(f"Written to {result['path']}. The server takes it {when}.", err=True)


def _read(command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """As `run`, but where there is no instance none is made: the file and the environment alone are asked."""
    if is_set_up():
        return run(command, arguments)
    from leadline.administration.commands.configuration import found, told
    from leadline.config import load, origins

    file = data_folder() / "leadline.toml"
    try:
        config, sources = load(file), origins(file)
        return found(config, sources, **arguments) if arguments else told(data_folder(), config, sources)
    except LeadlineError as error:
        fail(error)


def _line() -> str:
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise click.UsageError("There is no value on standard input.")
    return line


def _settings(result: Mapping[str, Any]) -> str:
    changed = any(one["next_value"] is not None for one in result["settings"])
    headings = ("SETTING", "VALUE", "FROM", *(("AFTER THE NEXT START",) if changed else ()))
    rows = [
        (one["name"], one["value"], one["source"], *((one["next_value"] or "",) if changed else ()))
        for one in result["settings"]
    ]
    broken = f"\n\nThe next start would fail: {result['broken']}" if result["broken"] else ""
    return f"{table(headings, rows)}{broken}"


def _values(result: Mapping[str, Any]) -> str:
    rows = [(one["name"], _plain(one["value"]).replace("\n", ", "), one["source"]) for one in result["settings"]]
    return table(("SETTING", "VALUE", "FROM"), rows)


def _plain(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return "\n".join(map(str, value))
        case _:
            return str(value)


def _changed(one: Mapping[str, Any]) -> str:
    return f"{one['name']}: {one['value']} (before: {one['before'] or 'not in the file'})"
