"""Listens to the streams of a scripted server, so that every one of a test is held against its grammar."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


@dataclass
class Listener:
    """`streams` are the bodies of those below `path` that came to their end; wrap the application with `wrap`."""

    path: str
    streams: list[bytes] = field(default_factory=list)

    def wrap(self, app: App) -> App:
        async def listened(scope: Message, receive: Any, send: Any) -> None:
            heard: list[bytes] | None = None

            async def listening_send(message: Message) -> None:
                nonlocal heard
                await send(message)
                if message["type"] == "http.response.start":
                    streams = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
                    resumed = b"starting_after" in scope["query_string"]
                    heard = [] if streams and not resumed and scope["path"].startswith(self.path) else None
                elif heard is not None:
                    heard.append(message.get("body", b""))
                    if not message.get("more_body", False):
                        self.streams.append(b"".join(heard))

            await app(scope, receive, listening_send)

        return listened
