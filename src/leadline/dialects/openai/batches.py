"""xAI's batches: requests that are handed in together, and fetched when they were answered."""

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from leadline.clock import rfc3339
from leadline.dialects.field_names import within
from leadline.dialects.openai.decode import Body as ChatBody
from leadline.dialects.openai.decode import to_request
from leadline.dialects.openai.deferred import FUNCTIONS, encode_kept
from leadline.errors import InvalidRequest
from leadline.serving.batch_rows import Batch
from leadline.serving.batches import MOST_ADDED, BatchRequest, NewRequest, Result
from leadline.serving.codec import KeptAnswer
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.errors import encode_error
from leadline.web.exchange import Exchange
from leadline.web.pages import integer
from leadline.web.strict_json import convert, parse

Json = dict[str, Any]
ON_A_PAGE, MOST_ON_A_PAGE = 100, 1_000
# What it is called over gRPC, which lists show.
CHAT_ENDPOINT = "xai_api.Chat/GetCompletion"
_CHAT = "chat_get_completion"
_CHAT_PATH = "/v1/chat/completions"
# So many requests are decoded before others have a turn.
_AT_ONCE = 32


class CreateBody(msgspec.Struct):
    name: str
    input_file_id: str | None = None


class Asked(msgspec.Struct):
    chat_get_completion: ChatBody


class Entry(msgspec.Struct):
    batch_request: Asked
    batch_request_id: str | None = None


class AddBody(msgspec.Struct):
    batch_requests: Annotated[list[Entry], Meta(min_length=1, max_length=MOST_ADDED)]


class _Named(msgspec.Struct):
    """An entry, before what it asks for is looked at."""

    batch_request: dict[str, Any]
    batch_request_id: str | None = None


class _Line(msgspec.Struct):
    """A line as OpenAI's batches have it."""

    custom_id: str
    body: dict[str, Any]
    url: str = _CHAT_PATH
    method: str = "POST"


async def create_batch(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = parse(await exchange.json_body())
    if isinstance(body, dict) and "endpoint" in body and "name" not in body:
        raise InvalidRequest(
            'Batches are taken in xAI\'s form: {"name": …}, with "input_file_id" where their requests are in a file. '
            "Leave endpoint and completion_window out.",
            "endpoint",
        )
    asked: CreateBody = convert(body, CreateBody, "")
    file_id = asked.input_file_id
    if file_id is None:
        batch = await pipeline.batches.create(caller, asked.name)
    else:
        lines = pipeline.file_lines(caller, file_id)
        batch = await pipeline.batches.create_from_file(caller, asked.name, file_id, lines)
    await exchange.respond_json(_encoded(batch))


async def list_batches(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    batches, more = await pipeline.batches.page(caller, *_page(exchange))
    await exchange.respond_json(_list("batches", "batch_id", [_encoded(batch) for batch in batches], more=more))


async def show_batch(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    await exchange.respond_json(_encoded(await pipeline.batches.find(caller, exchange.stored_id)))


async def cancel_batch(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    await exchange.respond_json(_encoded(await pipeline.batches.cancel(caller, exchange.stored_id)))


async def add_requests(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = parse(await exchange.json_body())
    entries = body.get("batch_requests") if isinstance(body, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_ADDED:
        convert(body, AddBody, "")
        raise AssertionError("that was refused")
    requests = []
    for place, entry in enumerate(entries):
        if place % _AT_ONCE == 0:
            await asyncio.sleep(0)
        requests.append(_request(entry, f"batch_requests[{place}]"))
    await pipeline.batches.add(caller, exchange.stored_id, requests)
    await exchange.respond_json({})


async def list_requests(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    requests, more = await pipeline.batches.requests(caller, exchange.stored_id, *_page(exchange))
    entries = [_metadata(request) for request in requests]
    await exchange.respond_json(_list("batch_request_metadata", "batch_request_id", entries, more=more))


async def list_results(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    results, more = await pipeline.batches.results(caller, exchange.stored_id, *_page(exchange))
    entries = [_result(result) for result in results]
    await exchange.respond_json(_list("results", "batch_request_id", entries, more=more))


def decode_line(line: bytes, at: str) -> NewRequest:
    """A request in a file: an entry as it is added, or a line as OpenAI's batches have it."""
    with within(at):
        entry = parse(line)
        if isinstance(entry, dict) and "custom_id" in entry:
            asked: _Line = convert(entry, _Line, "")
            if asked.url != _CHAT_PATH or asked.method != "POST":
                raise InvalidRequest(f"url must be {_CHAT_PATH}, and method POST: no others run in batches.", "url")
            entry = {"batch_request_id": asked.custom_id, "batch_request": {_CHAT: asked.body}}
    return _request(entry, at)


def _request(entry: Any, at: str) -> NewRequest:
    named: _Named = convert(entry, _Named, at)
    asked_at = f"{at}.batch_request"
    others = sorted(key for key, value in named.batch_request.items() if key != _CHAT and value is not None)
    if others:
        at = f"{asked_at}.{others[0][:100]}"
        raise InvalidRequest(f"{at} is not supported: only {_CHAT} runs in a batch.", at)
    asked: Asked = convert(named.batch_request, Asked, asked_at)
    body, body_at = asked.chat_get_completion, f"{asked_at}.{_CHAT}"
    with within(body_at):
        for field in ("stream", "deferred"):
            if getattr(body, field):
                raise InvalidRequest(f"{field} is not supported: the answers of a batch are fetched whole.", field)
        request = to_request(body)
    return NewRequest(request, at, body_at, named.batch_request_id, FUNCTIONS if body.speaks_of_functions else {})


def _page(exchange: Exchange) -> tuple[int, str | None]:
    """How many entries are asked for, and behind which one."""
    query = exchange.query()
    limit = integer(query, "limit", ON_A_PAGE, 1, MOST_ON_A_PAGE)
    return limit, query.get("pagination_token") or query.get("after") or None


def _list(name: str, id_name: str, entries: list[Json], *, more: bool) -> Json:
    ids = [entry[id_name] for entry in entries] or [None]
    paging = {"first_id": ids[0], "last_id": ids[-1], "has_more": more}
    return {name: entries, "pagination_token": ids[-1] if more else None, **paging}


def _encoded(batch: Batch) -> Json:
    counts = batch.counts
    return {
        "batch_id": batch.id,
        "name": batch.name,
        "create_time": rfc3339(batch.created_at),
        "expire_time": rfc3339(batch.expires_at),
        "create_api_key_id": batch.key_id,
        "cancel_time": None if batch.cancelled_at is None else rfc3339(batch.cancelled_at),
        "cancel_by_xai_message": batch.cancelled_because or None,
        "input_file_id": batch.input_file_id,
        "state": {
            "num_requests": counts.requests,
            "num_pending": counts.pending,
            "num_success": counts.succeeded,
            "num_error": counts.failed,
            "num_cancelled": counts.cancelled,
        },
        "cost_breakdown": {
            "total_cost_usd_ticks": counts.cost_ticks,
            "endpoint_costs": [
                {
                    "endpoint": CHAT_ENDPOINT,
                    "cost_usd_ticks": counts.cost_ticks,
                    "request_count": counts.succeeded,
                }
            ],
        },
    }


def _metadata(request: BatchRequest) -> Json:
    return {
        "batch_request_id": request.name,
        "endpoint": CHAT_ENDPOINT,
        "model": request.model,
        "state": request.state,
        "create_time": rfc3339(request.created_at),
        "finish_time": None if request.ended_at is None else rfc3339(request.ended_at),
    }


def _result(result: Result) -> Json:
    outcome = result.outcome
    if isinstance(outcome, KeptAnswer):
        told: Json = {"response": {_CHAT: msgspec.Raw(encode_kept(outcome))}}
    else:
        _, body = encode_error(outcome.rebuilt(), result.request.request_id)
        told = {"error": msgspec.json.decode(body)["error"]}
    return {"batch_request_id": result.request.name, "batch_result": told}


ROUTES = {
    ("POST", "/v1/batches"): create_batch,
    ("GET", "/v1/batches"): list_batches,
    ("GET", "/v1/batches/{id}"): show_batch,
    ("POST", "/v1/batches/{id}:cancel"): cancel_batch,
    ("GET", "/v1/batches/{id}/requests"): list_requests,
    ("POST", "/v1/batches/{id}/requests"): add_requests,
    ("GET", "/v1/batches/{id}/results"): list_results,
}
