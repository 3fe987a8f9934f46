"""What the OpenAPI document says of an endpoint. Each dialect says it of its own ones in its `openapi.py`."""

from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from leadline.errors import (
    DeadlineExceeded,
    EngineFailed,
    IdempotencyConflict,
    InsufficientCredits,
    InternalError,
    InvalidRequest,
    LeadlineError,
    ModelNotFound,
    NotFound,
    NotJson,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
    Unavailable,
)
from leadline.web.pages import Paging

Json = dict[str, Any]

# What may come in place of an answer.
OF_KEYS = (
    InvalidRequest("The headers Authorization and x-api-key hold two different keys. Send one of them."),
    Unauthenticated(),
    InternalError(),
)
OF_READS = (*OF_KEYS, PermissionDenied())
OF_NAMED = (*OF_READS, NotFound())
OF_BODIES = (
    *(InvalidRequest("model is missing.", "model"), Unauthenticated(), PermissionDenied(), InternalError()),
    *(ModelNotFound(), RequestTooLarge(), NotJson(), DeadlineExceeded(), EngineFailed(), Unavailable()),
    RateLimited("Too many requests. Requests per Minute (actual/limit): 481/480.", 7),
)
OF_ANSWERS = (*OF_BODIES, InsufficientCredits(), IdempotencyConflict())


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter in the URL; `type` is a Python type."""

    name: str
    type: Any
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`answer` is the type of what comes with 200, `example` one of it; without them nothing but a refusal comes.
    `body` is the type that decodes the request, and `request` an example that is answered as in `example`; `fields`
    is where docs/parameters.md tells of them, and a `form` comes as multipart/form-data. `stream` says what a stream
    is made of, `held` what an answer of plain bytes is, `accepted` what a 202 means."""

    summary: str
    answer: Any = None
    example: Any = None
    description: str = ""
    body: Any = None
    request: Json | None = None
    fields: str = ""
    form: bool = False
    stream: str = ""
    held: str = ""
    accepted: str = ""
    query: tuple[Query, ...] = ()
    refusals: tuple[LeadlineError, ...] = OF_READS

    @property
    def types(self) -> list[Any]:
        return [part for whole in (self.body, self.answer) for part in get_args(whole) or (whole,) if part is not None]

    @property
    def may_run_once(self) -> bool:
        """Whether an Idempotency-Key has a meaning."""
        return any(isinstance(refusal, IdempotencyConflict) for refusal in self.refusals)


Operations = dict[tuple[str, str], Operation]


class Answer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The type of an answer: it has these fields and no others."""


def page_queries(paging: Paging) -> tuple[Query, ...]:
    """What a list with these pages takes."""
    limit = Query("limit", int, f"Entries on a page: 1 to {paging.most}, {paging.entries} where it is absent.")
    after = [Query(name, str, "The page begins behind the entry of this id.") for name in paging.after]
    before = [Query(name, str, "The page ends in front of the entry of this id.") for name in paging.before]
    return (limit, *after, *before)
