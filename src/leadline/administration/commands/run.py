"""Each command once, by its name on the command line: for a running server and for a closed folder alike."""

from collections.abc import Mapping
from typing import Any

from leadline.administration.commands import accounts, credits, database, keys, models, usage
from leadline.administration.commands.command import Command, Result
from leadline.administration.instance import Instance
from leadline.errors import InvalidRequest

_PARTS = (accounts, keys, credits, usage, models, database)
COMMANDS: dict[str, Command] = {name: command for part in _PARTS for name, command in part.COMMANDS.items()}


async def run(instance: Instance, command: str, arguments: Mapping[str, Any]) -> Result:
    """Run the command of this name."""
    known = COMMANDS.get(command)
    if known is None:
        raise InvalidRequest(f"There is no command {command!r}. Is the running server an older Leadline?")
    return await known(instance, **arguments)
