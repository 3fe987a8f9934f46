"""What a schema takes, without its keywords: the middle between JSON Schema and grammar.

A value is a number; its shapes are the ways in which it may look. Numbers let values hold themselves.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from leadline.engines.format.schemas.budget import Budget


@dataclass(frozen=True, slots=True)
class Plain:
    """Text whose grammar is known. `shortest` is its fewest characters; `starts` are the kinds of JSON that it may be:
    s for strings, n numbers, b true and false, 0 null, { and [; `texts` is all that it may be, where that is listed.
    """

    fragment: str
    shortest: int
    starts: str
    texts: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    value: int
    required: bool


@dataclass(frozen=True, slots=True)
class Object:
    """`others`: the value of further members, after the named ones. They never have a named one's name."""

    members: tuple[Member, ...]
    others: int | None = None
    fewest: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """`first`: the values of the first items, one by one; `others`: the value of all after them."""

    first: tuple[int, ...]
    others: int | None
    fewest: int = 0
    most: int | None = None


Shape = Plain | Object | Array


def without_endless(values: Sequence[Sequence[Shape]], budget: Budget) -> tuple[list[list[Shape]], list[int | None]]:
    """The values without what no finite JSON can be, and the fewest characters of each. None: it has no shape left.

    A model that took such a way, as into an object that must hold its own like, could not come to an end.
    """
    shortest = _shortest(values, budget)
    return [[_finite(s, shortest) for s in shapes if _possible(s, shortest)] for shapes in values], shortest


def _possible(shape: Shape, shortest: Sequence[int | None]) -> bool:
    wanted, enough, _ = _needs(shape)
    if any(shortest[value] is None for value in wanted):
        return False
    return _optional_ones(shape, shortest) >= enough


def _optional_ones(shape: Shape, shortest: Sequence[int | None]) -> float:
    match shape:
        case Plain():
            return 0
        case Object(members, others):
            count = sum(not member.required and shortest[member.value] is not None for member in members)
        case Array(_, others):
            count = 0
    return float("inf") if others is not None and shortest[others] is not None else count


def _finite(shape: Shape, shortest: Sequence[int | None]) -> Shape:
    match shape:
        case Plain():
            return shape
        case Object(members, others):
            members = tuple(member for member in members if shortest[member.value] is not None)
            return replace(
                shape, members=members, others=None if others is None or shortest[others] is None else others
            )
        case Array(first, others):
            kept = next((i for i, value in enumerate(first) if shortest[value] is None), len(first))
            if kept < len(first) or others is None or shortest[others] is None:
                return replace(shape, first=first[:kept], others=None)
            return shape


def _needs(shape: Shape) -> tuple[list[int], int, int]:
    """The values that it cannot do without, how many optional ones besides, and its own fewest characters."""
    match shape:
        case Plain(shortest=length):
            return [], 0, length
        case Object(members, _, fewest):
            required = [member for member in members if member.required]
            length = 2 + sum(len(member.name) + 4 for member in required)
            return [member.value for member in required], max(0, fewest - len(required)), length
        case Array(first, _, fewest):
            return list(first[:fewest]), max(0, fewest - len(first)), 2 + max(0, fewest - 1)


def _shortest(values: Sequence[Sequence[Shape]], budget: Budget) -> list[int | None]:
    """Knuth's algorithm: settle the shortest value first; whatever needs it comes nearer to its own length."""
    shortest: list[int | None] = [None] * len(values)
    # Of each shape: its value, how many values it still needs, how many optional ones, its length so far.
    open_ones: list[list[int]] = []
    waiting: list[list[tuple[int, str]]] = [[] for _ in values]
    ready: list[tuple[int, int]] = []
    for value, shapes in enumerate(values):
        for shape in shapes:
            wanted, enough, length = _needs(shape)
            optional = (
                [(m.value, "optional") for m in shape.members if not m.required] if isinstance(shape, Object) else []
            )
            others = [(shape.others, "others")] if not isinstance(shape, Plain) and shape.others is not None else []
            budget.spend(1 + len(wanted) + len(optional))
            for needed, kind in [*((w, "required") for w in wanted), *((optional + others) if enough else ())]:
                waiting[needed].append((len(open_ones), kind))
            open_ones.append([value, len(wanted), enough, length])
            if not wanted and not enough:
                heapq.heappush(ready, (length, value))
    while ready:
        length, value = heapq.heappop(ready)
        if shortest[value] is not None:
            continue
        shortest[value] = length
        for index, kind in waiting[value]:
            entry = open_ones[index]
            if entry[1] == 0 and entry[2] == 0:
                continue
            match kind:
                case "required":
                    entry[1] -= 1
                    entry[3] += length
                case "optional" if entry[2]:
                    entry[2] -= 1
                    entry[3] += length + 4
                case "others":
                    entry[3] += entry[2] * (length + 1)
                    entry[2] = 0
            if entry[1] == 0 and entry[2] == 0:
                heapq.heappush(ready, (entry[3], entry[0]))
    return shortest
