"""Finite automata over Unicode characters: the regular parts of a schema, which can be cut with one another."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from leadline.engines.format.schemas.budget import Budget

# Code points, first and last included; sorted, without overlap.
Ranges = tuple[tuple[int, int], ...]
ANY: Ranges = ((0, 0x10FFFF),)
_MOST_PASSES = 8
_State = TypeVar("_State", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Automaton:
    """Deterministic. State 0 is the start; from each state an accepting one can be reached, but where none accepts."""

    edges: tuple[tuple[tuple[Ranges, int], ...], ...]
    accepting: frozenset[int]

    @property
    def empty(self) -> bool:
        return not self.accepting


def explore(
    start: _State,
    edges: Callable[[_State], Iterable[tuple[Ranges, _State]]],
    accepts: Callable[[_State], bool],
    budget: Budget,
) -> Automaton:
    """The automaton of all states that can be reached. The ranges on one state's edges do not overlap."""
    numbers = {start: 0}
    states = [start]
    rows: list[tuple[tuple[Ranges, int], ...]] = []
    for state in states:
        row: list[tuple[Ranges, int]] = []
        for ranges, target in edges(state):
            budget.spend()
            if target not in numbers:
                numbers[target] = len(states)
                states.append(target)
            row.append((ranges, numbers[target]))
        rows.append(_joined(row))
    accepting = {number for number, state in enumerate(states) if accepts(state)}
    budget.spend(2 * len(states))
    return _merged(_alive(rows, accepting, budget), budget)


def intersect(one: Automaton, other: Automaton, budget: Budget) -> Automaton:
    """What both accept."""

    def edges(state: tuple[int, int]) -> Iterable[tuple[Ranges, tuple[int, int]]]:
        for mine, my_target in one.edges[state[0]]:
            for theirs, their_target in other.edges[state[1]]:
                budget.spend(len(mine) + len(theirs))
                if both := overlap(mine, theirs):
                    yield both, (my_target, their_target)

    return explore((0, 0), edges, lambda state: state[0] in one.accepting and state[1] in other.accepting, budget)


def complement(automaton: Automaton, budget: Budget) -> Automaton:
    """What it does not accept."""
    lost = -1

    def edges(state: int) -> Iterable[tuple[Ranges, int]]:
        if state == lost:
            return ((ANY, lost),)
        known = automaton.edges[state]
        rest = invert(union([r for ranges, _ in known for r in ranges]))
        return (*known, (rest, lost)) if rest else known

    return explore(0, edges, lambda state: state not in automaton.accepting, budget)


def lengths(low: int, high: int | None, budget: Budget) -> Automaton:
    """Every text of `low` to `high` characters."""
    last = low if high is None else high

    def edges(length: int) -> Iterable[tuple[Ranges, int]]:
        if length < last:
            return ((ANY, length + 1),)
        return ((ANY, length),) if high is None else ()

    return explore(0, edges, lambda length: length >= low, budget)


def none_of(texts: Iterable[str], budget: Budget) -> Automaton:
    """Every text but these."""
    # A tree of letters; node 0 is the empty text.
    children: list[dict[int, int]] = [{}]
    ends = set()
    for text in texts:
        budget.spend(len(text) + 1)
        node = 0
        for letter in text:
            following = children[node].setdefault(ord(letter), len(children))
            if following == len(children):
                children.append({})
            node = following
        ends.add(node)
    free = -1

    def edges(node: int) -> Iterable[tuple[Ranges, int]]:
        known = {} if node == free else children[node]
        rest = invert(union((point, point) for point in known))
        return (*((((point, point),), child) for point, child in known.items()), (rest, free))

    return explore(0, edges, lambda node: node not in ends, budget)


def accepts(automaton: Automaton, text: str) -> bool:
    state = 0
    for letter in text:
        point = ord(letter)
        for ranges, target in automaton.edges[state]:
            if any(low <= point <= high for low, high in ranges):
                state = target
                break
        else:
            return False
    return state in automaton.accepting


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, and joined where they touch."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def invert(ranges: Ranges) -> Ranges:
    rest: list[tuple[int, int]] = []
    position = 0
    for low, high in ranges:
        if position < low:
            rest.append((position, low - 1))
        position = high + 1
    if position <= ANY[0][1]:
        rest.append((position, ANY[0][1]))
    return tuple(rest)


def overlap(one: Ranges, other: Ranges) -> Ranges:
    if one == ANY:
        return other
    if other == ANY:
        return one
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if low <= high:
            found.append((low, high))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def _alive(rows: Sequence[Sequence[tuple[Ranges, int]]], accepting: set[int], budget: Budget) -> Automaton:
    """Without the states from which no accepting one can be reached: a model that got there could not end."""
    sources: list[list[int]] = [[] for _ in rows]
    for source, row in enumerate(rows):
        for _, target in row:
            sources[target].append(source)
    alive = set(accepting)
    pending = list(accepting)
    while pending:
        for source in sources[pending.pop()]:
            if source not in alive:
                alive.add(source)
                pending.append(source)
    budget.spend(len(rows))
    if 0 not in alive:
        return Automaton(((),), frozenset())
    numbers = {old: new for new, old in enumerate(sorted(alive))}
    return Automaton(
        tuple(tuple((r, numbers[to]) for r, to in rows[old] if to in alive) for old in sorted(alive)),
        frozenset(numbers[old] for old in accepting),
    )


def _merged(automaton: Automaton, budget: Budget) -> Automaton:
    """States with equal ways on are one state. What is left over after some passes is larger, not wrong."""
    for _ in range(_MOST_PASSES):
        size = len(automaton.edges)
        budget.spend(2 * sum(map(len, automaton.edges)))
        first: dict[object, int] = {}
        same = list(range(size))
        # From the last one on: what a state leads to mostly has a higher number, and is merged before it.
        for state in reversed(range(size)):
            ways = frozenset((ranges, same[target]) for ranges, target in automaton.edges[state])
            same[state] = first.setdefault((state in automaton.accepting, ways), state)
        if len(first) == size:
            break
        # The start stays number 0.
        kept = [same[0], *sorted(set(first.values()) - {same[0]})]
        numbers = {state: number for number, state in enumerate(kept)}
        automaton = Automaton(
            tuple(_joined([(ranges, numbers[same[to]]) for ranges, to in automaton.edges[state]]) for state in kept),
            frozenset(numbers[same[state]] for state in automaton.accepting),
        )
    return automaton


def _joined(edges: Sequence[tuple[Ranges, int]]) -> tuple[tuple[Ranges, int], ...]:
    """One edge for each target."""
    by_target: dict[int, list[Ranges]] = {}
    for ranges, target in edges:
        by_target.setdefault(target, []).append(ranges)
    if len(by_target) == len(edges):
        return tuple(edges)
    return tuple((union(r for ranges in several for r in ranges), target) for target, several in by_target.items())
