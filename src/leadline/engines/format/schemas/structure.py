"""Objects and arrays, and the values in them, as rules."""

import json
from collections.abc import Callable, Iterator, Sequence

from leadline.engines.format.schemas.automaton import none_of
from leadline.engines.format.schemas.gbnf import Rules, join, literal, repeated, string_of
from leadline.engines.format.schemas.shapes import Array, Member, Object, Plain, Shape

_COMMA = '"," ws'
# Which member comes next, and how many there are so far.
_State = tuple[int, int]


class Values:
    """The fragments of values; each value that is not plain becomes a rule once something refers to it."""

    def __init__(self, shapes: Sequence[Sequence[Shape]], rules: Rules) -> None:
        self._shapes = shapes
        self._rules = rules
        self._names: dict[int, str] = {}
        self._pending: list[int] = []

    def fragment(self, value: int) -> str:
        match self._shapes[value]:
            case [Plain(fragment=fragment)]:
                return fragment
        if value not in self._names:
            self._names[value] = self._rules.reserve()
            self._pending.append(value)
        return self._names[value]

    def write(self) -> None:
        """Define the rules of all that was referred to, and of all that those refer to."""
        while self._pending:
            value = self._pending.pop()
            options = dict.fromkeys(self._shape(shape) for shape in self._shapes[value])
            self._rules.define(self._names[value], " | ".join(options))

    def _shape(self, shape: Shape) -> str:
        match shape:
            case Plain(fragment=fragment):
                return fragment
            case Object():
                return object_rules(shape, self.fragment, self._rules)
            case Array():
                return array_rules(shape, self.fragment, self._rules)


def json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def member(name: str, value: str) -> str:
    return f"{literal(json_text(name) + ':')} sp {value}"


def array_rules(shape: Array, fragment: Callable[[int], str], rules: Rules) -> str:
    """The fragment of an array."""
    first = [fragment(value) for value in shape.first[: shape.most]]
    rules.budget.spend(len(first))
    required = min(shape.fewest, len(first))
    more = _more(shape, len(first), fragment, rules)
    if not first:
        return _around("[", more, shape.fewest, rules)
    # From the end: an item that may be missing takes all after it along.
    rest = more
    for item in reversed(first[max(1, required) :]):
        rest = rules.add(join(_COMMA, item, rest)) + "?"
    items = join(f" {_COMMA} ".join(first[: max(1, required)]), rest)
    return _around("[", items, required, rules)


def _around(opening: str, items: str, required: int, rules: Rules) -> str:
    closing = {"[": "]", "{": "}"}[opening]
    if not items:
        return f"{literal(opening)} ws {literal(closing)}"
    if required:
        return f"{literal(opening)} ws {items} ws {literal(closing)}"
    return f"{literal(opening)} ws {rules.add(f'{items} ws')}? {literal(closing)}"


def _more(shape: Array, before: int, fragment: Callable[[int], str], rules: Rules) -> str:
    """The items after the first ones."""
    most = None if shape.most is None else shape.most - before
    if shape.others is None or most == 0:
        return ""
    item = fragment(shape.others)
    following = rules.add(f"{_COMMA} {item}")
    low = max(0, shape.fewest - before)
    if before:
        return repeated(following, low, most, rules)
    return join(item, repeated(following, max(0, low - 1), None if most is None else most - 1, rules))


def object_rules(shape: Object, fragment: Callable[[int], str], rules: Rules) -> str:
    """The fragment of an object. Its members come in their order, those without a name last."""
    others = None if shape.others is None else _other(shape, fragment(shape.others), rules)
    return f"{literal('{')} ws {_Members(shape, fragment, others, rules).fragment()}"


def _other(shape: Object, value: str, rules: Rules) -> str:
    """A member with any name but those that have a meaning of their own."""
    names = [member.name for member in shape.members]
    name = rules.named(string_of(none_of(names, rules.budget), rules)) if names else "string"
    return rules.add(f'{name} ":" sp {value}')


class _Members:
    """The members of one object, as states: which member is next, and how many there are so far.

    The count matters for the comma, thus up to one; and where the number of members is limited, up to that limit.
    """

    def __init__(self, shape: Object, fragment: Callable[[int], str], others: str | None, rules: Rules) -> None:
        self._shape = shape
        self._others = others
        self._rules = rules
        self._texts = [member(one.name, fragment(one.value)) for one in shape.members]
        self._required_after = _required_after(shape.members)
        required, most = self._required_after[0], shape.most
        free = shape.fewest <= required and (most is None or (others is None and most >= len(shape.members)))
        self._fewest, self._most = (0, None) if free else (shape.fewest, most)
        self._enough = max(1, self._fewest) if self._most is None else self._most
        self._names: dict[_State, str] = {}

    def fragment(self) -> str:
        start = (0, 0)
        heads = self._heads(start)
        for state in heads:
            self._names[state] = self._rules.reserve()
        text = self._names[start] if start in self._names else self._from(start)
        for state in heads:
            self._rules.define(self._names[state], self._from(state))
        return text

    def _heads(self, start: _State) -> list[_State]:
        """The states that need a rule: where ways part, and where they meet again."""
        seen = {start}
        heads: dict[_State, None] = {}
        states = [start]
        for state in states:
            self._rules.budget.spend()
            targets = list(dict.fromkeys(target for _, target in self._ways(state)))
            if len(targets) > 1:
                heads.update(dict.fromkeys([state, *targets]))
            for target in targets:
                if target not in seen:
                    seen.add(target)
                    states.append(target)
        return [state for state in heads if state[0] < len(self._texts)]

    def _ways(self, state: _State) -> Iterator[tuple[str, _State]]:
        """With the next member, and without it."""
        index, count = state
        if index == len(self._texts):
            return
        with_it = (index + 1, min(count + 1, self._enough) if self._most is None else count + 1)
        if self._can_end(with_it):
            yield join(_COMMA if count else "", self._texts[index]), with_it
        if not self._shape.members[index].required and self._can_end((index + 1, count)):
            yield "", (index + 1, count)

    def _can_end(self, state: _State) -> bool:
        index, count = state
        if self._most is not None and count + self._required_after[index] > self._most:
            return False
        return self._others is not None or count + len(self._texts) - index >= self._fewest

    def _from(self, state: _State) -> str:
        """The rule of a state: up to the end of the object, or to the next state with a rule of its own."""
        pieces: list[str] = []
        while state[0] < len(self._texts):
            if pieces and state in self._names:
                return join(*pieces, self._names[state])
            self._rules.budget.spend()
            ways = list(self._ways(state))
            targets = {target for _, target in ways}
            if len(targets) > 1:
                return " | ".join(join(text, self._to(target)) for text, target in ways)
            pieces.append(ways[0][0] if len(ways) == 1 else f"({ways[0][0]})?")
            state = ways[0][1]
        return join(*pieces, self._end(state[1]))

    def _to(self, state: _State) -> str:
        return self._names[state] if state[0] < len(self._texts) else self._end(state[1])

    def _end(self, count: int) -> str:
        low = max(0, self._fewest - count)
        high = None if self._most is None else self._most - count
        if self._others is None or high == 0:
            return 'ws "}"' if count else '"}"'
        following = self._rules.add(f"{_COMMA} {self._others}")
        if count:
            return join(repeated(following, low, high, self._rules), 'ws "}"')
        more = repeated(following, max(0, low - 1), None if high is None else high - 1, self._rules)
        some = join(self._others, more, "ws")
        return f'{some} "}}"' if low else f'{self._rules.add(some)}? "}}"'


def _required_after(members: Sequence[Member]) -> list[int]:
    counts = [0]
    for one in reversed(members):
        counts.append(counts[-1] + one.required)
    return counts[::-1]
