"""What the OpenAPI document says of the OpenAI endpoints and of xAI's: their answers, and an example of each."""

from typing import Any

from leadline.dialects.openai import decode, decode_completion, embeddings, models, tokenize
from leadline.dialects.openai.answer_types import (
    ChatCompletion,
    Choice,
    CompletionChoice,
    CompletionTokensDetails,
    Deferred,
    Embedding,
    EmbeddingList,
    EmbeddingModel,
    EmbeddingModelList,
    EmbeddingUsage,
    ImageModelList,
    KeyFacts,
    KeyState,
    LanguageModel,
    LanguageModelList,
    Me,
    Model,
    ModelList,
    PromptTokensDetails,
    Said,
    TextCompletion,
    TokenId,
    TokenIds,
    Usage,
)
from leadline.dialects.operation import (
    OF_ANSWERS,
    OF_BODIES,
    OF_KEYS,
    OF_NAMED,
    Operation,
    Operations,
    page_queries,
)

_ID, _MODEL, _AT = "588c646e-3ff8-45ef-a436-5927c085f6f1", "smollm2-135m-instruct", 1_773_345_577
_QUESTION, _TEXT = "What is the capital of Norway?", "The capital of Norway is Oslo."
_FINGERPRINT = "fp_fc9cf6dba3"


def _usage(prompt_tokens: int, completion_tokens: int, ticks: int) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(
            text_tokens=prompt_tokens, audio_tokens=0, image_tokens=0, cached_tokens=0
        ),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=0, audio_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0
        ),
        num_sources_used=0,
        cost_in_usd_ticks=ticks,
    )


COMPLETION = ChatCompletion(
    id=_ID,
    object="chat.completion",
    created=_AT,
    model=_MODEL,
    choices=[Choice(index=0, message=Said(role="assistant", content=_TEXT, refusal=None), finish_reason="stop")],
    usage=_usage(6, 6, 30_000),
    system_fingerprint=_FINGERPRINT,
)
_ALIASES = ["grok-2-latest", "grok-beta", "grok-2", "grok-2-vision-latest"]
_IDENTITY: dict[str, Any] = {"object": "model", "created": 0, "owned_by": "leadline"}
_PRICES: dict[str, Any] = {
    "prompt_text_token_price": 1000,
    "cached_prompt_text_token_price": 250,
    "prompt_image_token_price": 1000,
    "completion_text_token_price": 4000,
}
_A_MODEL = Model(id=_MODEL, **_IDENTITY, **_PRICES, aliases=_ALIASES, context_length=8192)
_LANGUAGE_MODEL = LanguageModel(
    id=_MODEL,
    **_IDENTITY,
    **_PRICES,
    aliases=_ALIASES,
    fingerprint=_FINGERPRINT,
    version="1.0",
    input_modalities=["text"],
    output_modalities=["text"],
    long_context_threshold=0,
    prompt_text_token_price_long_context=0,
    cached_prompt_text_token_price_long_context=0,
    completion_text_token_price_long_context=0,
)
_EMBEDDING_MODEL = EmbeddingModel(
    id="all-minilm-l6-v2",
    **_IDENTITY,
    aliases=[],
    fingerprint="fp_948451c89e",
    version="1.0",
    input_modalities=["text"],
    output_modalities=["embeddings"],
    prompt_text_token_price=1000,
    prompt_image_token_price=1000,
)

_DONE = "The last event is `data: [DONE]`; an error in the middle is an event with `error`."
OPERATIONS: Operations = {
    ("POST", "/v1/chat/completions"): Operation(
        "Answer a chat",
        ChatCompletion | Deferred,
        COMPLETION,
        description="Whole, or as a stream; with `deferred` the answer is an id, to fetch the completion by.",
        body=decode.Body,
        request={"model": _MODEL, "messages": [{"role": "user", "content": _QUESTION}]},
        fields="/v1/chat/completions",
        stream=f"With `stream`: events `data: {{…}}`, each a `chat.completion.chunk`: a piece of the answer. {_DONE}",
        refusals=OF_ANSWERS,
    ),
    ("GET", "/v1/chat/deferred-completion/{id}"): Operation(
        "Fetch a deferred completion, once",
        ChatCompletion,
        COMPLETION,
        description="Within 24 hours. Where the request failed, its refusal comes.",
        accepted="It still runs. Ask again.",
        refusals=(*OF_NAMED, *OF_ANSWERS),
    ),
    ("POST", "/v1/completions"): Operation(
        "Go on with a text",
        TextCompletion,
        TextCompletion(
            id=_ID,
            object="text_completion",
            created=_AT,
            model=_MODEL,
            system_fingerprint=_FINGERPRINT,
            choices=[CompletionChoice(index=0, text=_TEXT, finish_reason="stop")],
            usage=_usage(5, 6, 29_000),
        ),
        description="The prompt is continued as it stands, without a template.",
        body=decode_completion.Body,
        request={"model": _MODEL, "prompt": "The capital of Norway is"},
        fields="/v1/completions",
        stream=f"With `stream`: events `data: {{…}}`, each a `text_completion` with a piece of the text. {_DONE}",
        refusals=OF_ANSWERS,
    ),
    ("POST", "/v1/embeddings"): Operation(
        "Make vectors of texts",
        EmbeddingList,
        EmbeddingList(
            object="list",
            model="all-minilm-l6-v2",
            data=[Embedding(object="embedding", index=0, embedding=[0.6000000238418579, -0.800000011920929])],
            usage=EmbeddingUsage(prompt_tokens=1, total_tokens=1, cost_in_usd_ticks=1000),
        ),
        body=embeddings.Body,
        request={"model": "all-minilm-l6-v2", "input": "Oslo", "dimensions": 2},
        fields="/v1/embeddings",
        refusals=OF_ANSWERS,
    ),
    ("POST", "/v1/tokenize-text"): Operation(
        "Cut a text into tokens",
        TokenIds,
        TokenIds(token_ids=[TokenId(token_id=4, string_token="Oslo", token_bytes=list(b"Oslo"))]),  # noqa: S106
        description="Without a template. Free of charge.",
        body=tokenize.Body,
        request={"model": _MODEL, "text": "Oslo"},
        fields="/v1/tokenize-text",
        refusals=OF_BODIES,
    ),
    ("GET", "/v1/models"): Operation(
        "List the models",
        ModelList,
        ModelList(object="list", data=[_A_MODEL], first_id=_MODEL, last_id=_MODEL, has_more=False),
        description="Those that the key may use. In Anthropic's form where there is a header `anthropic-version`.",
        query=page_queries(models.PAGING),
    ),
    ("GET", "/v1/models/{model}"): Operation(
        "Show a model", Model, _A_MODEL, description="By its name or an alias.", refusals=OF_NAMED
    ),
    ("GET", "/v1/language-models"): Operation(
        "List the models that write", LanguageModelList, LanguageModelList(models=[_LANGUAGE_MODEL])
    ),
    ("GET", "/v1/language-models/{model}"): Operation(
        "Show a model that writes",
        LanguageModel,
        _LANGUAGE_MODEL,
        description="By its name or an alias.",
        refusals=OF_NAMED,
    ),
    ("GET", "/v1/embedding-models"): Operation(
        "List the models that make vectors", EmbeddingModelList, EmbeddingModelList(models=[_EMBEDDING_MODEL])
    ),
    ("GET", "/v1/embedding-models/{model}"): Operation(
        "Show a model that makes vectors",
        EmbeddingModel,
        _EMBEDDING_MODEL,
        description="By its name or an alias.",
        refusals=OF_NAMED,
    ),
    ("GET", "/v1/image-generation-models"): Operation(
        "List the models that make images", ImageModelList, ImageModelList(models=[]), description="There are none."
    ),
    ("GET", "/v1/image-generation-models/{model}"): Operation(
        "Show a model that makes images", description="There is none, so it is always a 404.", refusals=OF_NAMED
    ),
    ("GET", "/v1/api-key"): Operation(
        "Show the key that asks",
        KeyFacts,
        KeyFacts(
            redacted_api_key="ll_nMJ8HEJ5…dyf3",
            api_key_id="nMJ8HEJ5",
            api_key_blocked=False,
            api_key_disabled=False,
            name="first-key",
            user_id="usr_01a212af9ed4711bade0faf017be1235",
            team_id="org_01a212af9ed478e79a78c024bc878adb",
            create_time="2026-11-25T12:30:29.348Z",
            modify_time="2026-11-25T12:30:29.348Z",
            modified_by="usr_01a212af9ed4711bade0faf017be1235",
            acls=["api-key:endpoint:*", "api-key:model:*"],
            team_blocked=False,
        ),
        description="It answers for keys that are disabled or have expired, too.",
        refusals=OF_KEYS,
    ),
    ("GET", "/v1/me"): Operation(
        "Show who asks",
        Me,
        Me(
            user_id="usr_01a212af9ed4711bade0faf017be1235",
            team_id="org_01a212af9ed478e79a78c024bc878adb",
            zdr_status="no_zdr",
            team_blocked=False,
            api_key=KeyState(redacted_api_key="ll_nMJ8HEJ5…dyf3", api_key_id="nMJ8HEJ5", blocked=False, disabled=False),
        ),
        refusals=OF_KEYS,
    ),
}
