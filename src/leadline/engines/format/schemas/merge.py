"""Two JSON Schemas as one that takes what both take."""

from collections.abc import Iterable, Mapping
from typing import cast

from leadline.engines.format.schemas.budget import Budget, Refusal
from leadline.engines.format.schemas.structure import json_text

Keywords = Mapping[str, object]
_LARGER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SMALLER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_OBJECT = ("properties", "required", "additionalProperties")
# All that says what is taken. The rest of a schema's words are remarks.
ASSERTIONS = frozenset(
    ("type", "enum", "const", "pattern", "format", "items", "prefixItems", *_LARGER, *_SMALLER, *_OBJECT)
)


def merge(one: Keywords, other: Keywords, budget: Budget) -> Keywords | None:
    """None: nothing satisfies both."""
    merged: dict[str, object] = {}
    for key in dict.fromkeys([*one, *other]):
        if key not in ASSERTIONS or key in _OBJECT:
            continue
        budget.spend()
        if key in one and key in other:
            both = _both(key, one[key], other[key], budget)
            if both is None:
                return None
            merged[key] = both
        else:
            merged[key] = one[key] if key in one else other[key]
    if ("prefixItems" in one and "items" in other) or ("prefixItems" in other and "items" in one):
        raise Refusal("prefixItems in one schema and items in another cannot be combined")
    return _with_object(merged, one, other, budget)


def both_of(one: object, other: object) -> object:
    """A schema for what both take, still to be merged."""
    if one is True or one is other:
        return other
    return one if other is True else {"allOf": [one, other]}


def same_json(value: object) -> str:
    """A text that is equal for equal JSON: 1 is 1.0, and true is not 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json_text(value)


def _both(key: str, one: object, other: object, budget: Budget) -> object | None:
    if key in _LARGER or key in _SMALLER:
        pair = (_number(one), _number(other))
        return max(pair) if key in _LARGER else min(pair)
    match key:
        case "type":
            return _types(one, other)
        case "enum":
            return _values(_items(one), _items(other), budget)
        case "const":
            return one if same_json(one) == same_json(other) else None
        case "pattern" | "format":
            return tuple(dict.fromkeys([*_items(one), *_items(other)]))
        case "items":
            return both_of(one, other)
    raise Refusal(f"{key} cannot be combined with another {key}")


def _types(one: object, other: object) -> list[str] | None:
    mine = set(map(str, _items(one)))
    theirs = set(map(str, _items(other)))
    shared = mine & theirs
    if ("integer" in mine and "number" in theirs) or ("number" in mine and "integer" in theirs):
        shared.add("integer")
    return sorted(shared) or None


def _values(mine: Iterable[object], theirs: Iterable[object], budget: Budget) -> list[object] | None:
    known = {same_json(value) for value in theirs}
    budget.spend(len(known))
    return [value for value in mine if same_json(value) in known] or None


def _with_object(merged: dict[str, object], one: Keywords, other: Keywords, budget: Budget) -> Keywords | None:
    if not any(key in one for key in _OBJECT) or not any(key in other for key in _OBJECT):
        side = one if any(key in one for key in _OBJECT) else other
        return merged | {key: side[key] for key in _OBJECT if key in side}
    mine, theirs = _mapping(one.get("properties", {})), _mapping(other.get("properties", {}))
    required = list(dict.fromkeys([*_items(one.get("required", [])), *_items(other.get("required", []))]))
    properties: dict[str, object] = {}
    for name in dict.fromkeys([*mine, *theirs]):
        budget.spend()
        my_schema = mine.get(name, one.get("additionalProperties", True))
        their_schema = theirs.get(name, other.get("additionalProperties", True))
        if my_schema is not False and their_schema is not False:
            properties[name] = both_of(my_schema, their_schema)
        elif name in required:
            return None
    if "properties" in one or "properties" in other:
        merged["properties"] = properties
    if required:
        merged["required"] = required
    rest = [side["additionalProperties"] for side in (one, other) if "additionalProperties" in side]
    if rest:
        merged["additionalProperties"] = False if any(side is False for side in rest) else both_of(rest[0], rest[-1])
    return merged


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal("a bound is not a number")
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise Refusal("properties is not an object")
    return cast(Mapping[str, object], value)
