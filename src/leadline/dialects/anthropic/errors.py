"""What is refused, in Anthropic's shape. The table is CONTRACT's, section 5."""

import msgspec

from leadline import errors
from leadline.errors import LeadlineError

_TABLE: dict[type[LeadlineError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.InsufficientCredits: (402, "billing_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.WrongMethod: (405, "invalid_request_error"),
    errors.IdempotencyConflict: (409, "invalid_request_error"),
    errors.RequestTooLarge: (413, "request_too_large"),
    errors.NotJson: (415, "invalid_request_error"),
    errors.CreditsHeld: (429, "rate_limit_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.EngineFailed: (502, "api_error"),
    errors.DeadlineExceeded: (504, "api_error"),
    errors.Unavailable: (529, "overloaded_error"),
    errors.InternalError: (500, "api_error"),
}


def encode_error(error: LeadlineError, request_id: str) -> tuple[int, bytes]:
    """Status and body."""
    status, kind = next(_TABLE[ancestor] for ancestor in type(error).__mro__ if ancestor in _TABLE)
    told: dict[str, object] = {"type": kind, "message": _message(error)}
    if isinstance(error, errors.ThreadsUnsupported):
        # By this the SDKs know that they have to send the whole conversation, which they then do.
        told["details"] = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    return status, msgspec.json.encode({"type": "error", "error": told, "request_id": request_id})


def _message(error: LeadlineError) -> str:
    """It names the field at fault, for which this shape has no place of its own."""
    message = str(error)
    if isinstance(error, errors.InvalidRequest) and error.param and error.param not in message:
        return f"{error.param}: {message}"
    return message


def encode_event(error: LeadlineError, request_id: str) -> bytes:
    """An error in the middle of a stream."""
    return b"event: error\ndata: " + encode_error(error, request_id)[1] + b"\n\n"
