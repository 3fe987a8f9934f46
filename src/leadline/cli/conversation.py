"""A conversation with a model over the HTTP API, as any client has it: asked once more with all that was said."""

import base64
import http.client
import json
import mimetypes
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from leadline.errors import LeadlineError

_SILENCE_SECONDS = 600
_MOST_IMAGE_BYTES = 20 * 1024 * 1024


class ChatFailed(LeadlineError):
    """The server did not answer; `exit_code` is what the command line ends with."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer as it comes."""

    kind: Literal["answer", "thought"]
    text: str


@dataclass(slots=True)
class Answer:
    """What came so far. `usage` comes with the end; None: it was cut short."""

    model: str = ""
    request_id: str = ""
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None

    @property
    def cost_ticks(self) -> int | None:
        return None if self.usage is None else self.usage.get("cost_in_usd_ticks")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API is, and the key for it."""

    url: str
    api_key: str = field(repr=False)

    def default_model(self) -> str:
        """The first model that chats."""
        with self.asked("GET", "/v1/language-models", None) as response:
            models = json.loads(response.read())["models"]
        if not models:
            raise ChatFailed("This key may use no model that chats. Name one of: leadline models list")
        return str(models[0]["id"])

    @contextmanager
    def asked(self, method: str, path: str, body: dict[str, Any] | None) -> Iterator[http.client.HTTPResponse]:
        """A response that is no refusal. The connection ends with the block, and with it what the server does."""
        connection, prefix = self._connection()
        headers = {"authorization": f"Bearer {self.api_key}", "content-type": "application/json"}
        text = None if body is None else json.dumps(body)
        try:
            connection.request(method, f"{prefix}{path}", text, headers)
            with connection.getresponse() as response:
                if response.status != http.client.OK:
                    raise _refusal(response.status, response.read())
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise ChatFailed(f"{self.url} does not answer: {error or type(error).__name__}.", 3) from None
        except (ValueError, KeyError, TypeError):
            raise ChatFailed(f"What answers at {self.url} is no Leadline.") from None
        finally:
            connection.close()

    def _connection(self) -> tuple[http.client.HTTPConnection, str]:
        """One that is not open yet, and what stands before each path."""
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ChatFailed("What is given as the API key is none: it has other characters.", 2)
        try:
            at = urlsplit(self.url)
            host, port = at.hostname, at.port
        except ValueError:
            host, port = None, None
        if not host or at.scheme not in ("http", "https"):
            raise ChatFailed(f"{self.url!r} is no address such as http://localhost:8080.", 2)
        kind = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=_SILENCE_SECONDS), at.path.rstrip("/")


@dataclass(slots=True)
class Conversation:
    """What was said with one model. An answer that was cut short belongs to it as far as it came."""

    server: Server
    model: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    answer: Answer = field(default_factory=Answer)

    def ask(self, question: str, images: tuple[Path, ...] = ()) -> Generator[Piece, None, None]:
        """The pieces of the answer; closing it hangs up. A question that was refused is not kept."""
        self.answer = answer = Answer(self.model)
        self.messages.append({"role": "user", "content": _content(question, images)})
        body = {
            "model": self.model,
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            with self.server.asked("POST", "/v1/chat/completions", body) as response:
                answer.request_id = response.getheader("x-request-id") or ""
                for chunk in _chunks(response):
                    yield from _pieces(chunk, answer)
        finally:
            if answer.text:
                self.messages.append({"role": "assistant", "content": answer.text})
            else:
                self.messages.pop()


def _content(question: str, images: tuple[Path, ...]) -> Any:
    if not images:
        return question
    return [
        *({"type": "image_url", "image_url": {"url": _url_of(image)}} for image in images),
        {"type": "text", "text": question},
    ]


def _url_of(image: Path) -> str:
    try:
        content = image.read_bytes()
    except OSError as error:
        raise ChatFailed(f"{image} cannot be read: {error.strerror}.", 2) from None
    if len(content) > _MOST_IMAGE_BYTES:
        raise ChatFailed(f"{image} is larger than 20 MiB. Make it smaller.", 2)
    kind = mimetypes.guess_type(image.name)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _chunks(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream to its end; ChatFailed where it breaks before."""
    for line in response:
        if not line.startswith(b"data:"):
            continue
        told = line.removeprefix(b"data:").strip()
        if told == b"[DONE]":
            return
        chunk: dict[str, Any] = json.loads(told)
        if "error" in chunk:
            raise ChatFailed(str(chunk["error"]["message"]))
        yield chunk
    raise ChatFailed("The server ended before its answer did. Its log says why: leadline logs")


def _pieces(chunk: dict[str, Any], answer: Answer) -> Iterator[Piece]:
    answer.model = chunk.get("model") or answer.model
    answer.usage = chunk.get("usage") or answer.usage
    for choice in chunk["choices"]:
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        if thought := choice["delta"].get("reasoning_content"):
            yield Piece("thought", thought)
        if text := choice["delta"].get("content"):
            answer.text += text
            yield Piece("answer", text)


def _refusal(status: int, body: bytes) -> ChatFailed:
    """What the server says, with what to do about it here."""
    try:
        error = json.loads(body)["error"]
        message, kinds = str(error["message"]), (error.get("code"), error.get("type"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ChatFailed(f"The server answered {status}, and not as Leadline does.")
    match status:
        case 401:
            return ChatFailed(f"{message} Make a key: leadline keys create --name chat", 4)
        case 403:
            return ChatFailed(message, 4)
        case 404:
            return ChatFailed(f"{message} Those that are there: leadline models list")
        case 400 | 413:
            return ChatFailed(message, 2)
        case 429 if "insufficient_quota" in kinds:
            return ChatFailed(f"{message} For more: leadline credits grant EMAIL 5 --reason more", 4)
        case 429 | 503:
            return ChatFailed(message, 3)
        case _:
            return ChatFailed(message)
