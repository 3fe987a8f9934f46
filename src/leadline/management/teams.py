"""What a management key finds out about itself, its team, and the models that the team can use."""

from leadline.management.call import Call, Routes
from leadline.management.wire import Json, timestamp
from leadline.serving.models import ModelCard, card_of

_CLUSTER = "leadline"


async def show_own_key(call: Call) -> Json:
    """Also how clients find out their team."""
    key = call.key
    return {
        "apiKeyId": key.id,
        "teamId": key.organisation_id,
        "scope": "SCOPE_TEAM",
        "scopeId": key.organisation_id,
        "ownerUserId": key.owner_id,
        "createTime": timestamp(key.created_at),
        "modifyTime": timestamp(key.modified_at),
        "name": key.name,
        "acls": sorted(key.acls),
        "redactedApiKey": key.redacted,
        "ipRanges": list(key.ip_ranges) or None,
    }


async def list_teams(call: Call) -> Json:
    return {"teams": [{"teamId": call.organisation_id}]}


async def list_models(call: Call) -> Json:
    now = call.pipeline.clock()
    cards = [card_of(model, now) for model in call.pipeline.catalog.models]
    limit = call.instance.config.limits.default
    limits = {
        "rps": limit.requests_per_second,
        "rpm": limit.requests_per_minute,
        "tpm": str(limit.tokens_per_minute),
    }
    return {
        "clusterConfigs": [
            {
                "clusterName": _CLUSTER,
                "languageModels": [_language_model(card) | limits for card in cards if card.writes],
                "embeddingModels": [_embedding_model(card) | limits for card in cards if card.embeds],
                "imageGenerationModels": [],
                "audioModels": [],
                "videoGenerationModels": [],
            }
        ]
    }


def _language_model(card: ModelCard) -> Json:
    """A tick for a token is a cent for 100 million of them, which is xAI's unit."""
    long_context = {
        "promptTextTokenPriceLongContext": str(card.input_long_context_ticks),
        "cachedPromptTokenPriceLongContext": str(card.cached_input_long_context_ticks),
        "completionTextTokenPriceLongContext": str(card.output_long_context_ticks),
        "longContextThreshold": str(card.long_context_threshold),
    }
    return {
        **_identity(card),
        "outputModalities": ["TEXT"],
        "promptTextTokenPrice": str(card.input_ticks),
        "promptImageTokenPrice": str(card.image_ticks),
        "cachedPromptTokenPrice": str(card.cached_input_ticks),
        "completionTextTokenPrice": str(card.output_ticks),
        **(long_context if card.long_context_threshold else {}),
        "maxPromptLength": card.context_tokens or 0,
        "features": {
            "functionCalling": "tools" in card.capabilities,
            "structuredOutputs": "json" in card.capabilities or "tools" in card.capabilities,
            "reasoning": "reasoning" in card.capabilities,
        },
    }


def _embedding_model(card: ModelCard) -> Json:
    return {
        **_identity(card),
        "promptTextTokenPrice": str(card.input_ticks),
        "promptImageTokenPrice": str(card.image_ticks),
    }


def _identity(card: ModelCard) -> Json:
    return {
        "name": card.name,
        "version": "1.0",
        "inputModalities": ["TEXT", "IMAGE"] if "vision" in card.capabilities else ["TEXT"],
        "aliases": list(card.aliases),
        "cluster": _CLUSTER,
    }


ROUTES: Routes = {
    ("GET", "/auth/management-keys/validation"): ("", show_own_key),
    ("GET", "/auth/teams"): ("", list_teams),
    ("GET", "/auth/teams/{team_id}/models"): ("ListModels", list_models),
}
