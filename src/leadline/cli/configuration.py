"""`leadline config`."""

import click

from leadline.cli.options import common, data_folder, show


@click.group("config")
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
