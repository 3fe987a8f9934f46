"""Pages of a list, as the query of a request asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadline.errors import InvalidRequest

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Paging:
    """What a dialect calls it. `after`: the page begins behind the entry of this id; `before`: it ends in front of it.
    Without a `limit` there are `entries` on a page."""

    entries: int
    most: int
    after: Sequence[str]
    before: Sequence[str] = ()


def page_of(entries: list[Json], query: Mapping[str, str], paging: Paging) -> Json:
    """The page, with what its list says of it; or InvalidRequest that names the parameter."""
    limit = integer(query, "limit", paging.entries, 1, paging.most)
    entries = entries[_place(entries, query, paging.after, -1) + 1 :]
    before = _place(entries, query, paging.before, len(entries))
    backwards = before < len(entries)
    entries = entries[:before]
    page = entries[-limit:] if backwards else entries[:limit]
    ids = [entry["id"] for entry in page] or [None]
    return {"data": page, "first_id": ids[0], "last_id": ids[-1], "has_more": len(entries) > limit}


def _place(entries: list[Json], query: Mapping[str, str], names: Sequence[str], absent: int) -> int:
    """Where the entry is whose id the first of these parameters names."""
    for name in names:
        if entry_id := query.get(name):
            places = [place for place, entry in enumerate(entries) if entry["id"] == entry_id]
            if not places:
                raise InvalidRequest(f"{name} is not the id of an entry of this list.", name)
            return places[0]
    return absent


def integer(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise InvalidRequest(f"{name} must be an integer from {max(least, 0)} to {most}.", name)
    return int(text)
