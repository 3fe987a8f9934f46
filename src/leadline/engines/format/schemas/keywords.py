"""The words of JSON Schema: which we take, and that what they say makes sense."""

import math
from collections.abc import Callable, Mapping
from typing import TypeGuard

from leadline.engines.format.schemas.budget import Budget, Refusal

DEEPEST = 64
LONGEST_STRING = 2048
MOST_ITEMS = 256
MOST_MEMBERS = 64
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
COMBINATORS = ("$ref", "allOf", "anyOf", "oneOf")
# What they say cannot be written as a grammar; beside each the value that says nothing.
_REFUSED: Mapping[str, object] = {
    "not": None,
    "if": None,
    "then": None,
    "else": None,
    "patternProperties": None,
    "propertyNames": None,
    "dependencies": None,
    "dependentRequired": None,
    "dependentSchemas": None,
    "contains": None,
    "minContains": None,
    "maxContains": None,
    "unevaluatedProperties": True,
    "unevaluatedItems": True,
    "uniqueItems": False,
    "multipleOf": None,
    "$dynamicRef": None,
    "$recursiveRef": None,
}
_COUNTS = {
    "minLength": LONGEST_STRING,
    "maxLength": LONGEST_STRING,
    "minItems": MOST_ITEMS,
    "maxItems": MOST_ITEMS,
    "minProperties": MOST_MEMBERS,
    "maxProperties": MOST_MEMBERS,
}
_VALUES = ("enum", "const")
_LARGEST_NUMBER = 10**400


class Misused(Refusal):
    """A word of a schema that does not make sense, or that we do not take."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(reason)
        self.word = word


def check(schema: Mapping[str, object], budget: Budget) -> None:
    """Raises Misused. Words that the standard does not know are remarks, as it says."""
    budget.spend(1 + len(schema))
    for word, value in schema.items():
        if word in _REFUSED:
            if not isinstance(value, bool) or value is not _REFUSED[word]:
                raise Misused(word, "this keyword is not supported")
        elif word in _COUNTS:
            _check_count(word, value, _COUNTS[word])
        elif word in _KINDS:
            fits, expected = _KINDS[word]
            if not fits(value):
                raise Misused(word, f"it must be {expected}")
        if word in _VALUES:
            weigh(value, budget)


def _check_count(word: str, value: object, most: int) -> None:
    if not _is_number(value) or not 0 <= value <= most or value != int(value):
        raise Misused(word, f"it must be a whole number from 0 to {most:,}")


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_schema(value: object) -> bool:
    return isinstance(value, Mapping | bool)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


def _is_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _is_types(value: object) -> bool:
    names = (value,) if isinstance(value, str) else value
    return _is_list(names) and _is_names(names) and set(names) <= set(TYPES)  # type: ignore[call-overload]


_LIST = (_is_list, "a list that is not empty")
_NUMBER = (_is_number, "a number")
_STRING = (_is_string, "a string")
_KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("enum", "allOf", "anyOf", "oneOf", "prefixItems"), _LIST),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    **dict.fromkeys(("pattern", "format", "$ref"), _STRING),
    "type": (_is_types, f"one or more of {', '.join(TYPES)}"),
    "properties": (_is_object, "an object"),
    "required": (_is_names, "a list of names"),
    "items": (_is_schema, "a schema; for a list of schemas there is prefixItems"),
    "additionalProperties": (_is_schema, "a schema"),
}


def weigh(value: object, budget: Budget) -> None:
    """Whether a value is one that we can write, in bounded time. Raises Refusal."""
    pending = [(value, 0)]
    while pending:
        part, depth = pending.pop()
        budget.spend()
        if depth > DEEPEST:
            raise Refusal(f"a value is nested deeper than {DEEPEST}")
        match part:
            case None | bool():
                continue
            case int() | float():
                if not abs(part) < _LARGEST_NUMBER:  # As is NaN.
                    raise Refusal("a number is too large")
            case str():
                weigh_text(part, budget)
            case list() | tuple():
                budget.spend(len(part))
                pending.extend((item, depth + 1) for item in part)
            case Mapping():
                budget.spend(len(part))
                for name, item in part.items():
                    weigh_text(name, budget)
                    pending.append((item, depth + 1))
            case _:
                raise Refusal("a value is not JSON")


def weigh_text(text: object, budget: Budget) -> None:
    if not isinstance(text, str):
        raise Refusal("a name is not a string")
    budget.spend(len(text) // 8)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal("a string is not valid Unicode") from None
