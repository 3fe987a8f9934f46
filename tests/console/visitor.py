"""A person's browser without scripts: it keeps cookies, sends forms as browsers do, and follows nothing by itself."""

import html
import re
import secrets
from typing import Any

import httpx2

from tests.scripted.server import ScriptedServer

PASSWORD = "four words that match"
_TAG = re.compile(r"<[^>]*>")


class Visitor:
    """`sign_in` is as the person who has the e-mail."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.http = httpx2.Client(base_url=server.base_url, timeout=30, headers={"sec-fetch-site": "same-origin"})

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.http.get(path, headers=headers)

    def post(self, path: str, fields: dict[str, Any] | None = None, **more: Any) -> httpx2.Response:
        return self.http.post(path, data={**(fields or {}), **more})

    def sign_in(self, email: str, password: str = PASSWORD) -> "Visitor":
        answer = self.post("/login", email=email, password=password)
        assert answer.status_code == 303, text_of(answer)
        return self

    def close(self) -> None:
        self.http.close()


def text_of(answer: httpx2.Response) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", html.unescape(_TAG.sub(" ", answer.text))).strip()


def set_up_link(server: ScriptedServer) -> str:
    return f"/setup?token={server.run(server.instance.links.make('setup'))}"


def new_name() -> str:
    return f"somebody{secrets.token_hex(4)}@example.org"
