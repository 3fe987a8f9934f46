"""Chunks of an OpenAI-compatible server -> events. Whatever a server does oddly is put right here, or is an error."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from leadline.chat.collect import is_whole
from leadline.chat.events import (
    ChatEvent,
    ChoiceFinished,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.engines.upstream.order import CallsInOrder
from leadline.engines.upstream.vectors import MOST_PROMPT_TOKENS
from leadline.errors import EngineFailed
from leadline.ids import new_uuid

_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class _TopLogprob(msgspec.Struct):
    token: str = ""
    logprob: float = 0.0
    bytes: tuple[int, ...] | None = None


class _Logprob(_TopLogprob):
    top_logprobs: tuple[_TopLogprob, ...] | None = None


class _Logprobs(msgspec.Struct):
    """Of a chat, in `content`; of a completion, in lists side by side."""

    content: tuple[_Logprob, ...] | None = None
    tokens: tuple[str, ...] | None = None
    token_logprobs: tuple[float | None, ...] | None = None
    top_logprobs: tuple[dict[str, float] | None, ...] | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    id: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None


class _Choice(msgspec.Struct):
    """xAI's own example has a message where the delta belongs."""

    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    image_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Timings(msgspec.Struct):
    """llama.cpp's running counts; `predicted_n` is the output tokens so far."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class _Progress(msgspec.Struct):
    """llama.cpp's progress through the prompt."""

    total: int = 0
    cache: int = 0


class _Chunk(msgspec.Struct):
    choices: tuple[_Choice, ...] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    prompt_progress: _Progress | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


@dataclass(slots=True)
class _Call:
    """A tool call under way: the engine's own index and id for it, and what came of it. Until its name is known it has
    no number, and its arguments wait."""

    index: int | None
    call_id: str | None
    name: str = ""
    number: int | None = None
    arguments: list[str] = field(default_factory=list)

    def may_be_named(self, name: str, arguments: str) -> bool:
        """Whether a piece of this name may be one of this call: names are repeated, but not after whole arguments."""
        if not name or not self.name:
            return True
        return name == self.name and not (arguments and is_whole("".join(self.arguments)))


@dataclass(slots=True)
class ChunkDecoder:
    """Decodes one answer, in chunks or whole. `most_output_tokens` is what the engine was allowed: counts beyond it are
    not believed. `told_start`: somebody else told that it began. `done` once the engine said so."""

    most_output_tokens: int
    told_start: bool = False
    done: bool = False
    _started: bool = False
    _counted: int = 0
    _counted_reasoning: int = 0
    _reason: FinishReason | None = None
    _usage: _Usage | None = None
    _progress: _Progress | None = None
    _calls: list[_Call] = field(default_factory=list)
    _named: int = 0
    _order: CallsInOrder = field(default_factory=CallsInOrder)

    def decode(self, payload: bytes) -> list[ChatEvent]:
        """The events of one chunk."""
        if self.done or payload == b"[DONE]":
            self.done = True
            return []
        try:
            chunk = _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise EngineFailed("The engine sent a chunk that is not understood.") from None
        if chunk.error:
            raise EngineFailed("The engine reported an error in the middle of its answer.")
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.prompt_progress is not None:
            self._progress = chunk.prompt_progress
        events: list[ChatEvent] = []
        if not self._started:
            self._start(chunk, events)
        if chunk.choices:
            self._take(chunk.choices[0], chunk.timings, events)
        return [ordered for event in events for ordered in self._order.add(event)] if self._calls else events

    def end(self) -> list[ChatEvent]:
        """The closing events, once the engine's stream has ended properly."""
        if not self._started:
            raise EngineFailed("The engine ended its answer before it began.")
        if any(call.number is None for call in self._calls):
            raise EngineFailed("The engine sent a tool call without a name.")
        last = self._order.end()
        return [*last, ChoiceFinished(self._final_reason()), Finished(self._final_usage())]

    def _final_reason(self) -> FinishReason:
        """Whether there are calls is what we saw, not what the engine says."""
        if self._reason in ("length", "content_filter"):
            return self._reason
        return "tool_calls" if self._order.calls else "stop"

    def _start(self, chunk: _Chunk, events: list[ChatEvent]) -> None:
        """An engine that counts as it goes tells the prompt's tokens with its first chunk."""
        self._started = True
        if self.told_start:
            return
        progress, usage = chunk.prompt_progress, chunk.usage
        if progress is not None and (prompt := _believed(progress.total)):
            events.append(Started(prompt, min(prompt, max(0, progress.cache))))
        elif usage is not None and (prompt := _believed(usage.prompt_tokens)):
            events.append(Started(prompt, min(prompt, _cached(usage))))
        else:
            events.append(Started())

    def _take(self, choice: _Choice, timings: _Timings | None, events: list[ChatEvent]) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            if reasoning := delta.reasoning_content or delta.reasoning:
                tokens = self._tokens(timings)
                self._counted_reasoning += tokens
                events.append(ReasoningDelta(reasoning, tokens))
            if delta.content:
                events.append(TextDelta(delta.content, self._tokens(timings), 0, _logprobs(choice.logprobs)))
            for call in delta.tool_calls or ():
                self._take_call(call, timings, events)
        if choice.text:
            events.append(TextDelta(choice.text, self._tokens(timings), 0, _logprobs(choice.logprobs)))
        if choice.finish_reason:
            self._reason = _FINISH.get(choice.finish_reason, "stop")

    def _tokens(self, timings: _Timings | None) -> int:
        """How many tokens this delta took: by the engine's running count, else one."""
        before = self._counted
        if timings is not None and before < timings.predicted_n <= self.most_output_tokens:
            self._counted = timings.predicted_n
        elif before < self.most_output_tokens:
            self._counted = before + 1
        return self._counted - before

    def _take_call(self, wire: _ToolCall, timings: _Timings | None, events: list[ChatEvent]) -> None:
        """Name and id count once, when they first come; a call begins with its name."""
        function = wire.function or _Function()
        call_id, name, arguments = wire.id or function.id or None, function.name or "", function.arguments or ""
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        call = self._call_of(wire.index, call_id, name, arguments)
        early = "".join(call.arguments) if call.number is None else ""
        call.arguments.append(arguments)
        if name and call.number is None:
            call.name, call.number, self._named = name, self._named, self._named + 1
            events.append(ToolCallStarted(call.number, self._new_id(call), name))
            arguments = early + arguments
        if arguments and call.number is not None:
            events.append(ToolCallDelta(call.number, arguments, self._tokens(timings)))

    def _call_of(self, index: int | None, call_id: str | None, name: str, arguments: str) -> _Call:
        """Whose piece it is: the latest call that nothing in it speaks against, else a new one. Servers leave out the
        index or give all calls the same, leave out ids, and repeat ids and names in every piece."""
        for call in reversed(self._calls):
            if index is not None and call.index is not None and index != call.index:
                continue
            if call_id is not None and call.call_id is not None:
                if call_id == call.call_id:
                    return call
            elif call.may_be_named(name, arguments):
                call.call_id = call.call_id or call_id
                return call
        call = _Call(index, call_id)
        self._calls.append(call)
        return call

    def _new_id(self, call: _Call) -> str:
        """The engine's id, unless it has none or gave the same to another call."""
        taken = any(other is not call and other.call_id == call.call_id for other in self._calls)
        return f"call_{new_uuid().hex}" if taken or call.call_id is None else call.call_id

    def _final_usage(self) -> Usage:
        """The engine's count where it gave a sane one, else ours."""
        usage = self._usage or _Usage()
        output = self._counted
        if usage.completion_tokens is not None and 0 <= usage.completion_tokens <= self.most_output_tokens:
            output = usage.completion_tokens
        details = usage.completion_tokens_details
        reasoning = details.reasoning_tokens if details is not None else None
        reasoning = min(output, max(0, self._counted_reasoning if reasoning is None else reasoning))
        prompt = _believed(usage.prompt_tokens) or _believed(
            self._progress.total if self._progress is not None else None
        )
        image = (usage.prompt_tokens_details and usage.prompt_tokens_details.image_tokens) or 0
        return Usage(
            prompt_tokens=prompt,
            cached_tokens=min(prompt, _cached(usage)),
            image_tokens=min(prompt, max(0, image)),
            output_tokens=output - reasoning,
            reasoning_tokens=reasoning,
        )


def _believed(prompt_tokens: int | None) -> int:
    """The count, or 0 where it cannot be one."""
    return prompt_tokens if prompt_tokens is not None and 0 < prompt_tokens < MOST_PROMPT_TOKENS else 0


def _cached(usage: _Usage) -> int:
    details = usage.prompt_tokens_details
    return max(0, details.cached_tokens or 0) if details is not None else 0


def _logprobs(wire: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if wire is None:
        return ()
    if wire.content is not None:
        return tuple(map(_logprob, wire.content))
    tokens, logprobs = wire.tokens or (), wire.token_logprobs or ()
    tops = wire.top_logprobs or (None,) * len(tokens)
    return tuple(
        TokenLogprob(token, logprob or 0.0, None, tuple(TokenLogprob(*other) for other in (top or {}).items()))
        for token, logprob, top in zip(tokens, logprobs, tops, strict=False)
    )


def _logprob(wire: _Logprob) -> TokenLogprob:
    top = tuple(TokenLogprob(other.token, other.logprob, other.bytes) for other in wire.top_logprobs or ())
    return TokenLogprob(wire.token, wire.logprob, wire.bytes, top)
