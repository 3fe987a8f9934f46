"""The model endpoints, which differ between dialects only in how one model looks."""

from collections.abc import Callable
from typing import Any

from leadline.serving.models import ModelCard
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.exchange import Exchange
from leadline.web.pages import Paging, page_of

EncodeModel = Callable[[ModelCard], dict[str, Any]]


def model_routes(encode: EncodeModel, envelope: dict[str, Any], paging: Paging) -> dict[tuple[str, str], Any]:
    """The list of models, inside of `envelope`, and one model by name or alias."""

    async def list_models(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
        models = [encode(card) for card in pipeline.models(caller)]
        await exchange.respond_json(envelope | page_of(models, exchange.query(), paging))

    async def show_model(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
        await exchange.respond_json(encode(pipeline.model(caller, exchange.model)))

    return {("GET", "/v1/models"): list_models, ("GET", "/v1/models/{model}"): show_model}
