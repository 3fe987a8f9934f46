"""Who reads the docs: the addresses and models of the reader's own instance, which stand in every page and example."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Protocol

# In the text they are `{{base_url}}` and so on. While a page is made they are words that no lexer takes apart.
_MARKS = {
    "base_url": "XXBASEURLXX",
    "grpc_address": "XXGRPCADDRESSXX",
    "grpc_plain": "XXGRPCPLAINXX",
    "model": "XXCHATMODELXX",
    "vision_model": "XXVISIONMODELXX",
    "embedding_model": "XXEMBEDDINGMODELXX",
    "chat_note": "XXCHATNOTEXX",
    "vision_note": "XXVISIONNOTEXX",
    "embedding_note": "XXEMBEDDINGNOTEXX",
}
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_MARK = re.compile("|".join(_MARKS.values()))
_NAMES = {mark: name for name, mark in _MARKS.items()}
# What can stand in a shell command or a program without being anything but itself.
_HOST = r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
_SAFE_URL = re.compile(rf"https?://{_HOST}(?::\d{{1,5}})?(?:/[A-Za-z0-9._~-]+)*")
_SAFE_ADDRESS = re.compile(rf"{_HOST}:\d{{1,5}}")
_SAFE_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")


class Offered(Protocol):
    """A model of the catalog."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Iterable[str]: ...


_BASE_URL, _GRPC_ADDRESS = "http://localhost:8080", "localhost:8081"


@dataclass(frozen=True, slots=True)
class Reader:
    """What fills the placeholders. A model that is '' is not there, and the page says so. `grpc_tls`: whether gRPC has
    a certificate, without which xAI's SDK has to be told so beyond its own machine."""

    base_url: str = _BASE_URL
    grpc_address: str = _GRPC_ADDRESS
    model: str = ""
    vision_model: str = ""
    embedding_model: str = ""
    grpc_tls: bool = False

    @classmethod
    def of(cls, base_url: str, grpc_address: str, models: Iterable[Offered], *, grpc_tls: bool = False) -> "Reader":
        """Of an instance. What a copied command could stumble over is left out, wherever it comes from."""
        first: dict[str, str] = {}
        for model in models:
            for capability in model.capabilities:
                if _SAFE_MODEL.fullmatch(model.name):
                    first.setdefault(capability, model.name)
        return cls(
            base_url if _SAFE_URL.fullmatch(base_url) else _BASE_URL,
            grpc_address if _SAFE_ADDRESS.fullmatch(grpc_address) else _GRPC_ADDRESS,
            first.get("chat", ""),
            first.get("vision", ""),
            first.get("embeddings", ""),
            grpc_tls,
        )

    def fill(self, made: str, *, quote: bool = True) -> str:
        """What was made of a marked text, with this reader's words in place of the marks; as HTML unless told so."""
        words = {
            "base_url": self.base_url,
            "grpc_address": self.grpc_address,
            "grpc_plain": "" if self._grpc_needs_no_word else ", use_insecure_channel=True",
            "model": self.model or "your-model",
            "vision_model": self.vision_model or "your-vision-model",
            "embedding_model": self.embedding_model or "your-embedding-model",
            "chat_note": _note(self.model, "chats", "your-model"),
            "vision_note": _note(self.vision_model, "sees", "your-vision-model"),
            "embedding_note": _note(self.embedding_model, "makes embeddings", "your-embedding-model"),
        }
        return _MARK.sub(lambda found: escape(words[_NAMES[found[0]]]) if quote else words[_NAMES[found[0]]], made)

    @property
    def _grpc_needs_no_word(self) -> bool:
        return self.grpc_tls or self.grpc_address.startswith("localhost:")


def marked(text: str) -> str:
    """The text with a mark for each placeholder. KeyError: there is no such placeholder."""
    return _PLACEHOLDER.sub(lambda found: _MARKS[found[1]], text)


def unmarked(text: str) -> str:
    """The text without marks, as a search reads it."""
    return _MARK.sub("", text)


def _note(model: str, does: str, example: str) -> str:
    if model:
        return f"The first model of this server that {does} is {model}."
    return f"This server has no model that {does} yet, so the examples say {example}. Ask its administrator for one."
