"""The engines of this server: what they do now, loading and unloading, and pulls of weights."""

from starlette.responses import JSONResponse, Response

from leadline.administration.commands.engines import cancel_pull, load_engine, pull_model, unload_engine
from leadline.administration.commands.workers import add_worker, remove_worker
from leadline.administration.engine_facts import engine_facts
from leadline.administration.pulls import Pull
from leadline.console.page import Page
from leadline.console.pages.admin.weights import pulled
from leadline.console.render import render
from leadline.console.sizes import size
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound, PermissionDenied, Unavailable
from leadline.weights.known import KNOWN

PATH = "/admin/engines"
_TONES = {"loaded": "good", "failed": "bad", "loading": "accent", "restarting": "warn"}
# What is on its way is looked at more often than what stands.
_BUSY = ("loading", "unloading", "restarting")


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def load(visit: Visit) -> Response:
    name = visit.request.path_params["engine"]
    try:
        await load_engine(visit.instance, visit.actor, name)
    except Unavailable as error:
        return visit.redirect(PATH, str(error), "bad")
    return visit.redirect(PATH, f"{name} loads. This page shows how far it is.")


async def unload(visit: Visit) -> Response:
    name = visit.request.path_params["engine"]
    try:
        await unload_engine(visit.instance, visit.actor, name)
    except Unavailable as error:
        return visit.redirect(PATH, str(error), "bad")
    return visit.redirect(PATH, f"{name} is unloaded. It loads again at its next request.")


async def pull(visit: Visit) -> Response:
    wanted = visit.form["wanted"] or visit.form["known"]
    try:
        await pull_model(visit.instance, visit.actor, wanted)
    except (InvalidRequest, Unavailable) as error:
        return await _page(visit, wanted=visit.form["wanted"], wrong=str(error))
    return visit.redirect(PATH, f"{wanted} is being pulled. You can leave this page: the pull goes on.")


async def cancel(visit: Visit) -> Response:
    result = await cancel_pull(visit.instance, visit.actor, visit.request.path_params["name"])
    if result["state"] != "cancelled":
        return visit.redirect(PATH, f"The pull of {result['wanted']} had ended already.", "warn")
    return visit.redirect(PATH, f"The pull of {result['wanted']} is cancelled. Nothing of it was kept.")


async def add(visit: Visit) -> Response:
    name = visit.request.path_params["engine"]
    try:
        await add_worker(visit.instance, visit.actor, name, visit.form["url"])
    except (InvalidRequest, NotFound, PermissionDenied) as error:
        return visit.redirect(PATH, str(error), "bad")
    return visit.redirect(PATH, f"{name} has a further worker. It gets requests as soon as it answers.")


async def remove(visit: Visit) -> Response:
    name, url = visit.request.path_params["engine"], visit.form["url"]
    try:
        await remove_worker(visit.instance, visit.actor, name, url)
    except (InvalidRequest, NotFound, PermissionDenied) as error:
        return visit.redirect(PATH, str(error), "bad")
    return visit.redirect(PATH, f"{url} gets no new requests of {name}. Those that it has end there.")


async def now(visit: Visit) -> Response:
    """What changes on the page, as JSON: markup by the ids of the elements that it belongs in."""
    facts, pulls = engine_facts(visit.instance), visit.instance.pulls.all()
    parts = {f"engine-{one.name}": _part("engine", visit, one=one) for one in facts}
    parts["pulls"] = _part("pulls", visit, pulls=pulls)
    parts["weights"] = _part("weights", visit, weights=await pulled(visit))
    busy = any(one.status.state in _BUSY for one in facts) or any(one.state == "running" for one in pulls)
    return JSONResponse({"parts": parts, "busy": busy})


PAGES = (
    Page(PATH, "admin-engines", "admin", show, pull),
    Page(f"{PATH}/now", "admin-engines", "admin", now),
    Page(f"{PATH}/{{engine:path}}/load", "admin-engines", "admin", post=load),
    Page(f"{PATH}/{{engine:path}}/unload", "admin-engines", "admin", post=unload),
    Page(f"{PATH}/{{engine:path}}/workers", "admin-engines", "admin", post=add),
    Page(f"{PATH}/{{engine:path}}/workers/remove", "admin-engines", "admin", post=remove),
    Page(f"{PATH}/pulls/{{name}}/cancel", "admin-engines", "admin", post=cancel),
)


async def _page(visit: Visit, wanted: str = "", wrong: str = "") -> Response:
    return visit.render(
        "admin/engines.html",
        400 if wrong else 200,
        engines=engine_facts(visit.instance),
        pulls=visit.instance.pulls.all(),
        weights=await pulled(visit),
        known=[(name, f"{name}, {size(model.size_bytes)}") for name, model in KNOWN.items()],
        wanted=wanted,
        wrong=wrong,
        running=bool(visit.instance.engines),
        **_words(),
    )


def _part(name: str, visit: Visit, **context: object) -> str:
    return render(f"admin/{name}_part.html", visit=visit, **context, **_words())


def _words() -> dict[str, object]:
    return {"size": size, "tones": _TONES, "stage": _stage}


def _stage(pull: Pull) -> str:
    """How far it is."""
    progress = pull.progress
    if progress is None:
        return "Begins"
    stage = progress.stage.capitalize()
    if not progress.total_bytes:
        return stage
    return f"{stage}, {size(progress.done_bytes)} of {size(progress.total_bytes)}"
