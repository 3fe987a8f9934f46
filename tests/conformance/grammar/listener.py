"""Listens to all that an application answers, so that every stream, whole answer and refusal of every test is held
against its grammar."""

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


@dataclass
class Heard:
    """One exchange. `cut`: the answer did not come to its end, since the client hung up."""

    method: str
    path: str
    query: bytes
    named_anthropic: bool
    asked: list[bytes] = field(default_factory=list)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)
    cut: bool = True


@dataclass
class Listener:
    """Wrap the application with `wrap`; `check` says what was wrong with what it answered since the last check."""

    _heard: list[Heard] = field(default_factory=list)

    def wrap(self, app: App) -> App:
        async def listened(scope: Message, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            path = re.sub("/{2,}", "/", scope["path"]).removesuffix("/")
            anthropic = any(name == b"anthropic-version" and value.strip() for name, value in scope["headers"])
            heard = Heard(scope["method"], path.replace("/v1/v1/", "/v1/"), scope["query_string"], anthropic)

            async def listening_receive() -> Message:
                message: Message = await receive()
                if message["type"] == "http.request" and not heard.status:
                    heard.asked.append(message.get("body", b""))
                return message

            async def listening_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    heard.status = message["status"]
                    heard.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
                    self._heard.append(heard)
                else:
                    heard.body.append(message.get("body", b""))
                    heard.cut = message.get("more_body", False)
                await send(message)

            # What knows whether a connection is lost is found behind `send`.
            owner = getattr(send, "__self__", None)
            if owner is None:
                await app(scope, listening_receive, listening_send)
            else:
                await app(scope, listening_receive, _Sender(owner, listening_send).send)

        return listened

    def check(self) -> None:
        heard, self._heard = self._heard, []
        for exchange in heard:
            try:
                _check(exchange)
            except Exception as error:
                told = b"".join(exchange.body)[-2000:]
                raise AssertionError(
                    f"{exchange.method} {exchange.path} answered wrongly: {error!r}: {told!r}"
                ) from error


class _Sender:
    """Stands for uvicorn's state of a request, which knows whether its connection is lost."""

    def __init__(self, owner: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        self._owner, self._send = owner, send

    @property
    def disconnected(self) -> bool:
        return bool(self._owner.disconnected)

    async def send(self, message: Message) -> None:
        await self._send(message)


def _check(heard: Heard) -> None:
    if not heard.path.startswith("/v1/"):
        return
    # They build large validators, and many tests need none.
    from tests.conformance.grammar import answers, chat, completions, described, messages, responses

    body, anthropic = b"".join(heard.body), _is_anthropic(heard)
    assert heard.headers["request-id"] == heard.headers["x-request-id"]
    described.check(
        *(heard.method, heard.path, heard.status, heard.headers["content-type"]), b"" if heard.cut else body
    )
    if heard.status >= 400:
        if heard.method != "HEAD" and not heard.cut:
            answers.check_refusal(heard.status, heard.headers, body, anthropic=anthropic)
        return
    streams = heard.headers["content-type"].startswith("text/event-stream")
    if not streams and (heard.method != "POST" or heard.cut):
        return
    match heard.path:
        case "/v1/chat/completions" if streams:
            asked = json.loads(b"".join(heard.asked))
            includes_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
            chat.check(body, asked.get("n") or 1, includes_usage=includes_usage, cut=heard.cut)
        case "/v1/completions" | "/v1/complete" as path:
            completions.check_answer(path, b"".join(heard.asked), body, streams=streams, cut=heard.cut)
        case "/v1/messages" if streams:
            messages.check(body, cut=heard.cut)
        case "/v1/chat/completions" if b'"request_id"' not in body[:15]:  # else it is deferred
            answers.check_completion(body)
        case "/v1/embeddings":
            answers.check_embeddings(body)
        case "/v1/messages":
            answers.check_message(body)
        case "/v1/responses" if streams:
            responses.check(body, cut=heard.cut)
        case "/v1/responses":
            responses.check_response(json.loads(body))


def _is_anthropic(heard: Heard) -> bool:
    if heard.path.startswith("/v1/messages") or heard.path == "/v1/complete":
        return True
    return heard.path.startswith("/v1/models") and heard.named_anthropic
