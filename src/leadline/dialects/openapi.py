"""The API's own description, OpenAPI 3.1: made of the types that decode requests, of those that answers are told to
have, of the tables in docs/parameters.md, and of the dialects' own words for errors."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from leadline import __version__
from leadline.dialects.operation import Json, Operation, Operations
from leadline.errors import LeadlineError

_REFERENCE = "#/components/schemas/"
_EXAMPLE_ID = "588c646e-3ff8-45ef-a436-5927c085f6f1"
_SECURITY: list[Json] = [{"bearer": []}, {"x-api-key": []}]
_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_HEADERS: Json = {
    "x-request-id": {"description": "The request's id, also in the ledger.", "schema": {"type": "string"}},
    "request-id": {"description": "The same.", "schema": {"type": "string"}},
    "retry-after": {"description": "Seconds until it makes sense to try again.", "schema": {"type": "integer"}},
    "x-should-retry": {"description": "`false`: it never will.", "schema": {"type": "string"}},
}
_PARAMETERS: dict[str, Json] = {
    "model": {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "idempotency-key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same request with the same key is run and charged once; kept for 24 hours.",
        "schema": {"type": "string"},
    },
    "anthropic-version": {
        "name": "anthropic-version",
        "in": "header",
        "description": "Where it is there, the answer has Anthropic's form.",
        "schema": {"type": "string"},
    },
}
_DESCRIPTION = "OpenAI's chat completions and Responses, Anthropic's Messages, and xAI's REST API, with exact prices."


@dataclass(frozen=True, slots=True)
class Part:
    """One dialect's share. `error` is the type of its refusals."""

    name: str
    operations: Operations
    error: Any
    encode_error: Callable[[LeadlineError, str], tuple[int, bytes]]


def document(parts: Sequence[Part]) -> bytes:
    """The whole document, as JSON."""
    types = {type_: None for part in parts for type_ in (part.error, *_types(part))}
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE + "{name}")
    references = dict(zip(types, schemas, strict=True))
    paths: Json = {}
    for part in parts:
        for (method, path), operation in part.operations.items():
            told = _operation(part, path, operation, references)
            there = paths.setdefault(path, {})
            other = there.get(method.lower())
            there[method.lower()] = told if other is None else _merged(other, told)
            if operation.fields:
                _describe(components[_name_of(references[operation.body])], parameters(operation.fields))
    told = {
        "openapi": "3.1.0",
        "info": {"title": "Leadline", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": _SECURITY,
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES, "headers": _HEADERS},
    }
    return _shortened(json.dumps(told, ensure_ascii=False, separators=(",", ":"))).encode()


@cache
def parameters(path: str) -> dict[str, str]:
    """What becomes of each field of a request to `path`, as docs/parameters.md says it."""
    text = (files("leadline") / "dialects" / "parameters.md").read_text("utf-8")
    section = text.partition(f"## `POST {path}`\n")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for names, kind, note in re.findall(r"^\| (`[^|]*`) \| (\w+) \| ([^|]*)\|$", section, re.MULTILINE):
        said = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", note).strip()
        for name in re.findall(r"`(\w+)`", names):
            found[name] = f"{kind.capitalize()}: {said}" if said else f"{kind.capitalize()}."
    return found


def _types(part: Part) -> Iterable[Any]:
    return (type_ for operation in part.operations.values() for type_ in operation.types)


def _operation(part: Part, path: str, operation: Operation, references: dict[Any, Json]) -> Json:
    told: Json = {"summary": operation.summary, "tags": [part.name], "security": _SECURITY}
    if operation.description:
        told["description"] = operation.description
    named = [_PARAMETERS[name] for name in re.findall(r"{(\w+)}", path)]
    asked = [
        {"name": query.name, "in": "query", "description": query.description, "schema": msgspec.json.schema(query.type)}
        for query in operation.query
    ]
    once = [_PARAMETERS["idempotency-key"]] if operation.may_run_once else []
    if everything := [*named, *asked, *once]:
        told["parameters"] = everything
    if operation.body is not None:
        body: Json = {"schema": references[operation.body]}
        if operation.request is not None:
            body["examples"] = {part.name: {"value": operation.request}}
        media = "multipart/form-data" if operation.form else "application/json"
        told["requestBody"] = {"required": True, "content": {media: body}}
    told["responses"] = _answers(part, operation, references) | _refusals(part, operation, references)
    return told


def _answers(part: Part, operation: Operation, references: dict[Any, Json]) -> Json:
    told: Json = {}
    if operation.answer is not None:
        schemas = [references[type_] for type_ in operation.types if type_ is not operation.body]
        example = {part.name: {"value": msgspec.to_builtins(operation.example)}}
        content: Json = {"application/json": {"schema": _any_of(schemas), "examples": example}}
        if operation.stream:
            content["text/event-stream"] = {"schema": {"type": "string", "description": operation.stream}}
        told["200"] = {"description": "The answer.", "headers": _headers(), "content": content}
    if operation.held:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        told["200"] = {"description": operation.held, "headers": _headers(), "content": content}
    if operation.accepted:
        told["202"] = {"description": operation.accepted, "headers": _headers()}
    return told


def _refusals(part: Part, operation: Operation, references: dict[Any, Json]) -> Json:
    """By status: when it comes, and an example of each."""
    told: Json = {}
    for refusal in operation.refusals:
        status, body = part.encode_error(refusal, _EXAMPLE_ID)
        answer = told.setdefault(
            str(status),
            {
                "description": "",
                "headers": _headers("x-should-retry", "retry-after"),
                "content": {"application/json": {"schema": references[part.error], "examples": {}}},
            },
        )
        why = " ".join((type(refusal).__doc__ or "").split())
        if why not in answer["description"]:
            answer["description"] = f"{answer['description']} {why}".strip()
            name = f"{part.name} {refusal.fact}"
            answer["content"]["application/json"]["examples"][name] = {"value": msgspec.json.decode(body)}
    return dict(sorted(told.items()))


def _headers(*more: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", "request-id", *more)}


def _merged(one: Json, other: Json) -> Json:
    """One operation that answers in two forms, as a header says."""
    for status, answer in other["responses"].items():
        there = one["responses"].setdefault(status, answer)
        if there is not answer:
            content, more = (both["content"]["application/json"] for both in (there, answer))
            content["schema"] = _any_of([content["schema"], more["schema"]])
            content["examples"] |= more["examples"]
    known = one.setdefault("parameters", [])
    known += [parameter for parameter in other.get("parameters", ()) if parameter not in known]
    known[:] = list({parameter["name"]: parameter for parameter in reversed(known)}.values())[::-1]
    known.append(_PARAMETERS["anthropic-version"])
    return one | {"tags": [*one["tags"], *other["tags"]]}


def _any_of(schemas: list[Json]) -> Json:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _name_of(reference: Json) -> str:
    return str(reference["$ref"]).removeprefix(_REFERENCE)


def _describe(schema: Json, fields: dict[str, str]) -> None:
    """Also fields that are not decoded: they are known to have no effect. A type that has fewer fields than the table
    keeps to its own."""
    properties = schema["properties"]
    for name, note in fields.items():
        if name in properties or note.startswith("Harmless"):
            properties.setdefault(name, {})["description"] = note


def _shortened(text: str) -> str:
    """Types of one name are told apart by their modules, of which the document shows what differs."""
    return re.sub(r"leadline\.dialects\.(\w+)\.(?:decode\.)?", r"\1.", text)
