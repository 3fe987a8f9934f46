"""Stop strings, the same for every engine: text is held back while it may become one, and cut where it does."""

from dataclasses import dataclass, field, replace

from leadline.chat.events import ChatEvent, ChoiceFinished, TextDelta


@dataclass(slots=True)
class StopStrings:
    """Watches one choice. Once `matched` holds a stop string, the choice is over: the one that was complete first, so
    that it does not matter how the text was cut into deltas. A stop string lies within text that nothing interrupts."""

    stops: tuple[str, ...]
    matched: str | None = None
    _held: list[TextDelta] = field(default_factory=list)

    def pass_on(self, batch: tuple[ChatEvent, ...]) -> tuple[ChatEvent, ...]:
        """The events that may go out now. On a match they end in ChoiceFinished."""
        out: list[ChatEvent] = []
        for event in batch:
            if isinstance(event, TextDelta):
                out += self._take(event)
                if self.matched is not None:
                    out.append(ChoiceFinished("stop", self.matched, event.choice))
                    break
                continue
            out += self._let_go(0)
            out.append(event)
        return tuple(out)

    def _take(self, delta: TextDelta) -> list[TextDelta]:
        self._held.append(delta)
        text = "".join(held.text for held in self._held)
        found = [(at + len(stop), at, stop) for stop in self.stops if (at := text.find(stop)) >= 0]
        if not found:
            return self._let_go(max(_beginning(stop, text) for stop in self.stops))
        _, at, self.matched = min(found)
        return self._cut(at)

    def _let_go(self, keep: int) -> list[TextDelta]:
        """Whole deltas that lie before the last `keep` characters."""
        free = sum(len(held.text) for held in self._held) - keep
        out: list[TextDelta] = []
        while self._held and len(self._held[0].text) <= free:
            out.append(self._held.pop(0))
            free -= len(out[-1].text)
        return out

    def _cut(self, at: int) -> list[TextDelta]:
        out: list[TextDelta] = []
        for held in self._held:
            if at > 0:
                out.append(replace(held, text=held.text[:at]))
            at -= len(held.text)
        self._held.clear()
        return out


def _beginning(stop: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
