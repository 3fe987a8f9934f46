"""The servers behind an engine of several: which there are, and which come and go while it runs."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.administration.commands.command import Command, Result
from leadline.administration.commands.offer import hold, refuse_overridden, written
from leadline.administration.configuration_file import Document, edit
from leadline.administration.engine_facts import engine_facts
from leadline.administration.instance import Instance
from leadline.config import EngineSection
from leadline.errors import InvalidRequest, NotFound, PermissionDenied

Urls = tuple[str, ...]


async def list_workers(instance: Instance) -> Result:
    """Of each engine that has several."""
    return {
        "workers": [
            {"engine": one.name, **asdict(worker)} for one in engine_facts(instance) for worker in one.status.workers
        ]
    }


async def add_worker(instance: Instance, actor: Actor, engine: str, url: str) -> Result:
    """Write a server into the engine's `urls`. A running server asks it as soon as it is there."""
    url = url.strip().rstrip("/")

    def add(urls: Urls) -> Urls:
        if url in urls:
            raise InvalidRequest(f"{url[:200]} is a worker of {engine} already.", "url")
        return (*urls, url)

    return await _change(instance, actor, "workers add", engine, add)


async def remove_worker(instance: Instance, actor: Actor, engine: str, url: str) -> Result:
    """Take a server out of the engine's `urls`. It gets no new requests; those that it has end there."""
    url = url.strip().rstrip("/")

    def remove(urls: Urls) -> Urls:
        left = tuple(one for one in urls if one != url)
        if left == urls:
            raise NotFound(f"{url[:200]} is no worker of {engine}. `leadline workers list` shows them.")
        if not left:
            raise PermissionDenied(f"{url} is the only worker of {engine}. Add another one first.")
        return left

    return await _change(instance, actor, "workers remove", engine, remove)


READS: dict[str, Command] = {"workers list": list_workers}
CHANGES: dict[str, Command] = {"workers add": add_worker, "workers remove": remove_worker}


async def _change(instance: Instance, actor: Actor, action: str, name: str, change: Callable[[Urls], Urls]) -> Result:
    refuse_overridden()
    async with instance.changing:
        config = instance.config
        section = next((one for one in config.engines if one.name == name), None)
        before = _urls(name, section)
        urls = change(before)
        engines = tuple(msgspec.structs.replace(one, urls=urls) if one is section else one for one in config.engines)
        after = msgspec.structs.replace(config, engines=engines)

        def in_file(document: Document, _: Any) -> None:
            place = next((one for one in document.get("engines", ()) if one.get("name") == name), None)
            if place is None:
                raise NotFound(f"leadline.toml names no engine {name[:200]!r}.")
            # What else the file has of them stays as it is written.
            listed = place.get("urls", [])
            for url in list(listed):
                if url.rstrip("/") not in urls:
                    listed.remove(url)
            for url in urls:
                if url not in before:
                    listed.append(url)

        await asyncio.to_thread(edit, instance.data, in_file)
        changes = {"workers": ", ".join(before)}, {"workers": ", ".join(urls)}
        await instance.database.commit(audited(instance.keys.clock(), actor, action, name[:200], changes))
        await hold(instance, after)
    return written(instance) | {"engine": name, "urls": list(urls)}


def _urls(name: str, section: EngineSection | None) -> Urls:
    """Those that can be changed; NotFound or PermissionDenied say why there are none."""
    if section is None:
        raise NotFound(f"leadline.toml names no engine {name[:200]!r}. `leadline status` shows them.")
    if section.discover is not None:
        raise PermissionDenied(f"The workers of {name} are found by the name in its url. Change them there.")
    if not section.urls:
        raise PermissionDenied(
            f"{name} has no list of workers. Write urls = [...] into leadline.toml, and start the server again."
        )
    return tuple(url.rstrip("/") for url in section.urls)
