"""The OpenAI endpoints."""

from leadline.dialects.answers import send_stream, send_whole
from leadline.dialects.exchange import Exchange
from leadline.dialects.models import model_routes
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
    **model_routes(_model, {"object": "list"}),
}
