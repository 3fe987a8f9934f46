"""Strings, numbers and listed values: what a schema says of them as fragments of grammar."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from leadline.engines.format.schemas.ambiguity import MOST_WAYS
from leadline.engines.format.schemas.automaton import Automaton, accepts, intersect, lengths
from leadline.engines.format.schemas.budget import Refusal
from leadline.engines.format.schemas.decimals import Bound, decimal_range
from leadline.engines.format.schemas.formats import format_automaton
from leadline.engines.format.schemas.gbnf import Rules, characters, choice, join, literal, number_of, run, string_of
from leadline.engines.format.schemas.keywords import Misused
from leadline.engines.format.schemas.pattern import pattern_automaton, single_run
from leadline.engines.format.schemas.shapes import Plain, Shape
from leadline.engines.format.schemas.structure import json_text

_QUOTE = literal('"')
# Beyond what numbers of ours can be, so that they are all alike.
_HUGE = Decimal(10) ** 30
_STRUCTURE = (
    *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    *("items", "prefixItems", "minItems", "maxItems"),
)


class Strings:
    """Strings by length, pattern and format; equal ones are made once."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._known: dict[object, Plain] = {}
        self._patterns: dict[str, Automaton] = {}

    def shape(self, words: Mapping[str, Any]) -> Plain:
        low, high = _lengths(words)
        patterns = _listed(words.get("pattern"))
        formats = [found for name in _listed(words.get("format")) if (found := format_automaton(name)) is not None]
        key = (low, high, patterns, tuple(map(id, formats)))
        if key not in self._known:
            self._known[key] = Plain(self._fragment(low, high, patterns, formats), 2 + low, "s")
        return self._known[key]

    def fits(self, text: str, words: Mapping[str, Any]) -> bool:
        low, high = _lengths(words)
        if not low <= len(text) <= (len(text) if high is None else high):
            return False
        return all(accepts(self._pattern(pattern), text) for pattern in _listed(words.get("pattern")))

    def _fragment(self, low: int, high: int | None, patterns: Sequence[str], formats: Sequence[Automaton]) -> str:
        if not patterns and not formats:
            return "string" if (low, high) == (0, None) else self._run("char", low, high)
        if len(patterns) == 1 and not formats:
            simple = self._simple(patterns[0], low, high)
            if simple is not None:
                return simple
        automata = [self._pattern(pattern) for pattern in patterns] + list(formats)
        if (low, high) != (0, None):
            automata.append(lengths(low, high, self._rules.budget))
        automaton = automata[0]
        for other in automata[1:]:
            automaton = intersect(automaton, other, self._rules.budget)
        if automaton.empty:
            raise Refusal("no string satisfies this schema")
        return self._rules.named(string_of(automaton, self._rules))

    def _simple(self, pattern: str, low: int, high: int | None) -> str | None:
        try:
            found = single_run(pattern)
        except Refusal as error:
            raise Misused("pattern", str(error)) from None
        if found is None or not found[0]:
            return None
        ranges, least, greatest = found
        least = max(least, low)
        greatest = high if greatest is None else greatest if high is None else min(greatest, high)
        if greatest is not None and greatest < least:
            raise Refusal("no string satisfies both its pattern and its length")
        return self._run(characters(ranges, self._rules), least, greatest)

    def _run(self, name: str, low: int, high: int | None) -> str:
        if high == 0:
            return literal('""')
        return self._rules.add(join(_QUOTE, run(name, low, high, _QUOTE, self._rules)))

    def _pattern(self, pattern: str) -> Automaton:
        if pattern not in self._patterns:
            try:
                self._patterns[pattern] = pattern_automaton(pattern, self._rules.budget)
            except Refusal as error:
                raise Misused("pattern", str(error)) from None
        return self._patterns[pattern]


class Numbers:
    """Numbers within bounds; equal ones are made once."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._known: dict[object, Plain] = {}

    def shape(self, words: Mapping[str, Any], *, whole: bool) -> Plain:
        low, high = _bounds(words)
        if low is None and high is None:
            return Plain("integer" if whole else "number", 1, "n")
        key = (low, high, whole)
        if key not in self._known:
            automaton = decimal_range(low, high, whole=whole, budget=self._rules.budget)
            if automaton.empty:
                raise Refusal("no number satisfies this schema, at least none of 20 digits before the point")
            self._known[key] = Plain(self._rules.named(number_of(automaton, self._rules)), 1, "n")
        return self._known[key]


def listed(values: Sequence[object], rules: Rules) -> list[Shape]:
    """One of these values, as the shortest JSON that says it; objects and arrays may have white space."""
    rules.budget.spend(3 * len(values))
    structures = [value for value in values if isinstance(value, list | tuple | Mapping)]
    scalars = {json_text(value): value for value in values if not isinstance(value, list | tuple | Mapping)}
    if len(structures) > MOST_WAYS:
        raise Misused("enum", f"more than {MOST_WAYS} objects and arrays are listed")
    shapes: list[Shape] = []
    if scalars:
        fragment = choice(((text, "") for text in scalars), rules)
        starts = "".join({_START[_types_of(value)[-1]] for value in scalars.values()})
        shapes.append(Plain(fragment, min(map(len, scalars)), starts, frozenset(scalars)))
    for value in structures:
        text = json_text(value)
        shapes.append(Plain(_constant(value, rules), len(text), text[0], frozenset({text})))
    return shapes


def fitting(value: object, types: Sequence[str], words: Mapping[str, Any], strings: Strings) -> bool:
    """Whether a listed value satisfies the rest of its schema."""
    if not any(name in types for name in _types_of(value)):
        return False
    match value:
        case str():
            return strings.fits(value, words)
        case int() | float() if not isinstance(value, bool):
            low, high = _bounds(words)
            number = _decimal(value)
            above = low is None or number > low.value or (number == low.value and not low.strict)
            return above and (high is None or number < high.value or (number == high.value and not high.strict))
        case list() | tuple() | Mapping():
            beside = next((word for word in _STRUCTURE if word in words), None)
            if beside is not None:
                raise Misused(beside, "it is not supported beside an enum or const of objects or arrays")
    return True


def _types_of(value: object) -> tuple[str, ...]:
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean",)
        case str():
            return ("string",)
        case int():
            return ("integer", "number")
        case float():
            return ("integer", "number") if value.is_integer() else ("number",)
        case Mapping():
            return ("object",)
    return ("array",)


def _constant(value: object, rules: Rules) -> str:
    """A value with the white space that models like. Its depth was bounded before."""
    match value:
        case Mapping():
            parts = [f"{literal(json_text(name) + ':')} sp {_constant(item, rules)}" for name, item in value.items()]
            return _enclosed("{", parts, "}")
        case list() | tuple():
            return _enclosed("[", [_constant(item, rules) for item in value], "]")
    rules.budget.spend()
    return literal(json_text(value))


def _enclosed(opening: str, parts: Iterable[str], closing: str) -> str:
    return join(literal(opening), "ws", ' "," ws '.join(parts), "ws" if parts else "", literal(closing))


_START = {"null": "0", "boolean": "b", "string": "s", "number": "n"}
_LOWS = (("minimum", False), ("exclusiveMinimum", True))
_HIGHS = (("maximum", False), ("exclusiveMaximum", True))


def _lengths(words: Mapping[str, Any]) -> tuple[int, int | None]:
    low, high = int(words.get("minLength", 0)), words.get("maxLength")
    if high is not None and high < low:
        raise Misused("minLength", "it is above maxLength")
    return low, None if high is None else int(high)


def _bounds(words: Mapping[str, Any]) -> tuple[Bound | None, Bound | None]:
    lows = [Bound(_decimal(words[word]), strict) for word, strict in _LOWS if word in words]
    highs = [Bound(_decimal(words[word]), strict) for word, strict in _HIGHS if word in words]
    return (
        max(lows, key=lambda bound: (bound.value, bound.strict), default=None),
        min(highs, key=lambda bound: (bound.value, not bound.strict), default=None),
    )


def _decimal(number: float) -> Decimal:
    if abs(number) >= _HUGE:
        return _HUGE if number > 0 else -_HUGE
    return Decimal(str(number)) + 0


def _listed(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]
