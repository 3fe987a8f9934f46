"""How much of a prompt the pipeline's cache surely still has.

The pipeline keeps prompts and answers in blocks of tokens and does not tell which it used again. It writes over the
blocks that nobody uses, those first that were not used for longest. So this counts how many blocks were taken since one
was left: as long as those can all have been other ones, it is still there. Whatever is not sure counts as gone.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

BLOCK_TOKENS = 32


@dataclass(slots=True)
class _Block:
    """`sure_until`: how many blocks may have been taken before it may be gone."""

    users: int = 0
    sure_until: int = 0


@dataclass(slots=True, eq=False)
class Holder:
    """One request's blocks. Two requests are never the same, however alike."""

    digests: list[bytes]
    tokens: int
    cached_tokens: int
    registered: bool = False

    @property
    def blocks(self) -> int:
        """No fewer than it has taken."""
        return self.tokens // BLOCK_TOKENS + 2


@dataclass(slots=True)
class Prefixes:
    """Of a pipeline with so many `blocks`, whose requests all fit into it at once."""

    blocks: int
    _known: dict[bytes, _Block] = field(default_factory=dict)
    _running: list[Holder] = field(default_factory=list)
    _taken_before: int = 0

    def begin(self, prompt: Sequence[int]) -> Holder:
        """Before the pipeline gets `prompt`, at least one token. At least one token is always computed."""
        digests = _digests(prompt)
        taken, sure = self._taken(), 0
        for digest in digests:
            block = self._known.get(digest)
            if block is None or (not block.users and taken > block.sure_until):
                break
            sure += 1
        holder = Holder(digests, len(prompt), min(sure * BLOCK_TOKENS, len(prompt) - 1))
        # What it uses again is in use from now on, and so is not written over.
        for digest in digests[:sure]:
            self._known[digest].users += 1
        holder.digests = digests[:sure]
        self._running.append(holder)
        return holder

    def computed(self, holder: Holder, prompt: Sequence[int]) -> None:
        """Its whole prompt is in the cache."""
        if not holder.registered:
            holder.registered = True
            self._add(holder, _digests(prompt))

    def end(self, holder: Holder, tokens: Sequence[int]) -> None:
        """It ended; `tokens` are those of its prompt and answer that are surely in the cache."""
        if holder.registered:
            self._add(holder, _digests(tokens))
        self._running.remove(holder)
        self._taken_before += holder.blocks
        used_by_others = sum(other.blocks for other in self._running)
        sure_until = self._taken() + self.blocks - used_by_others - holder.blocks
        for digest in holder.digests:
            block = self._known[digest]
            block.users -= 1
            block.sure_until = sure_until
        self._forget()

    def _add(self, holder: Holder, digests: list[bytes]) -> None:
        for digest in digests[len(holder.digests) :]:
            self._known.setdefault(digest, _Block()).users += 1
            holder.digests.append(digest)

    def _taken(self) -> int:
        return self._taken_before + sum(holder.blocks for holder in self._running)

    def _forget(self) -> None:
        """Those that may be gone."""
        if len(self._known) > 2 * self.blocks:
            taken = self._taken()
            self._known = {
                digest: block for digest, block in self._known.items() if block.users or taken <= block.sure_until
            }


def _digests(tokens: Sequence[int]) -> list[bytes]:
    """Of all that precedes the end of each whole block."""
    chain, digests = blake2b(digest_size=16), []
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        chain.update(array("q", tokens[end - BLOCK_TOKENS : end]).tobytes())
        digests.append(chain.copy().digest())
    return digests
