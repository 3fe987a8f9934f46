"""Models: what the configuration says of them, and their prices. Prices come as somebody wrote them, in USD per million
tokens."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from leadline.accounts.actor import Actor
from leadline.administration.commands import dates
from leadline.administration.commands.command import Command, Result
from leadline.administration.instance import Instance
from leadline.administration.models import sections, weights_facts
from leadline.catalog.catalog import Names, with_seed_aliases
from leadline.catalog.price_book import PriceChange
from leadline.catalog.prices import Prices, Tier
from leadline.clock import rfc3339
from leadline.config import EngineSection, ModelSection
from leadline.errors import InvalidRequest, ModelNotFound, NotFound
from leadline.money import Ticks, ticks_per_token
from leadline.weights.known import DEFAULT
from leadline.weights.store import Store, Weights, WeightsMissing, WeightsUnusable, name_from


async def list_models(instance: Instance) -> Result:
    """The models on offer, with what their engines do now where a server runs, and the weights that were pulled.
    `size_bytes` is None of what runs elsewhere, `context_tokens` where nobody says yet."""
    engines, models = sections(instance.config)
    by_name = {engine.name: engine for engine in engines}
    await instance.prices.follow(models)
    store = Store(instance.data / "models")
    return {
        "models": [
            {
                **{"name": section.name, "engine": section.engine, "kind": by_name[section.engine].kind},
                **{"aliases": list(section.aliases), "status": _status(instance, section)},
                **{"size_bytes": await asyncio.to_thread(_size, store, by_name[section.engine])},
                **{"context_tokens": _context(instance, section)},
                **{f"{kind}_ticks": ticks for kind, ticks in _now(instance, section.name)},
            }
            for section in with_seed_aliases(models)
        ],
        "weights": await asyncio.to_thread(lambda: [_file(store, one) for one in store.list()]),
    }


def _size(store: Store, engine: EngineSection) -> int | None:
    if not engine.embedded:
        return None
    try:
        return store.size_bytes(store.resolve(engine.weights or DEFAULT.name))
    except WeightsMissing:
        return None


def _context(instance: Instance, section: ModelSection) -> int | None:
    engine = instance.engines.get(section.engine)
    known = None if engine is None else engine.facts(section.upstream_model or section.name).context_tokens
    return min((one for one in (section.context_tokens, known) if one is not None), default=None)


def _now(instance: Instance, model: str) -> list[tuple[str, Ticks]]:
    """Ticks per token of input and output."""
    prices = instance.prices.at(model, instance.prices.clock()).short
    return [("input", prices.input), ("output", prices.output)]


def _status(instance: Instance, section: ModelSection) -> Result | None:
    """None where no server runs."""
    engine = instance.engines.get(section.engine)
    return None if engine is None else asdict(engine.status)


def _file(store: Store, weights: Weights) -> Result:
    try:
        return weights_facts(store, weights.name, weights.path)
    except WeightsUnusable as error:
        about = {"name": weights.name, "path": str(weights.path), "size_bytes": weights.size_bytes}
        return about | {"sha256": weights.sha256, "broken": str(error)}


async def _weights(instance: Instance, section: ModelSection) -> Result | None:
    """What the file of an embedded engine's model says; None where it is not there."""
    engines, _ = sections(instance.config)
    engine = next(one for one in engines if one.name == section.engine)
    store = Store(instance.data / "models")
    if not engine.embedded:
        return None
    try:
        path = await asyncio.to_thread(store.resolve, engine.weights or DEFAULT.name)
        return await asyncio.to_thread(weights_facts, store, name_from(path), path, engine.projector)
    except (WeightsMissing, WeightsUnusable):
        return None


async def show_model(instance: Instance, name: str) -> Result:
    """Context and capabilities are None where the engine decides."""
    section = await _section(instance, name)
    return {
        "name": section.name,
        "aliases": list(section.aliases),
        "engine": section.engine,
        "upstream_model": section.upstream_model or section.name,
        "context_tokens": section.context_tokens,
        "default_max_output_tokens": section.default_max_output_tokens,
        "capabilities": None if section.capabilities is None else list(section.capabilities),
        "status": _status(instance, section),
        "weights": await _weights(instance, section),
        **_prices(instance, section.name),
    }


async def price_model(
    instance: Instance, actor: Actor, name: str, changes: Mapping[str, str], effective_from: str | None = None
) -> Result:
    """`changes` has prices and the threshold by the names of the fields of `Prices`. What it does not name stays as it
    would be at that date. Without any nothing changes."""
    section = await _section(instance, name)
    if changes:
        at, prices = priced(instance, section.name, changes, effective_from)
        await instance.prices.record(section.name, prices, at, "command", actor)
    elif effective_from is not None:
        raise InvalidRequest("Name a price that changes then, such as --input 2.00.", "from")
    return {"name": section.name, **_prices(instance, section.name)}


def priced(
    instance: Instance, model: str, changes: Mapping[str, str], effective_from: str | None
) -> tuple[int | None, Prices]:
    """From when on, in microseconds (None: now), and the prices that `model` has then with the changes, of which
    nothing is recorded. InvalidRequest where they cannot be."""
    at = None if effective_from is None else _moment(effective_from)
    before = instance.prices.at(model, instance.prices.clock() if at is None else at)
    return at, _changed(before, changes)


CHANGES: dict[str, Command] = {"models price": price_model}
READS: dict[str, Command] = {
    "models list": list_models,
    "models show": show_model,
}


async def _section(instance: Instance, name: str) -> ModelSection:
    """The model of this name or alias, its prices recorded even where no server has run since the file changed."""
    _, models = sections(instance.config)
    try:
        section = Names(with_seed_aliases(models)).find(name)
    except ModelNotFound:
        raise NotFound(f"There is no model {name[:200]!r}. `leadline models list` shows them.") from None
    await instance.prices.follow(models)
    return section


def _changed(prices: Prices, changes: Mapping[str, str]) -> Prices:
    named: dict[str, Any] = {}
    for word, text in changes.items():
        if word not in Prices.__dataclass_fields__:
            raise InvalidRequest(f"A model has no price {word!r}.", word)
        named[word] = _tokens(text) if word == "long_context_threshold" else price_ticks(text, word)
    changed = replace(prices, **named)
    if changed.long_context_threshold == 0 and any(named[word] for word in named if word.endswith("_long_context")):
        raise InvalidRequest("Prices for a long context need --long-context-threshold.", "long_context_threshold")
    return changed


def price_ticks(text: str, word: str) -> Ticks:
    """USD per million tokens as ticks per token; InvalidRequest for `word` where it is no price."""
    try:
        return ticks_per_token(Decimal(text))
    except InvalidOperation:
        raise InvalidRequest(f"{text!r} is not a price. Write USD per million tokens, such as 0.25.", word) from None
    except ValueError as error:
        raise InvalidRequest(f"{error}.", word) from None


def _tokens(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise InvalidRequest(f"{text!r} is not a number of tokens, such as 128000.", "long_context_threshold")
    return int(text)


def _moment(text: str) -> int:
    """A day's midnight in UTC or a time with its offset, in microseconds."""
    try:
        return dates.moment(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a date. Write 2027-01-01 or 2027-01-01T12:00:00Z.", "from") from None


def _prices(instance: Instance, model: str) -> Result:
    """The prices of now and those to come, and every change that was ever recorded, by its date."""
    now, history = instance.prices.clock(), instance.prices.history(model)
    counting = {change.effective_from: change for change in history}.values()
    past = [change for change in counting if change.effective_from <= now]
    return {
        "prices": _change(past[-1]) if past else None,
        "prices_to_come": [_change(change) for change in counting if change.effective_from > now],
        "history": [_change(change) for change in history],
    }


def _change(change: PriceChange) -> Result:
    threshold = change.prices.long_context_threshold
    return {
        "effective_from": rfc3339(change.effective_from),
        "recorded_at": rfc3339(change.recorded_at),
        "source": change.source,
        **_tier(change.prices.short),
        "long_context_threshold": threshold,
        "long_context": _tier(change.prices.long) if threshold else None,
    }


def _tier(tier: Tier) -> Result:
    """Ticks per token."""
    return {f"{kind}_ticks": ticks for kind, ticks in asdict(tier).items()}
