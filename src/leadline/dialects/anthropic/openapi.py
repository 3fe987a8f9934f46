"""What the OpenAPI document says of the Anthropic endpoints: their answers, and an example of each."""

from typing import Literal

from msgspec import UNSET, UnsetType

from leadline.dialects.anthropic import complete
from leadline.dialects.anthropic.decode import Body, CountBody
from leadline.dialects.anthropic.routes import PAGING
from leadline.dialects.operation import (
    OF_ANSWERS,
    OF_BODIES,
    OF_NAMED,
    Answer,
    Json,
    Operation,
    Operations,
    page_queries,
)

_ID, _MODEL = "588c646e-3ff8-45ef-a436-5927c085f6f1", "smollm2-135m-instruct"
_QUESTION, _TEXT = "What is the capital of Norway?", "The capital of Norway is Oslo."


class AnthropicErrorFacts(Answer):
    """The message names the field to blame, where one is."""

    type: str
    message: str
    details: Json | UnsetType = UNSET


class AnthropicError(Answer):
    type: Literal["error"]
    error: AnthropicErrorFacts
    request_id: str


class CacheCreation(Answer):
    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class MessageUsage(Answer):
    """Cached tokens are no input tokens, and thinking is output. 1 USD is 10^10 ticks."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cache_creation: CacheCreation
    output_tokens: int
    service_tier: Literal["standard"]
    cost_in_usd_ticks: int


class SaidText(Answer, tag_field="type", tag="text"):
    text: str


class SaidThinking(Answer, tag_field="type", tag="thinking"):
    """Send it back as it is."""

    thinking: str
    signature: str


class SaidToolUse(Answer, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: Json


class Message(Answer):
    """`model` is the name that was asked for."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[SaidText | SaidThinking | SaidToolUse]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
    stop_sequence: str | None
    stop_details: None
    container: None
    usage: MessageUsage


class TokenCount(Answer):
    input_tokens: int


class Completion(Answer):
    type: Literal["completion"]
    id: str
    completion: str
    stop_reason: Literal["stop_sequence", "max_tokens"]
    stop: str | None
    model: str
    log_id: str
    usage: MessageUsage


class AnthropicModel(Answer):
    """`created_at` is RFC 3339."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    max_tokens: int
    max_input_tokens: int | UnsetType = UNSET


class AnthropicModelList(Answer):
    data: list[AnthropicModel]
    first_id: str | None
    last_id: str | None
    has_more: bool


_USAGE = MessageUsage(
    input_tokens=6,
    cache_creation_input_tokens=0,
    cache_read_input_tokens=0,
    cache_creation=CacheCreation(ephemeral_5m_input_tokens=0, ephemeral_1h_input_tokens=0),
    output_tokens=6,
    service_tier="standard",
    cost_in_usd_ticks=30_000,
)
_A_MODEL = AnthropicModel(
    type="model",
    id=_MODEL,
    display_name=_MODEL,
    created_at="1970-01-01T00:00:00Z",
    lifecycle="active",
    max_tokens=8192,
    max_input_tokens=8192,
)
_ASK: Json = {"model": _MODEL, "messages": [{"role": "user", "content": _QUESTION}]}

OPERATIONS: Operations = {
    ("POST", "/v1/messages"): Operation(
        "Answer messages",
        Message,
        Message(
            id=f"msg_{_ID.replace('-', '')}",
            type="message",
            role="assistant",
            model=_MODEL,
            content=[SaidText(text=_TEXT)],
            stop_reason="end_turn",
            stop_sequence=None,
            stop_details=None,
            container=None,
            usage=_USAGE,
        ),
        description="Whole, or as a stream.",
        body=Body,
        request=_ASK | {"max_tokens": 100},
        fields="/v1/messages",
        stream="With `stream`: `message_start`, the content's blocks one after another, `message_delta` with the "
        "usage, `message_stop`; `ping` may come at any time, and `error` ends it.",
        refusals=OF_ANSWERS,
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        "Count the tokens of messages",
        TokenCount,
        TokenCount(input_tokens=6),
        description="Free of charge.",
        body=CountBody,
        request=_ASK,
        fields="/v1/messages",
        refusals=OF_BODIES,
    ),
    ("POST", "/v1/complete"): Operation(
        "Go on with turns in one text",
        Completion,
        Completion(
            type="completion",
            id=_ID,
            completion=_TEXT,
            stop_reason="stop_sequence",
            stop=None,
            model=_MODEL,
            log_id=_ID,
            usage=_USAGE,
        ),
        description="Anthropic's text completions. Whole, or as a stream.",
        body=complete.Body,
        request={"model": _MODEL, "prompt": f"\n\nHuman: {_QUESTION}\n\nAssistant:", "max_tokens_to_sample": 100},
        fields="/v1/complete",
        stream="With `stream`: events `completion`, each with a piece of the text; the last one says why it ended.",
        refusals=OF_ANSWERS,
    ),
    ("GET", "/v1/models"): Operation(
        "List the models",
        AnthropicModelList,
        AnthropicModelList(data=[_A_MODEL], first_id=_MODEL, last_id=_MODEL, has_more=False),
        query=page_queries(PAGING),
    ),
    ("GET", "/v1/models/{model}"): Operation("Show a model", AnthropicModel, _A_MODEL, refusals=OF_NAMED),
}
