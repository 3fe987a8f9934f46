"""Puts tool calls one after another. Servers weave them into each other, and into texts; clients take none of that."""

import json
from dataclasses import dataclass, field, replace

from leadline.chat.collect import is_whole
from leadline.chat.events import ChatEvent, ToolCallDelta, ToolCallStarted


@dataclass(slots=True)
class CallsInOrder:
    """While a call's arguments are half an object, everything else waits for the rest of them. Arguments are an object
    at the end, where a server sends none: nothing, blanks, `null`, or an empty object before the real one. `calls` is
    how many were whole."""

    calls: int = 0
    # The call under way, None once its arguments are whole.
    _open: int | None = None
    # What came of its arguments before they began, with its tokens.
    _before: str = ""
    _tokens: int = 0
    _begun: bool = False
    _arguments: list[str] = field(default_factory=list)
    _depth: int = 0
    _in_string: bool = False
    _escaped: bool = False
    _waiting: list[ChatEvent] = field(default_factory=list)

    def add(self, event: ChatEvent) -> list[ChatEvent]:
        """What may go out now."""
        if self._open is None:
            if isinstance(event, ToolCallDelta):
                return []  # its call is whole already
            if isinstance(event, ToolCallStarted):
                self._begin(event.index)
            return [event]
        if isinstance(event, ToolCallDelta) and event.index == self._open:
            return self._grow(event)
        if self._before == "{}":
            return [*self._close(), *self.add(event)]
        self._waiting.append(event)
        return []

    def end(self) -> list[ChatEvent]:
        """All that waits: nothing more comes."""
        events: list[ChatEvent] = []
        while self._open is not None:
            events += self._close()
        return events

    def _begin(self, index: int) -> None:
        self._open, self._before, self._tokens, self._begun, self._depth = index, "", 0, False, 0
        self._in_string = self._escaped = False
        self._arguments.clear()

    def _grow(self, event: ToolCallDelta) -> list[ChatEvent]:
        if not self._begun:
            if self._before == "{}":
                self._before = ""
            self._before += event.arguments.lstrip() if not self._before else event.arguments
            self._tokens += event.tokens
            if not self._before.startswith("{") or self._before == "{}":
                return []
            event = replace(event, arguments=self._before, tokens=self._tokens)
            self._begun = True
        self._arguments.append(event.arguments)
        self._scan(event.arguments)
        return [event, *self._close()] if self._depth == 0 else [event]

    def _scan(self, piece: str) -> None:
        for character in piece:
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            else:
                self._depth += (character in "{[") - (character in "}]")

    def _close(self) -> list[ChatEvent]:
        assert self._open is not None
        index, self._open = self._open, None
        events: list[ChatEvent] = []
        if not self._begun:
            self._arguments.append(_object(self._before))
            events.append(ToolCallDelta(index, self._arguments[0], self._tokens))
        self.calls += is_whole("".join(self._arguments))
        waiting, self._waiting = self._waiting, []
        return events + [let_go for event in waiting for let_go in self.add(event)]


def _object(arguments: str) -> str:
    """The object that is meant by arguments which do not begin as one: it may be quoted, as a string."""
    try:
        value = json.loads(arguments or "null")
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return arguments
    if value is None:
        return "{}"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, dict) else arguments
