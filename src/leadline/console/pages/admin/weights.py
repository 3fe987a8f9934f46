"""Weights that were pulled: served as a model, withdrawn and deleted."""

import asyncio
import re
from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import Response

from leadline.administration.commands.offer import runs_on, serve_weights, withdraw_model
from leadline.administration.commands.weights import remove_weights
from leadline.administration.models import sections
from leadline.console.page import Page
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound, PermissionDenied, Unavailable
from leadline.weights.store import Store, WeightsMissing

ENGINES = "/admin/engines"
PATH = "/admin/weights"
PRICES = {"input": "Input", "cached_input": "Cached input", "output": "Output"}
LOADS = [("demand", "At its first request"), ("start", "At once, and when the server starts")]


@dataclass(frozen=True, slots=True)
class Pulled:
    """Weights that are here, and the models that run on them."""

    name: str
    size_bytes: int
    models: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"{PATH}/{quote(self.name)}"


async def pulled(visit: Visit) -> list[Pulled]:
    """All that are here, by name."""
    store = Store(visit.instance.data / "models")
    engines, models = sections(visit.instance.config)
    found = []
    for one in await asyncio.to_thread(store.list):
        using = {engine.name for engine in engines if await asyncio.to_thread(runs_on, store, engine, one.path)}
        served = tuple(model.name for model in models if model.engine in using)
        found.append(Pulled(one.name, one.size_bytes, served))
    return found


async def show(visit: Visit) -> Response:
    return _form(visit, await _asked(visit))


async def serve(visit: Visit) -> Response:
    one, form = await _asked(visit), visit.form
    aliases = [alias for alias in re.split(r"[\s,]+", form["aliases"]) if alias]
    prices = {kind: form[kind].removeprefix("$") for kind in PRICES if form[kind]}
    try:
        made = await serve_weights(
            visit.instance,
            visit.actor,
            one.name,
            form["name"] or None,
            aliases,
            prices,
            "start" if form["load"] == "start" else "demand",
        )
    except InvalidRequest as error:
        return _form(visit, one, {error.param or "": str(error)})
    except PermissionDenied as error:
        return _form(visit, one, {"": str(error)})
    name = made["name"]
    if made["holds_now"]:
        return visit.redirect(ENGINES, f"{name} is a model now, for every key that may use it. Its engine is below.")
    return visit.redirect(ENGINES, f"{name} is in leadline.toml. It is a model when the server starts again.", "warn")


async def withdraw(visit: Visit) -> Response:
    name = visit.form["model"]
    try:
        await withdraw_model(visit.instance, visit.actor, name)
    except (PermissionDenied, Unavailable, InvalidRequest) as error:
        return visit.redirect(ENGINES, str(error), "bad")
    return visit.redirect(ENGINES, f"{name} is offered no more. Its weights are still here.")


async def delete(visit: Visit) -> Response:
    one = await _asked(visit)
    try:
        await remove_weights(visit.instance, visit.actor, one.name)
    except (PermissionDenied, WeightsMissing) as error:
        return visit.redirect(ENGINES, str(error), "bad")
    return visit.redirect(ENGINES, f"{one.name} is deleted.")


PAGES = (
    Page(f"{PATH}/withdraw", "admin-engines", "admin", post=withdraw),
    Page(f"{PATH}/{{weights}}", "admin-engines", "admin", show, serve),
    Page(f"{PATH}/{{weights}}/delete", "admin-engines", "admin", post=delete),
)


async def _asked(visit: Visit) -> Pulled:
    name = visit.request.path_params["weights"]
    for one in await pulled(visit):
        if one.name == name:
            return one
    raise NotFound("There are no such weights here.")


def _form(visit: Visit, one: Pulled, wrong: dict[str, str] | None = None) -> Response:
    """`wrong` is by field; what is wrong with none of them is under the empty name."""
    typed = {name: visit.form[name] for name in ("name", "aliases", "load", *PRICES)}
    if "name" not in visit.form:
        typed["name"] = "" if one.models else one.name
    wrong = {"aliases" if field == "alias" else field: text for field, text in (wrong or {}).items()}
    return visit.render(
        "admin/serve.html",
        400 if wrong else 200,
        one=one,
        typed=typed,
        wrong=wrong,
        kinds=PRICES,
        loads=LOADS,
    )
