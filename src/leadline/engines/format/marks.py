"""Keeps what a chat template wrote and what came from users apart, so that user text never acts as control tokens.

Private marks are rendered in place of user strings, and the prompt is cut at them afterwards.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

# A user's string by its number, between private-use characters. The quotation mark tells what became of the string:
# JSON gives it one backslash, JSON within JSON three, and HTML makes it an entity. JSON in ASCII shows at the brackets.
_MARK = re.compile('(\ue000|\\\\+ue000)(\\d+)(\\\\*)("|&#34;|&quot;)(?:\ue001|\\\\+ue001)')
_MANGLED_MARK = re.compile(r"[\ue000\ue001]|\\u[eE]00[01]")
# Ordinary words need no mark, and templates compare them: the types in schemas, the names of parameters.
_WORD = re.compile(r"[\w-]*")
_AROUND_WORD = re.compile(r"^\W+|\W+$")
_JOINER = "\u2060"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt. `special`: texts of special tokens in it are those tokens; else they are ordinary text.
    Pieces are tokenised one by one, and nothing is added to them, no token of beginning either."""

    text: str
    special: bool


def prompt_text(pieces: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@dataclass(slots=True)
class Marks:
    """Puts marks in place of strings; whitespace around them stays, for templates that trim. `inner_words` make special
    tokens where a template sets brackets around them."""

    inner_words: frozenset[str]
    texts: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        core = text.strip()
        if _WORD.fullmatch(core) and core not in self.inner_words:
            return text
        number = self._numbers.setdefault(core, len(self.texts))
        if number == len(self.texts):
            self.texts.append(core)
        before = text.index(core)
        return f'{text[:before]}\ue000{number}"\ue001{text[before + len(core) :]}'


class Guard:
    """Knows the texts of a vocabulary's special tokens."""

    def __init__(self, special: Iterable[str]) -> None:
        self._tokens = sorted({token for token in special if len(token) > 1})
        self._special = re.compile(any_of(self._tokens))
        escaped = any_of(json.dumps(token, ensure_ascii=False)[1:-1] for token in self._tokens)
        self._in_json = re.compile(escaped.encode())
        self._inner_words = frozenset(_AROUND_WORD.sub("", token) for token in self._tokens)
        self._starts = tuple({json.dumps(token, ensure_ascii=False)[1:3].encode() for token in self._tokens})

    def suspects(self, encoded: bytes) -> bool:
        """Whether strings within this JSON may hold special tokens. The arguments of calls are JSON text within JSON:
        an escape in them may become anything."""
        if rb"\\u" in encoded:
            return True
        return any(start in encoded for start in self._starts) and self._in_json.search(encoded) is not None

    def count(self, text: str) -> int:
        return len(self._special.findall(text))

    def marks(self) -> Marks:
        return Marks(self._inner_words)

    def defused(self, text: str) -> str:
        """With a word joiner within each special token: for templates that do not bear marks."""
        return self._special.sub(lambda found: f"{found[0][0]}{_JOINER}{found[0][1:]}", text)

    def harmless(self, text: str) -> str:
        """In place of a string that could have a part in a special token; always the same for the same string."""
        core = text.strip()
        if _WORD.fullmatch(core) and core not in self._inner_words:
            return text
        return text.replace(core, f"x{abs(hash(core))}")

    def cut(self, prompt: str, marks: Marks) -> tuple[Piece, ...] | None:
        """The prompt with its user strings back, as pieces of their own. None: the template changed a mark."""
        pieces: list[Piece] = []
        at = 0
        for mark in _MARK.finditer(prompt):
            text = _unmarked(marks, mark)
            if text is None or _MANGLED_MARK.search(prompt, at, mark.start()):
                return None
            pieces += self._template_piece(prompt[at : mark.start()])
            pieces += self.plain(text)
            at = mark.end()
        if _MANGLED_MARK.search(prompt, at):
            return None
        return (*pieces, *self._template_piece(prompt[at:]))

    def joined(self, pieces: tuple[Piece, ...]) -> str | None:
        """The prompt as one text whose special tokens all count: with a word joiner where a user's were cut. None
        where a special token comes to be all the same."""
        text, special = "", True
        for piece in pieces:
            text += piece.text if piece.special or special else _JOINER + piece.text
            special = piece.special
        meant = sum(self.count(piece.text) for piece in pieces if piece.special)
        return text if self.count(text) == meant else None

    def _template_piece(self, text: str) -> Iterator[Piece]:
        if text:
            yield Piece(text, special=True)

    def plain(self, text: str) -> Iterator[Piece]:
        """What a user wrote. Cut within each special token too: llama.cpp takes user-defined ones as tokens even in
        ordinary text."""
        at = 0
        for found in self._special.finditer(text):
            yield Piece(text[at : found.start() + 1], special=False)
            at = found.start() + 1
        yield Piece(text[at:], special=False)

    def glues(self, pieces: tuple[Piece, ...]) -> bool:
        """Whether the template sets user strings so that a special token could come to be across the border: two of
        them side by side, or one beside the beginning or the end of such a token."""
        beginnings = {token[:length] for token in self._tokens for length in range(1, len(token))}
        endings = {token[length:] for token in self._tokens for length in range(1, len(token))}
        longest = max(map(len, self._tokens), default=0)
        for left, right in pairwise(pieces):
            if left.special == right.special:
                return True
            for length in range(1, longest):
                if left.special and left.text[-length:] in beginnings:
                    return True
                if right.special and right.text[:length] in endings:
                    return True
        return False


def _unmarked(marks: Marks, mark: re.Match[str]) -> str | None:
    """The string, having gone through what its mark went through."""
    opening, number, backslashes, quote = mark.groups()
    if int(number) >= len(marks.texts) or (len(backslashes) & (len(backslashes) + 1)):
        return None
    text = marks.texts[int(number)]
    for _ in range(len(backslashes).bit_length()):
        text = json.dumps(text, ensure_ascii=len(opening) > 1)[1:-1]
    if quote == '"':
        return text
    text = html.escape(text, quote=False).replace('"', quote)
    return text.replace("'", "&#39;") if quote == "&#34;" else text


def any_of(words: Iterable[str]) -> str:
    """A regular expression for the longest of these words at a place. It branches by characters, so that thousands of
    words that begin alike cost no more than one."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _branches(tree) if tree else "(?!)"


def _branches(node: dict[str, Any]) -> str:
    chain = ""
    while len(node) == 1 and "" not in node:
        [(character, node)] = node.items()
        chain += re.escape(character)
    branches = [re.escape(character) + _branches(below) for character, below in sorted(node.items()) if character]
    if not branches:
        return chain
    return f"{chain}(?:{'|'.join(branches)}){'?' if '' in node else ''}"
