"""The API: finds the dialect and the endpoint of a request, and turns whatever fails into that dialect's error."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar
from urllib.parse import unquote

from leadline.clock import now_microseconds
from leadline.dialects.anthropic import routes as anthropic
from leadline.dialects.anthropic.errors import encode_error as anthropic_error
from leadline.dialects.anthropic.limits import encode_limits as anthropic_limits
from leadline.dialects.limits import encode_limits as openai_limits
from leadline.dialects.openai import routes as openai
from leadline.dialects.openai.keys import ROUTES as KEY_ROUTES
from leadline.dialects.responses import routes as responses
from leadline.errors import ClientGone, LeadlineError, NotFound, RateLimited, RateLimits, WrongMethod
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.access import log_request
from leadline.web.errors import encode_error as openai_error
from leadline.web.exchange import Exchange, Headers, Receive, Send

_Endpoint = TypeVar("_Endpoint")
Endpoint = Callable[[Pipeline, Caller, Exchange], Awaitable[None]]
Routes = Mapping[tuple[str, str], Endpoint]
EncodeError = Callable[[LeadlineError, str], tuple[int, bytes]]
EncodeLimits = Callable[[RateLimits, int], Headers]

# What a path can name: a model, in whose name there may be slashes, or the id of something that is stored. A colon
# after an id begins what is done with it.
_PARAMETERS = {"{model}": "(?P<model>.+)", "{id}": "(?P<stored_id>[^/:]+)"}
# They take no caller: the key that they tell of may not be one that may call.
_KEY_PATHS = frozenset(path for _, path in KEY_ROUTES)


@dataclass(frozen=True, slots=True)
class Dialect:
    """`routes` by method and path, in which `{model}` and `{id}` stand for what a path can name."""

    routes: Routes
    encode_error: EncodeError
    encode_limits: EncodeLimits


_OPENAI = Dialect({**openai.ROUTES, **responses.routes(openai_limits)}, openai_error, openai_limits)
_ANTHROPIC = Dialect(anthropic.ROUTES, anthropic_error, anthropic_limits)


@cache
def openapi() -> bytes:
    """The API's description, as JSON. It is made when it is first asked for."""
    # It is imported late since a server starts without it.
    from leadline.dialects.anthropic import openapi as of_anthropic
    from leadline.dialects.openai import batches_openapi as of_batches
    from leadline.dialects.openai import files_openapi as of_files
    from leadline.dialects.openai import openapi as of_openai
    from leadline.dialects.openai.answer_types import Error
    from leadline.dialects.openapi import Part, document
    from leadline.dialects.responses import openapi as of_responses

    of_all = of_openai.OPERATIONS | of_batches.OPERATIONS | of_files.OPERATIONS | of_responses.OPERATIONS
    return document(
        [
            Part("openai", of_all, Error, openai_error),
            Part("anthropic", of_anthropic.OPERATIONS, of_anthropic.AnthropicError, anthropic_error),
        ]
    )


@dataclass(frozen=True, slots=True)
class Api:
    """An ASGI application."""

    pipeline: Pipeline

    async def __call__(self, scope: dict[str, object], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        began = time.monotonic()
        dialect = _dialect_of(exchange)
        try:
            await self._answer(dialect, exchange)
            status = exchange.status
        except ClientGone:
            status = 499
        except Exception as error:
            status = await _refuse(dialect, exchange, exchange.told(error))
        log_request("request", exchange.method, exchange.path, status, began, request_id=str(exchange.request_id))

    async def _answer(self, dialect: Dialect, exchange: Exchange) -> None:
        if _path(exchange) in _KEY_PATHS:
            await _endpoint(KEY_ROUTES, exchange)(self.pipeline, exchange)
            return
        endpoint = _endpoint(dialect.routes, exchange)
        caller = self.pipeline.authenticate(exchange.api_key(), exchange.address)
        await endpoint(self.pipeline, caller, exchange)


def _dialect_of(exchange: Exchange) -> Dialect:
    path = _path(exchange)
    if path.startswith("/v1/messages") or path == "/v1/complete":
        return _ANTHROPIC
    if path.startswith("/v1/models") and exchange.header(b"anthropic-version") is not None:
        return _ANTHROPIC
    return _OPENAI


def _endpoint(routes: Mapping[tuple[str, str], _Endpoint], exchange: Exchange) -> _Endpoint:
    path = _known_path(routes, exchange)
    method = "GET" if exchange.method == "HEAD" else exchange.method
    if (method, path) in routes:
        return routes[method, path]
    allowed = ", ".join(sorted(other for other, known in routes if known == path))
    if allowed:
        raise WrongMethod(f"{path} answers {allowed}, not {exchange.method[:20]}.", allowed)
    raise NotFound(f"There is nothing at {exchange.path[:200]}. The API's paths begin with /v1/.")


def _known_path(routes: Mapping[tuple[str, str], object], exchange: Exchange) -> str:
    """The request's path as the routes have it, if they do. What it names is noted in the exchange."""
    path, paths = _path(exchange), {path for _, path in routes}
    if path not in paths:
        for known in paths:
            if "{" in known and (named := _pattern(known).fullmatch(path)):
                names = {"model": "", "stored_id": ""} | named.groupdict()
                exchange.model, exchange.stored_id = unquote(names["model"]), unquote(names["stored_id"])
                return known
    return path


@cache
def _pattern(path: str) -> re.Pattern[str]:
    for parameter, expression in _PARAMETERS.items():
        path = path.replace(parameter, expression)
    return re.compile(path, re.DOTALL)


def _path(exchange: Exchange) -> str:
    """Doubled slashes come from base URLs that end in one, a doubled `/v1` from those that end in that."""
    path = re.sub("/{2,}", "/", exchange.path).replace("/v1/v1/", "/v1/", 1)
    return path if len(path) == 1 else path.removesuffix("/")


async def _refuse(dialect: Dialect, exchange: Exchange, error: LeadlineError) -> int:
    status, body = dialect.encode_error(error, str(exchange.request_id))
    if isinstance(error, RateLimited) and error.limits is not None:
        exchange.headers += dialect.encode_limits(error.limits, now_microseconds())
    if not exchange.started:
        await exchange.pass_over_body()
        await exchange.respond(status, body, _headers(error), b"application/json")
    return status


def _headers(error: LeadlineError) -> Headers:
    headers: Headers = []
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    if isinstance(error, WrongMethod):
        headers.append((b"allow", error.allowed.encode()))
    return headers
