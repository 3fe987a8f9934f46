"""The answers of the OpenAI endpoints and of xAI's, as types for the OpenAPI document."""

from typing import Literal

from msgspec import UNSET, UnsetType

from leadline.dialects.operation import Answer


class ErrorFacts(Answer):
    """`param` is the field to blame, where one is."""

    message: str
    type: str
    param: str | None
    code: str


class Error(Answer):
    """OpenAI's envelope, with xAI's word on top."""

    code: str
    error: ErrorFacts


class PromptTokensDetails(Answer):
    text_tokens: int
    audio_tokens: int
    image_tokens: int
    cached_tokens: int


class CompletionTokensDetails(Answer):
    reasoning_tokens: int
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(Answer):
    """Reasoning tokens stand beside the completion's. 1 USD is 10^10 ticks."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    num_sources_used: int
    cost_in_usd_ticks: int


class CalledFunction(Answer):
    """`arguments` is the JSON text of an object."""

    name: str
    arguments: str


class ToolCall(Answer):
    id: str
    type: Literal["function"]
    function: CalledFunction


class Said(Answer):
    """An assistant's message."""

    role: Literal["assistant"]
    content: str
    refusal: None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET


class TokenLogprob(Answer):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: "list[TokenLogprob] | UnsetType" = UNSET


class Logprobs(Answer):
    content: list[TokenLogprob]
    refusal: None


class Choice(Answer):
    index: int
    message: Said
    finish_reason: Literal["stop", "length", "tool_calls", "function_call", "content_filter"]
    logprobs: Logprobs | UnsetType = UNSET


class ChatCompletion(Answer):
    """`model` is the resolved name."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str


class Deferred(Answer):
    """The answer to a request that is deferred."""

    request_id: str


class CompletionLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(Answer):
    index: int
    text: str
    finish_reason: Literal["stop", "length", "content_filter"]
    logprobs: CompletionLogprobs | UnsetType = UNSET


class TextCompletion(Answer):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class Embedding(Answer):
    """Numbers, or base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Answer):
    prompt_tokens: int
    total_tokens: int
    cost_in_usd_ticks: int


class EmbeddingList(Answer):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


class TokenId(Answer):
    """Its bytes may be a part of a character."""

    token_id: int
    string_token: str
    token_bytes: list[int]


class TokenIds(Answer):
    token_ids: list[TokenId]


class Capabilities(Answer):
    """What `reasoning_effort` can be."""

    reasoning_effort: list[str]


class Named(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    aliases: list[str]


class Model(Named):
    """Prices are US cents per 100 million tokens, which are ticks per token."""

    prompt_text_token_price: int
    cached_prompt_text_token_price: int
    prompt_image_token_price: int
    completion_text_token_price: int
    capabilities: Capabilities | UnsetType = UNSET
    context_length: int | UnsetType = UNSET
    long_context_threshold: int | UnsetType = UNSET
    prompt_text_token_price_long_context: int | UnsetType = UNSET
    cached_prompt_text_token_price_long_context: int | UnsetType = UNSET
    completion_text_token_price_long_context: int | UnsetType = UNSET


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Described(Named):
    fingerprint: str
    version: str
    input_modalities: list[str]
    output_modalities: list[str]


class LanguageModel(Described):
    """A model that writes. Prices as in the list of models; those of a long context count from its threshold on."""

    prompt_text_token_price: int
    cached_prompt_text_token_price: int
    prompt_image_token_price: int
    completion_text_token_price: int
    long_context_threshold: int
    prompt_text_token_price_long_context: int
    cached_prompt_text_token_price_long_context: int
    completion_text_token_price_long_context: int
    capabilities: Capabilities | UnsetType = UNSET


class LanguageModelList(Answer):
    models: list[LanguageModel]


class EmbeddingModel(Described):
    prompt_text_token_price: int
    prompt_image_token_price: int


class EmbeddingModelList(Answer):
    models: list[EmbeddingModel]


class ImageModelList(Answer):
    """Nothing here makes images."""

    models: list[None]


class KeyFacts(Answer):
    """The key that asks. Times are RFC 3339."""

    redacted_api_key: str
    api_key_id: str
    api_key_blocked: bool
    api_key_disabled: bool
    name: str
    user_id: str
    team_id: str
    create_time: str
    modify_time: str
    modified_by: str
    acls: list[str]
    team_blocked: bool


class KeyState(Answer):
    redacted_api_key: str
    api_key_id: str
    blocked: bool
    disabled: bool


class Me(Answer):
    user_id: str
    team_id: str
    zdr_status: Literal["no_zdr"]
    team_blocked: bool
    api_key: KeyState


class FileObject(Answer):
    """An uploaded file. Times are seconds since 1970; without `expires_at` it stays until it is deleted."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]


class FileList(Answer):
    """`pagination_token` asks for the next page; null: there is none."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    pagination_token: str | None


class FileDeleted(Answer):
    id: str
    object: Literal["file"]
    deleted: Literal[True]
