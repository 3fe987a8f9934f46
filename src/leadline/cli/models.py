"""`leadline models`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from leadline.cli.options import common, data_folder, fail, run, show, table
from leadline.errors import LeadlineError
from leadline.money import show_usd

_Command = TypeVar("_Command", bound=Callable[..., Any])
_TOKENS = {
    "input": "prompt tokens",
    "cached_input": "cached prompt tokens",
    "image": "image tokens",
    "output": "output tokens",
    "reasoning": "reasoning tokens",
}


@click.group()
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


@models.command("show")
@click.argument("name")
@common
def show_model(name: str, *, as_json: bool) -> None:
    """Show a model's settings and its prices: those of now, to come and before.

    \b
    Example:
      leadline models show grok-beta
    """
    result = run("models show", {"name": name})
    show(result, as_json=as_json, text=lambda: f"{_settings(result)}\n\n{_prices(result)}")


def _price_options(command: _Command) -> _Command:
    """Prices are text; the operation gives them their meaning."""
    for kind, tokens in reversed(_TOKENS.items()):
        word = f"{kind}_long_context"
        help_text = f"For {tokens}, where the prompt is that long."
        command = click.option(_option(word), word, metavar="USD", help=help_text)(command)
    command = click.option(
        "--long-context-threshold", metavar="TOKENS", help="From how long a prompt on these count; 0: never."
    )(command)
    for kind, tokens in reversed(_TOKENS.items()):
        command = click.option(_option(kind), kind, metavar="USD", help=f"For a million {tokens}.")(command)
    return command


def _option(word: str) -> str:
    return f"--{word.replace('_', '-')}"


@models.command("price")
@click.argument("name")
@_price_options
@click.option(
    "--from", "effective_from", metavar="DATE", help="A day in UTC, or a time with its offset [default: now]."
)
@common
def price_model(name: str, effective_from: str | None, *, as_json: bool, **prices: str | None) -> None:
    """Change what a model costs, in USD per million tokens. Without prices: show them.

    What is not named stays. Requests that are running keep the price that they began with. The new prices hold until
    the next change, here or in the file.

    \b
    Examples:
      leadline models price grok-beta
      leadline models price grok-beta --input 2.00 --cached-input 0.50 --output 10.00
      leadline models price grok-beta --output 8.00 --from 2027-01-01
      leadline models price grok-beta --long-context-threshold 128000 --input-long-context 4.00
    """
    changes = {word: price for word, price in prices.items() if price is not None}
    result = run("models price", {"name": name, "changes": changes, "effective_from": effective_from})
    show(result, as_json=as_json, text=lambda: _prices(result))


def _settings(model: Mapping[str, Any]) -> str:
    context, capabilities = model["context_tokens"], model["capabilities"]
    rows = [
        ("ENGINE", model["engine"]),
        ("UPSTREAM MODEL", model["upstream_model"]),
        ("ALIASES", ", ".join(model["aliases"]) or "none"),
        ("CONTEXT", "as the engine says" if context is None else f"{context} tokens"),
        ("CAPABILITIES", "as the engine says" if capabilities is None else ", ".join(capabilities) or "none"),
        ("DEFAULT ANSWER", f"{model['default_max_output_tokens']} tokens"),
    ]
    return table(("NAME", model["name"]), rows)


def _prices(model: Mapping[str, Any]) -> str:
    """Every change in USD per million tokens, with a second line for a long context."""
    headings = ("FROM", "PROMPT", *(kind.replace("_", " ").upper() for kind in _TOKENS), "SET BY", "")
    rows = []
    for change in model["history"]:
        state = "now" if change == model["prices"] else "to come" if change in model["prices_to_come"] else ""
        rows.append((change["effective_from"], "any", *_usd(change), change["source"], state))
        if change["long_context"]:
            rows[-1] = (change["effective_from"], "short", *rows[-1][2:])
            rows.append(("", f"{change['long_context_threshold']}+", *_usd(change["long_context"]), "", ""))
    return table(headings, rows)


def _usd(tier: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(show_usd(tier[f"{kind}_ticks"] * 1_000_000) for kind in _TOKENS)
