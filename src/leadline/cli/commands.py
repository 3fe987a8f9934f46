"""The commands. Each decodes its line, calls `operations`, and prints."""

import sys
from pathlib import Path
from typing import Any

import click

from leadline import __version__
from leadline.cli.options import common, data_folder, fail, run, show, table
from leadline.errors import LeadlineError
from leadline.money import show_usd

_EMAIL = click.option("--email", help="Whose organisation. Needed where there are several.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", prog_name="leadline")
@click.option("--data", type=click.Path(path_type=Path), help="The folder of the instance.")
@click.pass_context
def cli(context: click.Context, data: Path | None) -> None:
    """Leadline: xAI's API, self-hosted, over your own models.

    \b
    Examples:
      leadline serve
      leadline keys create --name my-app
    """
    context.ensure_object(dict)
    if data is not None:
        context.obj["data"] = data


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 picks a free one.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=8081, help="Kept for gRPC, which comes later.")
@click.option("--quickstart", is_flag=True, help="On a new instance: make a key and ask a first question.")
@click.option("--check", is_flag=True, help="Only check the configuration.")
@common
def serve(host: str, port: int, grpc_port: int, *, quickstart: bool, check: bool, as_json: bool) -> None:
    """Start the server.

    \b
    Examples:
      leadline serve
      leadline serve --port 9000 --quickstart
    """
    import asyncio

    from leadline.cli.terminal import ServeJson, ServeLines
    from leadline.operations.serve import Options
    from leadline.operations.serve import serve as run_server

    del grpc_port
    try:
        if check:
            _check(as_json=as_json)
            return
        terminal = ServeJson() if as_json else ServeLines()
        with asyncio.Runner(loop_factory=_event_loop) as runner:
            runner.run(run_server(data_folder(), Options(host, port, quickstart), terminal))
    except LeadlineError as error:
        fail(error)


def _check(*, as_json: bool) -> None:
    from leadline.config import load
    from leadline.operations.models import build
    from leadline.weights.store import Store

    _, catalog = build(load(data_folder() / "leadline.toml"), Store(data_folder() / "models"), 0)
    names = [model.name for model in catalog.models]
    show({"ok": True, "models": names}, as_json=as_json, text=lambda: f"The configuration is good: {', '.join(names)}.")


def _event_loop() -> Any:
    if sys.platform == "win32":
        import asyncio

        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


@cli.command()
@click.option("--email", required=True, help="Yours. It cannot be changed later.")
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


def _password(email: str, *, from_stdin: bool, yes: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if yes or not sys.stdin.isatty():
        raise click.UsageError("Give the password with --password-stdin.")
    click.confirm(f"{email} cannot be changed later. Is it right?", abort=True)
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


@cli.group()
def accounts() -> None:
    """Organisations and their users."""


@accounts.command("create")
@click.option("--email", required=True, help="It cannot be changed later.")
@click.option("--org", required=True, help="The organisation's name.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@common
def create_account(email: str, org: str, *, password_stdin: bool, yes: bool, as_json: bool) -> None:
    """Make a further organisation.

    \b
    Example:
      leadline accounts create --email bob@south.example --org South --password-stdin < password
    """
    password = _password(email, from_stdin=password_stdin, yes=yes)
    result = run("accounts create", {"email": email, "org": org, "password": password})
    show(result, as_json=as_json, text=lambda: f"Made {org}: {result['organisation_id']}")


@accounts.command("list")
@common
def list_accounts(*, as_json: bool) -> None:
    """Show every organisation's users.

    \b
    Example:
      leadline accounts list
    """
    result = run("accounts list", {})
    rows = [(one["email"], one["organisation"], one["organisation_id"]) for one in result["accounts"]]
    show(result, as_json=as_json, text=lambda: table(("EMAIL", "ORGANISATION", "ID"), rows))


@cli.group()
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


@cli.group()
def credits() -> None:
    """Prepaid credits and the ledger."""


@credits.command("grant")
@click.argument("email")
@click.argument("usd")
@click.option("--reason", required=True, help="Why, for the ledger.")
@common
def grant(email: str, usd: str, reason: str, *, as_json: bool) -> None:
    """Add credits to an organisation.

    \b
    Example:
      leadline credits grant mara@northwind.example 25 --reason pilot
    """
    result = run("credits grant", {"email": email, "amount": usd, "reason": reason})
    text = "Granted {} to {}. Balance {}."
    amounts = show_usd(result["granted_ticks"]), result["organisation"], show_usd(result["balance_ticks"])
    show(result, as_json=as_json, text=lambda: text.format(*amounts))


@credits.command("balance")
@click.argument("email")
@common
def balance(email: str, *, as_json: bool) -> None:
    """Show what an organisation has left.

    \b
    Example:
      leadline credits balance mara@northwind.example
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
    Example:
      leadline credits ledger mara@northwind.example --limit 20
    """
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
    Example:
      leadline credits verify
    """
    result = run("credits verify", {})
    good = f"{result['checked']} entries checked: every rule holds."
    show(result, as_json=as_json, text=lambda: good if result["ok"] else "\n".join(result["broken"]))
    if not result["ok"]:
        sys.exit(1)


@cli.group()
def models() -> None:
    """Models and their weights."""


@models.command("list")
@common
def list_models(*, as_json: bool) -> None:
    """Show the configured models and the pulled weights.

    \b
    Example:
      leadline models list
    """
    from leadline.config import load
    from leadline.operations.models import build
    from leadline.weights.store import Store

    store = Store(data_folder() / "models")
    try:
        _, catalog = build(load(data_folder() / "leadline.toml"), store, 0)
        pulled = store.list()
    except LeadlineError as error:
        fail(error)
    result = {
        "models": [
            {"name": model.name, "engine": model.engine.name, "aliases": model.aliases} for model in catalog.models
        ],
        "weights": [
            {"name": one.name, "path": str(one.path), "size_bytes": one.size_bytes, "sha256": one.sha256}
            for one in pulled
        ],
    }
    rows = [(model.name, model.engine.name, ", ".join(model.aliases)) for model in catalog.models]
    files = [(one.name, f"{one.size_bytes / 1e6:.0f} MB", one.sha256[:12]) for one in pulled]
    text = table(("MODEL", "ENGINE", "ALIASES"), rows) + "\n\n" + table(("WEIGHTS", "SIZE", "SHA256"), files)
    show(result, as_json=as_json, text=lambda: text)


@models.command("pull")
@click.argument("name_or_file", required=False)
@common
def pull_model(name_or_file: str | None, *, as_json: bool) -> None:
    """Fetch weights: the default model, a known one by name, or a GGUF file that you have.

    \b
    Examples:
      leadline models pull
      leadline models pull ./my-model.gguf
    """
    import asyncio

    from leadline.cli.terminal import PullBar
    from leadline.operations.models import pull_weights

    bar = PullBar()
    try:
        path = asyncio.run(pull_weights(data_folder(), name_or_file, bar.show))
    except LeadlineError as error:
        fail(error)
    finally:
        bar.stop()
    show({"path": str(path)}, as_json=as_json, text=lambda: f"{path.stem} is here: {path}")


@cli.group("config")
def configuration() -> None:
    """The configuration."""


@configuration.command("path")
@common
def config_path(*, as_json: bool) -> None:
    """Show where leadline.toml is, or would be.

    \b
    Example:
      leadline config path
    """
    path = data_folder() / "leadline.toml"
    show({"path": str(path), "exists": path.exists()}, as_json=as_json, text=lambda: str(path))
