"""Random schemas: every instance that we build for one is taken, none that breaks it is, and whatever the grammar can
write is JSON that the schema accepts. The judge of schemas is a plain reading of the standard, made for these tests."""

import json
import random
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import assume, given, note
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, DrawFn, SearchStrategy

from leadline.engines.format.grammar import schema_grammar
from leadline.engines.format.schemas.ambiguity import MOST_WAYS
from leadline.errors import InvalidRequest
from tests.unit.engines.test_grammar_recogniser import Grammar, LlamaCpp

Schema = dict[str, Any]
TYPES = ("object", "array", "string", "number", "boolean", "null")
NAMES = st.sampled_from(["a", "b", "ab", "c", "name", "é", 'q"', "x\n"])
PATTERNS = st.sampled_from(
    [
        "^[a-z]+$",
        "^[A-Z]{2,4}-[0-9]{3}$",
        "^(foo|bar|foobar)*$",
        "^a.c$",
        "^[^x-z]{0,3}$",
        '^["\\\\/]+$',
        "^(a|b)?(c|d){1,3}$",
        "^(ab|a)(bc|c)$",
        "^[\\x00-\\x1f]{1,2}$",
    ]
)
TEXTS = st.text(st.sampled_from('abcxyz019 -"\\/é漢😀\n\t\x00\x7f'), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-1000, 1000) | TEXTS | st.sampled_from([0.5, -1.25, 100.0])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)


# Schemas


@st.composite
def strings(draw: DrawFn) -> Schema:
    match draw(st.integers(0, 3)):
        case 0:
            return {"type": "string"}
        case 1:
            low, high = sorted((draw(st.integers(0, 6)), draw(st.integers(0, 6))))
            both = {"minLength": low, "maxLength": high}
            return {"type": "string"} | {key: both[key] for key in draw(st.sets(st.sampled_from(sorted(both))))}
        case 2:
            return {"type": "string", "pattern": draw(PATTERNS)}
    return {"type": "string", "format": draw(st.sampled_from(["date", "date-time", "uuid", "ipv4", "other"]))}


@st.composite
def numbers(draw: DrawFn) -> Schema:
    whole = draw(st.booleans())
    bound = st.integers(-1200, 1200)
    if not whole:
        bound |= st.decimals(-120, 120, places=2).map(float)
    low, high = sorted((draw(bound), draw(bound)))
    words: Schema = {"type": "integer" if whole else "number"}
    if draw(st.booleans()):
        words[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        words[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = high
    return words


@st.composite
def objects(draw: DrawFn, inner: SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    words: Schema = {"type": "object", "properties": properties, "required": required}
    if draw(st.booleans()):
        words["additionalProperties"] = draw(st.booleans() | inner)
    if draw(st.integers(0, 3)) == 0:
        words["minProperties"] = draw(st.integers(0, len(properties)))
    if draw(st.integers(0, 3)) == 0:
        words["maxProperties"] = draw(st.integers(max(len(required), words.get("minProperties", 0)), 6))
    return words


@st.composite
def arrays(draw: DrawFn, inner: SearchStrategy[Schema]) -> Schema:
    words: Schema = {"type": "array"}
    first = draw(st.lists(inner, max_size=3))
    if first:
        words["prefixItems"] = first
    if not first or draw(st.booleans()):
        words["items"] = draw(inner)
    fewest = draw(st.integers(0, 3))
    if draw(st.booleans()):
        words["minItems"] = fewest if "items" in words else min(fewest, len(first))
    if draw(st.booleans()):
        words["maxItems"] = words.get("minItems", 0) + draw(st.integers(0, 3))
    return words


def combined(inner: SearchStrategy[Schema]) -> SearchStrategy[Schema]:
    return (
        objects(inner)
        | arrays(inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda several: {"anyOf": several})
        | st.lists(inner, min_size=1, max_size=2).map(lambda several: {"oneOf": several})
        | inner.map(lambda one: {"allOf": [one], "description": "d"})
        | st.sampled_from([{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/two"}, {"$ref": "#/$defs/tree"}])
    )


LEAVES = (
    strings()
    | numbers()
    | st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, {"type": ["string", "null"], "maxLength": 3}])
    | st.lists(JSON, min_size=1, max_size=5).map(lambda values: {"enum": values})
    | JSON.map(lambda value: {"const": value})
)
TREE: Schema = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    "required": ["v"],
}
INNER = st.recursive(LEAVES, combined, max_leaves=6)


@st.composite
def schemas(draw: DrawFn) -> Schema:
    return draw(INNER) | {"$defs": {"one": draw(LEAVES), "two": draw(INNER), "tree": TREE}}


# Instances


def instance(schema: Any, root: Schema, data: DataObject, depth: int = 0) -> Any:
    """A value that the schema accepts, with members in the schema's order."""
    assume(depth < 12)
    draw = data.draw
    if schema is True:
        return draw(JSON)
    if "$ref" in schema:
        return instance(resolved(schema["$ref"], root), root, data, depth + 1)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return instance(draw(st.sampled_from(schema[word])), root, data, depth + 1)
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    match draw(st.sampled_from(kind)) if isinstance(kind, list) else kind:
        case None:
            return draw(JSON)
        case "null":
            return None
        case "boolean":
            return draw(st.booleans())
        case "string":
            return draw(text_of(schema))
        case "integer" | "number" as name:
            value = draw(number_of(schema, whole=name == "integer"))
            # Beside bounds a grammar has plain decimals only.
            bounded = schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
            assume(valid(schema, value, root) and not (bounded and "e" in repr(value)))
            return value
        case "array":
            return array_of(schema, root, data, depth)
    return object_of(schema, root, data, depth)


def text_of(schema: Schema) -> SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(re.compile(schema["pattern"].replace("$", "\\Z"), re.ASCII))
    match schema.get("format"):
        case "date":
            return st.dates(date(1, 1, 1)).map(str)
        case "date-time":
            times = st.datetimes(datetime(1, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
            return times.map(lambda time: time.isoformat())
        case "uuid":
            return st.uuids().map(str)
        case "ipv4":
            return st.ip_addresses(v=4).map(str)
    return st.text(
        st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 20)
    )


def number_of(schema: Schema, *, whole: bool) -> SearchStrategy[Any]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1500))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1500))
    low, high = min(low, high), max(low, high)
    integers = st.integers(int(low), int(high)) if int(low) <= int(high) else st.just(int(low))
    return integers if whole else integers | st.floats(low, high, allow_subnormal=False) | st.just(float(low))


def array_of(schema: Schema, root: Schema, data: DataObject, depth: int) -> list[Any]:
    first = schema.get("prefixItems", [])
    most = schema.get("maxItems", len(first) + 3)
    # Where `minItems` is not said all first items are wanted.
    least = schema.get("minItems", min(len(first), most))
    if "items" not in schema and first:
        most = min(most, len(first))
    count = data.draw(st.integers(least, max(least, most)))
    parts = [first[i] if i < len(first) else schema.get("items", True) for i in range(count)]
    return [instance(part, root, data, depth + 1) for part in parts]


def object_of(schema: Schema, root: Schema, data: DataObject, depth: int) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    chosen = [name for name in properties if name in required or data.draw(st.booleans())]
    value = {name: instance(properties[name], root, data, depth + 1) for name in chosen}
    others = schema.get("additionalProperties", "properties" not in schema)
    if others is not False:
        for name in data.draw(st.lists(NAMES, max_size=3)):
            if name not in properties and name not in value:
                value[name] = instance(others, root, data, depth + 1)
    assume(schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 99))
    return value


# The standard


def valid(schema: Any, value: Any, root: Schema) -> bool:
    """As JSON Schema 2020-12 has it; an object without `additionalProperties` is open. `oneOf` is `anyOf` for us."""
    if isinstance(schema, bool):
        return schema
    every = [*schema.get("allOf", []), *([resolved(schema["$ref"], root)] if "$ref" in schema else [])]
    some = [schema[word] for word in ("anyOf", "oneOf") if word in schema]
    if not all(valid(part, value, root) for part in every):
        return False
    if not all(any(valid(part, value, root) for part in parts) for parts in some):
        return False
    listed = schema.get("enum", [value]), [schema.get("const", value)]
    if not all(any(same(value, item) for item in values) for values in listed):
        return False
    names = schema.get("type", TYPES)
    if not any(is_type(value, name) for name in ([names] if isinstance(names, str) else names)):
        return False
    match value:
        case str():
            return valid_text(schema, value)
        case int() | float() if not isinstance(value, bool):
            return valid_number(schema, value)
        case list():
            first = schema.get("prefixItems", [])
            parts = [first[i] if i < len(first) else schema.get("items", True) for i in range(len(value))]
            return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 999) and all(
                valid(part, item, root) for part, item in zip(parts, value, strict=True)
            )
        case dict():
            properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
            return (
                all(name in value for name in schema.get("required", []))
                and schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 999)
                and all(valid(properties.get(name, others), item, root) for name, item in value.items())
            )
    return True


def valid_number(schema: Schema, value: float) -> bool:
    return (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or schema["exclusiveMinimum"] < value)
        and ("exclusiveMaximum" not in schema or schema["exclusiveMaximum"] > value)
    )


def valid_text(schema: Schema, value: str) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99999):
        return False
    if "pattern" in schema and not re.search(schema["pattern"].replace("$", "\\Z"), value, re.ASCII):
        return False
    match schema.get("format"):
        case "date":
            return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value)) and (value < "0001" or bool(date.fromisoformat(value)))
        case "ipv4":
            return all(part.isdigit() and int(part) < 256 for part in value.split(".")) and value.count(".") == 3
    return True


def resolved(reference: str, root: Schema) -> Any:
    return root["$defs"][reference.removeprefix("#/$defs/")]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def is_type(value: Any, name: str) -> bool:
    match value:
        case None:
            return name == "null"
        case bool():
            return name == "boolean"
        case str():
            return name == "string"
        case int() | float():
            return name == "number" or (name == "integer" and value == int(value))
        case list():
            return name == "array"
    return name == "object"


# The facts


def both_ways(value: Any) -> tuple[str, str]:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")), json.dumps(value, ensure_ascii=False)


def grammar_of(schema: Schema) -> str:
    """Random bounds may contradict each other, and random alternatives begin alike."""
    return made(schema, "satisfies|no (object|array) has|is above|itself|begin alike")


def made(schema: Schema, known: str) -> str:
    """The grammar. Refusals that are known and right end the example."""
    grammar = refusal = ""
    try:
        grammar = schema_grammar(schema)
    except InvalidRequest as refused:
        refusal = str(refused)
    assert not refusal or re.search(known, refusal)
    assume(grammar)
    return grammar


@given(schemas(), st.data())
def test_what_a_schema_accepts_is_taken(schema: Schema, data: DataObject) -> None:
    grammar = grammar_of(schema)
    value = instance(schema, schema, data)
    note(grammar)
    assert valid(schema, value, schema)
    ours, engine = Grammar(grammar), LlamaCpp(grammar)
    for written in both_ways(value):
        assert engine.accepts(written)
        assert ours.accepts(written)


@given(schemas(), st.data())
def test_what_breaks_a_schema_is_not_taken(schema: Schema, data: DataObject) -> None:
    grammar = grammar_of(schema)
    broken = mutated(instance(schema, schema, data), data)
    note(grammar)
    assume(not valid(schema, broken, schema))
    ours, engine = Grammar(grammar), LlamaCpp(grammar)
    for written in both_ways(broken):
        assert not engine.accepts(written)
        assert not ours.accepts(written)


@given(schemas(), st.integers(0, 2**32))
def test_what_a_grammar_can_write_is_json_of_the_schema(schema: Schema, seed: int) -> None:
    grammar = grammar_of(schema)
    ours, engine = Grammar(grammar), LlamaCpp(grammar)
    randomness = random.Random(seed)
    for _ in range(5):
        written = ours.sample(randomness)
        note(written)
        assert engine.accepts(written)
        value = json.loads(written, object_pairs_hook=without_duplicates)
        # No grammar can forbid that a further member is named twice.
        assert value is DUPLICATE or valid(schema, value, schema)


@given(schemas(), st.text("{}[]\",:0123456789.-+eE truefalsn\\uabcd\n'", max_size=40))
def test_both_judges_agree_on_anything(schema: Schema, written: str) -> None:
    grammar = grammar_of(schema)
    assert Grammar(grammar).accepts(written) is LlamaCpp(grammar).accepts(written)


ATOMS = st.sampled_from(
    ["a", "b", "c", ".", "[ab]", "[^a]", "[^a-b]", "[b-d-]", r"\.", r"\w", r"\D", r"\x61", r"[\d.]"]
)
TIMES = st.sampled_from(["", "?", "*", "+", "{2}", "{1,3}", "{0,1}", "{2,}", "*?", "{0}"])


def composed(inner: SearchStrategy[str]) -> SearchStrategy[str]:
    groups = st.builds(
        "{}{}{}){}".format, st.sampled_from(["(", "(?:"]), inner, st.sampled_from(["", "|", "|c"]), TIMES
    )
    return groups | st.builds("{}{}".format, inner, inner) | st.builds("(?:{}|{}){}".format, inner, inner, TIMES)


EXPRESSIONS = st.recursive(st.builds("{}{}".format, ATOMS, TIMES), composed, max_leaves=6)
BRANCHES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "^", "^(?=a)", "^(?!.*b|c)", "^(?=.{2}$)"]),
    EXPRESSIONS,
    st.sampled_from(["", "$"]),
)


@given(BRANCHES | st.builds("^{}|{}$".format, EXPRESSIONS, EXPRESSIONS), st.text("abcd.1", max_size=6))
def test_patterns_mean_what_they_mean_elsewhere(pattern: str, value: str) -> None:
    # What may begin anywhere and is counted takes a state for each way to have begun.
    engine = LlamaCpp(made({"type": "string", "pattern": pattern}, "no string satisfies|too intricate"))
    assert engine.accepts(json.dumps(value)) is bool(re.search(pattern.replace("$", "\\Z"), value, re.ASCII))


@given(numbers(), st.integers(-1300, 1300) | st.decimals(-130, 130, places=3).map(float))
def test_bounds_of_numbers_are_exact(schema: Schema, value: float) -> None:
    grammar = grammar_of(schema)
    written = str(value)
    whole = schema["type"] == "integer"
    assume("e" not in written and not (whole and isinstance(value, float)))
    assert LlamaCpp(grammar).accepts(written) is valid(schema, value, {})


REFERENCES = st.integers(0, 3).map(lambda number: {"$ref": f"#/$defs/d{number}"})
PARTS = REFERENCES | st.sampled_from([{"type": "string"}, {"type": "integer"}, {"const": "x"}, {"const": "y"}, {}])
ALTERNATIVES = (
    PARTS.map(lambda part: {"type": "array", "items": part})
    | st.lists(PARTS, min_size=1, max_size=2).map(lambda parts: {"type": "array", "prefixItems": parts, "minItems": 0})
    | st.builds(
        lambda properties, required, others: {
            "type": "object",
            "properties": properties,
            "required": sorted(required & properties.keys()),
            "additionalProperties": others,
        },
        st.dictionaries(st.sampled_from("ab"), PARTS, min_size=1),
        st.sets(st.sampled_from("ab")),
        st.just(False) | REFERENCES,
    )
    | st.sampled_from([{"type": "null"}, {"type": "string"}, {"type": "object"}])
)
DEFINITIONS = st.lists(st.lists(ALTERNATIVES, min_size=1, max_size=4), min_size=4, max_size=4)


@given(DEFINITIONS, st.integers(0, 2**32))
def test_nested_alternatives_never_have_the_engine_follow_too_many_ways(several: list[list[Schema]], seed: int) -> None:
    definitions = {f"d{number}": {"anyOf": alternatives} for number, alternatives in enumerate(several)}
    grammar = made({"$ref": "#/$defs/d0", "$defs": definitions}, "begin alike|itself")
    engine = LlamaCpp(grammar)
    samples = [Grammar(grammar).sample(random.Random(seed + number), 12) for number in range(5)]
    nested = [start * 12 for start in ("[", '{"a":', '{"b":', '{"c":', '[{"a":', '["x",', '{"a":"x","b":')]
    for written in samples + nested:
        engine.accepts(written)
        # A way may part in a few for a moment, as where white space, a comma or the end may follow.
        assert engine.ways <= 8 * MOST_WAYS


DUPLICATE = object()


def without_duplicates(pairs: list[tuple[str, Any]]) -> Any:
    duplicates = len(dict(pairs)) < len(pairs) or any(value is DUPLICATE for _, value in pairs)
    return DUPLICATE if duplicates else dict(pairs)


def mutated(value: Any, data: DataObject) -> Any:
    """The value with one thing changed somewhere in it."""
    draw = data.draw
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutated(value[index], data), *value[index + 1 :]]
    if isinstance(value, Mapping) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(value)))
        return {key: mutated(item, data) if key == name else item for key, item in value.items()}
    changes = [draw(JSON)]
    match value:
        case str():
            changes += [value + "a", value[1:], value + '"', value.upper()]
        case list():
            changes += [value[1:], [*value, draw(JSON)]]
        case dict():
            changes += [dict(list(value.items())[1:]), value | {draw(NAMES): draw(JSON)}]
        case int() | float() if not isinstance(value, bool):
            changes += [value + 1, value - 1, value * 10, -value, value + 0.5]
    return draw(st.sampled_from(changes))
