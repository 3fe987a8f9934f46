"""`leadline models`."""

import click

from leadline.cli.options import common, data_folder, fail, show, table
from leadline.errors import LeadlineError


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
