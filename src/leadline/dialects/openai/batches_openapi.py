"""What the OpenAPI document says of the batches."""

from typing import Literal

from msgspec import UNSET, UnsetType

from leadline.dialects.openai.answer_types import ChatCompletion, ErrorFacts
from leadline.dialects.openai.batches import CHAT_ENDPOINT, MOST_ON_A_PAGE, ON_A_PAGE, AddBody, CreateBody
from leadline.dialects.openai.openapi import COMPLETION
from leadline.dialects.operation import OF_KEYS, OF_NAMED, OF_READS, Answer, Operation, Operations, page_queries
from leadline.errors import (
    BatchDamaged,
    DeadlineExceeded,
    FileDamaged,
    NotFound,
    NotJson,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from leadline.web.pages import Paging


class BatchState(Answer):
    """How many requests there are, and how many in each state."""

    num_requests: int
    num_pending: int
    num_success: int
    num_error: int
    num_cancelled: int


class EndpointCost(Answer):
    endpoint: str
    cost_usd_ticks: int
    request_count: int


class CostBreakdown(Answer):
    """What was charged until now. 1 USD is 10^10 ticks."""

    total_cost_usd_ticks: int
    endpoint_costs: list[EndpointCost]


class Batch(Answer):
    """Times are RFC 3339. `cancel_by_xai_message` says why the server cancelled it, if it did."""

    batch_id: str
    name: str
    create_time: str
    expire_time: str
    create_api_key_id: str
    cancel_time: str | None
    cancel_by_xai_message: str | None
    input_file_id: str | None
    state: BatchState
    cost_breakdown: CostBreakdown


class _Page(Answer):
    pagination_token: str | None
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchList(_Page):
    """The newest first."""

    batches: list[Batch]


class BatchRequestMetadata(Answer):
    batch_request_id: str
    endpoint: str
    model: str
    state: Literal["pending", "succeeded", "failed", "cancelled"]
    create_time: str
    finish_time: str | None


class BatchRequestList(_Page):
    batch_request_metadata: list[BatchRequestMetadata]


class BatchResponse(Answer):
    chat_get_completion: ChatCompletion


class BatchOutcome(Answer):
    """One of both."""

    response: BatchResponse | UnsetType = UNSET
    error: ErrorFacts | UnsetType = UNSET


class BatchResult(Answer):
    batch_request_id: str
    batch_result: BatchOutcome


class BatchResultList(_Page):
    """Of the requests that succeeded or failed, in the order in which they were added. A page may have fewer entries
    than were asked for."""

    results: list[BatchResult]


class Added(Answer):
    """Nothing is told."""


_ID = "batch_01a212be-8c3a-79e1-8cd4-ac0c3240e295"
_AT = "2026-11-25T12:30:29.348Z"


def _batch(requests: int, succeeded: int = 0, ticks: int = 0, cancelled_at: str | None = None) -> Batch:
    return Batch(
        batch_id=_ID,
        name="capitals",
        create_time=_AT,
        expire_time="2026-11-26T12:30:29.348Z",
        create_api_key_id="nMJ8HEJ5",
        cancel_time=cancelled_at,
        cancel_by_xai_message=None,
        input_file_id=None,
        state=BatchState(num_requests=requests, num_pending=0, num_success=succeeded, num_error=0, num_cancelled=0),
        cost_breakdown=CostBreakdown(
            total_cost_usd_ticks=ticks,
            endpoint_costs=[EndpointCost(endpoint=CHAT_ENDPOINT, cost_usd_ticks=ticks, request_count=succeeded)],
        ),
    )


_DONE = _batch(1, 1, 30_000)
_OF_BODIES = (
    *(*OF_KEYS, PermissionDenied(), RequestTooLarge(), NotJson(), DeadlineExceeded(), Unavailable()),
    RateLimited("An organisation has at most 200 batches, each for 30 days.", None),
)
_QUERY = page_queries(Paging(ON_A_PAGE, MOST_ON_A_PAGE, after=("after", "pagination_token")))
_OF_NAMED = (*OF_NAMED, Unavailable())

OPERATIONS: Operations = {
    ("POST", "/v1/batches"): Operation(
        "Create a batch",
        Batch,
        _batch(0),
        description="Its requests run within 24 hours, when live requests leave room. It is kept for 30 days.",
        body=CreateBody,
        request={"name": "capitals"},
        fields="/v1/batches",
        refusals=(*_OF_BODIES, NotFound(), FileDamaged()),
    ),
    ("GET", "/v1/batches"): Operation(
        "List the batches",
        BatchList,
        BatchList(batches=[_DONE], pagination_token=None, first_id=_ID, last_id=_ID, has_more=False),
        query=_QUERY,
        refusals=(*OF_READS, Unavailable()),
    ),
    ("GET", "/v1/batches/{id}"): Operation("Show a batch", Batch, _DONE, refusals=_OF_NAMED),
    ("POST", "/v1/batches/{id}:cancel"): Operation(
        "Cancel a batch",
        Batch,
        _batch(1, 1, 30_000, cancelled_at=_AT),
        description="What has not begun of it is cancelled at once.",
        refusals=_OF_NAMED,
    ),
    ("GET", "/v1/batches/{id}/requests"): Operation(
        "List the requests of a batch",
        BatchRequestList,
        BatchRequestList(
            batch_request_metadata=[
                BatchRequestMetadata(
                    batch_request_id="norway",
                    endpoint=CHAT_ENDPOINT,
                    model=COMPLETION.model,
                    state="succeeded",
                    create_time=_AT,
                    finish_time=_AT,
                )
            ],
            pagination_token=None,
            first_id="norway",
            last_id="norway",
            has_more=False,
        ),
        query=_QUERY,
        refusals=_OF_NAMED,
    ),
    ("POST", "/v1/batches/{id}/requests"): Operation(
        "Add requests to a batch",
        Added,
        Added(),
        description="All or none. Each is charged to the key that adds it, once it was answered.",
        body=AddBody,
        request={
            "batch_requests": [
                {
                    "batch_request_id": "norway",
                    "batch_request": {
                        "chat_get_completion": {
                            "model": COMPLETION.model,
                            "messages": [{"role": "user", "content": "What is the capital of Norway?"}],
                        }
                    },
                }
            ]
        },
        fields="/v1/batches/{id}/requests",
        refusals=(*_OF_BODIES, NotFound()),
    ),
    ("GET", "/v1/batches/{id}/results"): Operation(
        "List the results of a batch",
        BatchResultList,
        BatchResultList(
            results=[
                BatchResult(
                    batch_request_id="norway",
                    batch_result=BatchOutcome(response=BatchResponse(chat_get_completion=COMPLETION)),
                )
            ],
            pagination_token=None,
            first_id="norway",
            last_id="norway",
            has_more=False,
        ),
        query=_QUERY,
        refusals=(*_OF_NAMED, BatchDamaged()),
    ),
}
