"""The Anthropic endpoints."""

from datetime import UTC, datetime
from functools import partial

from leadline.chat.request import ChatRequest
from leadline.dialects.answers import Form, answer_chat
from leadline.dialects.anthropic import complete
from leadline.dialects.anthropic.decode import Body, CountBody, to_count_request, to_request
from leadline.dialects.anthropic.encode import KEEP_ALIVE, EventEncoder, ShownThoughts, encode_answer
from leadline.dialects.anthropic.errors import encode_event
from leadline.dialects.anthropic.limits import encode_limits
from leadline.dialects.field_names import naming
from leadline.dialects.models import model_routes
from leadline.dialects.recordings import collected
from leadline.serving.models import ModelCard
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.exchange import Exchange
from leadline.web.pages import Paging
from leadline.web.strict_json import decode

# What the money path and the engines call a field -> what it is called here.
_FIELDS = {
    "response_format.json_schema.schema": "output_config.format.schema",
    "response_format": "output_config.format",
    "tools[].function.parameters": "tools[].input_schema",
    "reasoning_effort": "thinking",
}
PAGING = Paging(entries=20, most=1000, after=("after_id",), before=("before_id",))


async def create_message(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), Body)
    request = to_request(body)
    thoughts = _shown_thoughts(body, request)
    stream, whole = partial(EventEncoder, thoughts=thoughts), collected(partial(encode_answer, thoughts=thoughts))
    form = Form(stream if body.stream else None, whole, encode_event, encode_limits, KEEP_ALIVE)
    with naming(_FIELDS):
        await answer_chat(pipeline, caller, exchange, request, form)


def _shown_thoughts(body: Body, request: ChatRequest) -> ShownThoughts:
    """What the answer shows of thoughts. Some models think, whatever they are told."""
    if request.effort == "none":
        return "none"
    return "signed" if body.thinking is not None and body.thinking.display == "omitted" else "all"


async def create_completion(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), complete.Body)
    stream, whole = complete.CompletionEncoder if body.stream else None, collected(complete.encode_completion)
    form = Form(stream, whole, encode_event, encode_limits, KEEP_ALIVE, "sample")
    await answer_chat(pipeline, caller, exchange, complete.to_request(body), form)


async def count_tokens(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), CountBody)
    async with exchange.while_connected():
        with naming(_FIELDS):
            tokens = await pipeline.count_prompt_tokens(caller, to_count_request(body))
    await exchange.respond_json({"input_tokens": tokens})


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
    ("POST", "/v1/complete"): create_completion,
    **model_routes(_model, {}, PAGING),
}
