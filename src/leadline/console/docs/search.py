"""Finds sections of the docs by the words in them. The index is a few hundred texts in memory."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

LONGEST_QUERY = 100
_MOST_WORDS = 8
_MOST_FOUND = 20
_EXCERPT = 160
_MOST_OF_A_PAGE = 3
# What a word is worth by where it stands: alone, and within another one.
_OF_PAGE, _OF_TITLE, _OF_TEXT, _OF_CODE = (24, 8), (15, 5), (6, 1), (2, 1)
_MOST_TIMES = 5


@dataclass(frozen=True, slots=True)
class Indexed:
    """A section: its page, its own heading and what it says."""

    path: str
    page: str
    title: str
    text: str
    code: str


@dataclass(frozen=True, slots=True)
class Found:
    """A section that has every word that was asked for."""

    path: str
    page: str
    title: str
    excerpt: str


def words_of(query: str) -> tuple[str, ...]:
    """What is looked for: at most eight words, without regard to case."""
    return tuple(dict.fromkeys(re.findall(r"[\w./:-]+", query[:LONGEST_QUERY].casefold())))[:_MOST_WORDS]


def find(query: str, index: Iterable[Indexed]) -> list[Found]:
    """The sections in which every word stands, the best first."""
    words = words_of(query)
    if not words:
        return []
    rated = [(_rate(words, section), section) for section in index]
    of_pages: Counter[str] = Counter()
    found: list[Found] = []
    for rating, one in sorted(rated, key=lambda pair: -pair[0]):
        of_pages[one.page] += 1
        if rating and of_pages[one.page] <= _MOST_OF_A_PAGE and len(found) < _MOST_FOUND:
            found.append(Found(one.path, one.page, one.title, _excerpt(words[0], one.text or one.code)))
    return found


def _rate(words: tuple[str, ...], section: Indexed) -> int:
    parts = ((section.page, _OF_PAGE), (section.title, _OF_TITLE), (section.text, _OF_TEXT), (section.code, _OF_CODE))
    rating = 0
    for word in words:
        of_word = 0
        for part, (alone, within) in parts:
            text = part.casefold()
            if times := text.count(word):
                whole = len(_alone(word).findall(text))
                most = _MOST_TIMES if part is section.text else 1
                of_word += alone * min(whole, most) + within * min(times - whole, most)
        if not of_word:
            return 0
        rating += of_word
    return rating


@lru_cache(maxsize=64)
def _alone(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")


def _excerpt(word: str, text: str) -> str:
    """What stands around the first place of the word."""
    alone = _alone(word).search(text.casefold())
    first = text.casefold().find(word) if alone is None else alone.start()
    at = max(first - _EXCERPT // 3, 0)
    start = text.find(" ", at) + 1 if at else 0
    told = text[start : start + _EXCERPT]
    return ("…" if start else "") + told + ("…" if start + _EXCERPT < len(text) else "")
