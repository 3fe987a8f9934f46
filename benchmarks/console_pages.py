"""Pages of the console as a browser asks for them: through the application, with a session, down to the last byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.users import NewUser
from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog
from leadline.console.app import Console
from leadline.operations.app import build_pipeline

_EMAIL = "owner@bench.example"
Get = Callable[[str], Awaitable[int]]


@asynccontextmanager
async def browsing(data: Path, organisation_id: str) -> AsyncIterator[Get]:
    """Gives how to get a page as an owner of the organisation and admin of the instance; its size comes back."""
    instance = await Instance.open(data)
    pipeline = build_pipeline(instance, Catalog([]))
    if await instance.users.find(_EMAIL) is None:
        owner = await NewUser.of(instance.passwords, _EMAIL, "four words that match", "Owner")
        await instance.organisations.join(owner, organisation_id, "owner", COMMAND_LINE)
        await instance.users.set_admin(await instance.users.named(_EMAIL), COMMAND_LINE, is_admin=True)
    user = await instance.users.named(_EMAIL)
    token = await instance.sessions.open(user.id, "", "")
    console = Console(instance, pipeline)

    async def get(path: str) -> int:
        return await _size(console, path, f"leadline_session={token}")

    try:
        yield get
    finally:
        await pipeline.pictures.close()
        await instance.close()


async def _size(console: Console, path: str, cookie: str) -> int:
    name, _, query = path.partition("?")
    scope = {
        **{"type": "http", "method": "GET", "path": name, "query_string": query.encode(), "root_path": ""},
        **{"scheme": "http", "server": ("localhost", 8080), "client": ("127.0.0.1", 1), "http_version": "1.1"},
        "headers": [(b"host", b"localhost:8080"), (b"cookie", cookie.encode())],
    }
    status, size = 0, 0

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()  # nobody hangs up
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, size
        status, size = message.get("status", status), size + len(message.get("body", b""))

    await console(scope, receive, send)
    assert status == 200, f"{path} answered {status}"
    return size
