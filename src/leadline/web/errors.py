"""What is refused, in OpenAI's envelope with xAI's slug on top. Wins over every other document: CONTRACT, section 5."""

import msgspec

from leadline import errors
from leadline.errors import LeadlineError

# Status, xAI's slug, and OpenAI's type, which is its code too. The first class of an error's ancestry that is listed.
_TABLE: dict[type[LeadlineError], tuple[int, str, str]] = {
    errors.InvalidRequest: (400, "invalid-argument", "invalid_request_error"),
    errors.Unauthenticated: (401, "unauthenticated", "invalid_api_key"),
    errors.PermissionDenied: (403, "permission-denied", "permission_denied"),
    errors.ModelNotFound: (404, "not-found", "model_not_found"),
    errors.PreviousResponseNotFound: (404, "not-found", "previous_response_not_found"),
    errors.NotFound: (404, "not-found", "not_found"),
    errors.WrongMethod: (405, "invalid-argument", "invalid_request_error"),
    errors.IdempotencyConflict: (409, "already-exists", "idempotency_conflict"),
    errors.RequestTooLarge: (413, "invalid-argument", "request_too_large"),
    errors.NotJson: (415, "invalid-argument", "invalid_request_error"),
    errors.InsufficientCredits: (429, "resource-exhausted", "insufficient_quota"),
    errors.CreditsHeld: (429, "resource-exhausted", "rate_limit_exceeded"),
    errors.RateLimited: (429, "resource-exhausted", "rate_limit_exceeded"),
    errors.EngineFailed: (502, "internal", "api_error"),
    errors.Unavailable: (503, "unavailable", "overloaded"),
    errors.DeadlineExceeded: (504, "deadline-exceeded", "timeout"),
    errors.InternalError: (500, "internal", "api_error"),
}


def encode_error(error: LeadlineError, request_id: str) -> tuple[int, bytes]:
    """Status and body. The request's id is in the headers."""
    status, slug, body = _facts(error)
    return status, msgspec.json.encode({"code": slug, "error": body})


def encode_event(error: LeadlineError, request_id: str) -> bytes:
    """An error in the middle of a stream: the SDKs raise on any chunk that has an `error`."""
    _, _, body = _facts(error)
    return b"data: " + msgspec.json.encode({"error": body}) + b"\n\n"


def _facts(error: LeadlineError) -> tuple[int, str, dict[str, str | None]]:
    status, slug, code = next(_TABLE[ancestor] for ancestor in type(error).__mro__ if ancestor in _TABLE)
    param = error.param if isinstance(error, errors.InvalidRequest) else None
    if isinstance(error, errors.ModelNotFound):
        param = "model"
    if isinstance(error, errors.PreviousResponseNotFound):
        param = "previous_response_id"
    return status, slug, {"message": str(error), "type": code, "param": param, "code": code}
