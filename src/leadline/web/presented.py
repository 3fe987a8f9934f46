"""The API key that a request presents, and what its sender may hear of an error; for every protocol."""

import logging
from collections.abc import Sequence

from leadline.errors import (
    DeadlineExceeded,
    EngineFailed,
    InternalError,
    InvalidRequest,
    LeadlineError,
    Refused,
    Unavailable,
)

_TELLABLE = (Refused, Unavailable, DeadlineExceeded, EngineFailed, InternalError)
_log = logging.getLogger("leadline.api")


def presented_key(authorization: Sequence[str], x_api_key: Sequence[str]) -> str | None:
    """The key from the values of either header, empty ones aside. Two different ones are refused: InvalidRequest."""
    keys = {key for key in (*map(_bearer, authorization), *map(str.strip, x_api_key)) if key}
    if len(keys) > 1:
        raise InvalidRequest("The headers Authorization and x-api-key hold two different keys. Send one of them.")
    return keys.pop() if keys else None


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def told(error: Exception, request_id: str, path: str) -> LeadlineError:
    """The error as the client may hear it. What is our own fault is logged, and its words stay in the log; an
    InternalError was logged where it came to be."""
    if isinstance(error, _TELLABLE):
        return error
    _log.error("a request failed", exc_info=error, extra={"request_id": request_id, "path": path[:200]})
    return InternalError()
