"""What the playground's script does, without a browser."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.console.visitor import Visitor


def conversation(*texts: str, model: str = "echo", **settings: Any) -> dict[str, Any]:
    """Turns by turns: the first is the user's."""
    turns = [{"role": ("user", "assistant")[number % 2], "text": text} for number, text in enumerate(texts)]
    return {"model": model, "turns": turns} | settings


def send(visitor: Visitor, path: str, body: Any, **headers: str) -> httpx2.Response:
    content = json.dumps(body).encode()
    return visitor.http.post(path, content=content, headers={"content-type": "application/json"} | headers)


def lines_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines() if line]


def ask(visitor: Visitor, *texts: str, **settings: Any) -> list[dict[str, Any]]:
    """The lines of a whole answer."""
    return lines_of(send(visitor, "/playground/chat", conversation(*texts, **settings)))


def refused(visitor: Visitor, body: Any) -> tuple[int, dict[str, Any]]:
    answer = send(visitor, "/playground/chat", body)
    return answer.status_code, answer.json()["refused"]


def said(lines: list[dict[str, Any]]) -> str:
    return "".join(line.get("text", "") for line in lines)


@contextmanager
def asking(visitor: Visitor, *texts: str, **settings: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """Its lines as they come. Leaving it hangs up."""
    content = json.dumps(conversation(*texts, **settings)).encode()
    headers = {"content-type": "application/json"}
    with visitor.http.stream("POST", "/playground/chat", content=content, headers=headers) as answer:
        yield (json.loads(line) for line in answer.iter_lines() if line)
