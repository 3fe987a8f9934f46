"""`/metrics` for Prometheus: for whoever has the token, or on a port of its own. Without both there is none."""

import hmac
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from leadline.administration.exposition import CONTENT_TYPE
from leadline.administration.instance import Instance
from leadline.administration.metrics import metrics_text

PATH = "/metrics"


class Metrics:
    """An ASGI application for PATH. Where a token is set, it is needed on every port."""

    def __init__(self, instance: Instance) -> None:
        self._instance, self._token = instance, instance.config.metrics.token

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "without lifespan and websockets there is nothing else"
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.url.path != PATH:
            return PlainTextResponse(f"There is only {PATH} here.\n", 404)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Read it with GET.\n", 405, {"allow": "GET, HEAD"})
        if not self._may_read(request.headers.get("authorization", "")):
            why = "Send the token of [metrics] as Authorization: Bearer TOKEN.\n"
            return PlainTextResponse(why, 401, {"www-authenticate": "Bearer"})
        return Response(await metrics_text(self._instance), media_type=CONTENT_TYPE)

    def _may_read(self, authorization: str) -> bool:
        if self._token is None:
            return True
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token.encode())
