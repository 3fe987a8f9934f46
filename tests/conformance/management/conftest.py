"""A server with a priced model, and clients of its management API: one whose key may do everything, and others."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conformance.grammar.answers import check_refusal
from tests.raw import post
from tests.scripted.server import ScriptedServer

DEADLINE_SECONDS = 30
# USD per million tokens; a tick per token is a cent for 100 million.
CONFIGURATION = """
[[models]]
name = "grok-beta"
engine = "scripted"
upstream_model = "echo"
capabilities = ["chat", "tools"]
prices = { input = 2.00, cached_input = 0.50, output = 10.00 }
"""
INPUT, CACHED, OUTPUT = 20_000, 5_000, 100_000


@dataclass
class Management:
    """What a script with a management key sees."""

    server: ScriptedServer
    key: str
    team: str = "default"

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer's JSON, whose status must be 200."""
        answer = self.answer(method, path, body, **query)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    def answer(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        return requests.request(
            method,
            f"{self.server.base_url}/management{path.replace('{team}', self.team)}",
            headers={"Authorization": f"Bearer {self.key}"},
            json=body,
            params=query,
            timeout=DEADLINE_SECONDS,
        )

    def refused(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, str, str | None]:
        """Status, message and field of a refusal, which has the inference API's form."""
        answer = self.answer(method, path, body, **query)
        check_refusal(answer.status_code, dict(answer.headers), answer.content, anthropic=False)
        error = answer.json()["error"]
        return answer.status_code, error["message"], error["param"]

    def create(self, **fields: Any) -> Any:
        acls = ["api-key:endpoint:*", "api-key:model:*"]
        return self.ask("POST", "/auth/teams/{team}/api-keys", {"name": "app", "acls": acls} | fields)


@pytest.fixture
def management(tmp_path: Path) -> Iterator[Management]:
    """On a server of its own."""
    with served(tmp_path / "data") as server:
        yield Management(server, new_key(server))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Management]:
    """On a server that others use too."""
    with served(tmp_path_factory.mktemp("shared") / "data") as server:
        yield Management(server, new_key(server))


@contextmanager
def served(data: Path, more: str = "") -> Iterator[ScriptedServer]:
    """Alice's server, with ten dollars of credits and a model whose prices are in the price book."""
    data.mkdir()
    (data / "leadline.toml").write_text(CONFIGURATION + more)
    server = ScriptedServer(data, usd="10")
    yield server
    server.stop()


def new_key(server: ScriptedServer, **options: Any) -> str:
    made = server.command("management-keys create", name="script", email=None, **options)
    return str(made["management_key"])


def chat(server: ScriptedServer, key: str, text: str = "one two", **fields: Any) -> Any:
    """What a chat with this API key is answered."""
    body = {"model": "grok-beta", "messages": [{"role": "user", "content": text}], "max_tokens": 50} | fields
    return post(server.port, "/v1/chat/completions", key, json.dumps(body).encode())
