"""Request bodies: strict JSON into wire types, with errors that name the field.

Stricter than most parsers: duplicate keys, NaN, lone surrogates and deep nesting are refused (RFC 8259, sections 4, 6
and 8), since two parsers that disagree on a body are a hole.
"""

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from leadline.errors import InvalidRequest

DEEPEST = 64
# Objects and arrays in one body: parsing more of them would hold up everybody's streams.
MOST_NODES = 100_000
_Wire = TypeVar("_Wire")

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_EXPECTED = re.compile(r"Expected `(.+?)`, got `(.+?)`$")
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
    "any": "any value",
}


class _Duplicate(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def decode(raw: bytes, wire: type[_Wire]) -> _Wire:
    """The body as a `wire`, or InvalidRequest."""
    try:
        return msgspec.convert(parse(raw), wire, strict=True)
    except msgspec.ValidationError as error:
        raise _in_words(str(error)) from None


def convert(value: Any, wire: Any, at: str) -> Any:
    """What lies at the field `at` of a body that was parsed, as a `wire`; or InvalidRequest."""
    try:
        return msgspec.convert(value, wire, strict=True)
    except msgspec.ValidationError as error:
        raise _in_words(str(error), at) from None


def parse(raw: bytes) -> Any:
    """The JSON value of a body, or InvalidRequest."""
    _refuse_bombs(raw)
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except _Duplicate as duplicate:
        raise InvalidRequest(f"The body has the key {duplicate.key[:100]!r} twice in one object.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The body is not valid JSON ({where}).") from None
    except UnicodeError:
        raise InvalidRequest("The body is not valid JSON: its text is not valid UTF-8.") from None
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not valid JSON: it holds a number that is not one.") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Duplicate(key)
            seen.add(key)
    return value


def _constant(_: str) -> NoReturn:
    raise ValueError


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError
    return value


def _refuse_bombs(raw: bytes) -> None:
    """Few brackets cannot be deep; where there are many, count them outside of strings."""
    nodes = raw.count(b"{") + raw.count(b"[")
    if nodes <= DEEPEST:
        return
    if nodes > MOST_NODES:
        raise InvalidRequest(f"The body has more than {MOST_NODES} brackets. Send a smaller one.")
    depth = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise InvalidRequest(f"The body is nested deeper than {DEEPEST} levels.")


def _in_words(error: str, at: str = "") -> InvalidRequest:
    """A validation error in our words, with the field as `param`; `at` is where the value lies."""
    sentence, _, path = error.partition(" - at `$")
    param = (at + path.rstrip("`")).lstrip(".").replace("[...]", "[]") or None
    if expected := _EXPECTED.match(sentence):
        wanted, got = (_words(side) for side in expected.groups())
        return InvalidRequest(f"{param or 'The body'} must be {wanted}, not {got}.", param)
    if missing := re.match(r"Object missing required field `(.+)`", sentence):
        field = f"{param}.{missing.group(1)}" if param else missing.group(1)
        return InvalidRequest(f"{field} is missing.", field)
    if unknown := re.match(r"Invalid (?:enum )?value '?(.*?)'?$", sentence):
        return InvalidRequest(f"{param} does not take the value {unknown.group(1)[:100]!r}.", param)
    if bound := re.match(r"Expected `\w+` (of length )?([<>]=?) ([\d.eE+-]+)", sentence):
        what = "the length of " + str(param) if bound.group(1) else str(param)
        return InvalidRequest(f"{what} must be {bound.group(2)} {bound.group(3)}.", param)
    return InvalidRequest(f"{param or 'The body'} does not have the right form.", param)


def _words(types: str) -> str:
    return " or ".join(_WORDS.get(name.strip(), "a value of another kind") for name in types.split("|"))
