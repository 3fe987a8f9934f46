"""The audit log of the whole server, or of one organisation in it."""

from starlette.responses import Response

from leadline.console.audit_view import COLUMNS, ON_SERVER, Asked, audit_cells, audit_page
from leadline.console.csv_file import csv_file
from leadline.console.page import Page
from leadline.console.visit import Visit

PATH = "/admin/audit"


async def show(visit: Visit) -> Response:
    asked = Asked.of(visit.request.query_params)
    organisation_id = asked.typed["organisation"] or None
    context = await audit_page(visit.instance, organisation_id, asked, PATH, ON_SERVER)
    organisation = None if organisation_id is None else await visit.instance.organisations.get(organisation_id)
    return visit.render(
        "admin/audit.html",
        400 if asked.wrong else 200,
        organisation=organisation,
        organisation_id=organisation_id,
        **context,
    )


async def download(visit: Visit) -> Response:
    asked = Asked.of(visit.request.query_params)
    rows = audit_cells(visit.instance, asked.typed["organisation"] or None, asked.filters)
    return csv_file("audit.csv", COLUMNS, rows)


PAGES = (
    Page(PATH, "admin-audit", "admin", show),
    Page(f"{PATH}.csv", "admin-audit", "admin", download),
)
