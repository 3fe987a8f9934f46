"""Engines and weights: what whoever looks after the server does by hand."""

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import Fields, audited
from leadline.administration.commands.command import Command, Result
from leadline.administration.instance import Instance
from leadline.administration.pulls import Pull
from leadline.clock import rfc3339
from leadline.engines.engine import Loadable
from leadline.errors import NotFound


async def load_engine(instance: Instance, actor: Actor, name: str) -> Result:
    """Returns once it begins to load."""
    engine = _loadable(instance, name)
    before = instance.engines[name].status.state
    engine.load()
    await _tell(instance, actor, "engines load", name, ({"state": before}, {"state": "loading"}))
    return {"name": name, "state": instance.engines[name].status.state}


async def unload_engine(instance: Instance, actor: Actor, name: str) -> Result:
    """Returns once it begins to unload. Unavailable while a request needs it."""
    engine = _loadable(instance, name)
    before = instance.engines[name].status.state
    engine.unload()
    await _tell(instance, actor, "engines unload", name, ({"state": before}, {"state": "unloaded"}))
    return {"name": name, "state": instance.engines[name].status.state}


async def pull_model(instance: Instance, actor: Actor, wanted: str) -> Result:
    """Returns once the pull has begun."""
    pull = instance.pulls.begin(wanted)
    await _tell(instance, actor, "models pull", pull.wanted, ({}, {"pull": pull.id}))
    return _pull(pull)


async def cancel_pull(instance: Instance, actor: Actor, pull_id: str) -> Result:
    pull = instance.pulls.found(pull_id)
    if pull.state == "running":
        pull = await instance.pulls.cancel(pull_id)
        await _tell(instance, actor, "models pull-cancel", pull.wanted, ({"pull": pull.id}, {}))
    return _pull(pull)


READS: dict[str, Command] = {}
CHANGES: dict[str, Command] = {
    "engines load": load_engine,
    "engines unload": unload_engine,
    "pulls begin": pull_model,
    "pulls cancel": cancel_pull,
}


def _loadable(instance: Instance, name: str) -> Loadable:
    engine = instance.engines.get(name)
    if engine is None or not isinstance(engine, Loadable):
        raise NotFound(f"There is no engine {name[:200]!r} here whose model is loaded by hand.")
    return engine


def _pull(pull: Pull) -> Result:
    return {"id": pull.id, "wanted": pull.wanted, "state": pull.state, "began_at": rfc3339(pull.began_at)}


async def _tell(instance: Instance, actor: Actor, action: str, subject: str, changes: tuple[Fields, Fields]) -> None:
    await instance.database.commit(audited(instance.keys.clock(), actor, action, subject, changes))
