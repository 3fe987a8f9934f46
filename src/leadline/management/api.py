"""The management API: finds the endpoint of a request, checks the management key, and tells what failed."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from leadline.accounts.management_keys import ACL_PREFIX, ManagementKey
from leadline.accounts.roles import PERMISSIONS
from leadline.administration.instance import Instance
from leadline.errors import (
    ClientGone,
    DeadlineExceeded,
    LeadlineError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    WrongMethod,
)
from leadline.management import analytics, audit, billing, keys, teams
from leadline.management.call import Call, Endpoint, Routes
from leadline.serving.pipeline import Pipeline
from leadline.web.access import log_request
from leadline.web.errors import encode_error
from leadline.web.exchange import Exchange, Headers, Receive, Send

PREFIX = "/management"
# A call with its body, from its first to its last byte.
_DEADLINE_SECONDS = 60.0
# Calls that put many numbers together: they share the processor with the streams of others.
_HEAVY_AT_ONCE = 2
# Clients are told no longer wait.
_LONGEST_RETRY_SECONDS = 60


# In paths `{team_id}` and others stand for what a path names.
ROUTES: Routes = keys.ROUTES | teams.ROUTES | billing.ROUTES | analytics.ROUTES | audit.ROUTES


@dataclass(frozen=True, slots=True)
class ManagementApi:
    """An ASGI application. Paths may begin with PREFIX, whether it has a port of its own or not."""

    instance: Instance
    pipeline: Pipeline
    heavy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_HEAVY_AT_ONCE))
    one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        began = time.monotonic()
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                answer = await self._answer(exchange)
            await exchange.respond_json(answer)
            status = exchange.status
        except ClientGone:
            status = 499
        except Exception as error:
            status = await _refuse(exchange, _told(exchange, error))
        log_request("request", exchange.method, exchange.path, status, began, request_id=str(exchange.request_id))

    async def _answer(self, exchange: Exchange) -> dict[str, Any]:
        address = exchange.address
        key = self.instance.management_keys.authenticate(exchange.api_key(), address)
        await self._refuse_unless_entitled(key)
        (operation, endpoint), names = _route(exchange)
        call = Call(self.instance, self.pipeline, exchange, key, address, self.heavy, self.one_by_one, names)
        if operation and not key.permits(operation):
            raise PermissionDenied(
                f"The management key “{key.name}” may not use {operation}. Its ACLs need {ACL_PREFIX}{operation}."
            )
        call.refuse_other_team()
        self.instance.management_keys.touch(key)
        return await endpoint(call)

    async def _refuse_unless_entitled(self, key: ManagementKey) -> None:
        """A management key can do no more than its owner: it rests while he is suspended or may not change the
        organisation's settings."""
        self.instance.organisations.refuse_if_suspended(key.organisation_id)
        members = await self.instance.organisations.members(key.organisation_id)
        owner = next((member for member in members if member.user.id == key.owner_id), None)
        if owner is None or owner.user.suspended_at is not None or "settings" not in PERMISSIONS[owner.role]:
            raise Unauthenticated(
                f"The owner of the management key “{key.name}” may not manage this organisation any more. "
                "Create a new one."
            )


def is_management(path: str) -> bool:
    """Whether a path is in the management API, where it has no port of its own."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def _route(exchange: Exchange) -> tuple[tuple[str, Endpoint], dict[str, str]]:
    path = re.sub("/{2,}", "/", exchange.path)
    path = (path.removeprefix(PREFIX) if is_management(path) else path).removesuffix("/")
    method = "GET" if exchange.method == "HEAD" else exchange.method
    allowed = []
    for (other, pattern), route in ROUTES.items():
        found = _compiled(pattern).fullmatch(path)
        if found is not None and other == method:
            return route, found.groupdict()
        if found is not None:
            allowed.append(other)
    if allowed:
        raise WrongMethod(f"{path[:200]} answers {', '.join(allowed)}, not {method[:20]}.", ", ".join(sorted(allowed)))
    if path.startswith("/v1/collections"):
        raise NotFound("There are no collections on this server.")
    raise NotFound(f"There is nothing at {path[:200]} in the management API.")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", pattern), re.DOTALL)


def _told(exchange: Exchange, error: Exception) -> LeadlineError:
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("The management API did not answer in time. Try again in a moment.")
    return exchange.told(error)


async def _refuse(exchange: Exchange, error: LeadlineError) -> int:
    status, body = encode_error(error, str(exchange.request_id))
    headers: Headers = []
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % min(error.retry_after_seconds, _LONGEST_RETRY_SECONDS)))
    if isinstance(error, WrongMethod):
        headers.append((b"allow", error.allowed.encode()))
    if not exchange.started:
        await exchange.pass_over_body()
        await exchange.respond(status, body, headers, b"application/json")
    return status
