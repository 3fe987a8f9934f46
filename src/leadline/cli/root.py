"""The command line as a whole."""

from pathlib import Path

import click

from leadline import __version__
from leadline.cli.accounts import accounts, init
from leadline.cli.chat import chat
from leadline.cli.configuration import configuration
from leadline.cli.credits import credits
from leadline.cli.database import database
from leadline.cli.keys import keys
from leadline.cli.logs import logs
from leadline.cli.management_keys import management_keys
from leadline.cli.models import models
from leadline.cli.serve import serve
from leadline.cli.status import doctor, status
from leadline.cli.usage import usage
from leadline.cli.users import setup_link, users


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


for _command in (
    serve,
    chat,
    status,
    doctor,
    logs,
    init,
    accounts,
    users,
    setup_link,
    keys,
    management_keys,
    credits,
    usage,
    models,
    database,
    configuration,
):
    cli.add_command(_command)
