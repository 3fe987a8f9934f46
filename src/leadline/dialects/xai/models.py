"""The service `xai_api.Models`. Prices are in xAI's unit, US cents per 100 million tokens: a tick per token."""

from typing import Any

from leadline.dialects.xai.protos import models
from leadline.dialects.xai.rpc import Rpc
from leadline.errors import ModelNotFound
from leadline.serving.models import ModelCard

_VERSION = "1.0"


async def list_language_models(rpc: Rpc, _: Any) -> Any:
    return models.ListLanguageModelsResponse(
        models=[_language_model(card) for card in rpc.pipeline.models(rpc.caller) if card.writes]
    )


async def get_language_model(rpc: Rpc, wire: Any) -> Any:
    card = rpc.pipeline.model(rpc.caller, wire.name)
    if not card.writes:
        raise ModelNotFound(f"{card.name} is no language model. ListLanguageModels lists those that are.")
    return _language_model(card)


async def list_embedding_models(rpc: Rpc, _: Any) -> Any:
    return models.ListEmbeddingModelsResponse(
        models=[_embedding_model(card) for card in rpc.pipeline.models(rpc.caller) if card.embeds]
    )


async def get_embedding_model(rpc: Rpc, wire: Any) -> Any:
    card = rpc.pipeline.model(rpc.caller, wire.name)
    if not card.embeds:
        raise ModelNotFound(f"{card.name} is no embedding model. ListEmbeddingModels lists those that are.")
    return _embedding_model(card)


async def list_image_generation_models(rpc: Rpc, _: Any) -> Any:
    """Nothing here makes images; the key's scope is checked all the same."""
    rpc.pipeline.models(rpc.caller)
    return models.ListImageGenerationModelsResponse()


async def get_image_generation_model(rpc: Rpc, wire: Any) -> Any:
    name = rpc.pipeline.model(rpc.caller, wire.name).name
    raise ModelNotFound(f"{name} makes no images. ListLanguageModels lists the models that write.")


def _language_model(card: ModelCard) -> Any:
    model = models.LanguageModel(
        name=card.name,
        aliases=card.aliases,
        version=_VERSION,
        input_modalities=[models.TEXT, *([models.IMAGE] if "vision" in card.capabilities else [])],
        output_modalities=[models.TEXT],
        prompt_text_token_price=card.input_ticks,
        prompt_image_token_price=card.image_ticks,
        cached_prompt_token_price=card.cached_input_ticks,
        completion_text_token_price=card.output_ticks,
        max_prompt_length=card.context_tokens or 0,
        system_fingerprint=card.fingerprint,
    )
    model.created.FromSeconds(card.created_at)
    return model


def _embedding_model(card: ModelCard) -> Any:
    model = models.EmbeddingModel(
        name=card.name,
        aliases=card.aliases,
        version=_VERSION,
        input_modalities=[models.TEXT],
        output_modalities=[models.EMBEDDING],
        prompt_text_token_price=card.input_ticks,
        prompt_image_token_price=card.image_ticks,
        system_fingerprint=card.fingerprint,
    )
    model.created.FromSeconds(card.created_at)
    return model


HANDLERS = {
    "/xai_api.Models/ListLanguageModels": list_language_models,
    "/xai_api.Models/GetLanguageModel": get_language_model,
    "/xai_api.Models/ListEmbeddingModels": list_embedding_models,
    "/xai_api.Models/GetEmbeddingModel": get_embedding_model,
    "/xai_api.Models/ListImageGenerationModels": list_image_generation_models,
    "/xai_api.Models/GetImageGenerationModel": get_image_generation_model,
}
