"""The console, loaded beside the first requests: a server answers before the templates of its pages are compiled."""

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from leadline.administration.instance import Instance
from leadline.dialects.api import openapi
from leadline.serving.pipeline import Pipeline

if TYPE_CHECKING:
    from leadline.console.app import Console


class LateConsole:
    """An ASGI application that passes on to the console, or to `other` what is no page."""

    def __init__(self, instance: Instance, pipeline: Pipeline, other: Any) -> None:
        self._instance, self._pipeline, self._other = instance, pipeline, other
        self._console: Console | None = None

    async def load(self) -> "Console":
        """The console, which from now on is there."""
        if self._console is None:
            console = await asyncio.to_thread(_made, self._instance, self._pipeline)
            # Of those who asked at once the first one's stays.
            self._console = self._console or console
        return self._console

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        console = self._console or await self.load()
        answering = console if console.answers(scope["path"], scope["method"]) else self._other
        await answering(scope, receive, send)


async def prepare_console() -> None:
    """Load what takes long of it, before anybody asks."""
    await asyncio.to_thread(import_module, "leadline.console.app")


def _made(instance: Instance, pipeline: Pipeline) -> "Console":
    from leadline.console.app import PAGES, Console
    from leadline.console.docs.site import Docs
    from leadline.console.pages import docs

    return Console(instance, pipeline, (*PAGES, *docs.pages(Docs(openapi))))
