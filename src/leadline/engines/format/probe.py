"""Finds out what a chat template takes by trying it on small conversations."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from leadline.chat.events import ReasoningDelta, ToolCallDelta, ToolCallStarted
from leadline.chat.request import ChatRequest, Message, Reasoning, Text, Tool, ToolCall, ToolResult
from leadline.engines.format.conversation import STRICTEST, Body, Shape
from leadline.engines.format.family import PLAIN, CallForm, Thinking
from leadline.engines.format.output import OutputParser

# Renders messages and tools; "" where the template fails.
Try = Callable[[list[Body], list[Body] | None], str]

_LONG_IDS = ("call_0123456789abcdef01234567", "call_76543210fedcba9876543210")
_SHORT_IDS = ("abcdefgh1", "abcdefgh2")
_SCHEMA = {
    "type": "object",
    "properties": {"wumpkey": {"type": "string", "description": "wump-key-text"}},
    "required": ["wumpkey"],
}
_FUNCTION = {"name": "wump-tool", "description": "wump-text", "parameters": _SCHEMA}
_TOOL: Body = {"type": "function", "function": _FUNCTION}

# A conversation with user strings in all places, as odd as they come but for special tokens.
PROBE = ChatRequest(
    model="",
    messages=(
        Message("system", (Text('Wump "s" \\ {{ one }}'),)),
        Message("user", (Text(" Wump: 'u', one?\nTwo. "),), name="wump er"),
        Message("assistant", (Reasoning("wump, r"), Text("wump, a"), ToolCall("i1", "wump f", '{"w k": "w \\"v\\""}'))),
        Message("tool", (ToolResult("i1", (Text("wump, result"),)),)),
        Message("assistant", (Text("wump, b\n"),)),
        Message("user", (Text("wump, v"),)),
    ),
    tools=(Tool("wump f", "wump, d", {"type": "object", "properties": {"w k": {"type": "string", "x y": "w z"}}}),),
)


def find_shape(attempt: Try, calls: CallForm, thinking: Thinking | None) -> Shape | None:
    """What a template takes whose text shows calls of this form. None: it takes not even a user message."""
    for typed in (False, True):
        probe = _Probe(attempt, calls, thinking, typed)
        if probe.shows(_USER):
            return probe.with_tools(probe.with_roles())
    return None


_USER, _AGAIN, _SYSTEM, _LATE = ("user", "wump-u"), ("user", "wump-v"), ("system", "wump-s"), ("system", "wump-t")
_ANSWER, _OTHER = ("assistant", "wump-a"), ("assistant", "wump-b")


@dataclass(frozen=True, slots=True)
class _Probe:
    attempt: Try
    calls: CallForm
    thinking: Thinking | None
    typed: bool

    def with_roles(self) -> Shape:
        return replace(
            STRICTEST,
            system=self.shows(_SYSTEM, _USER),
            late_system=self.shows(_USER, _LATE) and self.shows(_SYSTEM, _USER, _ANSWER, _LATE, _AGAIN),
            repeats=self.shows(_USER, _AGAIN) and self.shows(_USER, _ANSWER, _OTHER, _AGAIN),
            assistant_first=self.shows(_ANSWER, _USER),
            typed=self.typed,
        )

    def with_tools(self, shape: Shape) -> Shape:
        """The shape with the first way to give calls that we can read back, if there is one."""
        user, tools = self.turn(*_USER), [_TOOL]
        asked = self.attempt([user], tools)
        if self.calls is PLAIN or not all(word in asked for word in ("wump-tool", "wump-text", "wumpkey")):
            return shape
        for absent_content, as_text, short_ids in product((True, False), (False, True), (False, True)):
            ids = _SHORT_IDS if short_ids else _LONG_IDS
            calls = [_call(call_id, as_text=as_text) for call_id in ids]
            results = [self.turn("tool", "wump-r", tool_call_id=call_id, name="wump-tool") for call_id in ids]
            content = {"content": None} if absent_content else {}
            one = self.turn("assistant", "", tool_calls=calls[:1]) | content
            both = self.turn("assistant", "", tool_calls=calls) | content
            said = self.turn("assistant", "beside", tool_calls=calls[:1])
            if not self.reads(asked, self.attempt([user, one, results[0]], tools)):
                continue
            return replace(
                shape,
                tools=True,
                # Mistral's templates lose it where a result comes last.
                system=shape.system and "wump-s" in self.attempt([self.turn(*_SYSTEM), user, one, results[0]], tools),
                many_calls=self.reads(asked, self.attempt([user, both, *results], tools)),
                text_beside_calls="beside" in self.attempt([user, said, results[0]], tools),
                user_after_result="wump-v" in self.attempt([user, one, results[0], self.turn(*_AGAIN)], tools),
                arguments_as_text=as_text,
                short_ids=short_ids,
                absent_content=absent_content,
            )
        return shape

    def turn(self, role: str, text: str, **rest: Any) -> Body:
        return {"role": role, "content": [{"type": "text", "text": text}] if self.typed else text, **rest}

    def shows(self, *said: tuple[str, str]) -> bool:
        rendered = self.attempt([self.turn(role, text) for role, text in said], None)
        return all(text in rendered for _, text in said)

    def reads(self, asked: str, rendered: str) -> bool:
        """Whether what follows the prompt begins with the call, as we read it. Both may begin with the same characters
        of one marker."""
        if any(word in rendered for word in ("None", "Undefined")):
            return False
        pairs = enumerate(zip(asked, rendered, strict=False))
        alike = next((place for place, (one, other) in pairs if one != other), min(len(asked), len(rendered)))
        starts = {alike, rendered.rfind("<", 0, alike + 1), rendered.rfind("[", 0, alike + 1)}
        return any(self._begins_with_call(rendered[:start], rendered[start:]) for start in starts if start >= 0)

    def _begins_with_call(self, prompt: str, text: str) -> bool:
        in_thoughts = self.thinking is not None and self.thinking.is_open(prompt)
        parser = OutputParser(
            self.calls, self.thinking, (Tool("wump-tool", parameters=_SCHEMA),), in_thoughts=in_thoughts
        )
        events = [event for event in parser.feed(text, 1) if not isinstance(event, ReasoningDelta)]
        match events:
            case [ToolCallStarted(0, _, "wump-tool"), ToolCallDelta(0, arguments), *_]:
                return "".join(arguments.split()).startswith('{"wumpkey":"wump-value"')
        return False


def _call(call_id: str, *, as_text: bool) -> Body:
    arguments: object = '{"wumpkey": "wump-value"}' if as_text else {"wumpkey": "wump-value"}
    return {"id": call_id, "type": "function", "function": {"name": "wump-tool", "arguments": arguments}}
