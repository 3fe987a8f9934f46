"""The API: finds the dialect and the endpoint of a request, and turns whatever fails into that dialect's error."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar
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


@dataclass(frozen=True, slots=True)
class Table(Generic[_Endpoint]):
    """Endpoints by path and method. In a path `{model}` and `{id}` stand for what it can name."""

    by_path: Mapping[str, Mapping[str, _Endpoint]]
    named: Sequence[tuple[re.Pattern[str], str]]

    @classmethod
    def of(cls, routes: Mapping[tuple[str, str], _Endpoint]) -> "Table[_Endpoint]":
        by_path: dict[str, dict[str, _Endpoint]] = {}
        for (method, path), endpoint in routes.items():
            by_path.setdefault(path, {})[method] = endpoint
        return cls(by_path, [(_pattern(path), path) for path in by_path if "{" in path])


@dataclass(frozen=True, slots=True)
class Dialect:
    table: Table[Endpoint]
    encode_error: EncodeError
    encode_limits: EncodeLimits


def _pattern(path: str) -> re.Pattern[str]:
    for parameter, expression in _PARAMETERS.items():
        path = path.replace(parameter, expression)
    return re.compile(path, re.DOTALL)


_OPENAI = Dialect(Table.of({**openai.ROUTES, **responses.routes(openai_limits)}), openai_error, openai_limits)
_ANTHROPIC = Dialect(Table.of(anthropic.ROUTES), anthropic_error, anthropic_limits)
# They take no caller: the key that they tell of may not be one that may call.
_OF_KEYS = Table.of(KEY_ROUTES)


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
        path = _path(exchange.path)
        dialect = _dialect_of(path, exchange)
        try:
            await self._answer(dialect, path, exchange)
            status = exchange.status
        except ClientGone:
            status = 499
        except Exception as error:
            status = await _refuse(dialect, exchange, exchange.told(error))
        log_request("request", exchange.method, exchange.path, status, began, request_id=str(exchange.request_id))

    async def _answer(self, dialect: Dialect, path: str, exchange: Exchange) -> None:
        if path in _OF_KEYS.by_path:
            await _endpoint(_OF_KEYS, path, exchange)(self.pipeline, exchange)
            return
        endpoint = _endpoint(dialect.table, path, exchange)
        caller = self.pipeline.authenticate(exchange.api_key(), exchange.address)
        await endpoint(self.pipeline, caller, exchange)


def _dialect_of(path: str, exchange: Exchange) -> Dialect:
    if path.startswith("/v1/messages") or path == "/v1/complete":
        return _ANTHROPIC
    if path.startswith("/v1/models") and exchange.header(b"anthropic-version") is not None:
        return _ANTHROPIC
    return _OPENAI


def _endpoint(table: Table[_Endpoint], path: str, exchange: Exchange) -> _Endpoint:
    """What answers; what the path names is noted in the exchange."""
    known = path if path in table.by_path else _known_path(table, path, exchange)
    methods = table.by_path.get(known, {})
    method = "GET" if exchange.method == "HEAD" else exchange.method
    if method in methods:
        return methods[method]
    if methods:
        allowed = ", ".join(sorted(methods))
        raise WrongMethod(f"{known} answers {allowed}, not {exchange.method[:20]}.", allowed)
    raise NotFound(f"There is nothing at {exchange.path[:200]}. The API's paths begin with /v1/.")


def _known_path(table: Table[_Endpoint], path: str, exchange: Exchange) -> str:
    """The path as the table has it, if it does."""
    for pattern, known in table.named:
        if named := pattern.fullmatch(path):
            names = {"model": "", "stored_id": ""} | named.groupdict()
            exchange.model, exchange.stored_id = unquote(names["model"]), unquote(names["stored_id"])
            return known
    return path


def _path(path: str) -> str:
    """Doubled slashes come from base URLs that end in one, a doubled `/v1` from those that end in that."""
    if "//" in path:
        path = re.sub("/{2,}", "/", path)
    if path.startswith("/v1/v1/"):
        path = path.replace("/v1/v1/", "/v1/", 1)
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
