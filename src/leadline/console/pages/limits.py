"""Rate limits: what they are, how they stand now, and what a program is told of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.responses import Response

from leadline.clock import MICROSECONDS_PER_HOUR
from leadline.config import Limit
from leadline.console.address import Address
from leadline.console.page import Page
from leadline.console.visit import Visit
from leadline.errors import RateLimited
from leadline.ledger.overview import limited_by_hour
from leadline.limits.limiter import Limiter, LimitNow
from leadline.web.errors import encode_error

# Of keys those that are nearest to a limit.
_MOST_KEYS = 100
_HEADERS = (
    ("x-ratelimit-limit-requests", "How many requests the limit lets through in its window."),
    ("x-ratelimit-remaining-requests", "How many of them are left now."),
    ("x-ratelimit-reset-requests", "How long until all of them are there again, such as 12ms, 1.5s or 1m0s."),
    ("x-ratelimit-limit-tokens", "The same of tokens."),
    ("x-ratelimit-remaining-tokens", "A request takes the most that it can use; what it did not use comes back."),
    ("x-ratelimit-reset-tokens", "How long until all of them are there again."),
    ("retry-after", "On a 429: in how many whole seconds to try again. SDKs do so by themselves."),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the limits of a model, or of a key, stand: one for each column of its table, None where there is none."""

    name: str
    path: str
    limits: Sequence[LimitNow | None]


async def show(visit: Visit) -> Response:
    now, models = visit.instance.keys.clock(), visit.pipeline.catalog.models
    limiter, organisation_id = visit.pipeline.limiter, visit.organisation_id
    of_models = {(one.name, f"/models/{one.name}"): limiter.look(organisation_id, one.name) for one in models}
    of_keys = {
        (key.name, f"/keys/{key.id}"): [
            one for one in limiter.look(organisation_id, "", key.id, key.limit) if one.of_key
        ]
        for key in visit.instance.keys.of(organisation_id)
        if key.limit is not None and key.revoked_at is None
    }
    model_columns, model_rows = _table(of_models)
    nearest = sorted(of_keys.items(), key=lambda pair: -max((one.percent for one in pair[1]), default=0))
    key_columns, key_rows = _table(dict(nearest[:_MOST_KEYS]))
    limited = await limited_by_hour(visit.instance.database, organisation_id, now)
    return visit.render(
        "limits.html",
        model_columns=model_columns,
        models=model_rows,
        key_columns=key_columns,
        keys=key_rows,
        left_out=max(0, len(of_keys) - _MOST_KEYS),
        limited=limited,
        began=(now // MICROSECONDS_PER_HOUR - len(limited.counts) + 1) * MICROSECONDS_PER_HOUR,
        log=Address("/log", (("status", "rate limited"),)).to(),
        headers=_HEADERS,
        refusal=_refusal(visit.model),
    )


def _table(found: Mapping[tuple[str, str], Iterable[LimitNow]]) -> tuple[list[str], list[Standing]]:
    """The names of all limits that there are, and how they stand for each."""
    by_name = {whose: {one.name: one for one in limits} for whose, limits in found.items()}
    columns = list(dict.fromkeys(name for limits in by_name.values() for name in limits))
    rows = [Standing(*whose, [limits.get(name) for name in columns]) for whose, limits in by_name.items()]
    return columns, rows


@lru_cache(maxsize=16)
def _refusal(model: str) -> str:
    """A 429 as programs get it: a limiter that nobody else asks refuses a request of nobody's."""
    limit = Limit(tokens_per_minute=0)
    limiter = Limiter(limit, clock=lambda: 0)
    for _ in range(limit.requests_per_minute):
        limiter.enter("", model, "", "", None)
    try:
        limiter.enter("", model, "", "", None)
    except RateLimited as error:
        _, body = encode_error(error, "")
        return "\n".join((*_head(error), "", json.dumps(json.loads(body), indent=2, ensure_ascii=False)))
    raise AssertionError("more requests than the limit were let through")


def _head(error: RateLimited) -> list[str]:
    """Nobody else used the window, so it is whole again after a whole minute."""
    assert error.limits is not None
    assert error.limits.requests is not None
    limit = error.limits.requests
    return [
        "HTTP/1.1 429 Too Many Requests",
        f"retry-after: {error.retry_after_seconds}",
        f"x-ratelimit-limit-requests: {limit.limit}",
        f"x-ratelimit-remaining-requests: {limit.remaining}",
        f"x-ratelimit-reset-requests: {limit.reset_milliseconds // 60_000}m0s",
    ]


PAGES = (Page("/limits", "limits", "see", show),)
