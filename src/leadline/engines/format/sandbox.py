"""Chat templates are code from model files: they run in Jinja's sandbox, set up as Hugging Face's transformers does it,
and write no more than they may."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from leadline.clock import MICROSECONDS_PER_SECOND, Clock

_LONGEST_PRODUCT = 1024 * 1024


class TemplateFailed(Exception):
    """The template raised, or wrote too much. What it said stays out: it may hold anything."""


class Sandbox:
    """One compiled template. `variables` are the names that it takes from outside."""

    def __init__(self, source: str, clock: Clock) -> None:
        """TemplateFailed where `source` is no template."""

        def strftime_now(form: str) -> str:
            return datetime.fromtimestamp(clock() / MICROSECONDS_PER_SECOND, UTC).strftime(form)

        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _raise_exception, "strftime_now": strftime_now}
        try:
            self._template = environment.from_string(source)
            self.variables: Iterable[str] = find_undeclared_variables(environment.parse(source))
        except Exception as error:
            raise TemplateFailed from error

    def render(self, variables: dict[str, object], most_characters: int) -> str:
        """TemplateFailed where it raises, or writes more than that. How long it may take is not bounded, but its loops
        are: the sandbox's `range` ends at 100,000."""
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(variables):
                pieces.append(piece)
                size += len(piece)
                if size > most_characters:
                    break
        except Exception as error:  # templates raise whatever they like
            raise TemplateFailed from error
        if size > most_characters:
            raise TemplateFailed
        return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    """Also keeps `'a' * 10**9` from taking all memory."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for text, times in ((left, right), (right, left)):
            if isinstance(text, str | list | tuple) and isinstance(times, int) and len(text) * times > _LONGEST_PRODUCT:
                raise SecurityError
        if operator == "**" and abs(right) > 64:
            raise SecurityError
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks for training what the assistant wrote; here it is just its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 (Hugging Face's signature)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise ValueError(message)
