"""llama.cpp's grammar notation: literals, classes, repeats, rules, and automata as rules.

A *fragment* is text that can stand in a sequence: it never holds a `|` of its own. Two habits keep llama.cpp quick and
safe: no rule begins with one that may be empty, and whatever repeats is a name, since llama.cpp limits what a repeat
multiplies (2,000) and silently takes larger counts for "without end".
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from leadline.engines.format.schemas.automaton import Automaton, Ranges, invert, overlap, union
from leadline.engines.format.schemas.budget import MOST_BYTES, MOST_RULES, Budget, Refusal
from leadline.engines.format.schemas.decimals import FRACTION_DIGITS, WHOLE_DIGITS

# JSON itself. White space and digits are bounded: small models like to write them for ever. So are exponents, where no
# number can be too large for a double.
_JSON = rf"""
value ::= object | array | string | number | boolean | "null"
object ::= "{{" ws (string ":" sp value ("," ws string ":" sp value)* ws)? "}}"
array ::= "[" ws (value ("," ws value)* ws)? "]"
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1F] | "\\" escape
escape ::= ["\\/bfnrt] | "u" unicode
unicode ::= ([0-9a-cA-CeEfF] hex | [dD] [0-7]) hex hex | [dD] [89abAB] hex hex "\\u" [dD] [c-fC-F] hex hex
hex ::= [0-9a-fA-F]
number ::= "-"? ([0-9] fraction? exponent? | [1-9] [0-9]{{1,{WHOLE_DIGITS - 1}}} fraction?)
fraction ::= "." [0-9]{{1,{FRACTION_DIGITS}}}
exponent ::= [eE] [-+]? ([12]? [0-9]{{1,2}} | "30" [0-7])
integer ::= "0" | "-"? [1-9] [0-9]{{0,{WHOLE_DIGITS - 1}}}
boolean ::= "true" | "false"
sp ::= " "?
ws ::= "" | " " | "\n" [ \t]{{0,20}}
""".lstrip()

# Below llama.cpp's limit in all its versions; some choke on exactly 2,000.
_MOST_TIMES = 1_999
_DEEPEST_CHOICE = 32
_BACKSLASH = r'"\\" '
_RAW_IN_STRINGS = invert(((0, 0x1F), (ord('"'), ord('"')), (ord("\\"), ord("\\"))))
_ESCAPED_IN_STRINGS = invert(_RAW_IN_STRINGS)
_SHORT_ESCAPES = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", ord('"'): '"', ord("\\"): "\\"}


class Rules:
    """The rules of one grammar as they come into being."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._reserved = 0
        self._bytes = len(_JSON)

    def reserve(self) -> str:
        """A name whose rule comes later."""
        self._reserved += 1
        if self._reserved > MOST_RULES:
            raise Refusal(f"the schema needs more than {MOST_RULES:,} rules of grammar")
        return f"r{self._reserved}"

    def define(self, name: str, body: str) -> None:
        self._bytes += len(name) + len(body.encode()) + len(" ::= \n")
        if self._bytes > MOST_BYTES:
            raise Refusal(f"the schema needs more than {MOST_BYTES // 1024} KiB of grammar")
        self._bodies[name] = body

    def add(self, body: str) -> str:
        """The name of a rule with this body; equal ones are one."""
        if body not in self._names:
            self._names[body] = self.reserve()
            self.define(self._names[body], body)
        return self._names[body]

    def named(self, fragment: str) -> str:
        """A name for the fragment, where it is not one already."""
        return fragment if fragment.isalnum() else self.add(fragment)

    def text(self, root: str) -> str:
        lines = (f"{name} ::= {body}\n" for name, body in self._bodies.items())
        return f"root ::= {root}\n{''.join(lines)}{_JSON}"


def literal(text: str) -> str:
    return f'"{"".join(_letter(letter) for letter in text)}"'


def repeated(name: str, low: int, high: int | None, rules: Rules) -> str:
    """A rule or a class, `low` to `high` times."""
    assert high is None or low <= high <= _MOST_TIMES, "see `run`"
    rules.budget.repeat(high or low)
    if high is None:
        return f"{name}*" if low == 0 else f"{name}{{{low},}}"
    if high == 0:
        return ""
    if low == high:
        return name if low == 1 else f"{name}{{{low}}}"
    return f"{name}?" if high == 1 else f"{name}{{{low},{high}}}"


def run(name: str, low: int, high: int | None, tail: str, rules: Rules) -> str:
    """A repeat and what ends it, also where the counts are too large for one repeat."""
    if max(low, high or 0) <= _MOST_TIMES:
        return join(repeated(name, low, high, rules), tail)
    if low >= _MOST_TIMES:
        rest = run(name, low - _MOST_TIMES, None if high is None else high - _MOST_TIMES, tail, rules)
        return join(repeated(name, _MOST_TIMES, _MOST_TIMES, rules), rest)
    # Not one repeat after another: the engine would follow every way to share the text between the two.
    assert high is not None, "low is small"
    long = run(name, 0, high - _MOST_TIMES, tail, rules)
    short = join(repeated(name, low, _MOST_TIMES - 1, rules), tail)
    return rules.add(f"{short} | {join(repeated(name, _MOST_TIMES, _MOST_TIMES, rules), long)}")


def join(*fragments: str) -> str:
    return " ".join(fragment for fragment in fragments if fragment)


def choice(texts: Iterable[tuple[str, str]], rules: Rules) -> str:
    """One of these texts, each followed by its own fragment. What they begin with alike is written once: the engine
    has one way to follow at a time, however many texts there are."""
    ordered = sorted(dict(texts).items())
    rules.budget.spend(sum(len(text) for text, _ in ordered) // 4)
    return _branch(ordered, 0, 0, rules)


def _branch(texts: Sequence[tuple[str, str]], start: int, depth: int, rules: Rules) -> str:
    rules.budget.spend(len(texts))
    if len(texts) == 1 or depth > _DEEPEST_CHOICE:
        options = [_rest(text[start:], following) for text, following in texts]
        return options[0] if len(options) == 1 else rules.add(" | ".join(options))
    first, last = texts[0][0], texts[-1][0]
    end = next((i for i, (mine, other) in enumerate(zip(first, last, strict=False)) if mine != other), len(first))
    groups = groupby(texts, key=lambda pair: pair[0][end : end + 1])
    options = [_branch(list(group), end, depth + 1, rules) for _, group in groups]
    return _rest(first[start:end], rules.add(" | ".join(options)))


def _rest(text: str, following: str) -> str:
    return join(literal(text) if text or not following else "", following)


def string_of(automaton: Automaton, rules: Rules) -> str:
    """The JSON strings whose values the automaton accepts."""
    return join(literal('"'), _walk(automaton, _spell_in_string, literal('"'), rules))


def number_of(automaton: Automaton, rules: Rules) -> str:
    return _walk(automaton, lambda ranges: [_class(ranges)], "", rules)


def characters(ranges: Ranges, rules: Rules) -> str:
    """One character of a JSON string: a name or a class, fit to be repeated."""
    name = _one_of(_spell_in_string(ranges), rules)
    return rules.add(name) if name[0] == '"' else name


def _walk(automaton: Automaton, spell: Callable[[Ranges], list[str]], tail: str, rules: Rules) -> str:
    """Each state a rule, but where there is only one way to and from it."""
    assert not automaton.empty, "refused before"
    loops = _loops(automaton)
    arrivals = [0] * len(automaton.edges)
    for row in automaton.edges:
        for _, target in row:
            arrivals[target] += 1
    names: dict[int, str] = {}
    pending: list[int] = []
    spelled: dict[Ranges, str] = {}

    def over(ranges: Ranges) -> str:
        if ranges not in spelled:
            rules.budget.spend(2 * len(ranges))
            spelled[ranges] = _one_of(spell(ranges), rules)
        return spelled[ranges]

    def enter(state: int, pieces: list[str]) -> str:
        while automaton.edges[state] and state not in loops:
            alone = len(automaton.edges[state]) == 1 and state not in automaton.accepting
            if not alone or (pieces and arrivals[state] > 1):
                if state not in names:
                    names[state] = rules.reserve()
                    pending.append(state)
                return join(*_runs(pieces, rules), names[state])
            rules.budget.spend()
            ((ranges, state),) = automaton.edges[state]
            pieces.append(over(ranges))
        end = tail
        if state in loops:
            name = over(automaton.edges[state][0][0])
            end = join(repeated(name if name[0] != '"' else rules.add(name), 0, loops[state], rules), tail)
        return join(*_runs(pieces, rules), end)

    start = enter(0, [])
    while pending:
        state = pending.pop()
        options = [enter(target, [over(ranges)]) for ranges, target in automaton.edges[state]]
        if state in automaton.accepting:
            options.append(tail or '""')
        rules.define(names[state], " | ".join(options))
    return start


def _one_of(spelled: list[str], rules: Rules) -> str:
    """A class, a literal or a name."""
    return spelled[0] if len(spelled) == 1 and not spelled[0].startswith(_BACKSLASH) else rules.add(" | ".join(spelled))


def _loops(automaton: Automaton) -> dict[int, int | None]:
    """The states that stand for one thing repeated up to a number of times (None: without end) and then the end."""
    found: dict[int, int | None] = {}
    for state in reversed(range(len(automaton.edges))):
        if state not in automaton.accepting or len(automaton.edges[state]) != 1:
            continue
        ((ranges, target),) = automaton.edges[state]
        times = found.get(target)
        if target == state:
            found[state] = None
        elif target in automaton.accepting and not automaton.edges[target]:
            found[state] = 1
        elif times is not None and times < _MOST_TIMES and automaton.edges[target][0][0] == ranges:
            found[state] = times + 1
    return found


def _runs(pieces: list[str], rules: Rules) -> Iterator[str]:
    """Literals one after another as one, and equal other pieces as one repeat."""
    for written, group in groupby(pieces, key=lambda piece: piece[0] == '"'):
        if written:
            yield f'"{"".join(piece[1:-1] for piece in group)}"'
            continue
        for name, equal in groupby(group):
            times = len(list(equal))
            for start in range(0, times, _MOST_TIMES):
                count = min(_MOST_TIMES, times - start)
                yield repeated(name, count, count, rules)


def _spell_in_string(ranges: Ranges) -> list[str]:
    """The one way that we have a model write each character: as itself where JSON allows that. Two at most, since the
    engine follows them side by side."""
    raw = overlap(ranges, _RAW_IN_STRINGS)
    points = [point for low, high in overlap(ranges, _ESCAPED_IN_STRINGS) for point in range(low, high + 1)]
    escapes = [_SHORT_ESCAPES.get(point) or f"u{point:04x}" for point in points]
    spelled = [_class(raw)] if raw else []
    if len(escapes) == 1:
        spelled.append(literal("\\" + escapes[0]))
    elif escapes:
        alike = groupby(sorted(escapes), key=lambda escape: escape[:-1])
        options = [join(literal(first) if first else "", _class_of(e[-1] for e in group)) for first, group in alike]
        spelled.append(f"{_BACKSLASH}({' | '.join(options)})")
    return spelled


def _class_of(letters: Iterable[str]) -> str:
    return _class(union((ord(letter), ord(letter)) for letter in letters))


def _class(ranges: Ranges) -> str:
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return literal(chr(ranges[0][0]))
    return f"[{''.join(_range(low, high) for low, high in ranges)}]"


def _range(low: int, high: int) -> str:
    first, last = _in_class(low), _in_class(high)
    return first if low == high else f"{first}-{last}"


def _in_class(point: int) -> str:
    return _hex(point) if chr(point) in '^-[]\\"' else _letter(chr(point))


def _letter(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return letter if letter.isprintable() else _hex(ord(letter))


def _hex(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02X}"
    return f"\\u{point:04X}" if point < 0x10000 else f"\\U{point:08X}"
