"""Schemas made to hurt: each is refused or becomes a grammar, soon; and the engine reads every such grammar, soon."""

import gc
import json
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from leadline.chat.request import Tool
from leadline.engines.format.grammar import CallSyntax, call_grammar, schema_grammar
from leadline.engines.format.schemas.ambiguity import MOST_OPTIONAL
from leadline.errors import InvalidRequest
from tests.proof import count
from tests.unit.engines.test_grammar_recogniser import LlamaCpp

pytestmark = pytest.mark.slow

# Of CPU. Measured are 0.05; what explodes takes minutes.
MOST_SECONDS = 5.0
LONGEST_REFUSAL = 700
INTEGER, STRING, NULL = {"type": "integer"}, {"type": "string"}, {"type": "null"}


def nested(wrap: Callable[[Any], Any], depth: int, inside: Any = NULL) -> Any:
    for _ in range(depth):
        inside = wrap(inside)
    return inside


def obj(properties: Any, required: Any = (), **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)} | more


WRAPS: dict[str, Callable[[Any], Any]] = {
    "objects": lambda inner: obj({"a": inner}, ["a"]),
    "arrays": lambda inner: {"items": inner},
    "tuples": lambda inner: {"prefixItems": [inner, inner]},
    "full arrays": lambda inner: {"items": inner, "minItems": 256},
    "others": lambda inner: {"type": "object", "additionalProperties": inner},
    "any of": lambda inner: {"anyOf": [inner, inner]},
    "any of and more": lambda inner: {"anyOf": [inner, {"items": inner}], "minItems": 1},
    "all of": lambda inner: {"allOf": [inner]},
    "all of two": lambda inner: {"allOf": [inner, {"minItems": 1}]},
    "const": lambda inner: {"const": [inner]},
    "enum": lambda inner: {"enum": [{"a": inner}]},
}


def nestings(name: str) -> Iterator[tuple[str, Any]]:
    for depth in (2, 10, 40, 64, 65, 66, 200, 5_000, 100_000):
        yield f"{depth} nested {name}", nested(WRAPS[name], depth)


def wide(size: int) -> Iterator[tuple[str, Any]]:
    names = [f"p{number}" for number in range(size)]
    yield f"{size} properties", obj(dict.fromkeys(names, STRING))
    yield (
        f"{size} properties of their own",
        obj({name: {"type": "integer", "maximum": i} for i, name in enumerate(names)}),
    )
    yield f"{size} required", obj(dict.fromkeys(names, True), names)
    yield f"{size} required that nobody knows", {"type": "object", "required": names}
    yield f"{size} properties and others", obj(dict.fromkeys(names, NULL), additionalProperties=STRING)
    yield f"{size} properties, 64 of them", obj(dict.fromkeys(names, NULL), minProperties=32, maxProperties=64)
    yield f"{size} listed", {"enum": names}
    yield f"{size} numbers listed", {"enum": list(range(size))}
    yield f"{size} listed that begin alike", {"enum": ["x" * (number % 1_500) + "y" for number in range(size)]}
    yield f"{size} objects listed", {"enum": [{"a": number} for number in range(size)]}
    yield f"{size} alternatives", {"anyOf": [{"const": number} for number in range(size)]}
    yield f"{size} equal alternatives", {"anyOf": [STRING] * size}
    yield f"{size} to merge", {"allOf": [{"minLength": number % 9} for number in range(size)]}
    yield f"{size} to merge of objects", {"allOf": [obj({f"p{number}": NULL}) for number in range(size)]}
    yield f"{size} to tell apart", {"allOf": [{"anyOf": [{"minLength": 1}, {"maxLength": 2}]} for _ in range(size)]}
    yield f"{size} first items", {"prefixItems": [INTEGER] * size}
    yield f"{size} in one name", obj({"é" * size: NULL})
    yield f"{size} in one string", {"const": "\n" * size}
    yield f"{size} in one place", nested(lambda inner: obj({"n" * size: inner}), 20)
    yield f"{size} lengths", obj({name: {"minLength": i % 2000, "maxLength": 2000} for i, name in enumerate(names)})
    yield f"{size} definitions nobody needs", {"type": "string", "$defs": {name: {"not": {}} for name in names}}
    yield f"{size} unknown words", dict.fromkeys(names, 1) | STRING


def references(depth: int) -> Iterator[tuple[str, Any]]:
    def chain(link: Callable[[str], Any], last: Any = STRING) -> dict[str, Any]:
        definitions = {f"d{i}": link(f"#/$defs/d{i + 1}") for i in range(depth)}
        return {"$ref": "#/$defs/d0", "$defs": definitions | {f"d{depth}": last}}

    yield f"{depth} references", chain(lambda to: {"$ref": to})
    yield f"{depth} references by objects", chain(lambda to: obj({"a": {"$ref": to}, "b": {"$ref": to}}, "ab"))
    yield f"{depth} references by alternatives", chain(lambda to: {"anyOf": [{"$ref": to}, {"items": {"$ref": to}}]})
    yield f"{depth} references that merge", chain(lambda to: {"$ref": to, "minLength": 1})
    yield f"{depth} references in a ring", chain(lambda to: {"$ref": to}, {"$ref": "#/$defs/d0"})
    yield (
        f"{depth} references in a ring of objects",
        chain(lambda to: obj({"a": {"$ref": to}}, "a"), {"$ref": "#/$defs/d0"}),
    )
    two = {
        f"{kind}{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/e{i + 1}"}]}
        for i in range(depth)
        for kind in "de"
    }
    yield f"{depth} doubled references", {"$ref": "#/$defs/d0", "$defs": two | {f"d{depth}": STRING, f"e{depth}": NULL}}
    grown = {
        f"{kind}{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/e{i + 1}"}, {"minLength": i % 5}]}
        for i in range(depth)
        for kind in "de"
    }
    yield (
        f"{depth} doubled and merged",
        {"$ref": "#/$defs/d0", "$defs": grown | {f"d{depth}": STRING, f"e{depth}": STRING}},
    )
    merging = {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]}
    yield (
        f"{depth} that merge without end",
        merging | {
            "$defs": {
                "a": obj({"x": merging} | {f"p{i}": {"$ref": "#/$defs/b"} for i in range(depth)}),
                "b": obj({"x": {"allOf": [{"$ref": "#/$defs/a"}, merging]}} | {f"p{i}": merging for i in range(depth)}),
            }
        },
    )  # fmt: skip
    yield f"{depth} in a pointer", {"$ref": "#" + "/a" * depth, "a": nested(lambda inner: {"a": inner}, depth)}
    everything: list[Any] = [INTEGER]
    everything += [{"type": "array", "items": {"$ref": "#"}}, obj({f"p{i}": {"$ref": "#"} for i in range(depth)})]
    yield f"{depth} times itself", {"anyOf": everything}


def patterns() -> Iterator[tuple[str, Any]]:
    hostile = [
        "(a+)+$",
        "^(a|a)*$",
        "^(a|aa|aaa|aaaa)*b$",
        "(x+x+)+y",
        "^(.*a.*){50}$",
        "^(a?){500}(a?){500}$",
        "^((a?){30}){30}$",
        "^(a{0,500}b?){0,500}$",
        "^(((a{1,100}){1,100}){1,100}){1,100}$",
        "^a{1000}b{1000}c{1000}$",
        "^(a|b)*a(a|b){9}$",
        "^(a|b)*a(a|b){30}$",
        "[a-z].{200}$",
        "^(?=.*a)(?=.*b)(?=.*c)(?=.*d)(?=.*e)(?=.*f)(?=.*g)(?=.*h)(?=.*i)(?=.*j).*$",
        "^" + "(?!a)" * 80 + "b",
        "^(?!.*(aa|bb|cc|dd).*)(?!.{0,50}x.{0,50}y).*$",
        "(" * 32 + "a" + ")*" * 32,
        "(" * 33 + "a" + ")*" * 33,
        "(" * 250 + ")" * 250,
        "|" * 511,
        "a|" * 250,
        "a?" * 256,
        "(a|b|ab)*" * 50,
        "[a-z]" * 100,
        "." * 512,
        ".*" * 256,
        "[^a]*" * 100,
        "[\\u0000-\\uffff]{1000}",
        "[" + "".join(chr(0x4E00 + 2 * number) for number in range(500)) + "]*",
        "\\" * 511,
        "[" * 500,
        "{" * 500,
        "a{99999999999999999999}",
        "a{1,99999999999999999999}",
        "(?<" + "n" * 400 + ">a)",
        "\\u{" + "1" * 300 + "}",
        "^$" * 100,
        "\ud800",
        "x" * 100_000,
    ]
    for number, pattern in enumerate(hostile):
        yield f"pattern {number}", {"type": "string", "pattern": pattern}
        yield f"pattern {number} of a length", {"pattern": pattern, "minLength": 7, "maxLength": 2048}
    yield "the same pattern often", obj({f"p{i}": {"pattern": "^(a|b)*a(a|b){9}$"} for i in range(1_000)})
    yield "many patterns", obj({f"p{i}": {"pattern": f"^(a|b)*a(a|b){{3}}{i}$"} for i in range(1_000)})
    yield "many patterns at once", {"allOf": [{"pattern": f"[a-{letter}]{{3}}x"} for letter in "bcdefghijklmnop"]}


def repeats() -> Iterator[tuple[str, Any]]:
    yield "long strings", obj({f"p{i}": {"maxLength": 2000 - i} for i in range(48)})
    yield (
        "long strings of classes",
        obj({f"p{i}": {"pattern": f"^[{chr(97 + i)}x]*$", "maxLength": 2048} for i in range(20)}),
    )
    yield "long arrays", obj({f"p{i}": {"items": INTEGER, "maxItems": 256 - i} for i in range(100)})
    for depth in (2, 3, 5):
        yield f"{depth} full arrays", nested(lambda inner: {"items": inner, "minItems": 256, "maxItems": 256}, depth)
    yield "a full array of long strings", {"items": {"minLength": 2048}, "minItems": 256}
    yield "many long strings", obj({f"p{i}": {"minLength": 2048} for i in range(100)}, [f"p{i}" for i in range(100)])


def oddities() -> Iterator[tuple[str, Any]]:
    huge = 10**5_000
    for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        for value in (huge, -huge, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"), -0.0, 10**20, 1e-30, True):
            yield f"{word} {str(value)[:9] if abs(value) < 1e308 else 'huge'}", {"type": "number", word: value}
    for word in ("minLength", "maxItems", "maxProperties"):
        for value in (huge, -1, 1.5, float("inf"), float("nan"), None, "1", True, [1]):
            yield f"{word} {'huge' if value is huge else value}", {word: value}
    for word in ("type", "enum", "properties", "required", "items", "prefixItems", "anyOf", "allOf", "$ref", "pattern"):
        for value in (None, 1, "", "#", [], {}, [[]], [{}], [None], {"a": None}, {"": []}, True, False, ["object", {}]):
            yield f"{word}: {json.dumps(value)}", {word: value}
    for value in (huge, float("inf"), float("nan"), "\ud800", {"\udfff": 1}, object(), {1: 2}, b"", {1}, (1, 2)):
        yield f"const {type(value).__name__} {repr(value)[:20] if value is not huge else 'huge'}", {"const": value}
    yield "a name that is no text", obj({1: NULL, None: NULL})
    yield "names that are no Unicode", obj({"\ud800": NULL}, ["\udfff"])
    for schema in (None, [], 1, "x", False, True, {}, {1: 2}):
        yield f"the schema {schema!r}", schema
    for seed in range(100):
        yield f"noise {seed}", noise(random.Random(seed), 6)


def noise(randomness: random.Random, depth: int) -> Any:
    """Words of schemas in no order that makes sense."""
    if depth == 0 or randomness.random() < 0.1:
        return randomness.choice(
            [1, -1, 2.5, "a", "string", "#", "#/properties/a", True, False, None, "^a+$", [], {}, 300]
        )
    words = ["type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems", "anyOf"]
    words += [
        "allOf",
        "oneOf",
        "$ref",
        "$defs",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maxItems",
        "a",
    ]
    if randomness.random() < 0.3:
        return [noise(randomness, depth - 1) for _ in range(randomness.randint(0, 4))]
    return {randomness.choice(words): noise(randomness, depth - 1) for _ in range(randomness.randint(0, 5))}


# Made when their test runs: some are large.
FAMILIES: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {
    **{f"nested {name}": partial(nestings, name) for name in WRAPS},
    **{f"{size} wide": partial(wide, size) for size in (10, 100, 1_000, 10_000, 100_000)},
    **{f"{depth} references": partial(references, depth) for depth in (2, 8, 16, 30, 60, 300, 3_000)},
    "patterns": patterns,
    "repeats": repeats,
    "oddities": oddities,
}


def tool_grammar(schema: Any) -> str:
    return call_grammar([Tool("t", parameters=schema)], CallSyntax(), parallel=True)


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """The garbage collector would walk through all that there is while we look at the clock."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", [schema_grammar, tool_grammar])
def test_a_hostile_schema_is_refused_or_becomes_a_grammar_soon(make: Callable[[Any], str], family: str) -> None:
    schemas = list(FAMILIES[family]())
    # All of them, but for the inner loop.
    for name, schema in random.Random(family).sample(schemas, max(1, count(len(schemas), len(schemas)))):
        began = time.thread_time()
        grammar = refusal = ""
        try:
            grammar = make(schema)
        except InvalidRequest as refused:
            refusal = str(refused)
        assert time.thread_time() - began < MOST_SECONDS, name
        assert len(refusal) < LONGEST_REFUSAL, name
        if grammar:
            began = time.thread_time()
            engine = LlamaCpp(grammar)
            for start in ("", "{", '{"name": "t", "arguments": {', '"' + "a" * 50, '"' + "ab" * 25, "[[[[[1", "-1.5"):
                engine.accepts(start)
                assert engine.ways <= MOST_OPTIONAL + 10, name
            assert time.thread_time() - began < MOST_SECONDS, name
