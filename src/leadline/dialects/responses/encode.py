"""Events -> OpenAI's response, whole and as a stream of events."""

from collections.abc import Callable
from typing import Any

import msgspec

from leadline.chat.events import ChatEvent, ChoiceFinished, Embedded, Finished, Started, Usage
from leadline.clock import MICROSECONDS_PER_SECOND, now_microseconds
from leadline.dialects.responses.output import Output
from leadline.dialects.responses.stored import StoredResponse, encode_stored
from leadline.dialects.responses.stream import EventWriter
from leadline.errors import CreditsHeld, InvalidRequest, LeadlineError, RateLimited
from leadline.serving.generation import Generation

Json = dict[str, Any]
_json = msgspec.json.Encoder()
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def encode_usage(usage: Usage, cost_ticks: int) -> Json:
    """OpenAI's usage: reasoning is output. Nothing is written to a cache for money."""
    output_tokens = usage.output_tokens + usage.reasoning_tokens
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + output_tokens,
        "num_sources_used": 0,
        "num_server_side_tools_used": 0,
        "cost_in_usd_ticks": cost_ticks,
    }


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
        self._shell: Json = {}
        self._output: Output
        self._begun = False
        self._finished: ChoiceFinished | None = None
        self._latest: tuple[tuple[ChatEvent, ...], bytes] | None = None
        # How far the stream was before the latest batch: its events, and its whole items.
        self._mark = 0, 0
        self._stored: bytes | None = None

    def begin(self, generation: Generation) -> "ResponseEncoder":
        self._generation = generation
        self._output = Output(generation.request_id, self._seal)
        self._shell = {
            "id": f"resp_{generation.request_id.hex}",
            "object": "response",
            "created_at": generation.created_at,
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": generation.model,
            "output": [],
            "usage": None,
            **self._echo,
        }
        return self

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        """The last batch is asked for twice where its answer is kept: before it is charged, and when it goes out."""
        if self._latest is None or self._latest[0] is not batch or not isinstance(batch[-1], Finished):
            self._mark = self._events.sequence_number, len(self._output.items)
            self._latest = batch, b"".join([piece for event in batch for piece in self._event(event)])
        return self._latest[1]

    def stored_with(self, batch: tuple[ChatEvent, ...]) -> bytes | None:
        """What is stored of the response, from its last batch; None where it is too large for that."""
        self.encode(batch)
        return self._stored

    def fail(self, error: LeadlineError, request_id: str) -> bytes:
        """The end of a stream that broke. Where the last batch has been encoded, it broke before that was sent."""
        if self._generation is None:
            return _error_event(error)
        before = [] if self._begun else self._events.begin(self._shell)
        output = self._output.items
        if self._latest is not None and isinstance(self._latest[0][-1], Finished):
            self._events.sequence_number, whole = self._mark
            output = output[:whole]
        failed = {"status": "failed", "error": {"code": _code(error), "message": str(error)}, "output": output}
        return b"".join([*before, self._events.write("response.failed", {"response": self._shell | failed})])

    def _event(self, event: ChatEvent) -> list[bytes]:
        match event:
            case Started():
                begins, self._begun = self._streams and not self._begun, True
                return self._events.begin(self._shell) if begins else []
            case ChoiceFinished():
                self._finished = event
                steps = self._output.finish(event.reason)
            case Finished():
                return [self._end(event.usage)]
            case Embedded():
                return []
            case _:
                steps = self._output.add(event)
        return [piece for step in steps for piece in self._events.step(step)] if self._streams else []

    def _end(self, usage: Usage) -> bytes:
        generation, finished = self._generation, self._finished
        assert generation is not None, "begin comes first"
        assert finished is not None, "the choice is finished before the answer is"
        reason = _INCOMPLETE.get(finished.reason)
        response = self._shell | {
            "status": "completed" if reason is None else "incomplete",
            "incomplete_details": None if reason is None else {"reason": reason},
            "completed_at": now_microseconds() // MICROSECONDS_PER_SECOND if reason is None else None,
            "output": self._output.items,
            "usage": encode_usage(usage, generation.cost_ticks),
        }
        if response["store"]:
            self._stored = encode_stored(StoredResponse(response, self._conversation, self._output.sizes))
            response["store"] = self._stored is not None
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
