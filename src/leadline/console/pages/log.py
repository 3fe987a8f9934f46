"""The request log: every request with its tokens, times and cost, and each by itself with how its price came about."""

from typing import Any

from starlette.responses import Response, StreamingResponse

from leadline.administration.commands.requests import log_csv, request_id
from leadline.console.log_view import PAGE, ROWS, STATUSES, LogAsked, Timings, log_row, priced
from leadline.console.narrowing import narrowing
from leadline.console.page import Page
from leadline.console.time_range import PRESETS
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound
from leadline.ledger.request_log import LogPage, RequestLog


async def show(visit: Visit) -> Response:
    asked, before = LogAsked.of(visit), visit.query("before")
    page, wrong = LogPage(()), ""
    try:
        cursor = request_id(before, "before") if before else None
        page = await RequestLog(visit.instance.database).page(asked.question(visit), cursor, ROWS)
    except InvalidRequest as error:
        wrong = str(error)
    to = asked.address.to
    return visit.render(
        "log.html",
        400 if wrong else 200,
        rows=[log_row(visit, record) for record in page.records],
        searched_back_to=page.searched_back_to,
        older=to(before=page.before) if page.before else None,
        newest=to() if before else None,
        wrong=wrong,
        address=asked.address,
        statuses=STATUSES,
        presets=PRESETS,
        narrowing=await narrowing(visit, asked.address, asked.time, {"status": STATUSES}),
        csv=to(f"{PAGE}.csv"),
    )


async def show_one(visit: Visit) -> Response:
    """In whatever dialect's spelling the id is."""
    log = RequestLog(visit.instance.database)
    try:
        name = request_id(visit.request.path_params["request"], "request")
    except InvalidRequest:
        raise NotFound from None
    record = await log.find(visit.organisation_id, name)
    if record is None:
        raise NotFound
    neighbours = await log.neighbours(visit.organisation_id, name)
    context: dict[str, Any] = {"row": log_row(visit, record), "record": record, "neighbours": neighbours}
    return visit.render("request.html", timings=Timings.of(record), lines=priced(visit, record), **context)


async def download(visit: Visit) -> Response:
    """The newest ten thousand that are like that."""
    question = LogAsked.of(visit).question(visit)
    headers = {"content-disposition": 'attachment; filename="requests.csv"'}
    lines = log_csv(visit.instance, question)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


PAGES = (
    Page(PAGE, "log", "see", show),
    Page(f"{PAGE}.csv", "log", "see", download),
    Page(f"{PAGE}/{{request}}", "log", "see", show_one),
)
