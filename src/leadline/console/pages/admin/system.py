"""The server as a whole: its program, its data, its books, its backups, and the settings that hold."""

from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from leadline.administration.backups import FOLDER, back_up, delete_backup, download, list_backups
from leadline.administration.metrics import metrics_text
from leadline.administration.settings_in_force import settings_in_force
from leadline.administration.system import system_facts
from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.console.page import Page
from leadline.console.sizes import lasting, size
from leadline.console.visit import Visit
from leadline.errors import LeadlineError

PATH = "/admin/system"


async def show(visit: Visit) -> Response:
    instance = visit.instance
    facts, now = await system_facts(instance), instance.keys.clock()
    models = [model.name for model in visit.pipeline.catalog.models]
    waiting = [one for engine in instance.engines.values() if (one := engine.status.waiting) is not None]
    return visit.render(
        "admin/system.html",
        facts=facts,
        uptime=lasting((now - facts.opened_at) // MICROSECONDS_PER_SECOND),
        running=sum(map(visit.pipeline.running.running, models)),
        waiting=sum(waiting),
        ready=any(model.engine.status.ready for model in visit.pipeline.catalog.models),
        check=instance.ledger_check,
        backups=await list_backups(instance.data),
        folder=FOLDER,
        # What somebody set comes first.
        settings=sorted(settings_in_force(instance), key=lambda one: one.is_default),
        metrics=instance.config.metrics,
        size=size,
    )


async def show_metrics(visit: Visit) -> Response:
    """What `/metrics` says to whoever watches over the server."""
    return PlainTextResponse(await metrics_text(visit.instance))


async def check(visit: Visit) -> Response:
    visit.instance.ledger_check.begin()
    return visit.redirect(f"{PATH}#books", "The books are being checked. Requests go on beside it.")


async def check_now(visit: Visit) -> Response:
    """As JSON: whether a check runs, and how many entries it read."""
    running = visit.instance.ledger_check
    return JSONResponse({"runs": running.runs, "read": running.read})


async def make_backup(visit: Visit) -> Response:
    try:
        backup = await back_up(visit.instance, visit.actor)
    except LeadlineError as error:
        return visit.redirect(f"{PATH}#backups", str(error), "bad")
    return visit.redirect(f"{PATH}#backups", f"{backup.name} is written, {size(backup.size_bytes)}.")


async def fetch_backup(visit: Visit) -> Response:
    path = await download(visit.instance, visit.actor, visit.request.path_params["backup"])
    return FileResponse(path, media_type="application/gzip", filename=path.name)


async def remove_backup(visit: Visit) -> Response:
    name = visit.request.path_params["backup"]
    await delete_backup(visit.instance, visit.actor, name)
    return visit.redirect(f"{PATH}#backups", f"{name} is deleted.")


PAGES = (
    Page(PATH, "admin-system", "admin", show),
    Page(f"{PATH}/metrics", "admin-system", "admin", show_metrics),
    Page(f"{PATH}/check", "admin-system", "admin", check_now, check),
    Page(f"{PATH}/backups", "admin-system", "admin", post=make_backup),
    Page(f"{PATH}/backups/{{backup}}", "admin-system", "admin", fetch_backup),
    Page(f"{PATH}/backups/{{backup}}/delete", "admin-system", "admin", post=remove_backup),
)
