"""Each command once, by its name on the command line: for a running server and for a closed folder alike."""

from collections.abc import Mapping
from typing import Any

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.administration.commands import (
    accounts,
    configuration,
    credits,
    database,
    engines,
    explore,
    keys,
    management_keys,
    models,
    offer,
    requests,
    status,
    usage,
    users,
    weights,
    workers,
)
from leadline.administration.commands.command import Command, Result
from leadline.administration.instance import Instance
from leadline.errors import InvalidRequest

_PARTS = (
    *(accounts, users, keys, management_keys, credits, usage, explore, requests),
    *(models, offer, weights, engines, workers, configuration, database, status),
)
READS: dict[str, Command] = {name: command for part in _PARTS for name, command in part.READS.items()}
CHANGES: dict[str, Command] = {name: command for part in _PARTS for name, command in part.CHANGES.items()}


async def run(instance: Instance, command: str, arguments: Mapping[str, Any], actor: Actor = COMMAND_LINE) -> Result:
    """Run the command of this name."""
    if (read := READS.get(command)) is not None:
        return await read(instance, **arguments)
    if (change := CHANGES.get(command)) is not None:
        return await change(instance, actor, **arguments)
    raise InvalidRequest(f"There is no command {command!r}. Is the running server an older Leadline?")
