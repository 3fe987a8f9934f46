"""The models as OpenAI's and xAI's clients list them."""

from leadline.chat.request import EFFORTS
from leadline.dialects.models import model_routes
from leadline.errors import ModelNotFound
from leadline.serving.models import ModelCard
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.exchange import Exchange
from leadline.web.pages import Paging

Json = dict[str, object]
# OpenAI's list has no pages: all are on one, unless a client asks otherwise.
PAGING = Paging(entries=1000, most=1000, after=("after", "pagination_token"))


async def list_language_models(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    cards = [card for card in pipeline.models(caller) if card.writes]
    await exchange.respond_json({"models": [_language_model(card) for card in cards]})


async def show_language_model(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    card = pipeline.model(caller, exchange.model)
    if not card.writes:
        raise ModelNotFound(f"{card.name} is no language model. GET /v1/language-models lists those that are.")
    await exchange.respond_json(_language_model(card))


async def list_embedding_models(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    cards = [card for card in pipeline.models(caller) if card.embeds]
    await exchange.respond_json({"models": [_embedding_model(card) for card in cards]})


async def show_embedding_model(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    card = pipeline.model(caller, exchange.model)
    if not card.embeds:
        raise ModelNotFound(f"{card.name} is no embedding model. GET /v1/embedding-models lists those that are.")
    await exchange.respond_json(_embedding_model(card))


async def list_image_generation_models(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    """Nothing here makes images; the caller's key is checked all the same."""
    pipeline.models(caller)
    await exchange.respond_json({"models": []})


async def show_image_generation_model(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    name = pipeline.model(caller, exchange.model).name
    raise ModelNotFound(f"{name} makes no images. GET /v1/language-models lists the models that write.")


def _embedding_model(card: ModelCard) -> Json:
    return {
        **_identity(card),
        "fingerprint": card.fingerprint,
        "version": "1.0",
        "input_modalities": ["text"],
        "output_modalities": ["embeddings"],
        "prompt_text_token_price": card.input_ticks,
        "prompt_image_token_price": card.image_ticks,
    }


def _language_model(card: ModelCard) -> Json:
    return {
        **_identity(card),
        "fingerprint": card.fingerprint,
        "version": "1.0",
        "input_modalities": ["text", "image"] if "vision" in card.capabilities else ["text"],
        "output_modalities": ["text"],
        **_prices(card),
        **_long_context_prices(card),
        **_capabilities(card),
    }


def _model(card: ModelCard) -> Json:
    model = {**_identity(card), **_prices(card), **_capabilities(card)}
    if card.long_context_threshold:
        model |= _long_context_prices(card)
    if card.context_tokens is not None:
        model["context_length"] = card.context_tokens
    return model


def _identity(card: ModelCard) -> Json:
    return {
        "id": card.name,
        "object": "model",
        "created": card.created_at,
        "owned_by": "leadline",
        "aliases": card.aliases,
    }


def _prices(card: ModelCard) -> Json:
    """In xAI's unit, US cents per 100 million tokens, which is one tick per token."""
    return {
        "prompt_text_token_price": card.input_ticks,
        "cached_prompt_text_token_price": card.cached_input_ticks,
        "prompt_image_token_price": card.image_ticks,
        "completion_text_token_price": card.output_ticks,
    }


def _capabilities(card: ModelCard) -> Json:
    return {"capabilities": {"reasoning_effort": EFFORTS}} if "reasoning" in card.capabilities else {}


def _long_context_prices(card: ModelCard) -> Json:
    """In the same unit; all 0 where there is no threshold."""
    prices = {
        "long_context_threshold": card.long_context_threshold,
        "prompt_text_token_price_long_context": card.input_long_context_ticks,
        "cached_prompt_text_token_price_long_context": card.cached_input_long_context_ticks,
        "completion_text_token_price_long_context": card.output_long_context_ticks,
    }
    return {field: price if card.long_context_threshold else 0 for field, price in prices.items()}


ROUTES = {
    ("GET", "/v1/language-models"): list_language_models,
    ("GET", "/v1/language-models/{model}"): show_language_model,
    ("GET", "/v1/embedding-models"): list_embedding_models,
    ("GET", "/v1/embedding-models/{model}"): show_embedding_model,
    ("GET", "/v1/image-generation-models"): list_image_generation_models,
    ("GET", "/v1/image-generation-models/{model}"): show_image_generation_model,
    **model_routes(_model, {"object": "list"}, PAGING),
}
