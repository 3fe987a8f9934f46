"""What a model may write, as a grammar for llama.cpp: JSON, JSON of a schema, and calls of tools."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from leadline.chat.request import Tool
from leadline.engines.format.schemas.ambiguity import Ambiguity
from leadline.engines.format.schemas.budget import Budget, Refusal
from leadline.engines.format.schemas.convert import Misplaced, Shapes, convert
from leadline.engines.format.schemas.gbnf import Rules, choice, join, literal, repeated
from leadline.engines.format.schemas.shapes import Object, without_endless
from leadline.engines.format.schemas.structure import Values, json_text
from leadline.errors import InvalidRequest

MOST_CALLS = 64
# Characters that an answer cannot do without. No context holds more.
_LONGEST_SHORTEST = 100_000
_SCHEMA = "response_format.json_schema.schema"


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How a family of models writes calls: `opening`, calls with `separator` between them, `closing`. A call is an
    object with the tool's name and its arguments under these keys.

    Hermes and Qwen open with `<tool_call>\\n`, separate with `\\n</tool_call>\\n<tool_call>\\n` and close with
    `\\n</tool_call>`; Llama 3 separates with `; ` and says `parameters`; Mistral has `[TOOL_CALLS][`, `, ` and `]`.
    """

    opening: str = ""
    separator: str = ""
    closing: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"


def json_grammar() -> str:
    """Any JSON object."""
    return Rules(Budget()).text("object")


def schema_grammar(schema: Mapping[str, object]) -> str:
    """JSON that the schema accepts. InvalidRequest names what we do not take of it.

    Objects take no members but the listed ones, unless `additionalProperties` says so; their members come in the
    schema's order.
    """
    shapes = Shapes(Rules(Budget()))
    try:
        return shapes.rules.text(_written([convert(schema, shapes, _SCHEMA)], shapes, [_SCHEMA])[0])
    except Misplaced as error:
        raise InvalidRequest(str(error), "response_format") from None


def call_grammar(tools: Sequence[Tool], syntax: CallSyntax, *, parallel: bool) -> str:
    """A call of one of these tools, with arguments that its schema accepts; `parallel`: or several of them."""
    shapes = Shapes(Rules(Budget()))
    places = [f"tools[{index}].function.parameters" for index in range(len(tools))]
    try:
        values = [_arguments(tool, shapes, place) for tool, place in zip(tools, places, strict=True)]
        arguments = _written(values, shapes, places)
    except Misplaced as error:
        tool, parameters, _ = error.place.partition(".function.parameters")
        raise InvalidRequest(str(error), tool + parameters) from None
    return shapes.rules.text(_calls(tools, arguments, syntax, shapes.rules, parallel=parallel))


def after_thoughts(grammar: str, opening: str, closing: str) -> str:
    """The form of `grammar` behind thoughts, in which nothing begins like their end. Without an `opening` they are open
    already."""
    first, second = (f"\\{letter}" if letter in "[]" else letter for letter in closing[:2])
    begins = literal(closing[0])
    thoughts = f"([^{first}] | {begins}+ [^{first}{second}])*"
    root = join(_exactly(opening), thoughts, f"{begins}* {literal(closing)} [ \\n]{{0,4}} form")
    return f"root ::= {root}\nform ::= {grammar.removeprefix('root ::= ')}"


def _arguments(tool: Tool, shapes: Shapes, place: str) -> int:
    if tool.parameters:
        return convert(tool.parameters, shapes, place, "object")
    # A tool without a schema is one without arguments.
    value = shapes.add(place)
    shapes.values[value] = [Object(())]
    return value


def _written(values: Sequence[int], shapes: Shapes, places: Sequence[str]) -> list[str]:
    """The fragments of these values, with all rules that they need."""
    place = places[0]
    try:
        finite, shortest = without_endless(shapes.values, shapes.rules.budget)
        for value, place in zip(values, places, strict=True):  # noqa: B007 (named when it is refused)
            _check_length(shortest[value])
        ambiguity = Ambiguity(finite, shapes.rules.budget)
        ways = ambiguity.ways()
        for value, place in enumerate(shapes.places):  # noqa: B007
            ambiguity.check(value, ways)
        place = places[0]
        writer = Values(finite, shapes.rules)
        fragments = [writer.fragment(value) for value in values]
        writer.write()
    except Refusal as error:
        raise Misplaced(place, str(error)) from None
    return fragments


def _check_length(shortest: int | None) -> None:
    if shortest is None:
        raise Refusal("only JSON without end satisfies this schema: it requires itself")
    if shortest > _LONGEST_SHORTEST:
        raise Refusal(f"no JSON of less than {_LONGEST_SHORTEST:,} characters satisfies this schema")


def _calls(tools: Iterable[Tool], arguments: Iterable[str], syntax: CallSyntax, rules: Rules, *, parallel: bool) -> str:
    options = [
        (json_text(tool.name), f'"," ws {literal(json_text(syntax.arguments_key) + ":")} sp {value} ws "}}"')
        for tool, value in zip(tools, arguments, strict=True)
    ]
    call = join(f'"{{" ws {literal(json_text(syntax.name_key) + ":")} sp', choice(options, rules))
    calls = rules.add(call)
    if parallel:
        calls = join(calls, repeated(rules.add(join(_exactly(syntax.separator), calls)), 0, MOST_CALLS - 1, rules))
    return join(_exactly(syntax.opening), calls, _exactly(syntax.closing))


def _exactly(text: str) -> str:
    return literal(text) if text else ""
