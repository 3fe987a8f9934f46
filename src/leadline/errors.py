"""Everything that a caller can be told instead of an answer: one class per fact.

The inside raises these; each dialect's `errors.py` turns them into its own status and body. The message is for the
caller: what happened, why, and what to do. It never holds a key, a path or another library's text.
"""

import re
from dataclasses import dataclass


class LeadlineError(Exception):
    """A fact that ends a request."""

    # True: the same request may succeed later. False: it never will. None: the dialect's status says enough.
    should_retry: bool | None = None
    # Seconds after which trying again makes sense.
    retry_after_seconds: int | None = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or ""))

    @property
    def fact(self) -> str:
        """Its name in usage records, such as `rate_limited`."""
        return re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()


class Refused(LeadlineError):
    """A request that we will not run, for a reason that its sender can act on."""

    should_retry: bool | None = False


class InvalidRequest(Refused):
    """The request does not make sense; `param` names the offending field, such as `messages[0].content`."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ThreadsUnsupported(InvalidRequest):
    """No threads are kept here. Send the whole conversation, without thread."""

    def __init__(self) -> None:
        super().__init__("", "thread")


class RequestTooLarge(Refused):
    """The request body is larger than this server accepts."""


class NotJson(Refused):
    """The request's content type is not application/json."""


class WrongMethod(Refused):
    """This path does not answer this method."""

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class Unauthenticated(Refused):
    """No API key was presented. Send it as `Authorization: Bearer <key>` or `x-api-key: <key>`."""


class PermissionDenied(Refused):
    """This API key may not do that."""


class NotFound(Refused):
    """There is nothing at this path."""


class ModelNotFound(NotFound):
    """No such model."""


class FileNotFound(NotFound):
    """There is no file with this id: it was deleted, its term is over, or it never was."""


class PreviousResponseNotFound(NotFound):
    """There is no stored response with this id."""


class InsufficientCredits(Refused):
    """The credits do not cover this request. Add credits, then send it again."""


class KeyCapSpent(InsufficientCredits):
    """The spending cap of this API key is used up."""


class SpendLimitReached(InsufficientCredits):
    """The organisation's spending limit of this month is reached."""


class IdempotencyConflict(Refused):
    """This Idempotency-Key was used for another request. Use a new key for a new request."""


class CreditsHeld(Refused):
    """All credits are held by your own running requests. Try again when one of them has ended."""

    should_retry = None
    retry_after_seconds = 1


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit as it stands: `limit` units in all, `remaining` of them left, whole again after
    `reset_milliseconds`."""

    limit: int
    remaining: int
    reset_milliseconds: int


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits on requests and on tokens that bind the caller most. None: there is no such limit."""

    requests: RateLimit | None
    tokens: RateLimit | None


class RateLimited(Refused):
    """Too many requests or tokens. `retry_after_seconds` says when to try again; None: never, as it stands. `limits` is
    how all limits stand, where they are known."""

    def __init__(self, message: str, retry_after_seconds: int | None, limits: RateLimits | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.should_retry = False if retry_after_seconds is None else None
        self.limits = limits


class FilesFull(RateLimited):
    """The organisation may keep no more files."""

    def __init__(self, message: str) -> None:
        super().__init__(message, None)


class Unavailable(LeadlineError):
    """No engine can take the request now."""

    retry_after_seconds = 2


class DeadlineExceeded(LeadlineError):
    """The request took longer than it may."""


class EngineFailed(LeadlineError):
    """The engine broke while it worked on the request."""


class InternalError(LeadlineError):
    """Something in this server failed. It was logged with this request's id."""


class FileDamaged(InternalError):
    """What the server's disk has of this file is damaged, so nothing of it is given out. Upload the file again."""

    should_retry = False


class BatchDamaged(InternalError):
    """What the server's disk has of this request of a batch is damaged, so nothing of it is given out."""

    should_retry = False


class ClientGone(LeadlineError):
    """The client closed its connection; nobody reads the answer."""
