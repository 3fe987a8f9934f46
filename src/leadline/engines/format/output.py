"""Reads a model's plain text as it comes and tells thoughts, answer and tool calls apart.

Text is withheld only while it may become a marker. What does not become a call that we can pass on stays text: a call
of an unknown tool, a call that is no JSON, or one that was cut before its arguments began. A call whose arguments have
begun was passed on already; where the tokens end within it, its arguments stay cut, and the finish reason is `length`,
as it is with other servers.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from leadline.chat.collect import is_whole
from leadline.chat.events import (
    ChatEvent,
    ChoiceFinished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
)
from leadline.chat.request import Tool
from leadline.engines.format.calls import (
    DEEPSEEK_NAMED,
    MISTRAL_NAMED,
    CallReader,
    ObjectCall,
    TagCall,
    beginning,
)
from leadline.engines.format.family import DEEPSEEK, LLAMA3, MISTRAL, QWEN_CODER, CallForm, Thinking, new_call_id

Logprobs = tuple[TokenLogprob, ...]

_HERMES_OPENER, _HERMES_CLOSER = "<tool_call>", "</tool_call>"
_TAG_OPENER = "<function="
_LIST = ","
# What opens a call, and what may follow one, beside Hermes' tags: by form.
_OPENERS = {
    LLAMA3.name: LLAMA3.markers,
    MISTRAL.name: MISTRAL.markers[:1],
    QWEN_CODER.name: (_TAG_OPENER,),
    DEEPSEEK.name: DEEPSEEK.markers[:2],
}
_CLOSERS = {LLAMA3.name: (";",), MISTRAL.name: (",", "]"), DEEPSEEK.name: ("```", *DEEPSEEK.markers[3:])}


class OutputParser:
    """One answer. Give it each piece of text with `feed`, then `end`. `done`: the one call that was allowed is made,
    and generation may be stopped.

    Tokens are conserved: each is counted in one event, those of markup in the next one. What nothing follows, such as
    the token of the end of turn, is in `output_tokens` alone.
    """

    def __init__(
        self,
        calls: CallForm,
        thinking: Thinking | None,
        tools: tuple[Tool, ...] = (),
        *,
        in_thoughts: bool = False,
        parallel: bool = True,
    ) -> None:
        """`tools`: those that may be called; none: no call is looked for. `in_thoughts`: the prompt ended within
        thoughts. `parallel`: several calls are allowed."""
        self.done = False
        self.reasoning_tokens = 0
        self._form = calls
        self._thinking = thinking
        self._schemas = {tool.name: tool.parameters for tool in tools}
        self._parallel = parallel
        self._openers = (_HERMES_OPENER, *_OPENERS.get(calls.name, ())) if tools else ()
        self._closers = (_HERMES_CLOSER, *_CLOSERS.get(calls.name, ()))
        self._events: list[ChatEvent] = []
        self._held = _Held()
        self._tokens = 0
        self._counted = 0
        self._calls = 0
        # Whether one of them is whole, and the arguments of the last one.
        self._called = False
        self._arguments: list[str] = []
        self._reader: CallReader | None = None
        self._cut = False
        # Where the call's own text begins within the held text, after its opener.
        self._call_at = 0
        self._opener = ""
        self._state: Callable[..., bool] = self._start
        # Text without this may go out at once. None: all text goes through the state.
        self._watched: re.Pattern[str] | None = None
        self._thinks = False
        if in_thoughts and thinking is not None:
            self._state = self._thoughts_begin
        elif thinking is None and not tools:
            self._go_to_text()

    @property
    def output_tokens(self) -> int:
        """All tokens that were fed, but those of thoughts."""
        return self._counted + self._tokens + self._held.tokens

    def feed(self, text: str, tokens: int, logprobs: Logprobs = ()) -> list[ChatEvent]:
        """The events that may go out now."""
        if self._watched is not None and not self._held.text and text and not self._watched.search(text):
            tokens, self._tokens = tokens + self._tokens, 0
            if self._thinks:
                self.reasoning_tokens += tokens
                return [ReasoningDelta(text, tokens)]
            self._counted += tokens
            return [TextDelta(text, tokens, 0, logprobs)]
        if not text:
            self._tokens += tokens
            return []
        self._held.add(text, tokens, logprobs)
        return self._run(final=False)

    def end(self, reason: FinishReason) -> list[ChatEvent]:
        """The last events, with ChoiceFinished. `reason` is the engine's."""
        self._cut = reason != "stop"
        events = self._run(final=True)
        if self._called and (reason == "stop" or self.done):
            reason = "tool_calls"
        return [*events, ChoiceFinished(reason)]

    def _run(self, *, final: bool) -> list[ChatEvent]:
        while self._state(final=final):
            pass
        events, self._events = self._events, []
        return events

    def _start(self, *, final: bool) -> bool:
        """Before the answer: thoughts may begin, or a call that has no marker."""
        text = self._held.text
        body = text.lstrip()
        opening = self._thinking.opening if self._thinking is not None else ""
        if not final and (not body or (body != opening and opening.startswith(body))):
            return False
        if opening and body.startswith(opening):
            self._state = self._thoughts_begin
        elif self._schemas and body.startswith("{"):
            self._begin_call(len(text) - len(body), "")
        else:
            self._go_to_text()
        return True

    def _thoughts_begin(self, *, final: bool) -> bool:
        """Also where both the prompt and the model open them."""
        assert self._thinking is not None
        text, opening = self._held.text, self._thinking.opening
        body = text.lstrip()
        if body.startswith(opening):
            self._drop(len(text) - len(body) + len(opening))
            return True
        if not final and opening.startswith(body):
            return False
        self._drop(len(text) - len(body))
        self._state, self._watched, self._thinks = self._thoughts, _watch((self._thinking.closing,)), True
        return True

    def _thoughts(self, *, final: bool) -> bool:
        assert self._thinking is not None
        text, closing = self._held.text, self._thinking.closing
        end = text.find(closing)
        if end < 0:
            self._put_out(text if final else text[: len(text) - beginning(text, closing)].rstrip(), self._think)
            return False
        self._put_out(text[:end].rstrip(), self._think)
        self._drop(self._held.text.index(closing) + len(closing))
        self._state, self._watched, self._thinks = self._after_thoughts, None, False
        return True

    def _after_thoughts(self, *, final: bool) -> bool:
        text = self._held.text
        body = text.lstrip()
        self._drop(len(text) - len(body))
        if not body and not final:
            return False
        if self._schemas and body.startswith("{"):
            self._begin_call(0, "")
        else:
            self._go_to_text()
        return True

    def _go_to_text(self) -> None:
        self._state, self._watched = self._text, _watch(self._openers)

    def _text(self, *, final: bool) -> bool:
        text = self._held.text
        if not self._openers:
            self._put_out(text, self._say)
            return False
        found = _any(self._openers).search(text)
        if found is not None:
            self._put_out(text[: found.start()].rstrip(), self._say)
            begun = found[0] if found[0] != _TAG_OPENER else ""
            self._begin_call(self._held.text.index(found[0]) + len(begun), found[0])
            return True
        held = max(beginning(text, opener) for opener in self._openers)
        self._put_out(text if final else text[: len(text) - held].rstrip(), self._say)
        return False

    def _begin_call(self, call_at: int, opener: str) -> None:
        self._call_at, self._opener, self._reader = call_at, opener, None
        self._state, self._watched = self._call, None

    def _call(self, *, final: bool) -> bool:
        body = self._held.text[self._call_at :]
        reader = self._reader = self._reader or self._reader_of(body)
        if reader is None:
            return final and self._no_call()
        step = reader.read(body, final=final)
        if step.refused:
            return self._no_call()
        if step.consumed:
            self._drop(self._call_at + step.consumed)
            self._call_at = 0
        if step.name is not None:
            self._announce(step.name)
        if step.arguments:
            self._argue(step.arguments)
        if not step.over and not final:
            return False
        if self._parallel:
            self._state = self._after_call
        else:
            self._finish_call()
            self.done, self._state = step.over, self._ended
        return True

    def _reader_of(self, body: str) -> CallReader | None:
        """None: the next character decides."""
        first = body.lstrip()[:1]
        if self._opener in DEEPSEEK.markers:
            return ObjectCall(self._schemas, DEEPSEEK_NAMED)
        if not first:
            return None
        if self._form.name == QWEN_CODER.name and first == "<":
            return TagCall(self._schemas)
        if self._opener in MISTRAL.markers and first not in "[{":
            return ObjectCall(self._schemas, MISTRAL_NAMED)
        return ObjectCall(self._schemas, bare=not self._opener)

    def _no_call(self) -> bool:
        """What looked like a call is text after all: its opener goes out, and the rest is read as text."""
        self._go_to_text()
        self._put_out(self._held.text[: max(1, self._call_at)], self._say)
        return True

    def _after_call(self, *, final: bool) -> bool:
        """Whatever closes the call is dropped; its last bracket goes out with the tokens of all that."""
        text = self._held.text
        body = text.lstrip()
        for closer in self._closers:
            if body.startswith(closer):
                self._drop(len(text) - len(body) + len(closer))
                return True
        if not final and (not body or any(closer.startswith(body) for closer in self._closers)):
            return False
        self._drop(0 if body else len(text))
        self._finish_call()
        if body.startswith("{"):
            # In Mistral's list it is a call by its place, elsewhere by its look.
            self._begin_call(len(text) - len(body), _LIST if self._opener in (_LIST, *MISTRAL.markers) else "")
        else:
            self._go_to_text()
        return True

    def _ended(self, *, final: bool) -> bool:
        self._drop(len(self._held.text))
        return False

    def _announce(self, name: str) -> None:
        tokens, self._tokens = self._tokens, 0
        self._counted += tokens
        self._arguments.clear()
        self._events.append(ToolCallStarted(self._calls, new_call_id(short=self._form.short_ids), name, tokens))

    def _argue(self, arguments: str) -> None:
        tokens, self._tokens = self._tokens, 0
        self._counted += tokens
        self._arguments.append(arguments)
        last = self._events[-1] if self._events else None
        if isinstance(last, ToolCallDelta) and last.index == self._calls:
            self._events[-1] = replace(last, arguments=last.arguments + arguments, tokens=last.tokens + tokens)
        else:
            self._events.append(ToolCallDelta(self._calls, arguments, tokens))

    def _finish_call(self) -> None:
        assert self._reader is not None
        if missing := self._reader.missing(cut=self._cut):
            self._argue(missing)
        self._called |= is_whole("".join(self._arguments))
        self._calls += 1

    def _say(self, text: str, tokens: int, logprobs: Logprobs) -> None:
        self._counted += tokens
        last = self._events[-1] if self._events else None
        if isinstance(last, TextDelta):
            self._events[-1] = TextDelta(last.text + text, last.tokens + tokens, 0, last.logprobs + logprobs)
        else:
            self._events.append(TextDelta(text, tokens, 0, logprobs))

    def _think(self, text: str, tokens: int, _logprobs: Logprobs) -> None:
        self.reasoning_tokens += tokens
        self._events.append(ReasoningDelta(text, tokens))

    def _put_out(self, text: str, put: Callable[[str, int, Logprobs], None]) -> None:
        """`text` is the beginning of the held text."""
        if text:
            tokens, logprobs = self._held.take(len(text))
            tokens, self._tokens = tokens + self._tokens, 0
            put(text, tokens, logprobs)

    def _drop(self, length: int) -> None:
        """Markup is not passed on, but its tokens are."""
        self._tokens += self._held.take(length)[0]


class _Held:
    """Text that came and has not gone out, with the tokens that its pieces took."""

    def __init__(self) -> None:
        self.text = ""
        self._pieces: list[tuple[int, int, Logprobs]] = []

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens, _ in self._pieces)

    def add(self, text: str, tokens: int, logprobs: Logprobs) -> None:
        self.text += text
        self._pieces.append((len(text), tokens, logprobs))

    def take(self, length: int) -> tuple[int, Logprobs]:
        """Let go of so many characters: the tokens and the logprobs of their pieces. Of a piece that is cut, the first
        part has its share, rounded up, and the second the rest."""
        self.text = self.text[length:]
        tokens = 0
        logprobs: Logprobs = ()
        while length:
            size, piece_tokens, piece_logprobs = self._pieces.pop(0)
            if size > length:
                share = -(-piece_tokens * length // size)
                cut = share if len(piece_logprobs) == piece_tokens else 0
                self._pieces.insert(0, (size - length, piece_tokens - share, piece_logprobs[cut:]))
                size, piece_tokens, piece_logprobs = length, share, piece_logprobs[:cut]
            length -= size
            tokens += piece_tokens
            logprobs += piece_logprobs
        return tokens, logprobs


@lru_cache(64)
def _any(markers: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, markers)))


@lru_cache(64)
def _watch(markers: tuple[str, ...]) -> re.Pattern[str]:
    """Finds what a marker may begin with, and white space before one."""
    if not markers:
        return re.compile("(?!)")
    firsts = "".join(sorted({re.escape(marker[0]) for marker in markers}))
    return re.compile(rf"[{firsts}]|\s\Z")
