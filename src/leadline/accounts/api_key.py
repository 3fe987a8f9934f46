"""An API key without its secret: what it may do, for whom, and how it is kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from leadline.clock import rfc3339
from leadline.config import Limit
from leadline.errors import InvalidRequest
from leadline.money import SpendCap, Ticks
from leadline.storage.database import Value

ENDPOINTS = frozenset({"chat", "sample", "embed", "tokenize", "models", "image", "files", "batch"})
# In the place of endpoints or models, where an empty set means all: not a single one.
NONE = frozenset({"none"})
NO_LIMIT = Limit(requests_per_second=0, requests_per_minute=0, tokens_per_minute=0, concurrent_requests=0)

State = Literal["active", "disabled", "expired", "revoked"]
# Nothing: programs show its secret. `playground`: somebody asks in the console, and there is no secret to show.
Purpose = Literal["", "playground"]
PLAYGROUND = "Playground"


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What an organisation decides about a key. An empty set means all, NONE not a single one; `expires_at` is in
    microseconds. An endpoint that is none of ENDPOINTS is an InvalidRequest, as are names beside NONE's."""

    name: str
    endpoints: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    cap: SpendCap | None = None
    limit: Limit | None = None
    expires_at: int | None = None

    def __post_init__(self) -> None:
        for field, names in (("endpoints", self.endpoints), ("models", self.models)):
            if names > NONE:
                raise InvalidRequest("none stands alone: write it without other names.", field)
        for unknown in sorted(self.endpoints - ENDPOINTS - NONE):
            raise InvalidRequest(
                f"There is no endpoint {unknown!r}. Write any of {', '.join(sorted(ENDPOINTS))}.", "endpoints"
            )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. Times are in microseconds. An empty set means all, NONE not a single one; `models` are
    names or aliases as they were given. Until `previous_expires_at` the secret before the last rotation works too.
    `created_by` is a user's id, or nothing where it was the command line."""

    id: str
    organisation_id: str
    name: str
    last_four: str
    created_at: int
    disabled_at: int | None = None
    revoked_at: int | None = None
    expires_at: int | None = None
    endpoints: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    cap: SpendCap | None = None
    limit: Limit | None = None
    previous_expires_at: int | None = None
    modified_at: int = 0
    created_by: str = ""
    purpose: Purpose = ""

    def state(self, now: int) -> State:
        return state_at(now, self.revoked_at, self.disabled_at, self.expires_at)

    @property
    def redacted(self) -> str:
        return f"ll_{self.id}…{self.last_four}"

    @property
    def options(self) -> KeyOptions:
        return KeyOptions(self.name, self.endpoints, self.models, self.cap, self.limit, self.expires_at)


def state_at(now: int, revoked_at: int | None, disabled_at: int | None, expires_at: int | None) -> State:
    """What a key is, of an application or of management: what cannot be undone comes first."""
    if revoked_at is not None:
        return "revoked"
    if disabled_at is not None:
        return "disabled"
    return "active" if expires_at is None or now < expires_at else "expired"


def with_options(key: ApiKey, options: KeyOptions) -> ApiKey:
    """The key with these options in the place of its own."""
    return replace(
        key,
        name=options.name,
        endpoints=options.endpoints,
        models=options.models,
        cap=options.cap,
        limit=_limit(options.limit),
        expires_at=options.expires_at,
    )


def fields_of(key: ApiKey) -> dict[str, Value]:
    """What its organisation decided about a key, for the audit log."""
    limit = key.limit or NO_LIMIT
    return {
        "name": key.name,
        "endpoints": ", ".join(sorted(key.endpoints)) or "all",
        "models": ", ".join(sorted(key.models)) or "all",
        "cap_ticks": key.cap.ticks if key.cap is not None else None,
        "cap_period": key.cap.period if key.cap is not None else None,
        "expires_at": rfc3339(key.expires_at) if key.expires_at is not None else None,
        "requests_per_second": limit.requests_per_second,
        "requests_per_minute": limit.requests_per_minute,
        "tokens_per_minute": limit.tokens_per_minute,
        "concurrent_requests": limit.concurrent_requests,
    }


def acls_of(key: ApiKey) -> list[str]:
    """What a key may use, in xAI's words."""
    endpoints, models = ([] if names == NONE else sorted(names) or ["*"] for names in (key.endpoints, key.models))
    return [f"api-key:endpoint:{name}" for name in endpoints] + [f"api-key:model:{name}" for name in models]


def _limit(limit: Limit | None) -> Limit | None:
    return None if limit == NO_LIMIT else limit


def option_values(options: KeyOptions) -> tuple[Value, ...]:
    """As they are stored, in the order of their columns: from `name` and `expires_at` to `concurrent_requests`."""
    cap, limit = options.cap, options.limit or NO_LIMIT
    return (
        options.name,
        options.expires_at,
        ",".join(sorted(options.endpoints)),
        json.dumps(sorted(options.models), ensure_ascii=False) if options.models else "",
        cap.ticks if cap is not None else None,
        cap.period if cap is not None else None,
        limit.requests_per_second,
        limit.requests_per_minute,
        limit.tokens_per_minute,
        limit.concurrent_requests,
    )


def key_of(row: Sequence[Any]) -> ApiKey:
    """From columns in the order of ApiKey's fields, where a cap has two and a limit four."""
    *plain, endpoints, models, cap_ticks, cap_period, per_second, per_minute, tokens, concurrent, previous = row
    return replace(
        ApiKey(*plain),
        endpoints=frozenset(endpoints.split(",") if endpoints else ()),
        models=frozenset(json.loads(models) if models else ()),
        cap=SpendCap(Ticks(cap_ticks), cap_period) if cap_ticks is not None else None,
        limit=_limit(Limit(per_second, per_minute, tokens, concurrent)),
        previous_expires_at=previous,
    )
