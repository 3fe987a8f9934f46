"""`leadline serve`."""

import os
import sys
from typing import Any

import click

from leadline.cli.options import common, data_folder, fail, show
from leadline.errors import LeadlineError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 picks a free one.")
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), help="For gRPC.  [default: 8081; a free one where --port is 0]"
)
@click.option("--quickstart", is_flag=True, help="On a new instance: make a key and ask a first question.")
@click.option("--check", is_flag=True, help="Only check the configuration.")
@common
def serve(host: str, port: int, grpc_port: int | None, *, quickstart: bool, check: bool, as_json: bool) -> None:
    """Start the server.

    \b
    Examples:
      leadline serve
      leadline serve --port 9000 --quickstart
    """
    import asyncio

    # Our children are other programs: gRPC need not follow a fork, nor say on the terminal that it does not.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from leadline.cli.terminal import ServeJson, ServeLines
    from leadline.operations.serve import Options
    from leadline.operations.serve import serve as run_server

    try:
        if check:
            _check(as_json=as_json)
            return
        terminal = ServeJson() if as_json else ServeLines()
        with asyncio.Runner(loop_factory=_event_loop) as runner:
            runner.run(run_server(data_folder(), Options(host, port, grpc_port, quickstart), terminal))
    except LeadlineError as error:
        fail(error)


def _check(*, as_json: bool) -> None:
    from leadline.administration.models import build
    from leadline.config import load
    from leadline.images.hosts import PrivateHosts
    from leadline.weights.store import Store

    config = load(data_folder() / "leadline.toml")
    PrivateHosts.of(config.images.allow_private_hosts)
    _, catalog = build(config, Store(data_folder() / "models"), 0)
    names = [model.name for model in catalog.models]
    show({"ok": True, "models": names}, as_json=as_json, text=lambda: f"The configuration is good: {', '.join(names)}.")


def _event_loop() -> Any:
    if sys.platform == "win32":
        import asyncio

        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
