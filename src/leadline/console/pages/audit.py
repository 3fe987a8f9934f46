"""The audit log of the organisation: who changed what, when, from where, and how it was before."""

from starlette.responses import Response

from leadline.console.audit_view import COLUMNS, Asked, audit_cells, audit_page
from leadline.console.csv_file import csv_file
from leadline.console.page import Page
from leadline.console.visit import Visit

PATH = "/audit"


async def show(visit: Visit) -> Response:
    asked = Asked.of(visit.request.query_params)
    context = await audit_page(visit.instance, visit.organisation_id, asked, PATH)
    return visit.render("audit.html", 400 if asked.wrong else 200, **context)


async def download(visit: Visit) -> Response:
    asked = Asked.of(visit.request.query_params)
    rows = audit_cells(visit.instance, visit.organisation_id, asked.filters)
    return csv_file("audit.csv", COLUMNS, rows)


PAGES = (
    Page(PATH, "audit", "see", show),
    Page(f"{PATH}.csv", "audit", "see", download),
)
