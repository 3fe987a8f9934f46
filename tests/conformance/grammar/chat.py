"""The grammar of a stream of chat completions (SDK_CONFORMANCE 4.3, CONTRACT 6): a state machine over its bytes. What
it does not allow is an AssertionError that names the chunk.

    stream = role{n} (text | thought)* call* finish (for each choice, woven) [usage] DONE
           | anything of that, then an error
"""

import json
from dataclasses import dataclass, field
from typing import Any

from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from tests.conformance.grammar.sse import DONE, events

Json = dict[str, Any]
SHELL = ("id", "object", "created", "model", "system_fingerprint")
CUT = ("length", "content_filter")
_chunk_type = TypeAdapter(ChatCompletionChunk)


def check(raw: bytes, choices: int = 1, *, includes_usage: bool = False, cut: bool = False) -> "Grammar":
    """The stream's grammar, which holds what was said; `cut` where the client hung up."""
    grammar = Grammar(choices, includes_usage)
    for chunk in events(raw, named=False, cut=cut):
        grammar.take(chunk)
    assert cut or grammar.done, "the stream has no end"
    return grammar


def check_usage(usage: Json) -> None:
    prompt, details = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    reasoning = details["reasoning_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] + reasoning
    assert usage["prompt_tokens"] == prompt["text_tokens"] + prompt["image_tokens"]
    assert 0 <= prompt["cached_tokens"] <= usage["prompt_tokens"]
    assert usage["cost_in_usd_ticks"] >= 0


def check_call(call: Json) -> None:
    """A whole tool call."""
    assert call.keys() - {"index"} == {"id", "type", "function"}
    assert call["id"]
    assert call["type"] == "function"
    assert call["function"].keys() == {"name", "arguments"}
    assert call["function"]["name"]
    assert isinstance(json.loads(call["function"]["arguments"]), dict), "the arguments are no object"


@dataclass
class Said:
    """One choice, as far as it has come."""

    content: str = ""
    reasoning: str = ""
    calls: list[Json] = field(default_factory=list)
    function_call: Json | None = None
    logprobs: list[Json] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass
class Grammar:
    choices: int
    includes_usage: bool
    said: list[Said] = field(default_factory=list)
    usage: Json | None = None
    error: Json | None = None
    done: bool = False
    _shell: Json | None = None

    def take(self, chunk: Json) -> None:
        """Raises AssertionError where the chunk may not come now."""
        try:
            self._take(chunk)
        except AssertionError as error:
            raise AssertionError(f"{error} at {chunk}") from error

    def _take(self, chunk: Json) -> None:
        assert not self.done, "nothing comes after the end"
        if chunk is DONE:
            assert all(said.finish_reason for said in self.said), "a choice is not finished"
            assert len(self.said) == self.choices
            assert self.usage is not None, "the usage is missing"
            self.done = True
            return
        if "error" in chunk:
            assert chunk["error"].keys() == {"message", "type", "param", "code"}
            self.error, self.done = chunk["error"], True
            return
        _chunk_type.validate_json(json.dumps(chunk), strict=True)
        assert chunk["object"] == "chat.completion.chunk"
        shell = {name: chunk[name] for name in SHELL}
        assert self._shell in (None, shell), "the shell changed"
        self._shell = shell
        assert self.usage is None, "the usage comes last"
        if not chunk["choices"]:
            assert self.includes_usage, "nobody asked for a chunk of the usage"
            assert len(self.said) == self.choices, "roles first"
            assert all(said.finish_reason for said in self.said)
        else:
            [choice] = chunk["choices"]
            self._go_on(choice)
        if (usage := chunk.get("usage")) is not None:
            assert bool(chunk["choices"]) != self.includes_usage, "the usage has the wrong place"
            check_usage(usage)
            self.usage = usage

    def _go_on(self, choice: Json) -> None:
        assert choice.keys() - {"logprobs"} == {"index", "delta", "finish_reason"}
        index, delta, reason = choice["index"], choice["delta"], choice["finish_reason"]
        if len(self.said) < self.choices:
            assert (index, delta, reason) == (len(self.said), {"role": "assistant", "content": ""}, None), "roles first"
            self.said.append(Said())
            return
        said = self.said[index]
        assert said.finish_reason is None, "the choice is finished"
        if reason is not None:
            assert delta == {}, "the finish has a chunk of its own"
            called = "function_call" if said.function_call else "tool_calls" if said.calls else None
            assert reason in (*CUT, called or "stop"), "not the reason of what was said"
            said.finish_reason = reason
            return
        [(kind, piece)] = delta.items()
        assert "logprobs" not in choice or kind == "content"
        match kind:
            case "content" | "reasoning_content":
                assert isinstance(piece, str)
                assert piece, "a delta is empty"
                assert not said.calls, "text comes before calls"
                if kind == "content":
                    said.content += piece
                    said.logprobs += choice.get("logprobs", {}).get("content", [])
                else:
                    said.reasoning += piece
            case "tool_calls":
                [call] = piece
                assert call["index"] == len(said.calls), "the index is dense"
                check_call(call)
                assert call["id"] not in {other["id"] for other in said.calls}, "an id came twice"
                said.calls.append({name: value for name, value in call.items() if name != "index"})
            case "function_call":
                assert said.function_call is None, "one function is called"
                assert piece.keys() == {"name", "arguments"}
                said.function_call = piece
            case _:
                raise AssertionError(f"no delta is called {kind}")
