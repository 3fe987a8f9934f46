"""`leadline models`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from leadline.cli.configuration import tell_overridden, tell_when
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


def _some_prices(command: _Command) -> _Command:
    for kind in reversed(("input", "cached_input", "image", "output")):
        command = click.option(_option(kind), kind, metavar="USD", help=f"For a million {_TOKENS[kind]}.")(command)
    return command


@click.group()
def models() -> None:
    """Models and their weights."""


@models.command("list")
@common
def list_models(*, as_json: bool) -> None:
    """Show the configured models, what their engines do now, and the pulled weights.

    \b
    Examples:
      leadline models list
      leadline models list --json
    """
    result = run("models list", {})
    show(result, as_json=as_json, text=lambda: f"{_models(result['models'])}\n\n{_weights(result['weights'])}")


@models.command("pull")
@click.argument("wanted", required=False, metavar="[NAME|FILE]")
@click.option("--name", help="What to call them here [default: made from the file's name].")
@click.option("--link", is_flag=True, help="Refer to the file where it is, instead of copying it.")
@common
def pull_model(wanted: str | None, name: str | None, *, link: bool, as_json: bool) -> None:
    """Fetch weights: the default model, a known one by name, one from the Hugging Face Hub, or a GGUF file of yours.

    A download that was interrupted goes on where it was. With --json, progress goes to standard error, an object a
    line.

    \b
    Examples:
      leadline models pull
      leadline models pull hf:OWNER/REPOSITORY/FILE.gguf
      leadline models pull OWNER/REPOSITORY:Q4_K_M --name my-model
      leadline models pull ./my-model.gguf
    """
    import asyncio

    from leadline.administration.models import pull_weights
    from leadline.cli.terminal import PullBar, PullJson
    from leadline.weights.known import DEFAULT

    bar = PullJson() if as_json else PullBar()
    wanted = wanted or DEFAULT.name
    try:
        result = asyncio.run(pull_weights(data_folder(), wanted, bar.show, name=name, link=link))
    except LeadlineError as error:
        fail(error)
    finally:
        bar.stop()
    show(result, as_json=as_json, text=lambda: _pulled(result))
    if not as_json:
        click.echo(f"Serve it: {_serving(result)}", err=True)


@models.command("serve")
@click.argument("weights")
@click.option("--name", help="What clients call the model  [default: as the weights are called]")
@click.option("--alias", "aliases", multiple=True, metavar="ALIAS", help="A further name. Repeat it for more.")
@_some_prices
@click.option(
    "--load", type=click.Choice(["demand", "start"]), default="demand", help="At its first request, or at once."
)
@common
def serve_weights(
    weights: str,
    name: str | None,
    aliases: tuple[str, ...],
    load: str,
    *,
    as_json: bool,
    **prices: str | None,
) -> None:
    """Offer pulled weights as a model, from the next request on. Prices are USD per million tokens.

    Engine and model are written into leadline.toml. Without prices the model is free.

    \b
    Examples:
      leadline models serve my-model --input 0.10 --output 0.40
      leadline models serve my-model --name small --alias gpt-4o-mini --alias "claude-*" --load start
    """
    named = {kind: price for kind, price in prices.items() if price is not None}
    arguments = {"weights": weights, "name": name, "aliases": list(aliases), "prices": named, "load": load}
    result = run("models serve", arguments)
    free = " It has no prices: its answers cost nothing." if result["free"] else ""
    show(result, as_json=as_json, text=lambda: f"{result['name']} is a model on the engine {result['engine']}.{free}")
    tell_when(result)


@models.command("withdraw")
@click.argument("name")
@common
def withdraw_model(name: str, *, as_json: bool) -> None:
    """Offer a model no more, from the next request on. Its weights stay.

    It is taken out of leadline.toml, with its engine where that has no other model. It is refused while a request
    needs the engine, and for the last model.

    \b
    Examples:
      leadline models withdraw my-model
      leadline models withdraw my-model --json
    """
    result = run("models withdraw", {"name": name})
    show(result, as_json=as_json, text=lambda: f"{result['name']} is offered no more.")
    tell_when(result)


@models.command("show")
@click.argument("name")
@common
def show_model(name: str, *, as_json: bool) -> None:
    """Show a model's settings and its prices: those of now, to come and before.

    \b
    Examples:
      leadline models show grok-beta
      leadline models show grok-beta --json
    """
    result = run("models show", {"name": name})
    parts = [_settings(result), *([_facts(result["weights"])] if result["weights"] else []), _prices(result)]
    show(result, as_json=as_json, text=lambda: "\n\n".join(parts))


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


@models.command("rm")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also withdraw the models that run on them.")
@common
def remove_model(name: str, *, force: bool, as_json: bool) -> None:
    """Delete pulled weights. It is refused while a model runs on them.

    \b
    Examples:
      leadline models rm my-model
      leadline models rm smollm2-135m-instruct --force
    """
    result = run("models rm", {"name": name, "force": force})
    freed = f"{result['freed_bytes'] / 1e6:,.1f} MB are free again"
    show(result, as_json=as_json, text=lambda: f"{name} is deleted: {freed}.")


@models.command("alias")
@click.argument("name")
@click.argument("alias")
@click.option("--remove", is_flag=True, help="Take it away instead.")
@common
def alias_model(name: str, alias: str, *, remove: bool, as_json: bool) -> None:
    """Give a model a further name, in leadline.toml. It holds from the next request on.

    An alias may end in *, quoted for the shell: it stands for every name that begins so.

    \b
    Examples:
      leadline models alias smollm2-135m-instruct gpt-4o-mini
      leadline models alias smollm2-135m-instruct "claude-*"
      leadline models alias smollm2-135m-instruct gpt-4o-mini --remove
    """
    result = run("models alias", {"name": name, "alias": alias, "remove": remove})
    names = ", ".join(result["aliases"]) or "none"
    show(result, as_json=as_json, text=lambda: f"Aliases of {result['name']}: {names}.")
    tell_overridden("models", result["overridden_by"])
    if result["changed"]:
        tell_when(result)


def _models(models: list[dict[str, Any]]) -> str:
    rows = [
        (
            *(one["name"], _state(one["status"])),
            *(
                "-" if one["size_bytes"] is None else f"{one['size_bytes'] / 1e6:,.0f} MB",
                _tokens(one["context_tokens"]),
            ),
            *(show_usd(one[f"{kind}_ticks"] * 1_000_000) for kind in ("input", "output")),
            *(f"{one['engine']} ({one['kind']})", ", ".join(one["aliases"])),
        )
        for one in models
    ]
    return table(("MODEL", "STATE", "SIZE", "CONTEXT", "INPUT/1M", "OUTPUT/1M", "ENGINE", "ALIASES"), rows)


def _tokens(count: int | None) -> str:
    return "-" if count is None else str(count)


def _state(status: Mapping[str, Any] | None) -> str:
    """What an engine does."""
    if status is None:
        return "no server runs"
    state: str = status["state"] or ("ready" if status["ready"] else "away")
    return state if status["loaded_percent"] is None else f"{state}, {status['loaded_percent']} %"


def _weights(weights: list[dict[str, Any]]) -> str:
    rows = [
        (
            *(one["name"], f"{one['size_bytes'] / 1e6:.0f} MB", one["sha256"][:12]),
            *(one.get("architecture") or "", one.get("quantisation") or "", _count(one.get("parameters"))),
            *(str(one.get("context_tokens", "")), one.get("broken") or _abilities(one)),
        )
        for one in weights
    ]
    headings = ("WEIGHTS", "SIZE", "SHA256", "ARCHITECTURE", "QUANTISATION", "PARAMETERS", "CONTEXT", "FOR")
    return table(headings, rows)


def _abilities(facts: Mapping[str, Any]) -> str:
    if facts["pooling"]:
        return "embeddings" if facts["embeds"] else "ranking"
    chats = "chat, thinks" if facts["thinking"] else "chat" if facts["chat_template"] else "plain text"
    return f"{chats}, sees" if facts["projector"] else chats


def _count(parameters: int | None) -> str:
    return (
        "" if parameters is None else f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.0f} M"
    )


def _facts(facts: Mapping[str, Any]) -> str:
    rows = [
        ("TITLE", facts["title"] or "none"),
        ("ARCHITECTURE", facts["architecture"] or "not said"),
        ("QUANTISATION", facts["quantisation"] or "not said"),
        ("PARAMETERS", _count(facts["parameters"]) or "not said"),
        ("MADE FOR", f"{facts['context_tokens']} tokens"),
        ("TOKEN CACHE", f"{facts['token_cache_bytes'] / 1024:.0f} KiB a token"),
        ("FOR", _abilities(facts)),
        ("TOOL CALLS", facts["tool_calls"]),
        ("SHA256", facts["sha256"]),
        ("FILE", facts["path"]),
        *((("PROJECTOR", facts["projector"]),) if facts["projector"] else ()),
    ]
    return table(("WEIGHTS", facts["name"]), rows)


def _serving(facts: Mapping[str, Any]) -> str:
    """The command that makes a model of them."""
    return f"leadline models serve {facts['name']} --input 0.10{'' if facts['embeds'] else ' --output 0.40'}"


def _pulled(facts: Mapping[str, Any]) -> str:
    return f"{facts['name']} is here: {facts['path']}\n\n{_facts(facts)}"


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
