"""JSON Schema to shapes.

A schema is first *expanded*: references followed, allOf merged, alternatives taken apart, until flat schemas are left
that hold nothing but words about a value itself. Equal sets of flat schemas are one value, so recursion ends, and what
is referred to often is written once. Nothing here recurses but over nested combinators, of which there are at most 64.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from leadline.engines.format.schemas.budget import Refusal
from leadline.engines.format.schemas.gbnf import Rules
from leadline.engines.format.schemas.keywords import COMBINATORS, DEEPEST, MOST_ITEMS, TYPES, Misused, check, weigh_text
from leadline.engines.format.schemas.merge import ASSERTIONS, merge, same_json
from leadline.engines.format.schemas.scalars import Numbers, Strings, fitting, listed
from leadline.engines.format.schemas.shapes import Array, Member, Object, Plain, Shape

ANYTHING = 0
_MOST_ALTERNATIVES = 1_000
_LONGEST_PLACE = 500
# A schema without a type takes any value; one that speaks of a type means that type.
_SPEAKS_OF = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}


class Misplaced(Exception):
    """A refusal and its place, such as `….properties.a.pattern`."""

    def __init__(self, place: str, reason: str) -> None:
        self.place = place if len(place) <= _LONGEST_PLACE else f"{place[:_LONGEST_PLACE]}…"
        super().__init__(f"{self.place}: {reason}.")


@dataclass(frozen=True, eq=False, slots=True)
class _Flat:
    """A schema without combinators. Each one is itself only."""

    words: Mapping[str, Any]
    place: str
    depth: int

    @property
    def says_nothing(self) -> bool:
        return ASSERTIONS.isdisjoint(self.words)


class Shapes:
    """The values of one grammar, whatever schemas they come from."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.strings = Strings(rules)
        self.numbers = Numbers(rules)
        self.values: list[list[Shape]] = [[Plain("value", 1, "{[snb0")]]
        # Of each value, for refusals.
        self.places = [""]

    def add(self, place: str) -> int:
        self.rules.budget.spend(8)
        self.values.append([])
        self.places.append(place)
        return len(self.values) - 1


def convert(schema: object, shapes: Shapes, place: str, only: str | None = None) -> int:
    """The value of a schema, or of its part that is of type `only`. Raises Misplaced."""
    converter = _Converter(schema, shapes, place)
    try:
        return converter.run(only)
    except Misused as error:
        raise Misplaced(f"{converter.place}.{error.word}", str(error)) from None
    except Refusal as error:
        raise Misplaced(converter.place, str(error)) from None


class _Converter:
    """One schema, and what it was expanded to so far."""

    def __init__(self, root: object, shapes: Shapes, place: str) -> None:
        self.place = place
        self._root = root
        self._root_place = place
        self._shapes = shapes
        self._budget = shapes.rules.budget
        # By the identity of a schema, which lives as long as the root or `_made`.
        self._expanded: dict[int, tuple[_Flat, ...]] = {}
        self._made: list[object] = []
        self._merged: dict[tuple[_Flat, _Flat], _Flat | None] = {}
        self._values: dict[tuple[_Flat, ...], int] = {}
        self._pending: deque[tuple[int, tuple[_Flat, ...]]] = deque()

    def run(self, only: str | None) -> int:
        flats = self._expand(self._root, self._root_place, 0, ())
        if only is not None:
            flats = self._cross((_Flat({"type": only}, self._root_place, 0),), flats, self._root_place)
        value = self._number(flats)
        while self._pending:
            number, flats = self._pending.popleft()
            self._shapes.values[number] = list(dict.fromkeys(shape for flat in flats for shape in self._look(flat)))
        return value

    def _value(self, schema: object, place: str, depth: int) -> int:
        return self._number(self._expand(schema, place, depth, ()))

    def _number(self, flats: tuple[_Flat, ...]) -> int:
        if any(flat.says_nothing for flat in flats):
            return ANYTHING
        if flats not in self._values:
            self._values[flats] = self._shapes.add(flats[0].place)
            self._pending.append((self._values[flats], flats))
        return self._values[flats]

    # Expanding

    def _expand(self, schema: object, place: str, depth: int, chain: tuple[int, ...]) -> tuple[_Flat, ...]:
        self.place = place
        self._budget.spend(2)
        if schema is True:
            return (_Flat({}, place, depth),)
        if not isinstance(schema, Mapping):
            raise Refusal("`false` is not supported" if schema is False else "a schema must be an object or `true`")
        if id(schema) in chain:
            raise Refusal("this $ref leads back to itself")
        if id(schema) not in self._expanded:
            if depth > DEEPEST or len(chain) > DEEPEST:
                raise Refusal(f"the schema is nested deeper than {DEEPEST}")
            self._budget.spend(10)
            check(schema, self._budget)
            self._expanded[id(schema)] = self._combined(schema, place, depth, (*chain, id(schema)))
            self.place = place
        return self._expanded[id(schema)]

    def _combined(self, schema: Mapping[str, Any], place: str, depth: int, chain: tuple[int, ...]) -> tuple[_Flat, ...]:
        if not any(word in schema for word in COMBINATORS):
            return (_Flat(schema, place, depth),)
        flats: tuple[_Flat, ...] = (_Flat({word: schema[word] for word in ASSERTIONS & schema.keys()}, place, depth),)
        if "$ref" in schema:
            target, target_place = self._target(schema["$ref"])
            flats = self._cross(flats, self._expand(target, target_place, 0, chain), place)
        for index, part in enumerate(schema.get("allOf", ())):
            flats = self._cross(flats, self._expand(part, f"{place}.allOf[{index}]", depth + 1, chain), place)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                branches = [
                    flat
                    for index, branch in enumerate(schema[word])
                    for flat in self._expand(branch, f"{place}.{word}[{index}]", depth + 1, chain)
                ]
                flats = self._cross(flats, branches, place)
        return flats

    def _cross(self, ones: Sequence[_Flat], others: Sequence[_Flat], place: str) -> tuple[_Flat, ...]:
        """What takes one of the first and one of the second."""
        self.place = place
        self._budget.spend(len(ones) * len(others))
        pairs = [self._merge(one, other) for one in ones for other in others]
        flats = tuple(dict.fromkeys(flat for flat in pairs if flat is not None))
        if not flats:
            raise Refusal("nothing satisfies all of this schema")
        if len(flats) > _MOST_ALTERNATIVES:
            raise Refusal(f"there are more than {_MOST_ALTERNATIVES:,} alternatives")
        return flats

    def _merge(self, one: _Flat, other: _Flat) -> _Flat | None:
        if one.says_nothing or one is other:
            return other
        if other.says_nothing:
            return one
        if (one, other) not in self._merged:
            self._budget.spend(20)
            words = merge(one.words, other.words, self._budget)
            self._made.append(words)
            depth = max(one.depth, other.depth)
            self._merged[one, other] = None if words is None else _Flat(words, one.place, depth)
        return self._merged[one, other]

    def _target(self, reference: str) -> tuple[object, str]:
        """Where a $ref leads: a JSON pointer into the same schema."""
        if reference != "#" and not reference.startswith("#/"):
            raise Misused("$ref", "only references into the same schema are supported, such as `#/$defs/name`")
        target: object = self._root
        place = self._root_place
        for part in reference.split("/")[1:]:
            self._budget.spend()
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping) and key in target:
                target = target[key]
            elif isinstance(target, list | tuple) and key.isascii() and key.isdigit() and int(key[:9]) < len(target):
                target = target[int(key[:9])]
            else:
                raise Misused("$ref", "it leads nowhere")
            place = f"{place}.{_shown(key)}"
            if len(place) > _LONGEST_PLACE:
                raise Misused("$ref", "it is too long")
        return target, place

    # Looking at what is left

    def _look(self, flat: _Flat) -> Iterable[Shape]:
        self.place = flat.place
        if "enum" in flat.words or "const" in flat.words:
            return self._enumeration(flat)
        return [self._of_type(name, flat) for name in _types(flat.words)]

    def _of_type(self, name: str, flat: _Flat) -> Shape:
        match name:
            case "object":
                return self._object(flat)
            case "array":
                return self._array(flat)
            case "string":
                return self._shapes.strings.shape(flat.words)
            case "number" | "integer":
                return self._shapes.numbers.shape(flat.words, whole=name == "integer")
            case "boolean":
                return Plain("boolean", 4, "b")
        return Plain('"null"', 4, "0")

    def _enumeration(self, flat: _Flat) -> Iterable[Shape]:
        words = flat.words
        values = list(words.get("enum", [words.get("const")]))
        if "const" in words:
            values = [value for value in values if same_json(value) == same_json(words["const"])]
        types = _types(words) if "type" in words else TYPES
        values = [value for value in values if fitting(value, types, words, self._shapes.strings)]
        if not values:
            raise Refusal("no value of the enumeration satisfies the rest of the schema")
        return listed(values, self._shapes.rules)

    def _object(self, flat: _Flat) -> Shape:
        words, place, depth = flat.words, flat.place, flat.depth
        properties: Mapping[str, object] = words.get("properties", {})
        additional = words.get("additionalProperties", "properties" not in words)
        others = None if additional is False else self._value(additional, f"{place}.additionalProperties", depth + 1)
        required = dict.fromkeys(words.get("required", ()))
        self._budget.spend(3 * len(properties) + 10 * len(required))
        members = []
        for name, schema in properties.items():
            weigh_text(name, self._budget)
            value = self._value(schema, f"{place}.properties.{_shown(name)}", depth + 1)
            members.append(Member(name, value, name in required))
        self.place = place
        for name in required:
            if name in properties:
                continue
            if words.get("additionalProperties") is False:
                raise Misused("required", f"it names {_shown(name)!r}, which the schema does not allow")
            weigh_text(name, self._budget)
            members.append(Member(name, ANYTHING if others is None else others, required=True))
        fewest, most = _counts(words, "minProperties", "maxProperties")
        shape = Object(tuple(members), others, fewest, most)
        if (most is not None and most < len(required)) or (others is None and fewest > len(members)):
            raise Misused("minProperties" if most is None else "maxProperties", "no object has as many members")
        return Plain("object", 2, "{") if shape == Object((), ANYTHING) else shape

    def _array(self, flat: _Flat) -> Shape:
        words, place, depth = flat.words, flat.place, flat.depth
        schemas = words.get("prefixItems", ())
        if len(schemas) > MOST_ITEMS:
            raise Misused("prefixItems", f"it has more than {MOST_ITEMS} items")
        first = tuple(
            self._value(schema, f"{place}.prefixItems[{index}]", depth + 1) for index, schema in enumerate(schemas)
        )
        items = words.get("items", not schemas)
        others = None if items is False else self._value(items, f"{place}.items", depth + 1)
        self.place = place
        fewest, most = _counts(words, "minItems", "maxItems")
        if "minItems" not in words and first:
            fewest = len(first) if most is None else min(len(first), most)
        if others is None and fewest > len(first):
            raise Misused("minItems", "no array has as many items")
        shape = Array(first, others, fewest, most)
        return Plain("array", 2, "[") if shape == Array((), ANYTHING) else shape


def _types(words: Mapping[str, Any]) -> Sequence[str]:
    declared = words.get("type")
    if declared is None:
        names = [name for name, about in _SPEAKS_OF.items() if any(word in words for word in about)]
    else:
        names = [declared] if isinstance(declared, str) else list(dict.fromkeys(declared))
    # A number may be an integer anyway.
    return [name for name in names if name != "integer" or "number" not in names]


def _counts(words: Mapping[str, Any], least: str, greatest: str) -> tuple[int, int | None]:
    low, high = int(words.get(least, 0)), words.get(greatest)
    if high is not None and high < low:
        raise Misused(least, f"it is above {greatest}")
    return low, None if high is None else int(high)


def _shown(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name[:64])
