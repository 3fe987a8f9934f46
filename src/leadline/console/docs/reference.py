"""The API reference, made of the API's own description: a page for each kind of thing, without a script."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leadline.console.docs.calls import calls, of_this_server
from leadline.console.docs.markdown import Code, Section, Written, code_html, prose
from leadline.console.docs.reader import marked
from leadline.console.docs.schemas import Schemas
from leadline.console.render import render

Json = dict[str, Any]
_TOP = "/docs/api"


@dataclass(frozen=True, slots=True)
class Kind:
    """A page of the reference: the endpoints whose paths begin so."""

    name: str
    title: str
    says: str
    prefixes: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"{_TOP}/{self.name}"


KINDS = (
    Kind("chat", "Chat completions", "Answer a conversation, as OpenAI and xAI have it.", ("/v1/chat/",)),
    Kind("responses", "Responses", "Answer a conversation, and keep it, as OpenAI has it.", ("/v1/responses",)),
    Kind("messages", "Messages", "Answer a conversation, as Anthropic has it.", ("/v1/messages", "/v1/complete ")),
    Kind("completions", "Text completions", "Go on with a text as it stands.", ("/v1/completions",)),
    Kind("embeddings", "Embeddings", "Make vectors of texts.", ("/v1/embeddings",)),
    Kind("tokens", "Tokens", "Cut a text into the tokens of a model.", ("/v1/tokenize-text",)),
    Kind("batches", "Batches", "Hand in many requests, and fetch the results later.", ("/v1/batches",)),
    Kind("files", "Files", "Keep files to use in requests and batches.", ("/v1/files",)),
    Kind(
        "models",
        "Models",
        "What this server offers, with prices.",
        ("/v1/models", "/v1/language-models", "/v1/embedding-models", "/v1/image-generation-models"),
    ),
    Kind("keys", "Keys", "What the key that asks may do.", ("/v1/api-key", "/v1/me ")),
)


def kind_of(path: str) -> Kind:
    """StopIteration: the endpoint has no page."""
    return next(kind for kind in KINDS if f"{path} ".startswith(kind.prefixes))


@dataclass(frozen=True, slots=True)
class _Told:
    """An operation as the template shows it; all of it HTML or plain text with marks."""

    method: str
    path: str
    anchor: str
    summary: str
    description: str
    parameters: list[Mapping[str, str]]
    body: Mapping[str, Any] | None
    code: str
    answers: list[Mapping[str, str]]
    refusals: list[tuple[str, str, str]]

    @property
    def searched(self) -> str:
        named = [parameter["name"] for parameter in self.parameters]
        named += [row["name"] for row in self.body["rows"]] if self.body is not None else []
        return f"{self.method} {self.path} {self.description} {', '.join(named)}".replace("`", "")


class Reference:
    """Its pages by path. Each is made when it is first asked for."""

    def __init__(self, openapi: bytes) -> None:
        self._document: Json = json.loads(openapi)
        self._schemas = Schemas(self._document["components"]["schemas"])
        self._pages: dict[str, Written] = {}
        self.paths = [kind.path for kind in KINDS]

    def page(self, path: str) -> Written | None:
        """None: there is no such page."""
        if path not in (*self.paths, _TOP):
            return None
        if path not in self._pages:
            kind = next((kind for kind in KINDS if kind.path == path), None)
            self._pages[path] = self._overview() if kind is None else self._of(kind)
        return self._pages[path]

    def _overview(self) -> Written:
        listed = [
            (kind, [(method, path, told["summary"]) for method, path, told in self._of_kind(kind)]) for kind in KINDS
        ]
        html = render("docs_reference_overview.html", kinds=listed, anchor=_anchor)
        sections = [Section(2, kind.name, kind.title, kind.says) for kind in KINDS]
        return Written("API reference", marked(html), (Section(1, "", "", "Every endpoint of the API."), *sections))

    def _of_kind(self, kind: Kind) -> list[tuple[str, str, Json]]:
        return [
            (method.upper(), path, told)
            for path, methods in self._document["paths"].items()
            for method, told in methods.items()
            if kind_of(path) is kind
        ]

    def _of(self, kind: Kind) -> Written:
        operations = self._of_kind(kind)
        used: dict[str, None] = {}
        told = [self._told(number, *operation, used) for number, operation in enumerate(operations)]
        types = self._schemas.closure(used)
        html = render("docs_reference.html", kind=kind, operations=told, types=types, prose=prose)
        sections = [Section(1, "", "", kind.says)]
        sections += [Section(2, one.anchor, one.summary, one.searched) for one in told]
        sections += [Section(2, "types", "Types", "")] if types else []
        return Written(kind.title, marked(html), tuple(sections))

    def _told(self, number: int, method: str, path: str, told: Json, used: dict[str, None]) -> _Told:
        request = told.get("requestBody", {}).get("content", {})
        schema = next((content["schema"] for content in request.values()), None)
        answers = {status: answer for status, answer in told["responses"].items() if status.startswith("2")}
        tags: Sequence[str] = told["tags"]
        codes = calls(method, path, _example(request), answers=bool(answers), anthropic=tags == ["anthropic"])
        return _Told(
            method,
            path,
            _anchor(method, path),
            told["summary"],
            told.get("description", ""),
            [self._parameter(parameter, used) for parameter in told.get("parameters", ())],
            self._schemas.fields(schema, used) if schema is not None else None,
            code_html([replace(code, text=marked(code.text)) for code in codes], f"call-{number}"),
            [self._answer(f"answer-{number}", status, answer, used) for status, answer in answers.items()],
            [_refusal(status, answer) for status, answer in told["responses"].items() if status not in answers],
        )

    def _parameter(self, parameter: Json, used: dict[str, None]) -> Mapping[str, str]:
        return {
            "name": parameter["name"],
            "where": {"path": "in the path", "query": "in the URL", "header": "header"}[parameter["in"]],
            "type": self._schemas.type_html(parameter["schema"], used),
            "description": parameter.get("description", ""),
        }

    def _answer(self, name: str, status: str, answer: Json, used: dict[str, None]) -> Mapping[str, str]:
        content = answer.get("content", {})
        whole = content.get("application/json", {})
        example = _example(content)
        text = json.dumps(example, indent=2, ensure_ascii=False) if example is not None else ""
        return {
            "status": status,
            "description": "" if whole else answer["description"],
            "type": self._schemas.type_html(whole["schema"], used) if whole else "",
            "stream": content.get("text/event-stream", {}).get("schema", {}).get("description", ""),
            "example": code_html([Code("json", marked(of_this_server(text)), "Example answer")], name) if text else "",
        }


def _anchor(method: str, path: str) -> str:
    words = path.removeprefix("/v1/").replace("{", "").replace("}", "").replace(":", "-").replace("/", "-")
    return f"{method.lower()}-{words}"


def _example(content: Json) -> Any:
    """The first example of a JSON body. None where there is none."""
    for told in content.get("application/json", {}).get("examples", {}).values():
        return told["value"]
    return None


def _refusal(status: str, answer: Json) -> tuple[str, str, str]:
    """Status, type and when it comes."""
    examples = answer["content"]["application/json"]["examples"].values()
    types = dict.fromkeys(str(example["value"]["error"]["type"]) for example in examples)
    return status, ", ".join(types), answer["description"]
