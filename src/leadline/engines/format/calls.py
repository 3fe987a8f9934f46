"""Readers of one tool call each: what a model writes, however it is cut, becomes the call's name and its arguments as
JSON text. Until a call has begun, all text may still turn out to be no call; from then on it stays one."""

# ruff: noqa: RUF001, RUF003 (DeepSeek writes its tokens with a fullwidth bar)

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

# A call begins only here: with the quotation mark of a first key, or the end of an empty object.
_ARGUMENTS = r'(?P<arguments>\{)(?=\s*["}])'
_STRING = r'"(?P<name>(?:[^"\\]|\\.)*)"'
_OBJECT = re.compile(
    rf'\s*\[?\s*\{{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*{_STRING}'
    rf'\s*,\s*"(?:arguments|parameters)"\s*:\s*{_ARGUMENTS}'
)
# Mistral since 2025: `name[ARGS]{…}`.
MISTRAL_NAMED = re.compile(rf"\s*(?P<name>[\w.-]+)\s*(?:\[CALL_ID\][^\[\]{{]*)?(?:\[ARGS\])?\s*{_ARGUMENTS}")
# DeepSeek R1 and V3: `function<｜tool▁sep｜>name`, a line end, and the arguments fenced; V3.1: `name<｜tool▁sep｜>{…}`.
DEEPSEEK_NAMED = re.compile(
    r"\s*(?:<｜tool▁call▁begin｜>)?\s*(?:function\s*<｜tool▁sep｜>\s*)?(?P<name>[\w.-]+)\s*(?:<｜tool▁sep｜>|\n)"
    rf"\s*(?:```(?:json)?)?\s*{_ARGUMENTS}"
)
_LONGEST_HEAD = 300

_FUNCTION = re.compile(r"\s*<function=([^>\s]+)>(?=\s*(?:<parameter=|</function>))")
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>")
_FUNCTION_END = re.compile(r"\s*</function>")
_PARAMETER_END = re.compile(r"\n?</parameter>")


@dataclass(slots=True)
class Step:
    """What became of the text: `consumed` characters are done with. `name`: the call begins. `arguments`: their next
    piece; the last bracket is never in it, see `CallReader.missing`. `over`: the call has ended. `refused`: it is no
    call."""

    consumed: int = 0
    name: str | None = None
    arguments: str = ""
    over: bool = False
    refused: bool = False


class CallReader(Protocol):
    def read(self, text: str, *, final: bool) -> Step:
        """`text` is all that was not consumed. `final`: no more will come."""

    def missing(self, *, cut: bool) -> str:
        """What makes the arguments whole: their last bracket, and others that the model forgot unless it was `cut`
        off. Empty where nothing does."""


class ObjectCall:
    """`{"name": …, "arguments": {…}}`, or the arguments alone after a name. `bare`: nothing but its own look tells that
    it is a call, so it is refused as early as can be."""

    def __init__(self, names: Collection[str], head: re.Pattern[str] = _OBJECT, *, bare: bool = False) -> None:
        self._complete = False
        self._names = names
        self._head = head
        self._bare = bare
        self._begun = False
        # Follows the whole object until the call begins, its arguments then, and at last the rest of the object.
        self._brackets = Brackets()
        self._scanned = 0
        self._in_rest = False
        self._said: list[str] = []

    def read(self, text: str, *, final: bool) -> Step:
        if not self._begun:
            return self._begin(text, final=final)
        return self._rest(text, 0) if self._complete else self._arguments(text, 0)

    def missing(self, *, cut: bool) -> str:
        if self._complete:
            return "}"
        try:
            json.loads("".join(self._said) + self._brackets.missing)
        except (ValueError, RecursionError):
            return ""
        return "" if cut else self._brackets.missing

    def _begin(self, text: str, *, final: bool) -> Step:
        if found := self._head.match(text):
            name = _unescaped(found["name"])
            if name not in self._names or (self._bare and not self._may_be_call(text[: found.end()])):
                return Step(refused=True)
            if self._head is not _OBJECT and found.end() > _LONGEST_HEAD:
                return Step(refused=True)
            self._begun, self._brackets = True, Brackets()
            step = self._arguments(text, found.start("arguments"))
            step.name = name
            return step
        if self._head is not _OBJECT:
            return Step(refused=final or len(text) > _LONGEST_HEAD)
        if self._bare:
            return Step(refused=final or not self._may_be_call(text))
        return self._whole(text, final=final)

    def _whole(self, text: str, *, final: bool) -> Step:
        """An object with its keys in another order is read once it is whole."""
        start = len(text) - len(text.lstrip("[ \t\r\n"))
        if text[start : start + 1] not in ("{", ""):
            return Step(refused=True)
        self._scanned, _ = self._brackets.follow(text, max(start, self._scanned))
        if not self._brackets.closed:
            return Step(refused=final or self._brackets.broken)
        call = _call(text[start : self._scanned])
        if call is None or call[0] not in self._names:
            return Step(refused=True)
        self._begun = self._complete = True
        return Step(self._scanned, call[0], json.dumps(call[1], ensure_ascii=False)[:-1], over=True)

    def _may_be_call(self, text: str) -> bool:
        squeezed = "".join(text.split())
        return any(begin.startswith(squeezed) for begin in self._beginnings())

    def _beginnings(self) -> Iterator[str]:
        for name in self._names:
            quoted = "".join(json.dumps(name, ensure_ascii=False).split())
            for key in ("arguments", "parameters"):
                yield f'{{"name":{quoted},"{key}":{{'
                yield f'{{"type":"function","name":{quoted},"{key}":{{'

    def _arguments(self, text: str, start: int) -> Step:
        end, piece = self._brackets.follow(text, start)
        if not self._brackets.closed:
            self._said.append(piece)
            return Step(end, arguments=piece, over=self._brackets.broken)
        self._complete, self._brackets = True, Brackets(["}"])
        step = self._rest(text, end)
        step.arguments = piece[:-1]
        return step

    def _rest(self, text: str, start: int) -> Step:
        """What follows the arguments in the object, such as an id, is of no use."""
        if self._head is not _OBJECT:
            return Step(start, over=True)
        first = text[start:].lstrip()[:1]
        if not self._in_rest and first not in (",", "}"):
            return Step(start, over=first != "")
        self._in_rest = True
        end, _ = self._brackets.follow(text, start)
        return Step(end, over=self._brackets.closed or self._brackets.broken)


@dataclass(slots=True)
class Brackets:
    """Follows JSON text to the bracket that closes its first one, however the text is cut. `open` are the brackets that
    close those before. `broken`: at a `<` outside of strings, which is no JSON."""

    open: list[str] = field(default_factory=list)
    closed: bool = False
    broken: bool = False
    _in_string: bool = False
    _escaped: bool = False

    @property
    def missing(self) -> str:
        return "".join(reversed(self.open))

    def follow(self, text: str, at: int) -> tuple[int, str]:
        """Where it ends within `text`, and the text up to there with raw line ends and the like in strings escaped."""
        parts: list[str] = []
        start = at
        if self._escaped and at < len(text):
            at, self._escaped = at + 1, False
        while not (self.closed or self.broken):
            found = (_IN_STRING if self._in_string else _BETWEEN).search(text, at)
            if found is None:
                at = len(text)
                break
            at = found.end()
            match found[0]:
                case '"':
                    self._in_string = not self._in_string
                case "{" | "[" as bracket:
                    self.open.append("}" if bracket == "{" else "]")
                case "}" | "]":
                    self.open.pop()
                    self.closed = not self.open
                case "<":
                    at, self.broken = found.start(), True
                case "\\":
                    self._escaped = at == len(text)
                    at += not self._escaped
                case control:
                    parts += (text[start : found.start()], json.dumps(control)[1:-1])
                    start = at
        parts.append(text[start:at])
        return at, "".join(parts)


_IN_STRING = re.compile(r'["\\\x00-\x1f]')
_BETWEEN = re.compile(r'["{}\[\]<]')


class TagCall:
    """Qwen3-Coder's `<function=name><parameter=key>value</parameter></function>`. Values are plain text; the tool's
    schema says which of them are strings, and those are passed on as they come."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self._complete = False
        self._schemas = schemas
        self._types: dict[str, object] | None = None
        self._key: str | None = None
        self._value_begun = False
        self._members = 0

    def read(self, text: str, *, final: bool) -> Step:
        step = Step()
        if self._types is None and not self._begin(text, step, final=final):
            return step
        while not step.over:
            before = step.consumed, self._key, self._value_begun
            if self._key is None:
                self._between(text, step, final=final)
            else:
                self._value(text, step, final=final)
            if before == (step.consumed, self._key, self._value_begun):
                break
        return step

    def missing(self, *, cut: bool) -> str:
        if self._complete or (self._key is None and not cut):
            return "}"
        return '"}' if self._is_string and self._value_begun and not cut else ""

    @property
    def _is_string(self) -> bool:
        return self._types is not None and self._key is not None and self._types.get(self._key) == "string"

    def _begin(self, text: str, step: Step, *, final: bool) -> bool:
        found = _FUNCTION.match(text)
        if found is None:
            name, bracket, rest = text.lstrip().partition(">")
            possible = _may_be(name, "<function=") and (not bracket or _may_be(rest.lstrip(), *_TAGS))
            step.refused = final or not possible or len(name) > _LONGEST_HEAD
            return False
        if found[1] not in self._schemas:
            step.refused = True
            return False
        properties = self._schemas[found[1]].get("properties")
        self._types = {
            key: value.get("type") if isinstance(value, Mapping) else None
            for key, value in (properties.items() if isinstance(properties, Mapping) else ())
        }
        step.name, step.consumed, step.arguments = found[1], found.end(), "{"
        return True

    def _between(self, text: str, step: Step, *, final: bool) -> None:
        if found := _PARAMETER.match(text, step.consumed):
            self._key, self._value_begun = found[1], False
            comma = ", " if self._members else ""
            step.arguments += f"{comma}{json.dumps(self._key, ensure_ascii=False)}: "
            self._members += 1
            step.consumed = found.end()
        elif found := _FUNCTION_END.match(text, step.consumed):
            step.consumed, step.over, self._complete = found.end(), True, True
        else:
            step.over = final or not _may_be(text[step.consumed :].lstrip(), *_TAGS)

    def _value(self, text: str, step: Step, *, final: bool) -> None:
        is_string = self._is_string
        if not self._value_begun:
            if step.consumed == len(text):
                return
            step.consumed += text[step.consumed] == "\n"
            step.arguments += '"' if is_string else ""
            self._value_begun = True
        end = _PARAMETER_END.search(text, step.consumed)
        if end is not None:
            value = text[step.consumed : end.start()]
            step.arguments += f'{_escaped(value)}"' if is_string else _json(value)
            step.consumed, self._key = end.end(), None
        elif is_string:
            held = 0 if final else max(beginning(text[step.consumed :], end) for end in _VALUE_ENDS)
            step.arguments += _escaped(text[step.consumed : len(text) - held])
            step.consumed = len(text) - held


_TAGS = ("<parameter=", "</function>")
_VALUE_ENDS = ("\n</parameter>", "</parameter>")


def beginning(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    at = text.find(marker[0], max(0, len(text) - len(marker) + 1))
    while at >= 0:
        if marker.startswith(text[at:]):
            return len(text) - at
        at = text.find(marker[0], at + 1)
    return 0


def _may_be(text: str, *tags: str) -> bool:
    return any(text.startswith(tag) or tag.startswith(text) for tag in tags)


def _unescaped(name: str) -> str:
    try:
        return str(json.loads(f'"{name}"'))
    except ValueError:
        return name


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _json(value: str) -> str:
    """A value that is no string in the schema: itself where it is JSON, else a string."""
    value = {"True": "true", "False": "false", "None": "null"}.get(value.strip(), value.strip())
    try:
        json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False)
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _call(text: str) -> tuple[str, dict[str, Any]] | None:
    """The name and the arguments in an object, if it is a call."""
    try:
        said = json.loads(text, strict=False, parse_constant=_no_constant)
        if isinstance(said, dict) and isinstance(said.get("function"), dict):
            said = said["function"]
        arguments = said.get("arguments", said.get("parameters"))
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        name = said.get("name")
    except (ValueError, AttributeError, RecursionError):
        return None
    arguments = {} if arguments is None else arguments
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None
