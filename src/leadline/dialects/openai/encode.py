"""Events and answers -> OpenAI's chat completion, whole and in chunks.

A chunk is put together from encoded pieces: what is the same in all chunks of a stream is encoded once.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from leadline.chat.collect import ChatAnswer, Choice, is_whole
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
from leadline.chat.request import Reasoning, Text, ToolCall
from leadline.serving.codec import KeptAnswer
from leadline.serving.generation import Generation

Json = dict[str, Any]
_json = msgspec.json.Encoder()
_encode = _json.encode


def encode_usage(usage: Usage, cost_ticks: int) -> Json:
    """xAI's usage: reasoning tokens stand beside the completion's, so total = prompt + completion + reasoning."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens + usage.reasoning_tokens,
        "prompt_tokens_details": {
            "text_tokens": usage.prompt_tokens - usage.image_tokens,
            "audio_tokens": 0,
            "image_tokens": usage.image_tokens,
            "cached_tokens": usage.cached_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "num_sources_used": 0,
        "cost_in_usd_ticks": cost_ticks,
    }


def encode_answer(generation: Generation | KeptAnswer, answer: ChatAnswer, *, functions: bool = False) -> bytes:
    """`functions`: a call is told in the words before `tools`."""
    return _json.encode(
        {
            "id": str(generation.request_id),
            "object": "chat.completion",
            "created": generation.created_at,
            "model": generation.model,
            "choices": [_choice(index, choice, functions=functions) for index, choice in enumerate(answer.choices)],
            "usage": encode_usage(answer.usage, generation.cost_ticks),
            "system_fingerprint": generation.fingerprint,
        }
    )


def _choice(index: int, choice: Choice, *, functions: bool) -> Json:
    text = "".join(block.text for block in choice.content if isinstance(block, Text))
    message: Json = {"role": "assistant", "content": text, "refusal": None}
    if reasoning := "".join(block.text for block in choice.content if isinstance(block, Reasoning)):
        message["reasoning_content"] = reasoning
    calls = [
        _call(block.call_id, block.name, block.arguments) for block in choice.content if isinstance(block, ToolCall)
    ]
    if calls:
        message |= {"function_call": calls[0]["function"]} if functions else {"tool_calls": calls}
    encoded: Json = {
        "index": index,
        "message": message,
        "finish_reason": _reason(choice.finish_reason, functions=functions),
    }
    if choice.logprobs:
        encoded["logprobs"] = _logprobs(choice.logprobs)
    return encoded


def _call(call_id: str, name: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _reason(reason: FinishReason, *, functions: bool) -> str:
    return "function_call" if functions and reason == "tool_calls" else reason


def _logprobs(logprobs: tuple[TokenLogprob, ...]) -> Json:
    return {"content": [_logprob(logprob) for logprob in logprobs], "refusal": None}


def _logprob(logprob: TokenLogprob) -> Json:
    encoded = _token(logprob)
    encoded["top_logprobs"] = [_token(other) for other in logprob.top]
    return encoded


def _token(logprob: TokenLogprob) -> Json:
    return {"token": logprob.token, "logprob": logprob.logprob, "bytes": logprob.token_bytes}


KEEP_ALIVE = b": keep-alive\n\n"


class ChunkEncoder:
    """Encodes one stream. A tool call goes out whole, in one chunk, as xAI sends it. `functions`: in the words before
    `tools`."""

    def __init__(self, generation: Generation, *, includes_usage: bool, functions: bool = False) -> None:
        self._generation = generation
        self._functions = functions
        self._includes_usage = includes_usage
        shell = {
            "id": str(generation.request_id),
            "object": "chat.completion.chunk",
            "created": generation.created_at,
            "model": generation.model,
            "system_fingerprint": generation.fingerprint,
        }
        self._before = b"data: " + _json.encode(shell)[:-1] + b',"choices":['
        self._unfinished = generation.choices
        self._last: ChoiceFinished | None = None
        self._calls: dict[int, list[tuple[str, str, list[str]]]] = {}

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        return b"".join(
            [self._text(event) if type(event) is TextDelta else self._event(event) for event in batch],
        )

    def _event(self, event: ChatEvent) -> bytes:
        match event:
            case ReasoningDelta():
                return self._chunk(event.choice, {"reasoning_content": event.text})
            case ToolCallStarted():
                self._calls.setdefault(event.choice, []).append((event.call_id, event.name, []))
            case ToolCallDelta():
                self._calls[event.choice][event.index][2].append(event.arguments)
            case Started():
                role = {"role": "assistant", "content": ""}
                return b"".join(self._chunk(choice, role) for choice in range(self._generation.choices))
            case ChoiceFinished():
                return self._finish(event)
            case Finished():
                return self._end(event.usage)
        return b""

    def _text(self, event: TextDelta) -> bytes:
        more = b',"logprobs":' + _json.encode(_logprobs(event.logprobs)) if event.logprobs else b""
        return b'%b{"index":%d,"delta":{"content":%b}%b,"finish_reason":null}]}\n\n' % (
            *(self._before, event.choice, _encode(event.text), more),
        )

    def _chunk(self, choice: int, delta: Json, finish_reason: str | None = None, usage: Json | None = None) -> bytes:
        body = _json.encode({"index": choice, "delta": delta, "finish_reason": finish_reason})
        tail = b"" if usage is None else b',"usage":' + _json.encode(usage)
        return self._before + body + b"]" + tail + b"}\n\n"

    def _finish(self, event: ChoiceFinished) -> bytes:
        """The choice's calls and its end. The last choice's end waits for the usage that it may carry."""
        calls = b"".join(self._told(event.choice))
        self._unfinished -= 1
        if self._unfinished == 0:
            self._last = event
            return calls
        return calls + self._chunk(event.choice, {}, self._reason(event))

    def _told(self, choice: int) -> Iterator[bytes]:
        """The choice's calls, each in a chunk. What is not whole is text, as it is in a whole answer."""
        calls = [(call_id, name, "".join(pieces)) for call_id, name, pieces in self._calls.pop(choice, ())]
        if broken := "".join(name + arguments for _, name, arguments in calls if not is_whole(arguments)):
            yield self._chunk(choice, {"content": broken})
        whole = [_call(*call) for call in calls if is_whole(call[2])]
        if self._functions:
            whole = whole[:1]
        for index, call in enumerate(whole):
            functions = {"function_call": call["function"]}
            yield self._chunk(choice, functions if self._functions else {"tool_calls": [{"index": index} | call]})

    def _reason(self, event: ChoiceFinished) -> str:
        return _reason(event.reason, functions=self._functions)

    def _end(self, usage: Usage) -> bytes:
        encoded = encode_usage(usage, self._generation.cost_ticks)
        last = self._last
        assert last is not None, "every choice is finished before the answer is"
        if not self._includes_usage:
            return self._chunk(last.choice, {}, self._reason(last), encoded) + b"data: [DONE]\n\n"
        usage_chunk = self._before + b'],"usage":' + _json.encode(encoded) + b"}\n\n"
        return self._chunk(last.choice, {}, self._reason(last)) + usage_chunk + b"data: [DONE]\n\n"
