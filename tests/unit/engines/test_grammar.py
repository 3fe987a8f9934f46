"""Schemas to grammars, case by case: what the grammar takes, what it does not, and what is refused."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from leadline.chat.request import Tool
from leadline.engines.format.grammar import CallSyntax, call_grammar, json_grammar, schema_grammar
from leadline.errors import InvalidRequest
from tests.unit.engines.test_grammar_recogniser import Grammar, LlamaCpp

STRING, INTEGER, NUMBER, NULL, BOOLEAN = ({"type": t} for t in ("string", "integer", "number", "null", "boolean"))
HERMES = CallSyntax("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>")
LLAMA3 = CallSyntax("", "; ", "", arguments_key="parameters")
MISTRAL = CallSyntax("[TOOL_CALLS][", ", ", "]")


def obj(properties: Mapping[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)} | more


def text(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern} | more


TREE = obj({"value": INTEGER, "left": {"$ref": "#"}, "right": {"$ref": "#"}}, "value")
LIST = {
    "$ref": "#/$defs/node",
    "$defs": {"node": obj({"head": STRING, "tail": {"anyOf": [{"$ref": "#/$defs/node"}, NULL]}}, "head", "tail")},
}
EVEN = {
    "$ref": "#/$defs/a",
    "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}}, "b": obj({"a": {"$ref": "#/$defs/a"}}, "a")},
}
ENDLESS = {"x": obj({"b": {"$ref": "#/$defs/x"}}, "b")}
FILES = {
    "anyOf": [
        obj({"name": STRING, "kids": {"items": {"$ref": "#"}}}, "name", "kids"),
        obj({"name": STRING, "size": INTEGER}, "name", "size"),
    ]
}
EXPRESSION = {
    "anyOf": [
        INTEGER,
        obj({"op": {"const": "+"}, "left": {"$ref": "#"}, "right": {"$ref": "#"}}, "op", "left", "right"),
        obj({"op": {"const": "-"}, "of": {"$ref": "#"}}, "op", "of"),
    ]
}
ZOD_EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"

# A schema, values that it takes, values that it does not.
CASES: list[tuple[Any, list[Any], list[Any]]] = [
    # Types
    (STRING, ["", "a", 'é"\\\n\x00\x7f\u2028', "😀"], [1, None, ["a"]]),
    (INTEGER, [0, -1, 12345678901234567890], [1.5, "1", None, True]),
    (NUMBER, [0, -0.0, 1.5, 1e-7, 1e300, -2], ["1", None]),
    (BOOLEAN, [True, False], [0, "true", None]),
    (NULL, [None], [0, False, "null"]),
    ({"type": "object"}, [{}, {"a": [1, {"b": None}]}], [[], 1]),
    ({"type": "array"}, [[], [1, "a", {}, [[]]]], [{}, 1]),
    ({"type": ["string", "null"]}, ["a", None], [1, False]),
    ({"type": ["integer", "number", "boolean"]}, [1, 1.5, True], ["a"]),
    ({}, [1, "a", None, {"a": [True]}], []),
    ({"title": "T", "description": "d", "default": 1, "$comment": "c", "x-order": 3}, [1, "a"], []),
    # Objects
    (obj({}), [{}], [{"a": 1}]),
    (obj({"a": INTEGER}, "a"), [{"a": 1}], [{}, {"a": "x"}, {"a": 1, "b": 2}]),
    (obj({"a": INTEGER}), [{}, {"a": 1}], [{"a": None}, {"b": 1}]),
    (obj({"a": INTEGER, "b": STRING}, "b"), [{"b": ""}, {"a": 1, "b": ""}], [{"a": 1}, {"b": "", "a": 1}]),
    (obj({"a": NULL, "b": NULL, "c": NULL}), [{}, {"a": None, "c": None}, {"b": None}, {"c": None}], [{"d": None}]),
    (obj({"a": NULL, "b": NULL, "c": NULL}, "c"), [{"c": None}, {"b": None, "c": None}], [{"a": None}]),
    (obj({"a": NULL, "b": NULL}, "a"), [{"a": None, "b": None}], [{"b": None}]),
    (obj({"a": True}, "a"), [{"a": [1]}, {"a": "x"}], [{}]),
    (obj({"a": {}}, "a"), [{"a": {"b": 1}}], [{}]),
    (obj({'"é\n\\': INTEGER}, '"é\n\\'), [{'"é\n\\': 1}], [{"é": 1}]),
    ({"properties": {"a": INTEGER}}, [{"a": 1}, {}], [{"a": "x"}, 1]),
    ({"type": "object", "required": ["a"]}, [{"a": [1]}, {"a": 1, "b": 2}], [{}, {"b": 1}]),
    (obj({"a": INTEGER}, "a", "b"), [{"a": 1, "b": "any"}], [{"a": 1}]),
    (obj({"a": INTEGER}, "a", additionalProperties=True), [{"a": 1}, {"a": 1, "b": [2]}], [{"b": 1}, {"a": ""}]),
    (obj({"ab": INTEGER}, additionalProperties=STRING), [{}, {"ab": 1, "a": "", "abc": ""}, {"b": ""}], [{"ab": ""}]),
    (
        {"type": "object", "additionalProperties": INTEGER},
        [{}, {"a": 1}, {"a": 1, "é": 2, "": 3}],
        [{"a": "x"}, {"a": 1, "b": None}],
    ),
    ({"type": "object", "additionalProperties": False}, [{}], [{"a": 1}]),
    ({"type": "object", "additionalProperties": True}, [{}, {"a": 1}], [1]),
    (obj({"a": NULL, "b": NULL}, minProperties=1), [{"a": None}, {"b": None}, {"a": None, "b": None}], [{}]),
    (obj({"a": NULL, "b": NULL, "c": NULL}, maxProperties=1), [{}, {"c": None}], [{"a": None, "b": None}]),
    (obj({"a": NULL, "b": NULL}, "b", maxProperties=1), [{"b": None}], [{"a": None, "b": None}, {}]),
    (
        {"additionalProperties": INTEGER, "minProperties": 2, "maxProperties": 3},
        [{"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}],
        [{"a": 1}, {"a": 1, "b": 2, "c": 3, "d": 4}, {}],
    ),
    (
        obj({"a": NULL}, additionalProperties=NULL, minProperties=2),
        [{"a": None, "b": None}, {"b": None, "c": None}],
        [{"a": None}, {"b": None}],
    ),
    # Arrays
    ({"type": "array", "items": INTEGER}, [[], [1], [1, 2, 3]], [["a"], [1, None]]),
    ({"items": INTEGER, "minItems": 2}, [[1, 2], [1, 2, 3]], [[], [1]]),
    ({"items": INTEGER, "maxItems": 2}, [[], [1], [1, 2]], [[1, 2, 3]]),
    ({"items": INTEGER, "minItems": 1, "maxItems": 1}, [[1]], [[], [1, 2]]),
    ({"items": INTEGER, "minItems": 2, "maxItems": 4}, [[1, 2], [1, 2, 3, 4]], [[1], [1, 2, 3, 4, 5]]),
    ({"items": INTEGER, "maxItems": 0}, [[]], [[1]]),
    ({"type": "array", "maxItems": 256}, [[], [1] * 256], [[1] * 257]),
    ({"items": {"items": INTEGER}}, [[], [[]], [[1], [2, 3]]], [[1]]),
    ({"prefixItems": [INTEGER, STRING]}, [[1, "a"]], [[], [1], ["a", 1], [1, "a", 2]]),
    ({"prefixItems": [INTEGER, STRING], "minItems": 1}, [[1], [1, "a"]], [[], [1, "a", 2]]),
    ({"prefixItems": [INTEGER, STRING], "minItems": 0}, [[], [1], [1, "a"]], [["a"]]),
    ({"prefixItems": [INTEGER], "items": STRING}, [[1], [1, "a", "b"]], [[], ["a"], [1, 2]]),
    ({"prefixItems": [INTEGER], "items": STRING, "minItems": 3, "maxItems": 3}, [[1, "a", "b"]], [[1, "a"]]),
    ({"prefixItems": [INTEGER, STRING, NULL], "maxItems": 2}, [[1, "a"]], [[1, "a", None], [1]]),
    ({"prefixItems": [INTEGER], "items": False}, [[1]], [[1, 2]]),
    ({"items": True, "uniqueItems": False}, [[1, "a"]], [{}]),
    # Listed values
    ({"enum": ["red", "green", "grey", ""]}, ["red", "green", "grey", ""], ["gre", "reds", None]),
    ({"enum": [1, 12, 1.5, True, None, "1"]}, [1, 12, 1.5, True, None, "1"], [2, False, "", 15]),
    ({"type": "string", "enum": ["a", 1, None]}, ["a"], [1, None]),
    ({"type": ["string", "null"], "enum": ["a", None]}, ["a", None], ["b"]),
    ({"enum": ["a", "bb", "ccc"], "maxLength": 2}, ["a", "bb"], ["ccc"]),
    ({"enum": [1, 5, 9], "minimum": 2, "exclusiveMaximum": 9}, [5], [1, 9]),
    ({"enum": ["a1", "b"], "pattern": r"\d"}, ["a1"], ["b"]),
    ({"enum": [{"a": 1}, [1, [2]]]}, [{"a": 1}, [1, [2]]], [{"a": 2}, [1], {}]),
    ({"const": "x"}, ["x"], ["y", 1]),
    ({"const": None}, [None], [0]),
    ({"const": {"a": [1, {"b": "é"}], "c": {}}}, [{"a": [1, {"b": "é"}], "c": {}}], [{}, {"a": []}]),
    ({"type": "integer", "const": 1.0}, [1.0], [2]),
    ({"enum": ["a", "b"], "const": "b"}, ["b"], ["a"]),
    ({"enum": ["a\nb", 'q"q', "\\", "é😀"]}, ["a\nb", 'q"q', "\\", "é😀"], ["ab"]),
    # Strings
    ({"minLength": 2}, ["ab", "abc", "é😀", "\n\n"], ["", "a", "😀"]),
    ({"maxLength": 2}, ["", "ab", "😀😀", "\n\t"], ["abc"]),
    ({"minLength": 1, "maxLength": 3}, ["a", "abc"], ["", "abcd"]),
    ({"maxLength": 0, "type": "string"}, [""], ["a"]),
    ({"maxLength": 2048}, ["", "x" * 1998, "x" * 1999, "x" * 2000, "x" * 2048], ["x" * 2049]),
    ({"minLength": 2048}, ["x" * 2048, "x" * 2500], ["x" * 2047]),
    ({"minLength": 2010, "maxLength": 2020}, ["x" * 2010, "x" * 2020], ["x" * 2009, "x" * 2021]),
    (text("^[a-z]+$"), ["a", "abc"], ["", "A", "a1"]),
    (text("^[a-z]+$", maxLength=3), ["a", "abc"], ["", "abcd"]),
    (text("^[a-z]{2,5}$", minLength=3, maxLength=9), ["abc", "abcde"], ["ab", "abcdef"]),
    (text("^(ab|c)*$", minLength=3, maxLength=4), ["abc", "cccc", "abab"], ["ab", "ababa", "bbb"]),
    (text(r"^[A-Z]{3}-\d{4}$"), ["ABC-1234"], ["ABC-123", "abc-1234", "ABC-12345"]),
    (text("b"), ["b", "abc", "bb", 'x\n"b'], ["", "ac"]),
    (text("^a|b$"), ["a", "ax", "xb", "b"], ["xa", "bx", ""]),
    (text(""), ["", "x"], [1]),
    (text(r"^\w\s\D.\W$"), ["a bé ", "_\tx!-"], ["a b", "é bx ", "a 1x "]),
    (text(r'^["\\\n\x41\u0042/]+$'), ['"\\\nAB/'], ["C", ""]),
    (text(r"^\u{1F600}\uD83D\uDE00😀$"), ["😀😀😀"], ["😀"]),
    (text(r"^[^a-z\s]{2}$"), ["A1", "é😀", '"\\'], ["a1", "1 ", "1"]),
    (text(r"^(?:a(?<n>b|c)?){1,2}$"), ["a", "ab", "aca", "abac"], ["", "b", "abb"]),
    (text(r"^a*?b+?$"), ["b", "aab", "bb"], ["a"]),
    (text(r"^(a?b?)*$"), ["", "ab", "ba", "aabb"], ["c"]),
    (text(r"^(a*)*(b|)+$"), ["", "aab"], ["c", "ba"]),
    (text(r"^[\w.-]+$"), ["a.b-c"], ["a b"]),
    (text(r"^[]$|^a$"), ["a"], ["", "]"]),
    (text(r"^\.\$\^\{\}\(\)\[\]\|\*\+\?\/$"), [".$^{}()[]|*+?/"], [""]),
    (text(r"^(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{3,4}$"), ["aB1", "1B2c"], ["ab1", "AB", "aaBB1"]),
    (text(ZOD_EMAIL), ["a.b@c.de", "x+y@a-b.c.org"], [".a@b.co", "a..b@c.de", "a@b"]),
    ({"format": "date"}, ["2024-02-29", "1999-12-31", "2000-02-29"], ["2023-02-29", "1900-02-29", "2024-04-31", "24"]),
    ({"format": "time"}, ["23:59:59Z", "00:00:00.123+05:30"], ["24:00:00Z", "12:00", "12:00:00"]),
    ({"format": "date-time"}, ["2024-02-29T12:00:00Z"], ["2024-02-29", "2023-02-29T12:00:00Z", "2024-01-01 12:00:00Z"]),
    ({"format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000", "x"]),
    ({"format": "email"}, ["a.b@c-d.org"], ["a", "a@b", "a@@b.c", ".a@b.co"]),
    ({"format": "ipv4"}, ["0.0.0.0", "255.199.20.1"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
    ({"format": "no-such-format"}, ["", "x"], [1]),
    ({"format": "date", "pattern": "^2024"}, ["2024-01-01"], ["2023-01-01"]),
    ({"format": "email", "maxLength": 7}, ["a@b.co"], ["abc@d.com"]),
    # Numbers
    ({"type": "integer", "minimum": 0, "maximum": 100}, [0, 9, 10, 99, 100], [-1, 101, 1000]),
    ({"type": "integer", "minimum": -5, "maximum": 17}, [-5, -1, 0, 17], [-6, 18, 100, -10]),
    ({"type": "integer", "minimum": 1}, [1, 10, 99999999999999999999], [0, -1]),
    ({"type": "integer", "maximum": -10}, [-10, -11, -100], [-9, 0, 10]),
    ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, [4], [3, 5]),
    ({"type": "integer", "minimum": 0.5, "maximum": 2.5}, [1, 2], [0, 3]),
    ({"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
     [0, -9007199254740991, 9007199254740991], [9007199254740992, -9007199254740992]),
    ({"type": "number", "minimum": 0, "maximum": 1}, [0, 1, 0.5, 1.0, 0.0001, 0.99], [-0.1, 1.01, 2, -1]),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5, 0.001], [0, 0.0, 1, 1.0, -0.5]),
    ({"type": "number", "minimum": -90, "maximum": 90}, [-90, 90, -89.9, 0, -0.0, 45.25], [90.1, -90.001, 91]),
    ({"type": "number", "minimum": 0.25, "maximum": 0.75}, [0.25, 0.3, 0.75, 0.250], [0.2, 0.249, 0.7501, 1, 0]),
    ({"type": "number", "exclusiveMinimum": 2.5}, [2.51, 3, 100], [2.5, 2, 0, -3]),
    ({"type": "number", "maximum": -1.5}, [-1.5, -1.6, -10], [-1.4, 0, 1]),
    ({"minimum": 3, "exclusiveMinimum": 3, "maximum": 1e300}, [3.5, 4], [3, 2]),
    ({"type": ["integer", "null"], "minimum": 5}, [5, None], [4]),
    # Combinations
    ({"anyOf": [STRING, INTEGER]}, ["a", 1], [None, 1.5]),
    ({"oneOf": [STRING, NULL]}, ["a", None], [1]),
    ({"anyOf": [obj({"k": {"const": "a"}, "x": INTEGER}, "k", "x"), obj({"k": {"const": "b"}}, "k")]},
     [{"k": "a", "x": 1}, {"k": "b"}], [{"k": "a"}, {"k": "b", "x": 1}, {"k": "c"}]),
    ({"type": "object", "properties": {"a": NULL}, "anyOf": [{"required": ["a"]}, obj({"b": NULL}, "b")]},
     [{"a": None}, {"b": None}, {"a": None, "b": None}], [{}]),
    ({"allOf": [STRING]}, ["a"], [1]),
    ({"allOf": [{"$ref": "#/$defs/s"}], "description": "d", "$defs": {"s": STRING}}, ["a"], [1]),
    ({"allOf": [obj({"a": INTEGER}, "a"), obj({"b": STRING}, "b")]}, [{"a": 1, "b": ""}], [{"a": 1}, {"b": ""}]),
    ({"allOf": [obj({"a": {"minimum": 1}}, "a"), obj({"a": {"type": "integer", "maximum": 3}})]},
     [{"a": 1}, {"a": 3}], [{"a": 0}, {"a": 4}, {"a": 1.5}]),
    ({"allOf": [obj({"a": INTEGER}, additionalProperties=False), {"required": ["a"]}]}, [{"a": 1}], [{}]),
    ({"allOf": [obj({"a": INTEGER}, additionalProperties=False), obj({"a": True, "b": INTEGER})]},
     [{"a": 1}, {}], [{"b": 1}]),
    ({"allOf": [{"minLength": 2}, {"maxLength": 3}, text("^a"), text("b$")]}, ["ab", "axb"], ["a", "axxb", "ba"]),
    ({"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}, {"maximum": 2}]}, [2], [1, 3, 4]),
    ({"allOf": [NUMBER, INTEGER]}, [1], [1.5]),
    ({"allOf": [{"anyOf": [STRING, INTEGER]}, {"anyOf": [INTEGER, NULL]}]}, [1], ["a", None]),
    ({"allOf": [{"items": {"minimum": 1}}, {"items": INTEGER, "minItems": 1}]}, [[1]], [[0], [], [1.5]]),
    ({"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/b~1c"}, "b/c": INTEGER}}, [1], ["a"]),
    ({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"$ref": "#/$defs/list/0"}, "list": [NULL]}}, [None], [1]),
    ({"$ref": "#/$defs/a", "minimum": 3, "$defs": {"a": INTEGER}}, [3], [2, 3.5]),
    (TREE, [{"value": 1}, {"value": 1, "left": {"value": 2, "right": {"value": 3}}}], [{"value": 1, "left": {}}]),
    (LIST, [{"head": "", "tail": None}, {"head": "a", "tail": {"head": "b", "tail": None}}], [{"head": ""}]),
    (EVEN, [[], [{"a": []}], [{"a": [{"a": []}]}]], [{}, [[]], [{}]]),
    # A way without end is not offered.
    ({"anyOf": [INTEGER, obj({"a": {"$ref": "#/$defs/x"}}, "a")], "$defs": ENDLESS},
     [1], [{"a": {}}, {"a": {"b": 1}}]),
    (obj({"a": INTEGER, "b": {"$ref": "#/$defs/x"}}, "a", **{"$defs": ENDLESS}), [{"a": 1}], [{"a": 1, "b": {}}]),
    # Alternatives that begin alike
    (FILES, [{"name": "a", "kids": [{"name": "b", "size": 1}, {"name": "c", "kids": []}]}], [{"name": "a"}]),
    (EXPRESSION, [{"op": "+", "left": 1, "right": {"op": "-", "of": {"op": "-", "of": 2}}}], [{"op": "-", "left": 1}]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "taken", "not_taken"), CASES, ids=lambda value: json.dumps(value)[:60])
def test_the_grammar_takes_what_the_schema_takes(schema: Any, taken: list[Any], not_taken: list[Any]) -> None:
    grammar = schema_grammar(schema)
    for judge in (Grammar(grammar), LlamaCpp(grammar)):
        for value in taken:
            assert judge.accepts(compact(value)), value
            assert judge.accepts(json.dumps(value, ensure_ascii=False)), value
        for value in not_taken:
            assert not judge.accepts(compact(value)), value
            assert not judge.accepts(json.dumps(value, ensure_ascii=False)), value


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_the_table_is_large() -> None:
    assert len(CASES) >= 80


REFUSALS: list[tuple[Any, str, str]] = [
    ({"not": STRING}, ".not", "not supported"),
    ({"if": STRING, "then": STRING}, ".if", "not supported"),
    ({"patternProperties": {"^a": STRING}}, ".patternProperties", "not supported"),
    ({"propertyNames": STRING}, ".propertyNames", "not supported"),
    ({"dependentRequired": {}}, ".dependentRequired", "not supported"),
    ({"dependentSchemas": {}}, ".dependentSchemas", "not supported"),
    ({"type": "object", "unevaluatedProperties": False}, ".unevaluatedProperties", "not supported"),
    ({"contains": STRING}, ".contains", "not supported"),
    ({"minContains": 1}, ".minContains", "not supported"),
    ({"maxContains": 1}, ".maxContains", "not supported"),
    ({"uniqueItems": True}, ".uniqueItems", "not supported"),
    ({"multipleOf": 2}, ".multipleOf", "not supported"),
    (obj({"a": {"type": "number", "multipleOf": 0.1}}), ".properties.a.multipleOf", "not supported"),
    ({"items": [STRING]}, ".items", "prefixItems"),
    ({"enum": []}, ".enum", "not empty"),
    ({"anyOf": []}, ".anyOf", "not empty"),
    ({"allOf": {}}, ".allOf", "not empty"),
    ({"type": "text"}, ".type", "one or more of"),
    ({"type": []}, ".type", "one or more of"),
    ({"type": [["string"]]}, ".type", "one or more of"),
    ({"properties": []}, ".properties", "an object"),
    ({"required": "a"}, ".required", "a list of names"),
    (obj({"a": False}), ".properties.a", "`false` is not supported"),
    (obj({"a": 1}), ".properties.a", "a schema must be"),
    ({"maxLength": 2049}, ".maxLength", "from 0 to 2,048"),
    ({"maxLength": "3"}, ".maxLength", "whole number"),
    ({"minLength": -1}, ".minLength", "whole number"),
    ({"minLength": 3, "maxLength": 2}, ".minLength", "above maxLength"),
    ({"maxItems": 257}, ".maxItems", "from 0 to 256"),
    ({"minItems": 2, "maxItems": 1}, ".minItems", "above maxItems"),
    ({"maxProperties": 65}, ".maxProperties", "from 0 to 64"),
    (obj({"a": NULL}, minProperties=2), ".minProperties", "no object"),
    (obj({"a": NULL, "b": NULL}, "a", "b", maxProperties=1), ".maxProperties", "no object"),
    ({"prefixItems": [NULL], "items": False, "minItems": 2}, ".minItems", "no array"),
    (obj({"a": NULL}, "b", additionalProperties=False), ".required", "'b'"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "", "no number"),
    ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "", "no number"),
    ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "", "no number"),
    ({"minimum": "3"}, ".minimum", "a number"),
    ({"exclusiveMinimum": True, "minimum": 3}, ".exclusiveMinimum", "a number"),
    ({"minimum": float("nan")}, ".minimum", "a number"),
    ({"const": float("inf")}, "", "too large"),
    ({"enum": ["\ud800"]}, "", "valid Unicode"),
    ({"type": "integer", "enum": ["a"]}, "", "no value of the enumeration"),
    ({"enum": [{}], "properties": {}}, ".properties", "beside an enum"),
    (text("^(?<=a)b$"), ".pattern", "look-around"),
    (text("^a(?=b)"), ".pattern", "look-around"),
    (text("^(?=a)b|c$"), ".pattern", "look-ahead beside"),
    (text(r"^(a)\1$"), ".pattern", "back-references"),
    (text(r"\bword\b"), ".pattern", "not supported"),
    (text(r"^\p{L}$"), ".pattern", "not supported"),
    (text("a^b"), ".pattern", "`^` anywhere"),
    (text("a$b"), ".pattern", "`$` anywhere"),
    (text("(a$)"), ".pattern", "`$` anywhere"),
    (text("(?i)a"), ".pattern", "this kind of group"),
    (text("a{1001}"), ".pattern", "more than 1000"),
    (text("a{3,2}"), ".pattern", "n below m"),
    (text("a**"), ".pattern", "nothing to repeat"),
    (text("("), ".pattern", "has no `)`"),
    (text(")"), ".pattern", "has no `(`"),
    (text("[a"), ".pattern", "has no `]`"),
    (text("[z-a]"), ".pattern", "range"),
    (text(r"[a-\d]"), ".pattern", "range"),
    (text("\\"), ".pattern", "too early"),
    (text("a{x}"), ".pattern", "`{m,n}`"),
    (text("x" * 513), ".pattern", "more than 512"),
    (text("(" * 33 + ")" * 33), ".pattern", "deeper than 32"),
    (text("^[]$"), "", "no string"),
    (text("^a{3}$", maxLength=2), "", "no string"),
    (text("^(ab)+$", minLength=3, maxLength=3), "", "no string"),
    (text("^a$", format="date"), "", "no string"),
    ({"$ref": "other.json"}, ".$ref", "same schema"),
    ({"$ref": "#name"}, ".$ref", "same schema"),
    ({"$ref": "#/$defs/none"}, ".$ref", "leads nowhere"),
    ({"$dynamicRef": "#a"}, ".$dynamicRef", "not supported"),
    ({"$ref": "#"}, "", "back to itself"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "", "back to itself"),
    ({"anyOf": [{"$ref": "#"}, STRING]}, "", "back to itself"),
    (obj({"a": {"$ref": "#"}}, "a"), "", "without end"),
    ({"allOf": [STRING, INTEGER]}, "", "nothing satisfies"),
    ({"allOf": [{"prefixItems": [STRING]}, {"items": STRING}]}, "", "cannot be combined"),
    ({"anyOf": [STRING, False]}, ".anyOf[1]", "`false`"),
    ({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}, "minItems": 1}]}, "", "begin alike"),
    ({"anyOf": [obj({"a": STRING, f"b{i}": INTEGER}, "a") for i in range(65)]}, "", "begin alike"),
    (obj({f"p{i}": STRING for i in range(257)}), "", "more than 256 optional"),
    ({"enum": [{"a": i} for i in range(65)]}, ".enum", "more than 64"),
    ({"prefixItems": [NULL] * 257}, ".prefixItems", "more than 256"),
]


@pytest.mark.parametrize(("schema", "place", "reason"), REFUSALS, ids=lambda value: json.dumps(value)[:60])
def test_what_is_refused_is_named(schema: Any, place: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        schema_grammar(schema)
    message = str(refused.value)
    assert message.startswith(f"response_format.json_schema.schema{place}")
    assert reason in message
    assert refused.value.param == "response_format"


def test_json_is_any_object() -> None:
    grammar = json_grammar()
    for judge in (Grammar(grammar), LlamaCpp(grammar)):
        for taken in ("{}", '{"a":1}', '{\n  "a": [1, 2.5e-3, {"b": "\\u00e9\\ud83d\\ude00"}],\n  "c": null\n}'):
            assert judge.accepts(taken), taken
        for not_taken in (
            "[]",
            '"a"',
            "{",
            '{"a":}',
            "{a:1}",
            '{"a":01}',
            '{"a":"\\ud83d"}',
            '{"a":"\n"}',
            " {}",
            "{} ",
        ):
            assert not judge.accepts(not_taken), not_taken


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ('{"a":1,"b":[1,2]}', True),
        ('{"a": 1, "b": [1, 2]}', True),
        ('{ "a": 1, "b": [ 1, 2 ] }', True),
        ('{\n  "a": 1,\n  "b": [\n    1,\n    2\n  ]\n}', True),
        ('{\n\t"a": 1,\n\t"b": [1]\n}', True),
        ('{"a":  1, "b": []}', False),
        ('{"a" : 1, "b": []}', False),
        ('{"a": 1 , "b": []}', False),
        ('{"a": 1,\n\n"b": []}', False),
        ('{"a": 1,' + "\n" + " " * 21 + '"b": []}', False),
    ],
)
def test_white_space_is_what_models_write_and_has_an_end(written: str, taken: bool) -> None:
    grammar = schema_grammar(obj({"a": INTEGER, "b": {"items": INTEGER}}, "a", "b"))
    assert Grammar(grammar).accepts(written) is taken
    assert LlamaCpp(grammar).accepts(written) is taken


@pytest.mark.parametrize("size", [0, 1, 2])
def test_escapes_count_as_the_characters_that_they_are(size: int) -> None:
    grammar = schema_grammar({"minLength": size, "maxLength": size})
    for letter in ("é", "\\u00e9", "\\ud83d\\ude00", "\\n", "\\\\", '\\"', "\\/", "\\uD7FF", "\\uE000"):
        assert LlamaCpp(grammar).accepts(f'"{letter * size}"')
        assert not LlamaCpp(grammar).accepts(f'"{letter * (size + 1)}"')


def test_a_name_cannot_be_sneaked_in_by_its_escapes() -> None:
    grammar = LlamaCpp(schema_grammar(obj({"a": INTEGER}, additionalProperties=STRING)))
    assert grammar.accepts('{"b": "x"}')
    assert not grammar.accepts('{"a": "x"}')
    assert not grammar.accepts('{"\\u0061": "x"}')


def test_many_listed_values_are_one_way_for_the_engine() -> None:
    values = [f"product-{number:04}" for number in range(900)] + list(range(100))
    grammar = LlamaCpp(schema_grammar({"enum": values}))
    assert grammar.accepts('"product-0042"')
    assert not grammar.accepts('"product-0900"')
    assert grammar.ways <= 12


def test_equal_parts_are_written_once() -> None:
    part = {"type": "string", "pattern": r"^[a-z](\d|[A-Z]){3,9}$", "maxLength": 7}
    one = len(schema_grammar(obj({"a": dict(part)})))
    assert len(schema_grammar(obj({name: dict(part) for name in "abcdefgh"}))) < one + 500
    large = obj({f"m{i}": {"type": "integer", "maximum": i} for i in range(30)})
    by_name = obj({n: {"$ref": "#/$defs/x"} for n in "abcdefgh"}, **{"$defs": {"x": large}})
    assert len(schema_grammar(by_name)) < len(schema_grammar(large)) + 1000


WEATHER = Tool("get_weather", parameters=obj({"city": STRING, "days": {"type": "integer", "minimum": 1}}, "city"))
TIME = Tool("get_time", parameters=obj({"zone": {"enum": ["UTC", "CET"]}}, "zone"))
PING = Tool("ping")


@pytest.mark.parametrize(
    ("syntax", "parallel", "taken", "not_taken"),
    [
        (
            HERMES,
            True,
            [
                '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bonn"}}\n</tool_call>',
                '<tool_call>\n{"name":"ping","arguments":{}}\n</tool_call>\n<tool_call>\n'
                '{"name": "get_time", "arguments": {"zone": "CET"}}\n</tool_call>',
            ],
            [
                '<tool_call>\n{"name": "get_wether", "arguments": {"city": "Bonn"}}\n</tool_call>',
                '<tool_call>\n{"name": "ping", "arguments": {"city": "Bonn"}}\n</tool_call>',
                '<tool_call>\n{"name": "get_time", "arguments": {"zone": "MEZ"}}\n</tool_call>',
                '{"name": "ping", "arguments": {}}',
                "",
            ],
        ),
        (
            HERMES,
            False,
            ['<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'],
            [
                '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>\n<tool_call>\n'
                '{"name": "ping", "arguments": {}}\n</tool_call>'
            ],
        ),
        (
            LLAMA3,
            True,
            [
                '{"name": "get_time", "parameters": {"zone": "UTC"}}',
                '{"name": "ping", "parameters": {}}; {"name": "ping", "parameters": {}}',
            ],
            ['{"name": "ping", "arguments": {}}', '{"parameters": {}, "name": "ping"}'],
        ),
        (
            MISTRAL,
            True,
            [
                '[TOOL_CALLS][{"name": "ping", "arguments": {}}]',
                '[TOOL_CALLS][{"name": "ping", "arguments": {}}, {"name": "get_weather", "arguments": {"city": ""}}]',
            ],
            ["[TOOL_CALLS][]", '[{"name": "ping", "arguments": {}}]'],
        ),
        (CallSyntax(), False, ['{"name": "get_weather", "arguments": {"city": "x", "days": 2}}'], ["{}"]),
    ],
)
def test_calls_are_written_as_the_family_writes_them(
    syntax: CallSyntax, parallel: bool, taken: list[str], not_taken: list[str]
) -> None:
    grammar = call_grammar([WEATHER, TIME, PING], syntax, parallel=parallel)
    for judge in (Grammar(grammar), LlamaCpp(grammar)):
        assert all(judge.accepts(text) for text in taken)
        assert not any(judge.accepts(text) for text in not_taken)


def test_many_tools_are_one_way_for_the_engine() -> None:
    tools = [Tool(f"tool_{number}", parameters=obj({"a": INTEGER}, "a")) for number in range(350)]
    grammar = LlamaCpp(call_grammar(tools, HERMES, parallel=True))
    assert grammar.accepts('<tool_call>\n{"name": "tool_349", "arguments": {"a": 1}}\n</tool_call>')
    assert grammar.ways <= 12


def test_a_tool_schema_means_its_objects() -> None:
    schema = {"anyOf": [obj({"a": INTEGER}, "a"), STRING]}
    grammar = LlamaCpp(call_grammar([Tool("t", parameters=schema)], CallSyntax(), parallel=False))
    assert grammar.accepts('{"name": "t", "arguments": {"a": 1}}')
    assert not grammar.accepts('{"name": "t", "arguments": "a"}')


def test_each_tool_has_its_own_references() -> None:
    tools = [
        Tool(name, parameters=obj({"x": {"$ref": "#/$defs/x"}}, "x", **{"$defs": {"x": schema}}))
        for name, schema in (("one", INTEGER), ("two", STRING))
    ]
    grammar = LlamaCpp(call_grammar(tools, CallSyntax(), parallel=False))
    assert grammar.accepts('{"name": "one", "arguments": {"x": 1}}')
    assert grammar.accepts('{"name": "two", "arguments": {"x": "1"}}')
    assert not grammar.accepts('{"name": "one", "arguments": {"x": "1"}}')


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"type": "string"}, "tools[1].function.parameters:"),
        (obj({"a": {"not": {}}}), "tools[1].function.parameters.properties.a.not:"),
        (obj({"a": {"$ref": "#"}}, "a"), "tools[1].function.parameters:"),
    ],
)
def test_a_refusal_names_the_tool(parameters: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        call_grammar([PING, Tool("t", parameters=parameters)], CallSyntax(), parallel=True)
    assert str(refused.value).startswith(place)
    assert refused.value.param == "tools[1].function.parameters"
