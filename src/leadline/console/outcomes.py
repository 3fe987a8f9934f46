"""How requests ended, in words, and what somebody can do about it."""

from dataclasses import dataclass

from leadline.ledger.usage import NO_CREDITS, RATE_LIMITED, LogStatus, UsageRecord

# What a tag looks like, by how a request ended.
KINDS: dict[LogStatus, str] = {
    "finished": "good",
    "interrupted": "warn",
    "failed": "bad",
    "refused": "warn",
    "rate limited": "warn",
    "no credits": "bad",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """Why a request did not end well. `link` is a path and its text: the page where that can be put right."""

    title: str
    text: str
    link: tuple[str, str] | None = None


_LIMITS, _BILLING, _MODELS = ("/limits", "Rate limits"), ("/billing", "Billing"), ("/models", "Models")
_REFERENCE = ("/docs/api", "API reference")
_FACTS = {
    "rate_limited": Advice(
        "Over a rate limit",
        "More came at once than the limit lets through. The answer named the limit, and when to try again. Spread"
        " requests out, or let the SDK retry. Nothing was charged.",
        _LIMITS,
    ),
    "credits_held": Advice(
        "All credits are held",
        "What was left is held by requests that ran at the same time. Run fewer at once, set max_tokens, or add"
        " credits. Nothing was charged.",
        _BILLING,
    ),
    "insufficient_credits": Advice(
        "Not enough credits", "The credits do not cover this request. Add credits, then send it again.", _BILLING
    ),
    "spend_limit_reached": Advice(
        "The spending limit is reached",
        "The organisation may spend no more this month. Raise the limit, or wait for the next month.",
        ("/billing#limits", "Spending limits"),
    ),
    "engine_failed": Advice(
        "The engine broke off",
        "It failed while it worked on this. Send the request again; if it fails again, tell your administrator its id.",
        _MODELS,
    ),
    "unavailable": Advice(
        "No engine could take it", "The model was not ready, or too busy. Send the request again.", _MODELS
    ),
    "deadline_exceeded": Advice(
        "It took too long", "Ask for fewer tokens (max_tokens), or stream the answer, which may take longer."
    ),
    "invalid_request": Advice(
        "The request does not make sense", "The answer named the field, and what is wrong with it.", _REFERENCE
    ),
    "internal_error": Advice("Something failed here", "It was logged. Tell your administrator this request's id."),
    "unauthenticated": Advice(
        "The key stopped working", "It was revoked or disabled, or it expired, while this ran.", ("/keys", "API keys")
    ),
}
_CLIENT_LEFT = Advice(
    "The client closed its connection",
    "What was made until then is charged. Where the client's own time-out was the cause, raise it, or stream.",
)
_NOT_FINISHED = Advice("It did not end", "Send the request again; if that happens again, tell your administrator.")


def status_of(record: UsageRecord) -> LogStatus:
    """As the log's filter calls it."""
    if record.status != "refused":
        return record.status
    return "rate limited" if record.error in RATE_LIMITED else "no credits" if record.error in NO_CREDITS else "refused"


def advice_on(record: UsageRecord, key_path: str) -> Advice | None:
    """None where a request ended well. `key_path` is the page of its key."""
    if record.status == "finished":
        return None
    match record.error:
        case "key_cap_spent":
            text = "This key may spend no more in its period. Raise its cap, or use another key."
            return Advice("The key's cap is spent", text, (key_path, "The key"))
        case "permission_denied":
            text = "The key is not allowed this model or endpoint. Widen it, or use another key."
            return Advice("The key may not do that", text, (key_path, "The key"))
        case "" | "client_gone":
            return _CLIENT_LEFT if record.status == "interrupted" else _NOT_FINISHED
        case error:
            return _FACTS.get(error) or Advice(error.replace("_", " ").capitalize(), _NOT_FINISHED.text)
