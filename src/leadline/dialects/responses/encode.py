"""Events -> OpenAI's response, whole and as a stream of events."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from leadline.chat.collect import ChatAnswer, Collector
from leadline.chat.events import ChatEvent, ChoiceFinished, Embedded, Finished, Started
from leadline.clock import MICROSECONDS_PER_SECOND, now_microseconds
from leadline.dialects.responses.kept import with_note
from leadline.dialects.responses.output import Output
from leadline.dialects.responses.response import begun, ended
from leadline.dialects.responses.stream import EventWriter
from leadline.errors import CreditsHeld, InvalidRequest, LeadlineError, RateLimited
from leadline.serving.codec import KeptAnswer
from leadline.serving.generation import Generation
from leadline.serving.stored import kept_of

Json = dict[str, Any]
_json = msgspec.json.Encoder()


class ResponseEncoder:
    """Encodes one response. `echo` is what its request asked for, `conversation` the items that it answers: they are
    stored with it, unless `echo` says that it is not stored. `seal` encrypts reasoning, where that is asked for."""

    def __init__(
        self, echo: Json, conversation: list[Json], *, streams: bool, seal: Callable[[str], str] | None = None
    ) -> None:
        self._echo = echo
        self._conversation = conversation
        self._streams = streams
        self._seal = seal
        self._events = EventWriter()
        self._generation: Generation | None = None
        self._output: Output
        self._collector = Collector()
        self._begun = False
        # The batch that was read last, and what goes out for it before the stream's end.
        self._latest: tuple[ChatEvent, ...] = ()
        self._pieces = b""
        # How far the stream was before that: its events, and its whole items.
        self._mark = 0, 0
        # Once the last batch has been read; the time is in seconds.
        self._answer: ChatAnswer | None = None
        self._completed_at = 0

    def begin(self, generation: Generation) -> "ResponseEncoder":
        self._generation = generation
        self._output = Output(generation.request_id, self._seal)
        return self

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        self._read(batch)
        return self._pieces if self._answer is None else self._pieces + self._end(self._answer)

    def kept_with(self, batch: tuple[ChatEvent, ...]) -> KeptAnswer:
        """What is kept of the response, from its last batch, which goes out later."""
        self._read(batch)
        assert self._generation is not None, "begin comes first"
        assert self._answer is not None, "it is kept once it is whole"
        kept = kept_of(self._generation, self._answer, {})
        if self._echo["instructions"]:
            kept = replace(kept, conversation=kept.conversation[1:])
        return with_note(kept, self._echo, self._completed_at, self._conversation, self._output)

    def fail(self, error: LeadlineError, request_id: str) -> bytes:
        """The end of a stream that broke. Where the last batch has been read, it broke before that was sent."""
        if self._generation is None:
            return _error_event(error)
        shell = begun(self._generation, self._echo)
        before = [] if self._begun else self._events.begin(shell)
        output = self._output.items
        if self._answer is not None:
            self._events.sequence_number, whole = self._mark
            output = output[:whole]
        failed = {"status": "failed", "error": {"code": _code(error), "message": str(error)}, "output": output}
        return b"".join([*before, self._events.write("response.failed", {"response": shell | failed})])

    def _read(self, batch: tuple[ChatEvent, ...]) -> None:
        """The last batch comes twice where its answer is kept: before it is charged, and when it goes out."""
        if self._answer is not None and batch is self._latest:
            return
        self._mark = self._events.sequence_number, len(self._output.items)
        self._latest, self._answer = batch, self._collector.add(batch)
        self._pieces = b"".join([piece for event in batch for piece in self._event(event)])
        if self._answer is not None:
            self._completed_at = now_microseconds() // MICROSECONDS_PER_SECOND

    def _event(self, event: ChatEvent) -> list[bytes]:
        match event:
            case Started():
                begins, self._begun = self._streams and not self._begun, True
                assert self._generation is not None, "begin comes first"
                return self._events.begin(begun(self._generation, self._echo)) if begins else []
            case ChoiceFinished():
                steps = self._output.finish(event.reason)
            case Finished() | Embedded():
                return []
            case _:
                steps = self._output.add(event)
        return [piece for step in steps for piece in self._events.step(step)] if self._streams else []

    def _end(self, answer: ChatAnswer) -> bytes:
        generation = self._generation
        assert generation is not None, "begin comes first"
        response = ended(generation, self._echo, answer, self._output.items, self._completed_at)
        response["store"] = generation.is_kept
        if self._streams:
            return self._events.write(f"response.{response['status']}", {"response": response})
        return _json.encode(response)


def _code(error: LeadlineError) -> str:
    """One of the codes that OpenAI has for a response that failed."""
    if isinstance(error, InvalidRequest):
        return "invalid_prompt"
    return "rate_limit_exceeded" if isinstance(error, RateLimited | CreditsHeld) else "server_error"


def _error_event(error: LeadlineError) -> bytes:
    """For whoever reads along with a stream that is not this one's."""
    fields = {"code": _code(error), "message": str(error), "param": None}
    return EventWriter().write("error", fields)
