"""Models: which there are, whether they answer now, and what they cost."""

from starlette.responses import Response

from leadline.console.model_view import TOKENS, model_row, price_columns, programs_for
from leadline.console.page import Page
from leadline.console.visit import Visit


async def show(visit: Visit) -> Response:
    rows = [model_row(visit, model) for model in visit.pipeline.catalog.models]
    sees = any("vision" in row.card.capabilities for row in rows)
    return visit.render("models.html", rows=rows, any_sees=sees)


async def show_one(visit: Visit) -> Response:
    """By its name, or by another name that it has."""
    model = visit.pipeline.catalog.find(visit.request.path_params["model"])
    return visit.render(
        "model.html",
        row=model_row(visit, model),
        columns=price_columns(visit, model),
        tokens=TOKENS,
        engine=model.engine.name,
        programs=[(one.name, one.code) for one in programs_for(visit, model)],
    )


PAGES = (
    Page("/models", "models", "see", show),
    # Names of models may have a slash.
    Page("/models/{model:path}", "models", "see", show_one),
)
