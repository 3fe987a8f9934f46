"""What of a prompt a worker has read already. A conversation is best asked where its beginning is warm."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from leadline.chat.request import Block, ChatRequest, Image, Reasoning, Text, ToolCall, ToolResult

# A prompt is cut at the end of each message, and within longer ones each so many bytes.
_BLOCK_BYTES = 2048
# What follows these blocks is not looked at: so much tells any conversation from another.
_MOST_BLOCKS = 256
# Of each worker. Older ones are forgotten, as its own cache forgets them.
_MOST_KNOWN = 8192
_DIGEST_BYTES = 16
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Beginnings:
    """The beginnings of one prompt, from the shortest to the longest: a digest of each, which holds model and cache
    scope too, and about how many tokens it has. `lead` is of the conversation's first blocks: the same in all turns."""

    digests: tuple[bytes, ...]
    tokens: tuple[int, ...]
    lead: bytes

    @property
    def all_tokens(self) -> int:
        return self.tokens[-1] if self.tokens else 0


def beginnings(request: ChatRequest) -> Beginnings:
    """What two requests share of it, one worker need read but once. Requests of two scopes share nothing."""
    hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    # With their lengths: no scope and model can look like two others.
    hasher.update(repr((request.cache_scope, request.model)).encode())
    digests: list[bytes] = []
    tokens: list[int] = []
    size, lead = 0, None
    for leads, piece in _pieces(request):
        for at in range(0, len(piece), _BLOCK_BYTES):
            block = piece[at : at + _BLOCK_BYTES]
            hasher.update(block)
            size += len(block)
            digests.append(hasher.digest())
            tokens.append(size // _BYTES_PER_TOKEN)
            if leads and lead is None:
                lead = digests[-1]
            if len(digests) == _MOST_BLOCKS:
                return Beginnings(tuple(digests), tuple(tokens), lead or digests[0])
    return Beginnings(tuple(digests), tuple(tokens), lead or hasher.digest())


def _pieces(request: ChatRequest) -> Iterator[tuple[bool, bytes]]:
    """The prompt's parts in the order of the common templates, and whether each tells one conversation from another:
    many share their tools and system messages."""
    if request.tools:
        shown = [(tool.name, tool.description, tool.parameters) for tool in request.tools]
        yield False, msgspec.json.encode(shown)
    for message in request.messages:
        shown_block = "\x1f".join(map(_block, message.content))
        yield message.role != "system", f"\x1e{message.role}\x1f{shown_block}".encode("utf-8", "replace")
    for prompt in request.prompts:
        yield True, prompt.encode("utf-8", "replace") if isinstance(prompt, str) else repr(prompt).encode()


def _block(block: Block) -> str:
    match block:
        case Text() | Reasoning():
            return block.text
        case Image():
            return block.url
        case ToolCall():
            return f"{block.name}\x1f{block.arguments}"
        case ToolResult():
            return "\x1f".join(map(_block, block.content))


@dataclass(slots=True)
class WarmPrefixes:
    """The beginnings that one worker has read last. A guess: what it keeps is its own affair."""

    most: int = _MOST_KNOWN
    _known: dict[bytes, None] = field(default_factory=dict)

    def tokens(self, prompt: Beginnings) -> int:
        """About how many tokens of the prompt need not be read again."""
        # Where one beginning is known, all shorter ones are: they are remembered after it.
        known = bisect_left(prompt.digests, 1, key=lambda digest: digest not in self._known)
        return prompt.tokens[known - 1] if known else 0

    def remember(self, prompt: Beginnings) -> None:
        for digest in reversed(prompt.digests):
            self._known.pop(digest, None)
            self._known[digest] = None
        while len(self._known) > self.most:
            del self._known[next(iter(self._known))]

    def forget(self) -> None:
        self._known.clear()
