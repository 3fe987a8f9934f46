"""Regular expressions, as JSON Schema's `pattern` has them, to automata.

Taken: literals, `.`, classes, `\\d` `\\w` `\\s` and their opposites, groups, `|`, `?` `*` `+` `{m,n}`, `^` and `$` at
the ends, and look-ahead right after `^`. All means what it means in ECMAScript with the `u` flag.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from leadline.engines.format.schemas.automaton import (
    ANY,
    Automaton,
    Ranges,
    complement,
    explore,
    intersect,
    invert,
    union,
)
from leadline.engines.format.schemas.budget import Budget, Refusal

LONGEST = 512
DEEPEST = 32
MOST_TIMES = 1000
_MOST_STATES = 10_000

_DIGITS = ((0x30, 0x39),)
_WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACES = "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
_SPACE = union((ord(space), ord(space)) for space in _SPACES)
_DOT = invert(((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)))
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE, "D": invert(_DIGITS), "W": invert(_WORD), "S": invert(_SPACE)}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_SURROGATES = (0xD800, 0xDFFF)
_ENDS = "`$` anywhere but at the end is not supported"


@dataclass(frozen=True, slots=True)
class Chars:
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    part: "Node"
    low: int
    high: int | None


Node = Chars | Sequence | Choice | Repeat


@dataclass(frozen=True, slots=True)
class Look:
    """What has to follow at the start, or, `negative`, must not."""

    negative: bool
    branches: tuple["Branch", ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the outermost alternatives; an open end takes anything before or after it."""

    node: Node
    open_start: bool
    open_end: bool
    looks: tuple[Look, ...] = ()


def pattern_automaton(pattern: str, budget: Budget) -> Automaton:
    """All texts in which the pattern is found."""
    branches = parse(pattern)
    looks = [look for branch in branches for look in branch.looks]
    if looks and len(branches) > 1:
        raise Refusal("look-ahead beside `|` is not supported")
    automaton = _automaton(branches, budget)
    for look in looks:
        ahead = _automaton(look.branches, budget)
        automaton = intersect(automaton, complement(ahead, budget) if look.negative else ahead, budget)
    return automaton


def parse(pattern: str) -> tuple[Branch, ...]:
    if len(pattern) > LONGEST:
        raise Refusal(f"the pattern has more than {LONGEST} characters")
    reader = _Reader(pattern)
    branches = reader.branches(anchored=False)
    if not reader.at_end:
        reader.refuse("`)` has no `(`" if pattern[reader.position] == ")" else _ENDS)
    return branches


def single_run(pattern: str) -> tuple[Ranges, int, int | None] | None:
    """Where the pattern is nothing but one character or class that repeats: which, and how often."""
    match parse(pattern):
        case [Branch(Sequence((Chars(ranges),)), False, False, ())]:
            return ranges, 1, 1
        case [Branch(Sequence((Repeat(Chars(ranges), low, high),)), False, False, ())]:
            return ranges, low, high
    return None


class _Reader:
    """The pattern and how far it was read."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.position = 0
        self._depth = 0

    @property
    def at_end(self) -> bool:
        return self.position >= len(self._pattern)

    def refuse(self, reason: str) -> NoReturn:
        raise Refusal(f"{reason} (character {self.position + 1} of the pattern)")

    def branches(self, *, anchored: bool) -> tuple[Branch, ...]:
        """The outermost alternatives, of the pattern or of a look-ahead; those start where it stands: `anchored`."""
        found: list[Branch] = []
        while True:
            start = self._take("^") or anchored
            looks: list[Look] = []
            while start and not anchored and self._peek(3) in ("(?=", "(?!"):
                looks.append(self._look())
            node = self._sequence()
            end = self._take("$")
            found.append(Branch(node, not start, not end, tuple(looks)))
            if not self._take("|"):
                return tuple(found)

    def _look(self) -> Look:
        negative = self._next(3) == "(?!"
        branches = self.branches(anchored=True)
        self._close()
        return Look(negative, branches)

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while not self.at_end and self._peek() not in "|)$":
            parts.append(self._repeats(self._atom()))
        return Sequence(tuple(parts))

    def _repeats(self, node: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        self._take("?")  # The lazy form takes the same texts.
        if self._peek() and self._peek() in "*+?{":
            self.refuse("nothing to repeat")
        low, high = bounds
        return Repeat(node, low, high)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("?", (0, 1)), ("*", (0, None)), ("+", (1, None))):
            if self._take(sign):
                return bounds
        if not self._take("{"):
            return None
        low = self._number()
        high: int | None = low
        if self._take(","):
            high = None if self._peek() == "}" else self._number()
        if not self._take("}"):
            self.refuse("`{` is neither escaped nor the start of `{m,n}`")
        if max(low, high or 0) > MOST_TIMES:
            self.refuse(f"more than {MOST_TIMES} repeats")
        if high is not None and high < low:
            self.refuse("`{m,n}` with n below m")
        return low, high

    def _number(self) -> int:
        digits = ""
        while self._peek() and self._peek() in "0123456789" and len(digits) <= len(str(MOST_TIMES)):
            digits += self._next()
        if not digits:
            self.refuse("`{` is neither escaped nor the start of `{m,n}`")
        return int(digits)

    def _atom(self) -> Node:
        letter = self._next()
        match letter:
            case "(":
                return self._group()
            case "[":
                return Chars(self._class())
            case ".":
                return Chars(_DOT)
            case "\\":
                escaped = self._escape()
                return Chars(escaped if isinstance(escaped, tuple) else ((escaped, escaped),))
            case "^":
                self.refuse("`^` anywhere but at the start is not supported")
            case "*" | "+" | "?" | "{":
                self.refuse("nothing to repeat")
        return Chars(((self._point(letter),) * 2,))

    def _group(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            self.refuse(f"groups are nested deeper than {DEEPEST}")
        if self._take("?"):
            self._group_kind()
        node = self._choice()
        self._close()
        self._depth -= 1
        return node

    def _group_kind(self) -> None:
        if self._take(":"):
            return
        if self._peek(2) in ("<=", "<!") or self._peek() in ("=", "!"):
            self.refuse("look-around is not supported, but look-ahead right after `^`")
        if not self._take("<"):
            self.refuse("this kind of group is not supported")
        while not self.at_end and self._peek() != ">":
            if not (self._peek().isalnum() or self._peek() == "_"):
                self.refuse("a group's name is not a word")
            self._next()
        if not self._take(">"):
            self.refuse("a group's name does not end")

    def _close(self) -> None:
        if not self._take(")"):
            self.refuse(_ENDS if self._peek() == "$" else "`(` has no `)`")

    def _class(self) -> Ranges:
        negative = self._take("^")
        found: list[tuple[int, int]] = []
        while not self._take("]"):
            if self.at_end:
                self.refuse("`[` has no `]`")
            low = self._class_atom()
            if isinstance(low, tuple):
                found.extend(low)  # As in `[\\w-.]`: a hyphen after a class is a hyphen.
                continue
            high = low
            if self._peek() == "-" and self._peek(2) != "-]":
                self._next()
                end = self._class_atom()
                if isinstance(end, tuple):
                    self.refuse("a range that ends in a class")
                high = end
            if high < low:
                self.refuse("a range whose end comes before its start")
            found.append((low, high))
        return invert(union(found)) if negative else union(found)

    def _class_atom(self) -> int | Ranges:
        letter = self._next()
        if letter != "\\":
            return self._point(letter)
        if self._take("b"):
            return 8
        return self._escape()

    def _escape(self) -> int | Ranges:
        letter = self._next()
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in _CONTROLS and not (letter == "0" and self._peek().isdigit()):
            return _CONTROLS[letter]
        if letter == "x":
            return self._hex(2)
        if letter == "u":
            return self._unicode()
        if letter in "bB":
            self.refuse("`\\b` and `\\B` are not supported")
        if letter in "pP":
            self.refuse("`\\p` is not supported")
        if letter in "k123456789":
            self.refuse("back-references are not supported")
        if letter.isalnum():
            self.refuse(f"`\\{letter}` is not supported")
        return self._point(letter)

    def _unicode(self) -> int:
        if self._take("{"):
            digits = ""
            while self._peek() not in ("}", "") and len(digits) < 6:
                digits += self._next()
            if not self._take("}"):
                self.refuse("`\\u{` has no `}`")
            point = self._from_hex(digits)
        else:
            point = self._hex(4)
            if _SURROGATES[0] <= point < 0xDC00 and self._take("\\u"):
                point = 0x10000 + ((point - 0xD800) << 10) + (self._hex(4) - 0xDC00)
        if point > ANY[0][1] or _SURROGATES[0] <= point <= _SURROGATES[1] or point < 0:
            self.refuse("not a Unicode character")
        return point

    def _hex(self, digits: int) -> int:
        return self._from_hex(self._next(digits))

    def _from_hex(self, digits: str) -> int:
        if not digits or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            self.refuse("not a hexadecimal number")
        return int(digits, 16)

    def _point(self, letter: str) -> int:
        if _SURROGATES[0] <= ord(letter) <= _SURROGATES[1]:
            self.refuse("not a Unicode character")
        return ord(letter)

    def _peek(self, length: int = 1) -> str:
        return self._pattern[self.position : self.position + length]

    def _next(self, length: int = 1) -> str:
        text = self._peek(length)
        if len(text) < length:
            self.refuse("the pattern ends too early")
        self.position += length
        return text

    def _take(self, text: str) -> bool:
        if not self._pattern.startswith(text, self.position):
            return False
        self.position += len(text)
        return True


def _automaton(branches: tuple[Branch, ...], budget: Budget) -> Automaton:
    steps = _Steps(budget)
    last = steps.new()
    for branch in branches:
        anything = Repeat(Chars(ANY), 0, None)
        parts = ((anything,) if branch.open_start else (), (branch.node,), (anything,) if branch.open_end else ())
        first = steps.new()
        steps.free[0].append(first)
        steps.free[steps.add(Sequence(tuple(part for some in parts for part in some)), first)].append(last)
    start = steps.closure([0])
    return explore(start, steps.edges, lambda state: last in state, budget)


class _Steps:
    """A non-deterministic automaton: from a state on over one of some characters, or for free."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._over: list[list[tuple[Ranges, int]]] = []
        self.free: list[list[int]] = []
        self._closures: dict[int, frozenset[int]] = {}
        self.new()

    def new(self) -> int:
        if len(self.free) >= _MOST_STATES:
            raise Refusal("the pattern is too large")
        self._budget.spend()
        self._over.append([])
        self.free.append([])
        return len(self.free) - 1

    def add(self, node: Node, start: int) -> int:
        """Put the node behind the state; its end."""
        match node:
            case Chars(ranges):
                end = self.new()
                self._over[start].append((ranges, end))
                return end
            case Sequence(parts):
                for part in parts:
                    start = self.add(part, start)
                return start
            case Choice(options):
                end = self.new()
                for option in options:
                    first = self.new()
                    self.free[start].append(first)
                    self.free[self.add(option, first)].append(end)
                return end
            case Repeat(part, low, high):
                return self._repeat(part, low, high, start)

    def _repeat(self, part: Node, low: int, high: int | None, start: int) -> int:
        for _ in range(low):
            start = self.add(part, start)
        end = self.new()
        if high is None:
            self.free[start].append(end)
            self.free[self.add(part, end)].append(end)
            return end
        for _ in range(high - low):
            self.free[start].append(end)
            start = self.add(part, start)
        self.free[start].append(end)
        return end

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        """These, and where one gets from them for free."""
        return frozenset().union(*(self._closure(state) for state in states))

    def _closure(self, state: int) -> frozenset[int]:
        if state not in self._closures:
            reached = {state}
            pending = [state]
            while pending:
                for target in self.free[pending.pop()]:
                    self._budget.spend()
                    if target not in reached:
                        reached.add(target)
                        pending.append(target)
            # States that lead nowhere by themselves only make more states that are told apart.
            self._closures[state] = frozenset(s for s in reached if self._over[s] or not self.free[s])
        return self._closures[state]

    def edges(self, states: frozenset[int]) -> Iterator[tuple[Ranges, frozenset[int]]]:
        """The ways on, with ranges that do not overlap."""
        ways = [way for state in states for way in self._over[state]]
        self._budget.spend(len(states) + len(ways))
        cuts = sorted({cut for ranges, _ in ways for low, high in ranges for cut in (low, high + 1)})
        targets: dict[frozenset[int], list[tuple[int, int]]] = {}
        for low, following in pairwise(cuts):
            self._budget.spend(len(ways))
            reached = frozenset(to for ranges, to in ways if any(a <= low <= b for a, b in ranges))
            if reached:
                targets.setdefault(reached, []).append((low, following - 1))
        for reached, ranges in targets.items():
            yield union(ranges), self.closure(reached)
