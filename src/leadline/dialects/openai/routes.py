"""The OpenAI endpoints."""

from functools import partial

from leadline.dialects.answers import Form, answer_chat
from leadline.dialects.field_names import naming
from leadline.dialects.limits import encode_limits
from leadline.dialects.openai import batches, files, models
from leadline.dialects.openai.decode import Body, to_request
from leadline.dialects.openai.decode_completion import Body as CompletionBody
from leadline.dialects.openai.decode_completion import echoed
from leadline.dialects.openai.decode_completion import to_request as to_completion_request
from leadline.dialects.openai.deferred import defer_chat, show_deferred_completion
from leadline.dialects.openai.embeddings import create_embeddings
from leadline.dialects.openai.encode import KEEP_ALIVE, ChunkEncoder, encode_answer
from leadline.dialects.openai.encode_completion import CompletionEncoder, encode_completion
from leadline.dialects.openai.tokenize import tokenize_text
from leadline.dialects.recordings import collected
from leadline.serving.generation import Generation
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.errors import encode_event
from leadline.web.exchange import Exchange
from leadline.web.strict_json import decode

# Of those who call tools by the words before `tools`.
_FUNCTION_FIELDS = {"tools[].function.parameters": "functions[].parameters", "tools": "functions"}


async def create_chat_completion(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), Body)

    def stream(generation: Generation) -> ChunkEncoder:
        return ChunkEncoder(generation, includes_usage=body.includes_usage, functions=body.speaks_of_functions)

    whole = collected(partial(encode_answer, functions=body.speaks_of_functions))
    form = Form(stream if body.stream else None, whole, encode_event, encode_limits, KEEP_ALIVE)
    with naming(_FUNCTION_FIELDS if body.speaks_of_functions else {}):
        if body.deferred:
            await defer_chat(pipeline, caller, exchange, body, form)
        else:
            await answer_chat(pipeline, caller, exchange, to_request(body), form)


async def create_completion(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), CompletionBody)
    request, before = to_completion_request(body), echoed(body)

    def stream(generation: Generation) -> CompletionEncoder:
        return CompletionEncoder(generation, echoed=before, includes_usage=body.includes_usage)

    whole = collected(partial(encode_completion, echoed=before))
    form = Form(stream if body.stream else None, whole, encode_event, encode_limits, KEEP_ALIVE, "sample")
    with naming({"messages": "prompt"}):
        await answer_chat(pipeline, caller, exchange, request, form)


ROUTES = {
    ("POST", "/v1/chat/completions"): create_chat_completion,
    ("POST", "/v1/completions"): create_completion,
    ("GET", "/v1/chat/deferred-completion/{id}"): show_deferred_completion,
    ("POST", "/v1/embeddings"): create_embeddings,
    ("POST", "/v1/tokenize-text"): tokenize_text,
    **batches.ROUTES,
    **files.ROUTES,
    **models.ROUTES,
}
