"""Events and answers -> xAI's completion, whole and in chunks.

Protobuf lets messages be put together from pieces: what is the same in all chunks of a stream is serialized once.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol
from uuid import UUID

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
from leadline.dialects.xai.protos import chat, sample, usage

REASONS: dict[FinishReason, int] = {
    "stop": sample.REASON_STOP,
    "length": sample.REASON_MAX_LEN,
    "tool_calls": sample.REASON_TOOL_CALLS,
    "content_filter": sample.REASON_STOP,
}
_ROLE = chat.ROLE_ASSISTANT
# Encrypts what a model thought, where that is asked for.
Seal = Callable[[str], str]


class Answered(Protocol):
    """What every answer tells of itself: one that was just made, or one that was kept."""

    @property
    def request_id(self) -> UUID: ...
    @property
    def created_at(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def cost_ticks(self) -> int: ...


def encode_usage(spent: Usage, cost_ticks: int) -> Any:
    """Text that was cached is not among the prompt's text tokens: xAI's gRPC tells them apart, its REST does not."""
    return usage.SamplingUsage(
        completion_tokens=spent.output_tokens,
        reasoning_tokens=spent.reasoning_tokens,
        prompt_tokens=spent.prompt_tokens,
        total_tokens=spent.prompt_tokens + spent.output_tokens + spent.reasoning_tokens,
        prompt_text_tokens=spent.prompt_tokens - spent.image_tokens - spent.cached_tokens,
        cached_prompt_text_tokens=spent.cached_tokens,
        prompt_image_tokens=spent.image_tokens,
        cost_in_usd_ticks=cost_ticks,
    )


def encode_completion(answered: Answered, answer: ChatAnswer, settings: Any = None, seal: Seal | None = None) -> Any:
    """The whole answer. `settings` is what its request asked for."""
    response = chat.GetChatCompletionResponse(
        id=str(answered.request_id),
        model=answered.model,
        system_fingerprint=answered.fingerprint,
        outputs=[_output(index, choice, seal) for index, choice in enumerate(answer.choices)],
        usage=encode_usage(answer.usage, answered.cost_ticks),
        settings=settings,
        service_tier=usage.SERVICE_TIER_DEFAULT,
    )
    response.created.FromSeconds(answered.created_at)
    return response


def _output(index: int, choice: Choice, seal: Seal | None) -> Any:
    thought = "".join(block.text for block in choice.content if isinstance(block, Reasoning))
    return chat.CompletionOutput(
        index=index,
        finish_reason=REASONS[choice.finish_reason],
        message=chat.CompletionMessage(
            role=_ROLE,
            content="".join(block.text for block in choice.content if isinstance(block, Text)),
            reasoning_content=thought,
            encrypted_content=seal(thought) if seal is not None and thought else "",
            tool_calls=[_call(block) for block in choice.content if isinstance(block, ToolCall)],
        ),
        logprobs=_logprobs(choice.logprobs) if choice.logprobs else None,
    )


def _call(call: ToolCall) -> Any:
    return chat.ToolCall(
        id=call.call_id,
        type=chat.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL,
        status=chat.TOOL_CALL_STATUS_COMPLETED,
        function=chat.FunctionCall(name=call.name, arguments=call.arguments),
    )


def _logprobs(logprobs: Iterable[TokenLogprob]) -> Any:
    return chat.LogProbs(
        content=[
            chat.LogProb(
                token=logprob.token,
                logprob=logprob.logprob,
                bytes=_bytes(logprob),
                top_logprobs=[
                    chat.TopLogProb(token=other.token, logprob=other.logprob, bytes=_bytes(other))
                    for other in logprob.top
                ],
            )
            for logprob in logprobs
        ]
    )


def _bytes(logprob: TokenLogprob) -> bytes:
    return logprob.token.encode() if logprob.token_bytes is None else bytes(logprob.token_bytes)


class ChunkEncoder:
    """Encodes one stream: one chunk for each batch, in which each choice has at most one output. A choice's calls go
    whole. The end of the last choice waits for the usage: of both the SDK keeps what the last chunk says."""

    def __init__(self, answered: Answered, choices: int, seal: Seal | None = None) -> None:
        shell = chat.GetChatCompletionChunk(
            id=str(answered.request_id),
            model=answered.model,
            system_fingerprint=answered.fingerprint,
            service_tier=usage.SERVICE_TIER_DEFAULT,
        )
        shell.created.FromSeconds(answered.created_at)
        self._shell: bytes = shell.SerializeToString()
        self._answered = answered
        self._unfinished = choices
        self._seal = seal
        self._calls: dict[int, list[tuple[str, str, list[str]]]] = {}
        self._thoughts: dict[int, list[str]] = {}
        self._last: Any = None

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        """The chunk, or nothing where there is nothing to say yet."""
        chunk = chat.GetChatCompletionChunk()
        outputs: dict[int, Any] = {}
        for event in batch:
            match event:
                case TextDelta():
                    output = _output_of(chunk, outputs, event.choice)
                    output.delta.content += event.text
                    if event.logprobs:
                        output.logprobs.MergeFrom(_logprobs(event.logprobs))
                case ReasoningDelta():
                    _output_of(chunk, outputs, event.choice).delta.reasoning_content += event.text
                    if self._seal is not None:
                        self._thoughts.setdefault(event.choice, []).append(event.text)
                case ToolCallStarted():
                    self._calls.setdefault(event.choice, []).append((event.call_id, event.name, []))
                case ToolCallDelta():
                    self._calls[event.choice][event.index][2].append(event.arguments)
                case ChoiceFinished():
                    self._finish(_output_of(chunk, outputs, event.choice), event)
                case Finished():
                    assert self._last is not None, "every choice is finished before the answer is"
                    _output_of(chunk, outputs, self._last.index).MergeFrom(self._last)
                    chunk.usage.CopyFrom(encode_usage(event.usage, self._answered.cost_ticks))
                case Started():
                    pass
        return self._shell + chunk.SerializeToString() if outputs else b""

    def _finish(self, output: Any, event: ChoiceFinished) -> None:
        calls = [(call_id, name, "".join(pieces)) for call_id, name, pieces in self._calls.pop(event.choice, ())]
        # What is not whole is text, as it is in a whole answer.
        output.delta.content += "".join(name + arguments for _, name, arguments in calls if not is_whole(arguments))
        end = chat.CompletionOutputChunk(index=event.choice, finish_reason=REASONS[event.reason])
        end.delta.role = _ROLE
        end.delta.tool_calls.extend(_call(ToolCall(*call)) for call in calls if is_whole(call[2]))
        if thoughts := "".join(self._thoughts.pop(event.choice, ())):
            assert self._seal is not None, "thoughts are gathered only to be sealed"
            end.delta.encrypted_content = self._seal(thoughts)
        self._unfinished -= 1
        if self._unfinished == 0:
            self._last = end
        else:
            output.MergeFrom(end)


def _output_of(chunk: Any, outputs: dict[int, Any], choice: int) -> Any:
    """The choice's output in this chunk, with the role, without which the SDK does not see it."""
    if choice not in outputs:
        outputs[choice] = chunk.outputs.add(index=choice, delta=chat.Delta(role=_ROLE))
    return outputs[choice]
