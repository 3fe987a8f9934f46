"""Why the playground got no answer, or not all of it: in words, with the page where it can be put right."""

import re
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from leadline.console.visit import Visit
from leadline.errors import (
    CreditsHeld,
    DeadlineExceeded,
    EngineFailed,
    InsufficientCredits,
    InvalidRequest,
    LeadlineError,
    ModelNotFound,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    SpendLimitReached,
    Unauthenticated,
    Unavailable,
)
from leadline.web.errors import encode_error

_WAIT = re.compile(r" Try again in \d+ s\.$")


@dataclass(frozen=True, slots=True)
class Refusal:
    """`link` is a path and its text; `retry_after` seconds."""

    title: str
    text: str
    link: tuple[str, str] | None = None
    retry_after: int | None = None


def refusal_of(error: LeadlineError, visit: Visit) -> Refusal:
    title, link = _told(error, visit)
    # The page counts down itself.
    text = _WAIT.sub("", str(error))
    return Refusal(title, text, link, error.retry_after_seconds)


def refuse(error: LeadlineError, visit: Visit, request_id: str) -> Response:
    """The answer in the place of a stream, with the status that the API has for it."""
    status, _ = encode_error(error, request_id)
    body = msgspec.json.encode({"refused": refusal_of(error, visit)})
    return Response(body, status, media_type="application/json")


def _told(error: LeadlineError, visit: Visit) -> tuple[str, tuple[str, str] | None]:
    match error:
        case SpendLimitReached():
            return "The spending limit is reached", ("/billing", "See the limit")
        case InsufficientCredits():
            return "Not enough credits", ("/billing", "Add credits" if visit.may("billing") else "See billing")
        case CreditsHeld():
            return "All credits are held", ("/log", "See what runs")
        case RateLimited():
            return "Too much at once", ("/limits", "See the limits")
        case ModelNotFound():
            return "There is no such model", ("/models", "See the models")
        case RequestTooLarge():
            return "That is too much", None
        case InvalidRequest():
            return "The model does not take this", None
        case Unauthenticated() | PermissionDenied():
            return "You may not ask", ("/home", "Go to the start")
        case Unavailable():
            return "The model is not ready", ("/models", "See the models")
        case EngineFailed():
            return "The model broke off", ("/models", "See the models")
        case DeadlineExceeded():
            return "That took too long", None
        case _:
            return "Something failed here", None
