"""Credits that administrators give: to an organisation, for a reason, for ever or until a day."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import Response

from leadline.accounts.audit_log import MOST_ROWS, AuditFilters, AuditRow
from leadline.administration.commands.credits import grant_credits
from leadline.clock import rfc3339
from leadline.console.csv_file import Cell, csv_file
from leadline.console.page import Page
from leadline.console.turning import path_of, turned
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, LeadlineError, NotFound
from leadline.money import show_usd

PATH = "/admin/grants"
COLUMNS = ("time", "organisation_id", "organisation", "granted_ticks", "granted", "expires_at", "reason", "by")
_GRANTS = AuditFilters(action="credits grant")
_FIELDS = ("organisation", "amount", "reason", "expires")


async def show(visit: Visit) -> Response:
    return await _list(visit)


async def grant(visit: Visit) -> Response:
    form = visit.form
    try:
        if not form["organisation"]:
            raise InvalidRequest("Choose an organisation: its id, or the e-mail of a member.", "organisation")
        result = await grant_credits(
            *(visit.instance, visit.actor, form["organisation"], form["amount"].removeprefix("$"), form["reason"]),
            form["expires"] or None,
        )
    except (InvalidRequest, NotFound) as error:
        return await _list(visit, {_field(error): _words(error)})
    until = f", until {result['expires_at'][:10]}" if result["expires_at"] else ""
    said = f"Granted {show_usd(result['granted_ticks'])} to {result['organisation']}{until}."
    return visit.redirect(PATH, f"{said} It has {show_usd(result['balance_ticks'])} now.")


async def download(visit: Visit) -> Response:
    return csv_file("grants.csv", COLUMNS, _cells(visit, visit.query("organisation") or None))


PAGES = (
    Page(PATH, "admin-grants", "admin", show, grant),
    Page(f"{PATH}.csv", "admin-grants", "admin", download),
)


async def _list(visit: Visit, wrong: dict[str, str] | None = None) -> Response:
    instance, asked = visit.instance, visit.query("organisation")

    async def fetch(cursor: str | None, limit: int, *, oldest_first: bool) -> Sequence[AuditRow]:
        return await instance.audit_log.rows(asked or None, _GRANTS, cursor, limit, oldest_first=oldest_first)

    page = await turned(fetch, visit.request.query_params, PATH, {"organisation": asked})
    typed = {name: visit.form[name] for name in _FIELDS}
    return visit.render(
        "admin/grants.html",
        400 if wrong else 200,
        page=page,
        names=await _names(visit, [row.organisation_id for row in page.rows] + [asked]),
        asked=asked,
        form=typed | {"organisation": typed["organisation"] or asked},
        wrong=wrong or {},
        expire_after_days=instance.config.credits.expire_after_days,
        choices=await instance.organisations.page(limit=MOST_ROWS),
        csv=path_of(f"{PATH}.csv", {"organisation": asked}),
    )


async def _names(visit: Visit, organisation_ids: list[str]) -> dict[str, str]:
    """What the organisations are called now."""
    found: dict[str, str] = {}
    for organisation_id in set(organisation_ids) - {""}:
        organisation = await visit.instance.organisations.get(organisation_id)
        found[organisation_id] = organisation_id if organisation is None else organisation.name
    return found


async def _cells(visit: Visit, organisation_id: str | None) -> AsyncIterator[list[Cell]]:
    before: str | None = None
    while True:
        rows = await visit.instance.audit_log.rows(organisation_id, _GRANTS, before, MOST_ROWS)
        names = await _names(visit, [row.organisation_id for row in rows])
        for row in rows:
            given: dict[str, Any] = dict(row.after)
            ticks = given.get("granted_ticks", 0)
            yield [
                *(rfc3339(row.at), row.organisation_id, names.get(row.organisation_id, ""), ticks, show_usd(ticks)),
                *(given.get("expires_at"), given.get("reason", ""), row.actor_name),
            ]
        if len(rows) < MOST_ROWS:
            return
        before = rows[-1].id


def _field(error: LeadlineError) -> str:
    return (error.param if isinstance(error, InvalidRequest) else None) or "organisation"


def _words(error: LeadlineError) -> str:
    """The command line's own words lead nowhere here."""
    if isinstance(error, NotFound):
        return "No organisation has this id, and none of its members this e-mail."
    return str(error)
