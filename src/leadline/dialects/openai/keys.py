"""What xAI's clients ask of their own key. It answers also for keys that may do nothing now: that is its purpose."""

from leadline.clock import rfc3339
from leadline.serving.keys import KeyCard
from leadline.serving.pipeline import Pipeline
from leadline.web.exchange import Exchange

Json = dict[str, object]


async def show_api_key(pipeline: Pipeline, exchange: Exchange) -> None:
    card = await pipeline.describe_key(exchange.api_key())
    key = card.key
    await exchange.respond_json(
        {
            **_state(card),
            "name": key.name,
            "user_id": card.user_id,
            "team_id": key.organisation_id,
            "create_time": rfc3339(key.created_at),
            "modify_time": rfc3339(key.modified_at),
            "modified_by": card.user_id,
            "acls": card.acls,
            "team_blocked": card.suspended,
        }
    )


async def show_me(pipeline: Pipeline, exchange: Exchange) -> None:
    card = await pipeline.describe_key(exchange.api_key())
    state = _state(card)
    await exchange.respond_json(
        {
            "user_id": card.user_id,
            "team_id": card.key.organisation_id,
            "zdr_status": "no_zdr",
            "team_blocked": card.suspended,
            "api_key": {
                "redacted_api_key": state["redacted_api_key"],
                "api_key_id": state["api_key_id"],
                "blocked": state["api_key_blocked"],
                "disabled": state["api_key_disabled"],
            },
        }
    )


def _state(card: KeyCard) -> Json:
    """xAI has two words: a key that its owner switched off is disabled, one that ran out by itself is blocked."""
    return {
        "redacted_api_key": card.key.redacted,
        "api_key_id": card.key.id,
        "api_key_blocked": card.expired,
        "api_key_disabled": card.disabled,
    }


ROUTES = {("GET", "/v1/api-key"): show_api_key, ("GET", "/v1/me"): show_me}
