"""The endpoints of OpenAI's Responses API. Errors are those of OpenAI's other endpoints."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from leadline.chat.request import ChatRequest
from leadline.dialects.answers import Form, answer_chat
from leadline.dialects.field_names import naming
from leadline.dialects.responses.decode import Body, echo, to_request, wants_encrypted_reasoning
from leadline.dialects.responses.encode import ResponseEncoder
from leadline.dialects.responses.items import Json, read_items, to_messages
from leadline.dialects.responses.kept import StoredResponse
from leadline.dialects.responses.stored import conversation_of, find_response
from leadline.dialects.responses.stream import KEEP_ALIVE
from leadline.errors import InvalidRequest, NotFound, RateLimits
from leadline.serving.generation import Generation
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.exchange import Exchange, Headers
from leadline.web.pages import Paging, integer, page_of
from leadline.web.strict_json import decode

EncodeLimits = Callable[[RateLimits, int], Headers]
# What the money path and the engines call a field -> what it is called here.
_FIELDS = {
    "messages": "input",
    "response_format.json_schema.schema": "text.format.schema",
    "response_format": "text.format",
    "tools[].function.parameters": "tools[].parameters",
    "logprobs": "include",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
}
PAGING = Paging(entries=20, most=100, after=("after", "pagination_token"))


def routes(encode_limits: EncodeLimits) -> dict[tuple[str, str], Any]:
    """The endpoints, which tell the limits as OpenAI's others do."""

    async def create_response(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
        body = decode(await exchange.json_body(), Body)
        told, conversation = echo(body), _Conversation(pipeline, caller, exchange, body)
        seal = partial(pipeline.stored.seal_reasoning, caller.organisation_id)
        encoder = ResponseEncoder(
            *(told, conversation.items),
            streams=bool(body.stream),
            seal=seal if wants_encrypted_reasoning(body) else None,
        )

        def begin(generation: Generation) -> ResponseEncoder:
            if told["store"]:
                pipeline.stored.keep(generation, "response", encoder.kept_with)
            return encoder.begin(generation)

        form = Form(
            *(begin if body.stream else None, begin, encoder.fail, encode_limits, KEEP_ALIVE),
            look_up=conversation.look_up,
        )
        with naming(_FIELDS):
            await answer_chat(pipeline, caller, exchange, to_request(body), form)

    return {
        ("POST", "/v1/responses"): create_response,
        ("POST", "/v1/responses/input_tokens"): count_input_tokens,
        ("GET", "/v1/responses/{id}"): show_response,
        ("DELETE", "/v1/responses/{id}"): delete_response,
        ("GET", "/v1/responses/{id}/input_items"): list_input_items,
        ("POST", "/v1/responses/{id}/cancel"): cancel_response,
    }


class _Conversation:
    """What a request asks about: its own items are read at once, or InvalidRequest; `items` are all of them, in which
    those that are stored are there once `look_up` was done."""

    def __init__(self, pipeline: Pipeline, caller: Caller, exchange: Exchange, body: Body) -> None:
        self.items: list[Json] = []
        own = read_items(body.input)
        self._all = partial(conversation_of, pipeline, caller, exchange.request_id, own, body.previous_response_id)

    async def look_up(self, request: ChatRequest) -> ChatRequest:
        self.items += await self._all()
        return replace(request, messages=(*request.messages, *to_messages(self.items)))


async def count_input_tokens(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), Body)
    conversation = _Conversation(pipeline, caller, exchange, body)
    with naming(_FIELDS):
        async with exchange.while_connected():
            tokens = await pipeline.count_prompt_tokens(caller, to_request(body), conversation.look_up)
    await exchange.respond_json({"object": "response.input_tokens", "input_tokens": tokens})


async def show_response(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    """With `stream=true` its events, those after the one numbered `starting_after`."""
    stored, query = await _find(pipeline, caller, exchange), exchange.query()
    if query.get("stream", "false") != "true":
        await exchange.respond_json(stored.response)
        return
    events = stored.events()[integer(query, "starting_after", -1, -1, 2**31) + 1 :]
    await exchange.respond(
        200, b"".join(events), [(b"cache-control", b"no-cache")], b"text/event-stream; charset=utf-8"
    )


async def delete_response(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    if not await pipeline.delete_stored(caller, "response", exchange.stored_id):
        raise _unknown(exchange)
    await exchange.respond_json({"id": exchange.stored_id, "object": "response", "deleted": True})


async def list_input_items(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    """A page of what the response answered, the newest first unless `order=asc`."""
    stored, query = await _find(pipeline, caller, exchange), exchange.query()
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc.", "order")
    items = stored.conversation if order == "asc" else stored.conversation[::-1]
    page = page_of(items, query, PAGING)
    await exchange.respond_json(
        {"object": "list"} | page | {"pagination_token": page["last_id"] if page["has_more"] else None}
    )


async def cancel_response(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    raise InvalidRequest(
        "Only a response in the background can be cancelled, and none is. Close the connection instead."
    )


async def _find(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> StoredResponse:
    stored = await find_response(pipeline, caller, exchange.stored_id)
    if stored is None:
        raise _unknown(exchange)
    return stored


def _unknown(exchange: Exchange) -> NotFound:
    return NotFound(
        f"There is no stored response {exchange.stored_id[:100]}. It is older than 30 days, was deleted or not stored,"
        " or never was."
    )
