"""What is refused, as gRPC's status codes. The details are the message; nothing else of an error is told."""

from grpc import StatusCode

from leadline import errors
from leadline.errors import LeadlineError

# The first class of an error's ancestry that is listed: CONTRACT, section 5.
_CODES: dict[type[LeadlineError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: StatusCode.PERMISSION_DENIED,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.WrongMethod: StatusCode.UNIMPLEMENTED,
    errors.IdempotencyConflict: StatusCode.ALREADY_EXISTS,
    errors.RequestTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.InsufficientCredits: StatusCode.PERMISSION_DENIED,
    errors.CreditsHeld: StatusCode.RESOURCE_EXHAUSTED,
    errors.RateLimited: StatusCode.RESOURCE_EXHAUSTED,
    errors.EngineFailed: StatusCode.INTERNAL,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.InternalError: StatusCode.INTERNAL,
    errors.ClientGone: StatusCode.CANCELLED,
}


def code_of(error: LeadlineError) -> StatusCode:
    return next(_CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in _CODES)
