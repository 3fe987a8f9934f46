"""The service `xai_api.BatchMgmt`: requests that are handed in together, and fetched when they were answered."""

import asyncio
from typing import Any

from leadline.chat.request import ChatRequest
from leadline.clock import now_microseconds
from leadline.dialects.field_names import within
from leadline.dialects.xai.chat import NOTE, encode_kept, settings_of, whole_request
from leadline.dialects.xai.encode_request import encode_request
from leadline.dialects.xai.errors import code_of
from leadline.dialects.xai.fields import optional
from leadline.dialects.xai.protos import batch, chat, empty, status
from leadline.dialects.xai.rpc import Rpc
from leadline.errors import InvalidRequest
from leadline.serving.batch_rows import Batch, State
from leadline.serving.batch_store import Asked
from leadline.serving.batches import MOST_ADDED, BatchRequest, NewRequest
from leadline.serving.codec import KeptAnswer, KeptError, decode

_ON_A_PAGE, _MOST_ON_A_PAGE = 100, 1_000
_CHAT_ENDPOINT = "xai_api.Chat/GetCompletion"
# So many requests are decoded before others have a turn.
_AT_ONCE = 32
_METADATA = batch.BatchRequestMetadata
_STATES: dict[int, State] = {
    _METADATA.STATE_PENDING: "pending",
    _METADATA.STATE_SUCCEEDED: "succeeded",
    _METADATA.STATE_CANCELLED: "cancelled",
    _METADATA.STATE_FAILED: "failed",
}
_NUMBERS = {state: number for number, state in _STATES.items()}


async def create_batch(rpc: Rpc, wire: Any) -> Any:
    batches, file_id = rpc.pipeline.batches, wire.input_file_id
    if not file_id:
        return _encoded(await batches.create(rpc.caller, wire.name))
    lines = rpc.pipeline.file_lines(rpc.caller, file_id)
    return _encoded(await batches.create_from_file(rpc.caller, wire.name, file_id, lines))


async def get_batch(rpc: Rpc, wire: Any) -> Any:
    return _encoded(await rpc.pipeline.batches.find(rpc.caller, wire.batch_id))


async def list_batches(rpc: Rpc, wire: Any) -> Any:
    found, more = await rpc.pipeline.batches.page(rpc.caller, *_page(wire))
    token = found[-1].id if more else ""
    return batch.ListBatchesResponse(batches=[_encoded(one) for one in found], pagination_token=token)


async def cancel_batch(rpc: Rpc, wire: Any) -> Any:
    return _encoded(await rpc.pipeline.batches.cancel(rpc.caller, wire.batch_id))


async def add_batch_requests(rpc: Rpc, wire: Any) -> Any:
    requests = []
    for place, entry in enumerate(wire.batch_requests[: MOST_ADDED + 1]):
        if place % _AT_ONCE == 0:
            await asyncio.sleep(0)
        requests.append(await _decoded(rpc, entry, f"batch_requests[{place}]"))
    await rpc.pipeline.batches.add(rpc.caller, wire.batch_id, requests)
    return empty.Empty()


async def list_batch_request_metadata(rpc: Rpc, wire: Any) -> Any:
    states = {_STATES[number] for number in wire.status if number in _STATES}
    if wire.status and not states:
        raise InvalidRequest("status has no state that a request can be in.", "status")
    requests, more = await rpc.pipeline.batches.requests(rpc.caller, wire.batch_id, *_page(wire), states)
    return batch.ListBatchRequestMetadataResponse(
        batch_request_metadata=[_metadata(request) for request in requests],
        pagination_token=requests[-1].name if more else "",
    )


async def list_batch_results(rpc: Rpc, wire: Any) -> Any:
    results, more = await rpc.pipeline.batches.results(rpc.caller, wire.batch_id, *_page(wire))
    return batch.ListBatchResultsResponse(
        results=[_result(result.request, result.outcome) for result in results],
        pagination_token=results[-1].request.name if more else "",
    )


async def get_batch_request_result(rpc: Rpc, wire: Any) -> Any:
    request, asked, outcome = await rpc.pipeline.batches.request(rpc.caller, wire.batch_id, wire.batch_request_id)
    return batch.GetBatchRequestResultResponse(
        request=batch.BatchRequest(batch_request_id=request.name, completion_request=_spelled(asked)),
        result=None if outcome is None else _result(request, outcome),
    )


async def _decoded(rpc: Rpc, entry: Any, at: str) -> NewRequest:
    kind = entry.WhichOneof("request")
    if kind != "completion_request":
        param = f"{at}.{kind or 'request'}"
        raise InvalidRequest(f"{param} is {'not supported' if kind else 'missing'}: send a completion_request.", param)
    wire, body_at = entry.completion_request, f"{at}.{kind}"
    with within(body_at):
        if wire.store_messages:
            raise InvalidRequest(
                "store_messages is not supported: the results of a batch are kept for 30 days.", "store_messages"
            )
        spelling = wire.SerializeToString()  # before files take the places of their ids
        request = await whole_request(rpc, wire)
    return NewRequest(
        *(request, at, body_at, optional(entry, "batch_request_id")),
        notes={NOTE: settings_of(wire).SerializeToString()},
        spellings={NOTE: spelling},
    )


def _spelled(asked: Asked) -> Any:
    """The request as it was added; in our words, where that was over another protocol."""
    spelling = asked.spellings.get(NOTE)
    if spelling is None:
        return encode_request(decode(asked.request, ChatRequest))
    return chat.GetCompletionsRequest.FromString(spelling)


def _page(wire: Any) -> tuple[int, str | None]:
    """How many entries are asked for, and behind which one."""
    limit = wire.limit or _ON_A_PAGE
    if not 1 <= limit <= _MOST_ON_A_PAGE:
        raise InvalidRequest(f"limit must be from 1 to {_MOST_ON_A_PAGE}.", "limit")
    return limit, wire.pagination_token or None


def _encoded(found: Batch) -> Any:
    counts = found.counts
    encoded = batch.Batch(
        batch_id=found.id,
        name=found.name,
        create_api_key_id=found.key_id,
        cancel_by_xai_message=found.cancelled_because or None,
        input_file_id=found.input_file_id,
        state=batch.BatchState(
            num_requests=counts.requests,
            num_pending=counts.pending,
            num_success=counts.succeeded,
            num_error=counts.failed,
            num_cancelled=counts.cancelled,
        ),
        cost_breakdown=batch.BatchCostBreakdown(
            total_cost_usd_ticks=counts.cost_ticks,
            endpoint_costs=[
                batch.EndpointCost(
                    endpoint=_CHAT_ENDPOINT, cost_usd_ticks=counts.cost_ticks, request_count=counts.succeeded
                )
            ],
        ),
    )
    encoded.create_time.FromMicroseconds(found.created_at)
    encoded.expire_time.FromMicroseconds(found.expires_at)
    encoded.cost_breakdown.calculation_time.FromMicroseconds(now_microseconds())
    if found.cancelled_at is not None:
        encoded.cancel_time.FromMicroseconds(found.cancelled_at)
    return encoded


def _metadata(request: BatchRequest) -> Any:
    encoded = _METADATA(
        batch_request_id=request.name,
        endpoint=_CHAT_ENDPOINT,
        model=request.model,
        state=_NUMBERS[request.state],
    )
    encoded.create_time.FromMicroseconds(request.created_at)
    if request.ended_at is not None:
        encoded.finish_time.FromMicroseconds(request.ended_at)
    return encoded


def _result(request: BatchRequest, outcome: KeptAnswer | KeptError) -> Any:
    if isinstance(outcome, KeptAnswer):
        response = batch.BatchResultData(completion_response=encode_kept(outcome))
        return batch.BatchResult(batch_request_id=request.name, response=response)
    error = outcome.rebuilt()
    told = status.Status(code=code_of(error).value[0], message=str(error))
    return batch.BatchResult(batch_request_id=request.name, error=told)


HANDLERS = {
    "/xai_api.BatchMgmt/CreateBatch": create_batch,
    "/xai_api.BatchMgmt/GetBatch": get_batch,
    "/xai_api.BatchMgmt/ListBatches": list_batches,
    "/xai_api.BatchMgmt/CancelBatch": cancel_batch,
    "/xai_api.BatchMgmt/AddBatchRequests": add_batch_requests,
    "/xai_api.BatchMgmt/ListBatchRequestMetadata": list_batch_request_metadata,
    "/xai_api.BatchMgmt/ListBatchResults": list_batch_results,
    "/xai_api.BatchMgmt/GetBatchRequestResult": get_batch_request_result,
}
