"""Everything that a caller can be told instead of an answer: one class per fact.

The inside raises these; each dialect's `errors.py` turns them into its own status and body. The message is for the
caller: what happened, why, and what to do. It never holds a key, a path or another library's text.
"""


class LeadlineError(Exception):
    """A fact that ends a request."""

    # True: the same request may succeed later. False: it never will. None: the dialect's status says enough.
    should_retry: bool | None = None
    # Seconds after which trying again makes sense.
    retry_after_seconds: int | None = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or ""))


class Refused(LeadlineError):
    """A request that we will not run, for a reason that its sender can act on."""

    should_retry: bool | None = False


class InvalidRequest(Refused):
    """The request does not make sense; `param` names the offending field, such as `messages[0].content`."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


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


class InsufficientCredits(Refused):
    """The credits do not cover this request. Add credits, then send it again."""


class CreditsHeld(Refused):
    """All credits are held by your own running requests. Try again when one of them has ended."""

    should_retry = None
    retry_after_seconds = 1


class RateLimited(Refused):
    """Too many requests or tokens. `retry_after_seconds` says when to try again; None: never, as it stands."""

    def __init__(self, message: str, retry_after_seconds: int | None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.should_retry = False if retry_after_seconds is None else None


class Unavailable(LeadlineError):
    """No engine can take the request now."""

    retry_after_seconds = 2


class DeadlineExceeded(LeadlineError):
    """The request took longer than it may."""


class EngineFailed(LeadlineError):
    """The engine broke while it worked on the request."""


class InternalError(LeadlineError):
    """Something in this server failed. It was logged with this request's id."""


class ClientGone(LeadlineError):
    """The client closed its connection; nobody reads the answer."""
