"""Usage: what was spent and on what, as a chart, as a table and as a file."""

from typing import Any

from starlette.responses import Response, StreamingResponse

from leadline.administration.commands.explore import explored, explored_csv
from leadline.console.log_view import PAGE as LOG
from leadline.console.log_view import LogAsked, log_row
from leadline.console.narrowing import narrowing
from leadline.console.page import Page
from leadline.console.snippets import Ask, snippets
from leadline.console.time_range import PRESETS
from leadline.console.usage_view import CLASSES, MEASURES, PAGE, SIDES, STEPS, UsageQuestion, answer
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest
from leadline.ledger.request_log import RequestLog

_RECENT = 5


async def show(visit: Visit) -> Response:
    question = UsageQuestion.of(visit)
    context: dict[str, Any] = {"question": question, "wrong": "", "result": None, "recent": []}
    try:
        context |= await answer(visit, question)
        context |= await _recent(visit)
    except InvalidRequest as error:
        context["wrong"] = str(error)
    return visit.render(
        "usage.html",
        400 if context["wrong"] else 200,
        narrowing=await narrowing(visit, question.address, question.time, {"class": CLASSES}),
        **{"measures": MEASURES, "sides": SIDES, "steps": STEPS, "presets": PRESETS},
        programs=[(one.name, one.code) for one in snippets(Ask(visit.model), visit.host)],
        log=question.address.to(LOG, measure=None, by=None, step=None, **{"class": None}),
        **context,
    )


async def download(visit: Visit) -> Response:
    """The table with all of its figures."""
    result = await explored(visit.instance, visit.organisation_id, UsageQuestion.of(visit).options)
    name = f"usage-{result['since'][:10]}-by-{result['by']}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(explored_csv(result), media_type="text/csv; charset=utf-8", headers=headers)


async def _recent(visit: Visit) -> dict[str, Any]:
    """The newest requests of those that the page counts."""
    page = await RequestLog(visit.instance.database).page(LogAsked.of(visit).question(visit), limit=_RECENT)
    return {"recent": [log_row(visit, record) for record in page.records]}


PAGES = (
    Page(PAGE, "usage", "see", show),
    Page(f"{PAGE}.csv", "usage", "see", download),
)
