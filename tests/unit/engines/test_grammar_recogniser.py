"""Two judges of grammars for the tests beside this file: a small reading of GBNF of our own, and llama.cpp itself.

llama.cpp's library exports what it does with a grammar, so that it can be asked without any model.
"""

import ctypes
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# A character class as ranges and whether it is negative, a rule's name, a repeat of a node, or a choice.
Node = tuple[Any, ...]
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "[": "[", "]": "]"}


class Grammar:
    """A grammar that was read, and what it takes."""

    def __init__(self, text: str) -> None:
        self.rules: dict[str, Node] = {}
        for line in text.splitlines():
            if line:
                name, _, body = line.partition(" ::= ")
                assert name not in self.rules, "two rules of one name"
                self.rules[name] = _Reading(body).whole()
        self.depths = self._depths()

    def accepts(self, text: str) -> bool:
        known: dict[tuple[str, int], frozenset[int] | None] = {}
        return len(text) in self._ends(("rule", "root"), 0, text, known)

    def _ends(
        self, node: Node, start: int, text: str, known: dict[tuple[str, int], frozenset[int] | None]
    ) -> frozenset[int]:
        """Where the node can end that starts there."""
        match node:
            case ("class", ranges, negative):
                inside = start < len(text) and any(a <= text[start] <= b for a, b in ranges) != negative
                return frozenset({start + 1} if inside else ())
            case ("text", literal):
                return frozenset({start + len(literal)} if text.startswith(literal, start) else ())
            case ("rule", name):
                if (name, start) not in known:
                    known[name, start] = None
                    known[name, start] = self._ends(self.rules[name], start, text, known)
                ends = known[name, start]
                assert ends is not None, "left recursion"
                return ends
            case ("choice", options):
                return frozenset().union(*(self._ends(option, start, text, known) for option in options))
            case ("sequence", parts):
                here = frozenset({start})
                for part in parts:
                    here = frozenset().union(*(self._ends(part, at, text, known) for at in here))
                return here
            case ("repeat", part, low, high):
                here, found = frozenset({start}), set[int]()
                times = 0
                while here:
                    if times >= low:
                        here -= found
                        found |= here
                    if times == high:
                        break
                    here = frozenset().union(*(self._ends(part, at, text, known) for at in here))
                    times += 1
                return frozenset(found)
        raise AssertionError(node)

    def sample(self, randomness: random.Random, depth: int = 60) -> str:
        """Some text that the grammar takes."""
        pieces: list[str] = []
        todo: list[tuple[Node, int]] = [(("rule", "root"), depth)]
        while todo:
            node, left = todo.pop()
            match node:
                case ("class", ranges, negative):
                    pieces.append(_letter(ranges, negative, randomness))
                case ("text", literal):
                    pieces.append(literal)
                case ("rule", name):
                    todo.append((self.rules[name], left - 1))
                case ("choice", options):
                    least = min(self._depth(option) for option in options)
                    short = [option for option in options if self._depth(option) == least]
                    fitting = [option for option in options if self._depth(option) <= left] or short
                    todo.append((randomness.choice(fitting), left))
                case ("sequence", parts):
                    todo.extend((part, left) for part in reversed(parts))
                case ("repeat", part, low, high):
                    more = 0 if left < self._depth(part) else randomness.choice((0, 0, 1, 2, 3))
                    times = low + (more if high is None else min(more, high - low))
                    if high is not None and left > 0 and randomness.random() < 0.1:
                        times = high if high < 50 else times
                    todo.extend([(part, left)] * times)
        return "".join(pieces)

    def _depths(self) -> dict[str, float]:
        """How many rules deep each one has to go at least."""
        self.depths = dict.fromkeys(self.rules, float("inf"))
        while True:
            depths = {name: 1 + self._depth(node) for name, node in self.rules.items()}
            if depths == self.depths:
                return depths
            self.depths = depths

    def _depth(self, node: Node) -> float:
        match node:
            case ("rule", name):
                return self.depths[name]
            case ("choice", options):
                return min(self._depth(option) for option in options)
            case ("sequence", parts):
                return max((self._depth(part) for part in parts), default=0)
            case ("repeat", part, low, _):
                return self._depth(part) if low else 0
        return 0


def _letter(ranges: list[tuple[str, str]], negative: bool, randomness: random.Random) -> str:
    if negative:
        return randomness.choice([c for c in 'abc 019.-"\\/é漢😀\n{' if not any(a <= c <= b for a, b in ranges)])
    low, high = randomness.choice(ranges)
    letter = chr(randomness.randint(ord(low), min(ord(high), ord(low) + 200)))
    return low if "\ud800" <= letter <= "\udfff" else letter


class _Reading:
    """The body of one rule and how far it was read."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.at = 0

    def whole(self) -> Node:
        node = self.choice()
        assert self.at == len(self.body), f"unread: {self.body[self.at :][:80]}"
        return node

    def choice(self) -> Node:
        options = [self.sequence()]
        while self.peek() == "|":
            self.at += 1
            options.append(self.sequence())
        return ("choice", options)

    def sequence(self) -> Node:
        parts: list[Node] = []
        while True:
            while self.peek() == " ":
                self.at += 1
            if self.peek() in ("", "|", ")"):
                return ("sequence", parts)
            parts.append(self.repeats(self.atom()))

    def atom(self) -> Node:
        letter = self.next()
        if letter == "(":
            node = self.choice()
            assert self.next() == ")"
            return node
        if letter == '"':
            text = ""
            while self.peek() != '"':
                text += self.character()
            self.at += 1
            return ("text", text)
        if letter == "[":
            return self.char_class()
        assert letter in _LETTERS, f"{letter!r} in {self.body[:200]}"
        while self.peek() and self.peek() in _LETTERS:
            letter += self.next()
        return ("rule", letter)

    def char_class(self) -> Node:
        negative = self.peek() == "^"
        self.at += negative
        ranges = []
        while self.peek() != "]":
            low = high = self.character()
            if self.peek() == "-" and self.body[self.at + 1] != "]":
                self.at += 1
                high = self.character()
            assert low <= high
            ranges.append((low, high))
        self.at += 1
        return ("class", ranges, negative)

    def repeats(self, node: Node) -> Node:
        signs = {"?": (0, 1), "*": (0, None), "+": (1, None)}
        if self.peek() in signs:
            return ("repeat", node, *signs[self.next()])
        if self.peek() != "{":
            return node
        end = self.body.index("}", self.at)
        low, comma, high = self.body[self.at + 1 : end].partition(",")
        self.at = end + 1
        assert max(int(low), int(high or 0)) < 2000, "llama.cpp would not take it, or not count"
        return ("repeat", node, int(low), (int(high) if high else None) if comma else int(low))

    def character(self) -> str:
        letter = self.next()
        if letter != "\\":
            return letter
        kind = self.next()
        digits = {"x": 2, "u": 4, "U": 8}.get(kind)
        if digits is None:
            return _ESCAPES[kind]
        self.at += digits
        return chr(int(self.body[self.at - digits : self.at], 16))

    def peek(self) -> str:
        return self.body[self.at : self.at + 1]

    def next(self) -> str:
        self.at += 1
        return self.body[self.at - 1]


class _Vector(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_size_t), ("end", ctypes.c_size_t), ("capacity", ctypes.c_size_t))


@cache
def _library() -> ctypes.CDLL:
    import xllamacpp

    [path] = Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    library = ctypes.CDLL(str(path))
    try:
        init = library["_Z23llama_grammar_init_implPK11llama_vocabPKcS3_bPS3_mPKim"]
        free = library["_Z23llama_grammar_free_implP13llama_grammar"]
        accept = library["_Z20llama_grammar_acceptP13llama_grammarj"]
        stacks = library["_Z24llama_grammar_get_stacksP13llama_grammar"]
    except AttributeError:
        pytest.skip("this build of llama.cpp does not export its grammars")
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    init.argtypes = [pointer, text, text, ctypes.c_bool, pointer, size, pointer, size]
    init.restype = pointer
    free.argtypes, free.restype = [pointer], None
    accept.argtypes, accept.restype = [pointer, ctypes.c_uint32], None
    stacks.argtypes, stacks.restype = [pointer], pointer
    library.init, library.free, library.accept, library.stacks = init, free, accept, stacks
    return library


class LlamaCpp:
    """A grammar in the real engine. `ways`: the most that it had to follow at once in the last text."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._library = _library()
        self.ways = 0
        self._library.free(self._start())

    def _start(self) -> int:
        grammar: int | None = self._library.init(None, self._text, b"root", False, None, 0, None, 0)
        assert grammar, f"llama.cpp does not take the grammar:\n{self._text.decode()[:5000]}"
        return grammar

    def accepts(self, text: str) -> bool:
        grammar = self._start()
        try:
            self.ways = 0
            for letter in text:
                self._library.accept(grammar, ord(letter))
                stacks = self._stacks(grammar)
                self.ways = max(self.ways, len(stacks))
                assert self.ways < 5_000, "the engine would be lost in this grammar"
                if not stacks:
                    return False
            ends = map(_Vector.from_address, self._stacks(grammar))
            return any(stack.begin == stack.end for stack in ends)
        finally:
            self._library.free(grammar)

    def _stacks(self, grammar: int) -> range:
        """Their addresses."""
        outer = _Vector.from_address(self._library.stacks(grammar))
        return range(outer.begin, outer.end, ctypes.sizeof(_Vector))


@pytest.mark.parametrize(
    ("grammar", "text", "taken"),
    [
        ('root ::= "a" [0-9]{2,4} "é"?', "a12", True),
        ('root ::= "a" [0-9]{2,4} "é"?', "a1234é", True),
        ('root ::= "a" [0-9]{2,4} "é"?', "a12345", False),
        ('root ::= ("x" | [^x\\x00-\\x1F] other)*\nother ::= "\\\\" | "\\"" | | "\\u00e9"', 'xy\\z"é', True),
        ('root ::= ("x" | [^x\\x00-\\x1F] other)*\nother ::= "\\\\" | "\\""', "x\n", False),
        ("root ::= [\\x5B-\\x5D]+", "[\\]", True),
        ("root ::= [\\x5B-\\x5D]+", "", False),
        ('root ::= "(" root* ")"', "(()(()))", True),
        ('root ::= "(" root* ")"', "(()", False),
        ("root ::= [a-c-]{3}", "a-c", True),
        ("root ::= [\\U0001F600-\\U0001F64F]", "😀", True),
    ],
)
def test_both_judges_read_grammars_alike(grammar: str, text: str, taken: bool) -> None:
    assert Grammar(grammar).accepts(text) is taken
    assert LlamaCpp(grammar).accepts(text) is taken


def test_samples_are_accepted() -> None:
    grammar = Grammar('root ::= "(" root* ")" | [a-c]{1,3} | "d" ("e" | [^a-z]) ""')
    for seed in range(100):
        assert grammar.accepts(grammar.sample(random.Random(seed)))
