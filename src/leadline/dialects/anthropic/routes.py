"""The Anthropic endpoints."""

from datetime import UTC, datetime

import msgspec

from leadline.dialects.answers import send_stream, send_whole
from leadline.dialects.anthropic.decode import Body, CountBody, to_count_request, to_request
from leadline.dialects.anthropic.encode import EventEncoder, encode_answer
from leadline.dialects.exchange import Exchange
from leadline.dialects.strict_json import decode
from leadline.serving.models import ModelCard
from leadline.serving.pipeline import Call, Caller, Pipeline


async def create_message(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), Body)
    stream = bool(body.stream)
    call = Call(exchange.request_id, exchange.path, stream)
    generation = await pipeline.start(caller, to_request(body), call)
    if stream:
        await send_stream(exchange, generation, EventEncoder(generation))
    else:
        await send_whole(exchange, generation, lambda answer: encode_answer(generation, answer))


async def count_tokens(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), CountBody)
    tokens = await pipeline.count_prompt_tokens(caller, to_count_request(body))
    await exchange.respond(200, msgspec.json.encode({"input_tokens": tokens}), [], b"application/json")


async def list_models(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    models = [_model(card) for card in pipeline.models(caller)]
    body = {
        "data": models,
        "has_more": False,
        "first_id": models[0]["id"] if models else None,
        "last_id": models[-1]["id"] if models else None,
    }
    await exchange.respond(200, msgspec.json.encode(body), [], b"application/json")


async def show_model(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    card = pipeline.model(caller, exchange.model)
    await exchange.respond(200, msgspec.json.encode(_model(card)), [], b"application/json")


def _model(card: ModelCard) -> dict[str, object]:
    created = datetime.fromtimestamp(card.created_at, UTC).isoformat().replace("+00:00", "Z")
    model: dict[str, object] = {
        "type": "model",
        "id": card.name,
        "display_name": card.name,
        "created_at": created,
        "lifecycle": "active",
        "max_tokens": card.context_tokens or card.default_max_output_tokens,
    }
    if card.context_tokens is not None:
        model["max_input_tokens"] = card.context_tokens
    return model


ROUTES = {
    ("POST", "/v1/messages"): create_message,
    ("POST", "/v1/messages/count_tokens"): count_tokens,
    ("GET", "/v1/models"): list_models,
    ("GET", "/v1/models/{model}"): show_model,
}
