"""The URL of a page whose whole state is in its query, and where the same page is with something else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

_LONGEST = 500
_MOST_VALUES = 100


@dataclass(frozen=True, slots=True)
class Address:
    """`pairs` are the names and values of the query that the page knows, as they were asked."""

    page: str
    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, page: str, query: Iterable[tuple[str, str]], known: Sequence[str]) -> "Address":
        """What a page does not know, and what is left empty, is left out."""
        cut = [(name, value.strip()[:_LONGEST]) for name, value in query if name in known]
        return cls(page, tuple(dict.fromkeys(pair for pair in cut if pair[1]))[:_MOST_VALUES])

    def one(self, name: str) -> str:
        """Of several values the first; empty where there is none."""
        return next((value for each, value in self.pairs if each == name), "")

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.pairs if each == name]

    def to(self, page: str = "", **changed: str | None) -> str:
        """The same with other values. None: without."""
        kept = [pair for pair in self.pairs if pair[0] not in changed]
        kept += [(name, value) for name, value in changed.items() if value]
        page = page or self.page
        return f"{page}?{urlencode(kept)}" if kept else page

    def less(self, name: str, value: str) -> str:
        """The same without one of several values."""
        return Address(self.page, tuple(pair for pair in self.pairs if pair != (name, value))).to()

    def kept(self, *without: str) -> list[tuple[str, str]]:
        """What a form has to send along that asks for `without`."""
        return [pair for pair in self.pairs if pair[0] not in without]
