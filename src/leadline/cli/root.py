"""The command line as a whole."""

import os
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
from leadline.cli.workers import workers

_GROUPS = {
    "Start": (serve, init, setup_link),
    "Use": (chat, keys, usage, credits, models),
    "Operate": (status, doctor, workers, logs, configuration, database, users, accounts, management_keys),
}


class _Grouped(click.Group):
    """Its help shows the commands in the order in which somebody needs them."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.commands))
        for heading, commands in _GROUPS.items():
            with formatter.section(heading):
                room = formatter.width - widest - 6
                rows = [(command.name or "", command.get_short_help_str(room)) for command in commands]
                formatter.write_dl([(name.ljust(widest), told) for name, told in rows])


@click.group(cls=_Grouped, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    if os.environ.get("NO_COLOR"):
        context.color = False
    if data is not None:
        context.obj["data"] = data


for _command in (command for group in _GROUPS.values() for command in group):
    cli.add_command(_command)
