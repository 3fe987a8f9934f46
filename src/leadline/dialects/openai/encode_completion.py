"""Events and answers -> OpenAI's text completion, whole and in chunks."""

import msgspec

from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import ChatEvent, ChoiceFinished, Finished, FinishReason, TextDelta, TokenLogprob
from leadline.chat.request import Text
from leadline.dialects.openai.encode import Json, encode_usage
from leadline.serving.generation import Generation

_json = msgspec.json.Encoder()


def encode_completion(generation: Generation, answer: ChatAnswer, *, echoed: tuple[str, ...]) -> bytes:
    """`echoed` is what each choice's text begins with."""
    choices = [
        _choice(index, before + _text(choice), choice.finish_reason, choice.logprobs)
        for index, (before, choice) in enumerate(zip(echoed, answer.choices, strict=True))
    ]
    return _json.encode(
        _shell(generation) | {"choices": choices, "usage": encode_usage(answer.usage, generation.cost_ticks)}
    )


def _shell(generation: Generation) -> Json:
    return {
        "id": str(generation.request_id),
        "object": "text_completion",
        "created": generation.created_at,
        "model": generation.model,
        "system_fingerprint": generation.fingerprint,
    }


def _text(choice: Choice) -> str:
    return "".join(block.text for block in choice.content if isinstance(block, Text))


def _choice(
    index: int, text: str, reason: FinishReason | None, logprobs: tuple[TokenLogprob, ...] = (), offset: int = 0
) -> Json:
    choice: Json = {"index": index, "text": text, "finish_reason": reason}
    if logprobs:
        choice["logprobs"] = _logprobs(logprobs, offset)
    return choice


def _logprobs(logprobs: tuple[TokenLogprob, ...], offset: int) -> Json:
    """`offset` is where the first token begins in the choice's text."""
    tokens = [_token(logprob) for logprob in logprobs]
    offsets = [offset]
    for logprob in logprobs[:-1]:
        offsets.append(offsets[-1] + len(logprob.token))
    tops = [_by_token(logprob.top) for logprob in logprobs]
    return {
        "tokens": tokens,
        "token_logprobs": [logprob.logprob for logprob in logprobs],
        "top_logprobs": tops if any(tops) else None,
        "text_offset": offsets,
    }


def _by_token(logprobs: tuple[TokenLogprob, ...]) -> dict[str, float]:
    """The likeliest first; of two that look alike it stands for both."""
    found: dict[str, float] = {}
    for logprob in logprobs:
        found.setdefault(_token(logprob), logprob.logprob)
    return found


def _token(logprob: TokenLogprob) -> str:
    """Its text; its bytes where it is a part of a character."""
    if "\ufffd" in logprob.token and logprob.token_bytes:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in logprob.token_bytes)
    return logprob.token


class CompletionEncoder:
    """Encodes one stream."""

    def __init__(self, generation: Generation, *, echoed: tuple[str, ...], includes_usage: bool) -> None:
        self._generation = generation
        self._includes_usage = includes_usage
        self._before = b"data: " + _json.encode(_shell(generation))[:-1] + b',"choices":['
        # What is still to be echoed, and how long the texts are by now.
        self._echoes = dict(enumerate(echoed))
        self._lengths = [0] * len(echoed)
        self._unfinished = len(echoed)
        self._last: ChoiceFinished | None = None

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        return b"".join([self._event(event) for event in batch])

    def _event(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta():
                text, offset = self._echoes.pop(event.choice, "") + event.text, self._lengths[event.choice]
                self._lengths[event.choice] += len(text)
                return self._chunk(_choice(event.choice, text, None, event.logprobs, offset))
            case ChoiceFinished():
                self._unfinished -= 1
                if self._unfinished == 0:
                    self._last = event
                    return b""
                return self._chunk(self._end_of(event))
            case Finished():
                return self._end(encode_usage(event.usage, self._generation.cost_ticks))
        return b""

    def _end_of(self, event: ChoiceFinished) -> Json:
        return _choice(event.choice, self._echoes.pop(event.choice, ""), event.reason)

    def _end(self, usage: Json) -> bytes:
        """The last choice's end waits for the usage that it may carry."""
        last = self._last
        assert last is not None, "every choice is finished before the answer is"
        if not self._includes_usage:
            return self._chunk(self._end_of(last), usage) + b"data: [DONE]\n\n"
        usage_chunk = self._before + b'],"usage":' + _json.encode(usage) + b"}\n\n"
        return self._chunk(self._end_of(last)) + usage_chunk + b"data: [DONE]\n\n"

    def _chunk(self, choice: Json, usage: Json | None = None) -> bytes:
        tail = b"" if usage is None else b',"usage":' + _json.encode(usage)
        return self._before + _json.encode(choice) + b"]" + tail + b"}\n\n"
