"""Pages of a list by cursor: the id of a row at their edge. The newest rows come first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlencode

ROWS = 50


class Identified(Protocol):
    """A row of a list."""

    @property
    def id(self) -> str: ...


_Row = TypeVar("_Row", bound=Identified)
_Row_co = TypeVar("_Row_co", bound=Identified, covariant=True)


class Fetch(Protocol[_Row_co]):
    """Reads the rows next to a cursor (None: the newest), so many at most."""

    async def __call__(self, cursor: str | None, limit: int, *, oldest_first: bool) -> Sequence[_Row_co]:
        """`oldest_first`: those after the cursor."""
        ...


@dataclass(frozen=True, slots=True)
class Turned(Generic[_Row]):
    """A page of a list, and the paths of the pages beside it; None where there is none."""

    rows: list[_Row]
    newer: str | None
    older: str | None


async def turned(fetch: Fetch[_Row], query: Mapping[str, str], page: str, kept: Mapping[str, str]) -> Turned[_Row]:
    """The page that the URL's `before` or `after` asks for. `kept` are the filters that stay when it is turned."""
    before, after = (query.get(name, "")[:100] for name in ("before", "after"))
    forward = bool(after)
    rows = list(await fetch(after or before or None, ROWS + 1, oldest_first=forward))
    more, rows = len(rows) > ROWS, rows[:ROWS]
    if forward:
        rows.reverse()
    has_newer, has_older = (more, bool(rows)) if forward else (bool(before) and bool(rows), more)
    return Turned(
        rows,
        path_of(page, kept, after=rows[0].id) if has_newer else None,
        path_of(page, kept, before=rows[-1].id) if has_older else None,
    )


def path_of(page: str, kept: Mapping[str, str], **more: str) -> str:
    """A path with those parameters that say something."""
    named = {name: text for name, text in {**kept, **more}.items() if text}
    return f"{page}?{urlencode(named)}" if named else page
