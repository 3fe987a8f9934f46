"""Pulled weights: what makes room on the disk."""

import asyncio
from pathlib import Path

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.administration.commands.command import Command, Result
from leadline.administration.commands.offer import runs_on, withdraw_model
from leadline.administration.instance import Instance
from leadline.administration.models import sections
from leadline.errors import PermissionDenied
from leadline.weights.store import Store, WeightsMissing


async def remove_weights(instance: Instance, actor: Actor, name: str, *, force: bool = False) -> Result:
    """Delete pulled weights. PermissionDenied while an engine uses them; with `force` the models that run on them are
    withdrawn first. Where no server runs, the last model keeps its place in the file."""
    store = Store(instance.data / "models")
    path = await asyncio.to_thread(store.path, name)
    if path is None:
        raise WeightsMissing(f"No weights named {name[:200]!r} have been pulled. `leadline models list` shows all.")
    engines, models = sections(instance.config)
    using = {one.name for one in engines if await asyncio.to_thread(runs_on, store, one, path)}
    served = [one.name for one in models if one.engine in using]
    if using and not force:
        raise PermissionDenied(
            f"{name} is what {', '.join(served) or min(using)} runs on. Withdraw it first with"
            " `leadline models withdraw`, or do both with --force."
        )
    withdrawn = served if instance.engines or len(served) < len(models) else []
    for model in withdrawn:
        await withdraw_model(instance, actor, model)
    freed = await asyncio.to_thread(_remove, store, name, path)
    at = instance.keys.clock()
    await instance.database.commit(audited(at, actor, "models rm", name, ({"bytes": freed}, {})))
    return {"name": name, "freed_bytes": freed, "withdrawn": withdrawn}


READS: dict[str, Command] = {}
CHANGES: dict[str, Command] = {"models rm": remove_weights}


def _remove(store: Store, name: str, path: Path) -> int:
    """What was freed. A file that only refers to one elsewhere frees nothing, and that one stays."""
    files = [file for file in (*store.files(path), store.projector(path)) if file is not None]
    freed = sum(file.stat().st_size for file in files if not file.is_symlink())
    store.remove(name)
    return freed
