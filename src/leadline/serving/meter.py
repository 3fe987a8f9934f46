"""Counts the tokens of one generation as they pass, so that a cut one is charged for exactly what it got."""

from dataclasses import dataclass

from leadline.chat.events import (
    ChatEvent,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)


@dataclass(slots=True)
class Meter:
    """`prompt_estimate` stands in until the engine tells the tokens of a prompt."""

    prompt_estimate: int
    _prompt_tokens: int = 0
    _cached_tokens: int = 0
    _image_tokens: int = 0
    _output_tokens: int = 0
    _reasoning_tokens: int = 0
    _final: Usage | None = None

    def count(self, batch: tuple[ChatEvent, ...]) -> None:
        for event in batch:
            match event:
                case TextDelta() | ToolCallStarted() | ToolCallDelta():
                    self._output_tokens += event.tokens
                case ReasoningDelta():
                    self._reasoning_tokens += event.tokens
                case Started():
                    self._prompt_tokens += self.prompt_estimate if event.prompt_tokens is None else event.prompt_tokens
                    self._cached_tokens += event.cached_tokens
                    self._image_tokens += event.image_tokens
                case Finished():
                    self._final = event.usage

    @property
    def usage(self) -> Usage:
        """What was used so far: the engine's own count once it has finished."""
        if self._final is not None:
            return self._final
        return Usage(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            image_tokens=self._image_tokens,
            output_tokens=self._output_tokens,
            reasoning_tokens=self._reasoning_tokens,
        )
