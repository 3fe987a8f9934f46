"""Answers, held against the API's own description: whatever is sent has a status and a form that it tells of."""

import json
import re
from functools import cache
from typing import Any

import jsonschema_rs

from leadline.dialects.api import openapi

Json = dict[str, Any]


@cache
def document() -> Json:
    told: Json = json.loads(openapi())
    return told


@cache
def operations() -> dict[tuple[str, str], Json]:
    """By method and path as the document has it."""
    return {
        (method.upper(), path): operation
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


def operation_of(method: str, path: str) -> tuple[str, Json] | None:
    """The path as the document has it, and the operation; where it has none, None. What has no parameters comes first,
    and a model's name may hold slashes."""
    for known in sorted(document()["paths"], key=lambda known: "{" in known):
        pattern = re.escape(known).replace(r"\{model\}", ".+").replace(r"\{id\}", "[^/:]+")
        if re.fullmatch(pattern, path, re.DOTALL):
            found = operations().get(("GET" if method == "HEAD" else method, known))
            return None if found is None else (known, found)
    return None


@cache
def validator(schema: str) -> Any:
    """Of a schema in the document, as JSON text."""
    whole = json.loads(schema) | {"components": document()["components"]}
    return jsonschema_rs.Draft202012Validator(whole)


def check_schema(schema: Json, value: Any) -> None:
    validator(json.dumps(schema)).validate(value)


def check(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """AssertionError or a validation error where the description does not tell of such an answer."""
    found = operation_of(method, path)
    if found is None:
        assert status in (404, 405), f"nothing is said of {method} {path}"
        return
    known, operation = found
    told = operation["responses"].get(str(status))
    assert told is not None, f"{method} {known} may not answer {status}"
    media = content_type.partition(";")[0]
    if method == "HEAD" or not body:
        return
    assert media in told["content"], f"{method} {known} may not answer {media}"
    if media == "application/json":
        check_schema(told["content"][media]["schema"], json.loads(body))
