"""The OpenAI endpoints."""

import msgspec

from leadline.dialects.answers import send_stream, send_whole
from leadline.dialects.exchange import Exchange
from leadline.dialects.openai.decode import Body, to_request
from leadline.dialects.openai.encode import ChunkEncoder, encode_answer
from leadline.dialects.strict_json import decode
from leadline.serving.models import ModelCard
from leadline.serving.pipeline import Call, Caller, Pipeline


async def create_chat_completion(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), Body)
    stream = bool(body.stream)
    call = Call(exchange.request_id, exchange.path, stream)
    generation = await pipeline.start(caller, to_request(body), call)
    if stream:
        await send_stream(exchange, generation, ChunkEncoder(generation, includes_usage=body.includes_usage))
    else:
        await send_whole(exchange, generation, lambda answer: encode_answer(generation, answer))


async def list_models(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    models = [_model(card) for card in pipeline.models(caller)]
    body = {
        "object": "list",
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
    """Prices are in xAI's unit, US cents per 100 million tokens, which is one tick per token."""
    model: dict[str, object] = {
        "id": card.name,
        "object": "model",
        "created": card.created_at,
        "owned_by": "leadline",
        "aliases": card.aliases,
        "prompt_text_token_price": card.input_ticks,
        "cached_prompt_text_token_price": card.cached_input_ticks,
        "prompt_image_token_price": card.image_ticks,
        "completion_text_token_price": card.output_ticks,
    }
    if card.context_tokens is not None:
        model["context_length"] = card.context_tokens
    return model


ROUTES = {
    ("POST", "/v1/chat/completions"): create_chat_completion,
    ("GET", "/v1/models"): list_models,
    ("GET", "/v1/models/{model}"): show_model,
}
