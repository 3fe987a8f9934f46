"""The configuration: what holds and where it comes from, and changes of its file, which hold from the next start on."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.administration.commands.command import Command, Result
from leadline.administration.configuration_file import Document, edit, read, setting, steps
from leadline.administration.instance import Instance
from leadline.administration.models import sections
from leadline.administration.settings_in_force import each_value, settings_of, shown
from leadline.config import Config, ConfigurationError, load, overriding, read_toml
from leadline.errors import InvalidRequest


async def show_configuration(instance: Instance) -> Result:
    """As the server read it when it started."""
    return await asyncio.to_thread(told, instance.data, instance.config, instance.origins)


async def get_setting(instance: Instance, key: str) -> Result:
    return found(instance.config, instance.origins, key)


def told(data: Path, config: Config, sources: Mapping[str, str]) -> Result:
    """Every setting of `config`, which holds; `next_value` is what the file has said since, None where that is the
    same. `broken` tells why the next start would fail."""
    file, broken, coming = data / "leadline.toml", None, {}
    settings = settings_of(config, sources)
    try:
        coming = {one.name: one.value for one in settings_of(load(file), {})}
    except ConfigurationError as error:
        broken = str(error)
    rows = [
        asdict(one) | {"next_value": coming[one.name] if coming.get(one.name, one.value) != one.value else None}
        for one in settings
    ]
    new = coming.keys() - {one.name for one in settings}
    rows += [{"name": name, "value": "none", "source": "default", "next_value": coming[name]} for name in sorted(new)]
    return {"path": str(file), "settings": rows, "broken": broken}


def found(config: Config, sources: Mapping[str, str], key: str) -> Result:
    """One setting that holds, or all of a section. InvalidRequest where there is none of that name."""
    values = each_value(config, sources, sections(config))
    rows = [asdict(one) for one in values if one.name == key or one.name.startswith(f"{key}.")]
    if not rows:
        raise InvalidRequest(f"There is no setting {key[:200]!r}. `leadline config show` lists all.", "key")
    return rows[0] if rows[0]["name"] == key else {"settings": rows}


async def set_settings(instance: Instance, actor: Actor, settings: Mapping[str, str]) -> Result:
    """Write them into the file, all or none."""
    changes = [setting(key, value) for key, value in settings.items()]
    before = await asyncio.to_thread(lambda: _values(read(instance.data), settings))

    def change(document: Document, make: Any) -> None:
        for one in changes:
            one(document, make)

    await asyncio.to_thread(edit, instance.data, change)
    after = await asyncio.to_thread(lambda: _values(read(instance.data), settings))
    await _tell(instance, actor, "config set", ", ".join(settings), before, after)
    rows = [
        {"name": key, "before": before[key], "value": after[key], "overridden_by": overriding(key)} for key in settings
    ]
    return _written(instance) | {"settings": rows}


READS: dict[str, Command] = {"config show": show_configuration, "config get": get_setting}
CHANGES: dict[str, Command] = {"config set": set_settings}


def _values(text: str, settings: Mapping[str, str]) -> dict[str, str | None]:
    """What a file says of the settings, for people; None: nothing."""
    document = read_toml(text, "leadline.toml")
    return {key: _value(document, key) for key in settings}


def _value(document: Document, key: str) -> str | None:
    place: Any = document
    for step in (way := steps(document, key)):
        if not (isinstance(step, int) or (isinstance(place, Mapping) and step in place)):
            return None
        place = place[step]
    if isinstance(place, list):
        place = tuple(place)
    return None if isinstance(place, Mapping) else shown(str(way[-1]), place)


def _written(instance: Instance) -> Result:
    return {"path": str(instance.data / "leadline.toml"), "running": instance.activity is not None}


async def _tell(
    instance: Instance,
    actor: Actor,
    action: str,
    subject: str,
    before: Mapping[str, str | None],
    after: Mapping[str, str | None],
) -> None:
    """A secret's value is hidden in both, so that a change of it shows as one."""
    row = audited(instance.keys.clock(), actor, action, subject[:200], (before, after))
    await instance.database.commit(row)
