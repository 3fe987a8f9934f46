"""Which models are offered, and under which names: written into leadline.toml, and held by a running server from its
next request on."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import Fields, audited
from leadline.administration.commands.command import Command, Result
from leadline.administration.commands.models import price_ticks
from leadline.administration.configuration_file import (
    Change,
    Document,
    check,
    edit,
    read,
    with_default_model,
    with_served,
    without,
)
from leadline.administration.instance import Instance
from leadline.administration.models import DEFAULT_ENGINE, projector_file, sections
from leadline.catalog.catalog import SEED_ALIASES, Names, with_seed_aliases
from leadline.catalog.prices import configured_prices
from leadline.config import Config, EngineSection, ModelSection, PriceSection, overriding, parse
from leadline.errors import InvalidRequest, ModelNotFound, NotFound, PermissionDenied, Unavailable
from leadline.weights.gguf import describe
from leadline.weights.known import DEFAULT
from leadline.weights.store import Store, WeightsMissing

_LONGEST_NAME = 100
_PRICES = ("input", "cached_input", "image", "output")


async def serve_weights(
    instance: Instance,
    actor: Actor,
    weights: str,
    name: str | None = None,
    aliases: Sequence[str] = (),
    prices: Mapping[str, str] | None = None,
    load: Literal["start", "demand"] = "demand",
) -> Result:
    """Offer pulled weights as a model; `name` None: as they are called. An engine that has them serves it too, else a
    new one does, which loads at its first request (`demand`) or at once and at each start (`start`). `prices` are USD
    per million tokens, by kind."""
    refuse_overridden()
    if load not in ("start", "demand"):
        raise InvalidRequest(f"{load[:200]!r} is no time to load: start or demand.", "load")
    store = Store(instance.data / "models")
    path = await asyncio.to_thread(store.path, weights)
    if path is None:
        raise WeightsMissing(f"No weights named {weights[:200]!r} have been pulled. `leadline models list` shows all.")
    await asyncio.to_thread(describe, path)
    async with instance.changing:
        engines, models = sections(instance.config)
        called = weights if name is None else name
        _check_new_name(models, called, "name")
        for alias in aliases:
            _check_new_name(models, alias, "alias", wildcard=True)
        own = await asyncio.to_thread(lambda: [_weights_of(store, one) for one in engines])
        engine, new = next((one for one, file in zip(engines, own, strict=True) if file == path), None), None
        if engine is None:
            taken = {one.name for one in (*engines, *(await _in_file(instance)).engines)}
            engine = new = EngineSection(_free(weights, taken), DEFAULT_ENGINE.kind, weights=weights, load=load)
        section = ModelSection(called, engine.name, aliases=tuple(dict.fromkeys(aliases)), prices=_priced(prices or {}))
        config = instance.config
        after = msgspec.structs.replace(
            config, engines=config.engines if new is None else (*engines, new), models=(*models, section)
        )
        check(after)
        await asyncio.to_thread(edit, instance.data, None, lambda text: with_served(text, new, section))
        told = {"weights": weights, "engine": engine.name, "aliases": ", ".join(section.aliases)}
        await _tell(instance, actor, "models serve", called, ({}, told | asdict(configured_prices(section))))
        await hold(instance, after)
    return written(instance) | {
        "name": called,
        "engine": engine.name,
        "aliases": list(section.aliases),
        "free": section.prices == PriceSection(),
    }


async def withdraw_model(instance: Instance, actor: Actor, name: str) -> Result:
    """Offer a model no more. Its engine goes with it where it has no other one; weights and prices stay. Unavailable
    while a request needs the engine, PermissionDenied for the last model."""
    refuse_overridden()
    async with instance.changing:
        before = instance.config
        engines, models = sections(before)
        section = next((one for one in models if one.name == name), None)
        if section is None:
            raise NotFound(f"There is no model {name[:200]!r}. `leadline models list` shows them.")
        left = tuple(one for one in models if one is not section)
        if not left:
            raise PermissionDenied(f"{name} is the only model. Serve another one first.")
        stays = any(one.engine == section.engine for one in left)
        if not stays and instance.activity is not None and (running := instance.activity.running(name)):
            raise Unavailable(f"{name} stays: {running} of its requests run now. Try again in a moment.")
        after = msgspec.structs.replace(
            before,
            engines=before.engines if stays else tuple(one for one in engines if one.name != section.engine),
            models=left,
        )
        check(after)
        # First here, so that it ends only for new requests, and only if no request needs it.
        await hold(instance, after)
        try:
            await asyncio.to_thread(edit, instance.data, _withdrawing(name))
        except BaseException:
            await hold(instance, before)
            raise
        gone = "" if stays else section.engine
        await _tell(instance, actor, "models withdraw", name, ({"engine": section.engine}, {}))
    return written(instance) | {"name": name, "engine_stopped": gone or None}


async def alias_model(instance: Instance, actor: Actor, name: str, alias: str, *, remove: bool = False) -> Result:
    """Give a model of the file a further name, or take one from it. `changed` False: it was so."""
    async with instance.changing:
        text = await asyncio.to_thread(lambda: with_default_model(read(instance.data)))
        models = parse(text, "leadline.toml").models
        section = _named(models, name)
        _check_alias(models, section, alias, remove=remove)
        changed = (alias in section.aliases) == remove
        aliases = _changed(section, alias, remove=remove)

        def change(document: Document, _: Any) -> None:
            place = next(one for one in document["models"] if one["name"] == section.name)
            if not remove:
                place.setdefault("aliases", []).append(alias)
            else:
                place["aliases"].remove(alias)

        held = False
        if changed:
            await asyncio.to_thread(edit, instance.data, change, with_default_model)
            before, after = ({"aliases": ", ".join(one)} for one in (section.aliases, aliases))
            await _tell(instance, actor, "models alias", section.name, (before, after))
            held = await _alias_held(instance, section.name, alias, remove=remove)
    result = {"name": section.name, "aliases": list(aliases), "changed": changed}
    told = written(instance)
    return told | {"holds_now": told["holds_now"] and held} | result | {"overridden_by": overriding("models")}


READS: dict[str, Command] = {}
CHANGES: dict[str, Command] = {
    "models serve": serve_weights,
    "models withdraw": withdraw_model,
    "models alias": alias_model,
}


def runs_on(store: Store, engine: EngineSection, path: Path) -> bool:
    """Whether the engine uses the pulled weights in `path`, or what came with them. It reads the disk."""
    own = _weights_of(store, engine)
    if own is None:
        return False
    projector = projector_file(store, own, engine.projector)
    going = {file.absolute() for file in (*store.files(path), store.projector(path)) if file is not None}
    return own.absolute() in going or (projector is not None and projector.absolute() in going)


def _weights_of(store: Store, engine: EngineSection) -> Path | None:
    """None where it runs elsewhere, or they are not here."""
    if not engine.embedded:
        return None
    try:
        return store.resolve(engine.weights or DEFAULT.name)
    except WeightsMissing:
        return None


async def hold(instance: Instance, config: Config) -> None:
    """From the next request on, where a server runs."""
    if instance.served is not None:
        await instance.served.follow(config)
    instance.config = config
    written = {table: "leadline.toml" for table in ("engines", "models") if getattr(config, table)}
    instance.origins = {**instance.origins, **written}


async def _alias_held(instance: Instance, name: str, alias: str, *, remove: bool) -> bool:
    """Whether the alias came or went here too; not where the model of the file is none that runs, or where one that
    runs has the name already."""
    config, (_, models) = instance.config, sections(instance.config)
    section = next((one for one in models if one.name == name), None)
    taken = {one.name for one in models} | {one for other in models if other.name != name for one in other.aliases}
    if overriding("models") or section is None or (not remove and alias in taken):
        return False
    aliased = msgspec.structs.replace(section, aliases=_changed(section, alias, remove=remove))
    after = tuple(aliased if one is section else one for one in models)
    await hold(instance, msgspec.structs.replace(config, models=after))
    return True


def _changed(section: ModelSection, alias: str, *, remove: bool) -> tuple[str, ...]:
    others = tuple(one for one in section.aliases if one != alias)
    if remove:
        return others
    return section.aliases if alias in section.aliases else (*section.aliases, alias)


async def _in_file(instance: Instance) -> Config:
    return parse(await asyncio.to_thread(read, instance.data), "leadline.toml")


def _withdrawing(name: str) -> Change:
    """Takes the model out of the file, and its engine where the file has no other model on it."""

    def change(document: Document, make: Any) -> None:
        named = document.get("models", ())
        gone = {one.get("engine") for one in named if one.get("name") == name}
        used = {one.get("engine") for one in named if one.get("name") != name}
        without("models", {name})(document, make)
        without("engines", gone - used)(document, make)

    return change


def refuse_overridden() -> None:
    """PermissionDenied where an environment variable holds instead of the file's engines and models."""
    for table in ("engines", "models"):
        if (variable := overriding(table)) is not None:
            raise PermissionDenied(
                f"The environment variable {variable} holds instead of what leadline.toml says of {table}."
                " Change it there."
            )


def _priced(prices: Mapping[str, str]) -> PriceSection:
    for kind, text in prices.items():
        if kind not in _PRICES:
            raise InvalidRequest(f"A model has no price {kind[:200]!r} here. It has: {', '.join(_PRICES)}.", kind)
        price_ticks(text, kind)
    return msgspec.structs.replace(PriceSection(), **{kind: Decimal(text) for kind, text in prices.items()})


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it."""
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))) if one not in taken)


def _named(models: tuple[ModelSection, ...], name: str) -> ModelSection:
    try:
        called = Names(with_seed_aliases(models)).find(name).name
        return next(one for one in models if one.name == called)
    except ModelNotFound:
        raise NotFound(f"leadline.toml names no model {name[:200]!r}. `leadline models list` shows them.") from None


def _check_alias(models: tuple[ModelSection, ...], section: ModelSection, alias: str, *, remove: bool) -> None:
    if remove:
        if alias not in section.aliases:
            why = ", but has it without: it is the first chat model" if alias in SEED_ALIASES else ""
            raise NotFound(f"leadline.toml gives {section.name} no alias {alias[:200]!r}{why}.")
        return
    others = tuple(msgspec.structs.replace(one, aliases=()) if one is section else one for one in models)
    _check_new_name(others, alias, "alias", wildcard=True)


def _check_new_name(models: Sequence[ModelSection], name: str, field: str, *, wildcard: bool = False) -> None:
    stem = name.removesuffix("*") if wildcard else name
    if not name or "*" in stem or not name.isprintable() or " " in name or len(name) > _LONGEST_NAME:
        at_end = "; a * only at its end" if wildcard else " or *"
        words = f"{name[:200]!r} is no {field}: up to {_LONGEST_NAME} characters without spaces{at_end}."
        raise InvalidRequest(words, field)
    for other in models:
        if name == other.name or name in other.aliases:
            raise InvalidRequest(f"{name!r} is a name of {other.name} already.", field)


def written(instance: Instance) -> Result:
    """Where it was written, and from when on it holds."""
    running = instance.activity is not None
    return {
        "path": str(instance.data / "leadline.toml"),
        "running": running,
        "holds_now": running and instance.served is not None,
    }


async def _tell(instance: Instance, actor: Actor, action: str, subject: str, changes: tuple[Fields, Fields]) -> None:
    await instance.database.commit(audited(instance.keys.clock(), actor, action, subject[:200], changes))
