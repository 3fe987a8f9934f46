"""Which of llama.cpp's slots a request runs in.

A slot keeps what it read and wrote last, and a request that begins alike need not read that again. llama.cpp does not
ask whose it was, so we choose the slot, and say of each request whether it may use what is there. It also reads prompts
in the order of its slots: short ones get the first half, so that they do not wait behind a long one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from leadline.chat.events import Usage

# More slots than requests at once, so that idle ones keep prompts.
SLOTS_PER_REQUEST = 2
# A prompt of which more has to be read than this is long: four pieces or more.
_LONG_CHARACTERS = 2048
_CHARACTERS_PER_TOKEN = 4
# A prompt as it was sent: a text, or tokens.
Sent = str | tuple[int, ...]


@dataclass(slots=True)
class Slot:
    """`scope` is whose `prompt` it holds; None: nobody's, or that is not sure. `tokens` are all that it keeps. It is
    `left` while its last request ended before it began: llama.cpp may still come to it."""

    number: int
    scope: str | None = None
    prompt: Sent = ""
    tokens: int = 0
    used: int = 0
    busy: bool = False
    left: bool = False


@dataclass(slots=True)
class Turn:
    """One request in its slot. `reuses`: it may begin with what is there. Otherwise whatever is there must be dropped,
    and only once that `began` is it sure whose the slot is."""

    slot: Slot
    scope: str
    prompt: Sent
    reuses: bool

    def began(self, prompt_tokens: int) -> None:
        self.slot.scope, self.slot.prompt, self.slot.tokens = self.scope, self.prompt, prompt_tokens
        self.slot.left = False

    def ended(self, usage: Usage) -> None:
        self.slot.tokens = usage.prompt_tokens + usage.output_tokens + usage.reasoning_tokens


@dataclass(slots=True)
class Slots:
    """Those of one child. Idle ones keep at most `most_idle_tokens`, and in any case the newest prompt: what they keep
    makes each prompt slower to read, since attention passes over it."""

    count: int
    most_idle_tokens: int
    _slots: list[Slot] = field(init=False)
    _uses: int = 0

    def __post_init__(self) -> None:
        self._slots = [Slot(number) for number in range(self.count)]

    @contextmanager
    def take(self, scope: str, prompt: Sent) -> Iterator[Turn]:
        """A slot for a request. There is one: fewer requests run at once than there are slots."""
        idle = [slot for slot in self._slots if not slot.busy]
        slot = self._alike(idle, scope, prompt) or self._other(idle, prompt)
        turn = Turn(slot, scope, prompt, reuses=slot.scope == scope)
        slot.busy = slot.left = True
        if not turn.reuses:
            slot.scope = None
        try:
            yield turn
        finally:
            slot.busy = False
            self._uses += 1
            slot.used = self._uses

    def outgrown(self) -> list[int]:
        """The numbers of idle slots that must be erased, which are nobody's from now on; the oldest first."""
        held = sorted((slot for slot in self._slots if not slot.busy and slot.tokens), key=lambda slot: slot.used)
        idle_tokens, outgrown = sum(slot.tokens for slot in held), []
        for slot in held[:-1]:
            if idle_tokens <= self.most_idle_tokens:
                break
            idle_tokens -= slot.tokens
            slot.scope, slot.prompt, slot.tokens = None, "", 0
            outgrown.append(slot.number)
        return outgrown

    def _alike(self, idle: list[Slot], scope: str, prompt: Sent) -> Slot | None:
        """The one of the same scope that has most of the prompt, unless it would lose more than half of what it holds,
        or a long prompt would get among the short ones for little."""
        best, most = None, 0
        for slot in idle:
            shared = _shared(slot.prompt, prompt) if slot.scope == scope else 0
            rest = len(prompt) - shared
            worth = not _is_long(prompt, rest) or self._takes_long(slot) or shared > rest
            if shared > most and 2 * shared >= len(slot.prompt) and worth:
                best, most = slot, shared
        return best

    def _other(self, idle: list[Slot], prompt: Sent) -> Slot:
        """In the half for its length one that is nobody's, else the one that was not used for longest; one that was
        left only where there is no other."""
        long = _is_long(prompt, len(prompt))
        return min(
            idle, key=lambda slot: (self._takes_long(slot) != long, slot.left, slot.scope is not None, slot.used)
        )

    def _takes_long(self, slot: Slot) -> bool:
        return slot.number >= self.count // 2


def _is_long(prompt: Sent, length: int) -> bool:
    """Whether so much of the prompt is."""
    return length * (1 if isinstance(prompt, str) else _CHARACTERS_PER_TOKEN) > _LONG_CHARACTERS


def _shared(one: Sent, other: Sent) -> int:
    """How long the beginning is that both have."""
    if isinstance(one, str) is not isinstance(other, str):
        return 0
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same
