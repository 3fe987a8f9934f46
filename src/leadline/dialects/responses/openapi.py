"""What the OpenAPI document says of the Responses API: its answers, and an example of each."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from leadline.dialects.operation import (
    OF_ANSWERS,
    OF_BODIES,
    OF_NAMED,
    Answer,
    Json,
    Operation,
    Operations,
    Query,
    page_queries,
)
from leadline.dialects.responses.decode import (
    AllowedTools,
    Body,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedTool,
    TextFormat,
)
from leadline.dialects.responses.routes import PAGING

_HEX = "588c646e3ff845efa4365927c085f6f1"
_ID, _MODEL, _AT = f"resp_{_HEX}", "smollm2-135m-instruct", 1_773_345_577
_QUESTION = "What is the capital of Norway?"
_Status = Literal["in_progress", "completed", "incomplete"]


class Token(Answer):
    token: str
    bytes: list[int]
    logprob: float


class TokenLogprob(Token):
    top_logprobs: list[Token]


class OutputText(Answer, tag_field="type", tag="output_text"):
    text: str
    annotations: list[Json]
    logprobs: list[TokenLogprob]


class ReasoningText(Answer, tag_field="type", tag="reasoning_text"):
    text: str


class OutputMessage(Answer, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"]
    status: _Status
    content: list[OutputText]


class OutputReasoning(Answer, tag_field="type", tag="reasoning"):
    """Sealed as well where `include` asks for it."""

    id: str
    status: _Status
    summary: list[Json]
    content: list[ReasoningText]
    encrypted_content: str | UnsetType = UNSET


class OutputCall(Answer, tag_field="type", tag="function_call"):
    """`arguments` is JSON text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: _Status


class CachedTokens(Answer):
    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(Answer):
    reasoning_tokens: int


class ResponseUsage(Answer):
    """Reasoning tokens are output. 1 USD is 10^10 ticks."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int
    num_sources_used: int
    num_server_side_tools_used: int
    cost_in_usd_ticks: int


class Incomplete(Answer):
    reason: Literal["max_output_tokens", "content_filter"]


class EchoedReasoning(Answer):
    effort: str | None
    summary: str | None


class EchoedText(Answer):
    format: TextFormat | JsonObjectFormat | JsonSchemaFormat
    verbosity: str | UnsetType = UNSET


class EchoedTool(Answer, tag_field="type", tag="function"):
    name: str
    parameters: Json | None
    strict: bool | None
    description: str | UnsetType = UNSET


class Response(Answer):
    """It repeats what its request asked for."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete"]
    error: None
    incomplete_details: Incomplete | None
    model: str
    output: list[OutputMessage | OutputReasoning | OutputCall]
    usage: ResponseUsage
    background: Literal[False]
    frequency_penalty: int
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    presence_penalty: int
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: EchoedReasoning
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: bool
    temperature: float
    text: EchoedText
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools
    tools: list[EchoedTool]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    user: str | None


class InputTokens(Answer):
    object: Literal["response.input_tokens"]
    input_tokens: int


class DeletedResponse(Answer):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemList(Answer):
    """Items as they were sent, each with its id."""

    object: Literal["list"]
    data: list[Json]
    first_id: str | None
    last_id: str | None
    has_more: bool
    pagination_token: str | None


_MESSAGE = OutputMessage(
    id=f"msg_{_HEX}_0",
    role="assistant",
    status="completed",
    content=[OutputText(text="The capital of Norway is Oslo.", annotations=[], logprobs=[])],
)
_USAGE = ResponseUsage(
    input_tokens=6,
    input_tokens_details=CachedTokens(cached_tokens=0, cache_write_tokens=0),
    output_tokens=6,
    output_tokens_details=ReasoningTokens(reasoning_tokens=0),
    total_tokens=12,
    num_sources_used=0,
    num_server_side_tools_used=0,
    cost_in_usd_ticks=30_000,
)
_RESPONSE = Response(
    id=_ID,
    object="response",
    created_at=_AT,
    completed_at=_AT + 1,
    status="completed",
    error=None,
    incomplete_details=None,
    model=_MODEL,
    output=[_MESSAGE],
    usage=_USAGE,
    background=False,
    frequency_penalty=0,
    instructions=None,
    max_output_tokens=None,
    max_tool_calls=None,
    metadata={},
    parallel_tool_calls=True,
    presence_penalty=0,
    previous_response_id=None,
    prompt_cache_key=None,
    reasoning=EchoedReasoning(effort=None, summary=None),
    safety_identifier=None,
    service_tier="default",
    store=True,
    temperature=1.0,
    text=EchoedText(format=TextFormat()),
    tool_choice="auto",
    tools=[],
    top_logprobs=0,
    top_p=1.0,
    truncation="disabled",
    user=None,
)
_ITEM: dict[str, Any] = {
    "id": f"msg_{_HEX}_i0",
    "status": "completed",
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": _QUESTION}],
}
_EVENTS = (
    "events `event: response.…` with `data: {…}`, numbered from 0; the last one is `response.completed`, "
    "`response.incomplete` or `response.failed`, and holds the whole response."
)
_ASK: Json = {"model": _MODEL, "input": _QUESTION}

OPERATIONS: Operations = {
    ("POST", "/v1/responses"): Operation(
        "Answer a conversation",
        Response,
        _RESPONSE,
        description="Whole, or as a stream. It is stored for 30 days, unless `store` is false.",
        body=Body,
        request=_ASK,
        fields="/v1/responses",
        stream=f"With `stream`: {_EVENTS}",
        refusals=OF_ANSWERS,
    ),
    ("POST", "/v1/responses/input_tokens"): Operation(
        "Count the tokens of a conversation",
        InputTokens,
        InputTokens(object="response.input_tokens", input_tokens=6),
        description="Free of charge. It takes what `POST /v1/responses` takes.",
        body=Body,
        request=_ASK,
        fields="/v1/responses",
        refusals=OF_BODIES,
    ),
    ("GET", "/v1/responses/{id}"): Operation(
        "Show a stored response",
        Response,
        _RESPONSE,
        stream=f"With `stream=true`: the response again, as {_EVENTS}",
        query=(
            Query("stream", Literal["true", "false"], "`true`: as the events in which it came, or would have."),
            Query("starting_after", int, "Of a stream: the number of the last event that is left out."),
        ),
        refusals=OF_NAMED,
    ),
    ("DELETE", "/v1/responses/{id}"): Operation(
        "Delete a stored response",
        DeletedResponse,
        DeletedResponse(id=_ID, object="response", deleted=True),
        refusals=OF_NAMED,
    ),
    ("GET", "/v1/responses/{id}/input_items"): Operation(
        "List what a stored response answered",
        ItemList,
        ItemList(
            object="list",
            data=[_ITEM],
            first_id=_ITEM["id"],
            last_id=_ITEM["id"],
            has_more=False,
            pagination_token=None,
        ),
        query=(
            Query("order", Literal["asc", "desc"], "`desc`, the newest first, where it is absent."),
            *page_queries(PAGING),
        ),
        refusals=OF_NAMED,
    ),
    ("POST", "/v1/responses/{id}/cancel"): Operation(
        "Cancel a response in the background", description="None is in the background, so it is always a 400."
    ),
}
