"""A model's tokens: texts to tokens, and tokens back to texts as they come."""

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from leadline.engines.openvino.wire import Part

# The tokenizer cuts what is longer than the model's context: longer texts are given to it in pieces.
_PIECE_CHARACTERS = 4096


@dataclass(slots=True)
class Vocabulary:
    """`special` tokens have no text; `ends` end an answer."""

    tokenizer: Any
    token_bytes: dict[int, bytes]
    special: frozenset[int]
    ends: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Any, special: Iterable[str], ends: Iterable[str]) -> "Vocabulary":
        known: dict[bytes, int] = tokenizer.get_vocab()
        ids = frozenset(known[text.encode()] for text in special if text.encode() in known)
        last = {known[text.encode()] for text in ends if text.encode() in known} | {tokenizer.get_eos_token_id()}
        return cls(tokenizer, {number: text for text, number in known.items()}, ids | last, frozenset(last))

    def tokens(self, prompt: Sequence[Part]) -> list[int]:
        """Of the parts one by one; nothing is added to them."""
        found: list[int] = []
        for part in prompt:
            if isinstance(part, int):
                found.append(part)
            else:
                # A plain text holds no whole special token: it was cut within each of them.
                found += self.encode(part[0])
        return found

    def told(self, prompt: Sequence[Part]) -> list[tuple[int, bytes]]:
        """The tokens, each with its bytes."""
        return [(token, self.token_bytes[token]) for token in self.tokens(prompt)]

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`. Texts of special tokens in it become those tokens."""
        found: list[int] = []
        for piece in _pieces(text):
            found += self.tokenizer.encode(piece, add_special_tokens=False).input_ids.data[0].tolist()
        return found

    def ids(self, texts: Iterable[str]) -> frozenset[int]:
        """Of the special tokens with these texts."""
        wanted = {text.encode() for text in texts}
        return frozenset(number for number in self.special if self.token_bytes[number] in wanted)

    def writer(self, kept: Iterable[str]) -> "Writer":
        return Writer(self, self.ids(kept) - self.ends)


class Writer:
    """One answer's text."""

    def __init__(self, vocabulary: Vocabulary, kept: frozenset[int]) -> None:
        self._bytes = vocabulary.token_bytes
        self._silent = vocabulary.special - kept
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, tokens: Iterable[int]) -> str:
        """What follows from these; a part of a character waits for the rest of it."""
        spoken = b"".join(self._bytes.get(token, b"") for token in tokens if token not in self._silent)
        return self._characters.decode(spoken)

    def end(self) -> str:
        return self._characters.decode(b"", final=True)


def _pieces(text: str) -> Iterable[str]:
    """Pieces that are tokenised alike on their own: a new one begins with a space between letters, if it can."""
    at = 0
    while len(text) - at > _PIECE_CHARACTERS:
        end = at + _PIECE_CHARACTERS
        cut = next((place for place in range(end, at + 1, -1) if _parts(text, place)), end)
        yield text[at:cut]
        at = cut
    if at < len(text):
        yield text[at:]


def _parts(text: str, place: int) -> bool:
    return text[place] == " " and text[place - 1].isalpha() and text[place + 1 : place + 2].isalpha()
