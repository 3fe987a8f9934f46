"""How many ways the engine may have to follow at once.

llama.cpp keeps a stack for each way to read what was written so far. Alternatives that begin alike make several, and
where they are nested in each other the numbers multiply: a few words of schema could stop the engine for all. So the
ways are counted before, from above: too many are refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from leadline.engines.format.schemas.budget import Budget, Refusal
from leadline.engines.format.schemas.shapes import Array, Member, Object, Plain, Shape

MOST_WAYS = 64
# Names are short, so here the engine has more ways for a moment only.
MOST_OPTIONAL = 256
_NESTED = frozenset("{[")
# Marks of shapes; no member's name is without a colon after it.
_LISTED = "listed"
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class _Kinds:
    """How a value may begin, and all its texts, where they are not too many to know."""

    starts: frozenset[str]
    texts: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _Option:
    """One shape of a value: the values in it, and the value's shapes that can be read along with it, by their place
    among the shapes: into nested values, or only so far as scalars go."""

    inside: tuple[int, ...]
    nested: tuple[int, ...]
    flat: int


class Ambiguity:
    """The values of one grammar, looked at for alternatives that begin alike."""

    def __init__(self, values: Sequence[Sequence[Shape]], budget: Budget) -> None:
        self._values = values
        self._budget = budget
        self._kinds = [_kinds(shapes) for shapes in values]

    def check(self, value: int, ways: Sequence[int]) -> None:
        """Raises Refusal."""
        if ways[value] > MOST_WAYS:
            raise Refusal(f"more than {MOST_WAYS} alternatives begin alike, or such alternatives are nested")
        for shape in self._values[value]:
            if isinstance(shape, Object) and _longest_optional_run(shape) > MOST_OPTIONAL:
                raise Refusal(f"more than {MOST_OPTIONAL} optional properties follow each other")

    def ways(self) -> list[int]:
        """Of each value; counting ends above MOST_WAYS."""
        options = [self._options(shapes) for shapes in self._values]
        ways = [1] * len(self._values)
        changed = True
        while changed:
            changed = False
            # What is inside mostly has the higher number.
            for value in reversed(range(len(options))):
                self._budget.spend(1 + len(options[value]))
                found = self._count(options[value], ways)
                if found > ways[value]:
                    ways[value] = found
                    changed = found <= MOST_WAYS or changed
        return ways

    def _count(self, options: Sequence[_Option], ways: Sequence[int]) -> int:
        inside = [max((ways[value] for value in option.inside), default=1) for option in options]
        self._budget.spend(sum(len(option.inside) + len(option.nested) for option in options))
        counts = [max(option.flat, sum(inside[other] for other in option.nested)) for option in options]
        return min(max(counts, default=1), MOST_WAYS + 1)

    def _options(self, shapes: Sequence[Shape]) -> list[_Option]:
        if len(shapes) == 1:
            return [_Option(_inside(shapes[0]), (0,), 1)]
        nested: list[list[int]] = [[index] for index in range(len(shapes))]
        flat = [1] * len(shapes)
        kinds = [_kinds([shape]) for shape in shapes]
        for one, other in self._pairs(shapes):
            self._budget.spend(5)
            match shapes[one], shapes[other]:
                case ((Object() as mine), (Object() as theirs)):
                    into, along = self._objects(mine, theirs)
                case ((Array() as mine), (Array() as theirs)):
                    into, along = self._arrays(mine, theirs)
                case _:
                    into, along = self._alike(kinds[one], kinds[other])
            if into:
                nested[one].append(other)
                nested[other].append(one)
            flat[one] += along
            flat[other] += along
        return [_Option(_inside(shape), tuple(n), f) for shape, n, f in zip(shapes, nested, flat, strict=True)]

    def _pairs(self, shapes: Sequence[Shape]) -> Iterator[tuple[int, int]]:
        """Shapes that may begin alike, but no two of listed texts, nor objects that their first member tells apart."""
        groups: dict[str, list[int]] = {}
        for index, shape in enumerate(shapes):
            self._budget.spend()
            groups.setdefault(self._mark(shape), []).append(index)
        listed, others = groups.pop(_LISTED, []), groups.pop(_OTHER, [])
        yield from ((one, other) for one in listed for other in others)
        for group in groups.values():
            yield from ((one, other) for i, one in enumerate(group) for other in (*group[:i], *others))
        yield from ((one, other) for i, one in enumerate(others) for other in others[:i])

    def _mark(self, shape: Shape) -> str:
        match shape:
            case Plain(starts=starts, texts=texts) if texts is not None and _NESTED.isdisjoint(starts):
                return _LISTED
            case Object([Member(name, value, True), *_]):
                texts = self._kinds[value].texts
                if texts is not None and len(texts) == 1:
                    # Another name tells apart as well as another text.
                    return f"{name}:{''.join(texts)}"
        return _OTHER

    def _alike(self, one: _Kinds, other: _Kinds) -> tuple[bool, bool]:
        shared = one.starts & other.starts
        into = bool(shared & _NESTED)
        return into, into or (bool(shared) and (one.texts is None or other.texts is None))

    def _goes_on(self, one: _Kinds, other: _Kinds) -> bool:
        if one.texts is not None and other.texts is not None:
            return not one.texts.isdisjoint(other.texts)
        return bool(one.starts & other.starts)

    def _arrays(self, one: Array, other: Array) -> tuple[bool, bool]:
        along = False
        for index in range(max(len(one.first), len(other.first)) + 1):
            self._budget.spend()
            mine, theirs = _item(one, index), _item(other, index)
            if mine is None or theirs is None or not self._goes_on(self._kinds[mine], self._kinds[theirs]):
                break
            into, beside = self._alike(self._kinds[mine], self._kinds[theirs])
            along |= beside
            if into:
                return True, True
        return False, along

    def _objects(self, one: Object, other: Object) -> tuple[bool, bool]:
        along = False
        seen = {(0, 0)}
        places = [(0, 0)]
        for place in places:
            for mine, theirs, target in self._shared(one, other, place):
                into, beside = self._alike(self._kinds[mine], self._kinds[theirs])
                along |= beside
                if into:
                    return True, True
                if target not in seen and self._goes_on(self._kinds[mine], self._kinds[theirs]):
                    seen.add(target)
                    places.append(target)
        return False, along

    def _shared(self, one: Object, other: Object, place: tuple[int, int]) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Members that may come next in both: their values, and the place after them."""
        mine, theirs = _next_members(one, place[0]), _next_members(other, place[1])
        self._budget.spend(len(mine) + len(theirs))
        for name, (value, after) in mine.items():
            if name in theirs:
                yield value, theirs[name][0], (after, theirs[name][1])
            elif None in theirs and name is not None:
                yield value, theirs[None][0], (after, theirs[None][1])
        if None in mine:
            for name, (value, after) in theirs.items():
                if name not in mine:
                    yield mine[None][0], value, (mine[None][1], after)


def _kinds(shapes: Sequence[Shape]) -> _Kinds:
    starts: set[str] = set()
    texts: set[str] | None = set()
    for shape in shapes:
        match shape:
            case Plain():
                starts.update(shape.starts)
                texts = None if texts is None or shape.texts is None else texts | shape.texts
            case Object():
                starts.add("{")
                texts = None
            case Array():
                starts.add("[")
                texts = None
    return _Kinds(frozenset(starts), None if texts is None else frozenset(texts))


def _inside(shape: Shape) -> tuple[int, ...]:
    match shape:
        case Plain():
            return ()
        case Object(members, others):
            values = [member.value for member in members]
        case Array(first, others):
            values = list(first)
    return tuple(dict.fromkeys(values if others is None else [*values, others]))


def _item(array: Array, index: int) -> int | None:
    return array.first[index] if index < len(array.first) else array.others


def _next_members(shape: Object, index: int) -> dict[str | None, tuple[int, int]]:
    """By name, None for any other: the value, and the place after it."""
    found: dict[str | None, tuple[int, int]] = {}
    for place in range(index, len(shape.members)):
        member = shape.members[place]
        found[member.name] = (member.value, place + 1)
        if member.required:
            return found
    if shape.others is not None:
        found[None] = (shape.others, len(shape.members))
    return found


def _longest_optional_run(shape: Object) -> int:
    longest = run = 0
    for member in shape.members:
        run = 0 if member.required else run + 1
        longest = max(longest, run)
    return longest
