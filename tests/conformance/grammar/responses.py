"""The grammar of a Responses stream (SDK_CONFORMANCE 5.3): a state machine over its bytes. What it does not allow is an
AssertionError that names the event.

    stream   = created in_progress item* (completed | incomplete | failed)
    item     = added [part_added] delta* text_done [part_done] item_done
"""

import json
from dataclasses import dataclass, field
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.conformance.grammar.sse import events

Json = dict[str, Any]

TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
# Of each kind of item: the prefix of its id, its events, and the field that its pieces join to.
KINDS = {
    "message": ("msg_", "response.output_text", "text"),
    "reasoning": ("rs_", "response.reasoning_text", "text"),
    "function_call": ("fc_", "response.function_call_arguments", "arguments"),
}
PARTS: dict[str, Json] = {
    "message": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
    "reasoning": {"type": "reasoning_text", "text": ""},
}
ALWAYS = (
    *("id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "instructions"),
    *("max_output_tokens", "model", "output", "parallel_tool_calls", "previous_response_id", "reasoning", "store"),
    *("temperature", "text", "tool_choice", "tools", "top_p", "truncation", "usage", "user", "metadata", "background"),
    *("service_tier", "top_logprobs", "max_tool_calls"),
)
# What the end of a response may change of what its beginning said.
CHANGES = {"status", "output", "usage", "completed_at", "incomplete_details", "error", "store"}
_event_type: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def frames(raw: bytes, *, cut: bool = False) -> list[Json]:
    """The events of a stream's bytes. Comments are no events."""
    return list(events(raw, named=True, cut=cut))


def check(raw: bytes, *, cut: bool = False) -> Json:
    """The final response of a whole stream that keeps to the grammar; none where it was `cut` by a client's hang-up."""
    grammar = Grammar()
    for event in frames(raw, cut=cut):
        grammar.take(event)
    assert cut or grammar.final is not None, "the stream has no terminal event"
    return grammar.final or {}


def check_response(response: Json) -> None:
    """A response object, whatever its state."""
    assert [name for name in ALWAYS if name not in response] == []
    assert "output_text" not in response, "the clients compute it"
    Response.model_validate_json(json.dumps(response), strict=True)
    assert response["object"] == "response"
    assert response["id"].startswith("resp_")
    ids = [item["id"] for item in response["output"]]
    assert len(set(ids)) == len(ids)
    status, usage = response["status"], response["usage"]
    assert (response["error"] is not None) == (status == "failed")
    assert (response["incomplete_details"] is not None) == (status == "incomplete")
    assert (response["completed_at"] is not None) == (status == "completed")
    assert (usage is not None) == (status in ("completed", "incomplete"))
    if usage is not None:
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert usage["input_tokens_details"]["cached_tokens"] <= usage["input_tokens"]
        assert usage["input_tokens_details"]["cache_write_tokens"] == 0
        assert usage["output_tokens_details"]["reasoning_tokens"] <= usage["output_tokens"]
        assert usage["cost_in_usd_ticks"] >= 0
    for item in response["output"]:
        check_item(item)


def check_item(item: Json) -> None:
    """A whole item of an output."""
    prefix, _, _ = KINDS[item["type"]]
    assert item["id"].startswith(prefix)
    assert item["status"] in ("completed", "incomplete")
    if item["type"] == "function_call":
        assert item["call_id"]
        assert item["name"]
        if item["status"] == "completed":
            assert isinstance(json.loads(item["arguments"]), dict)
    else:
        [part] = item["content"]
        assert part.keys() == PARTS[item["type"]].keys()
        assert part["text"], "an empty text is no item"


@dataclass
class Grammar:
    """Takes one stream's events. `begun` is the response as it began, `final` as it ended, `done` are its items."""

    final: Json | None = None
    begun: Json | None = None
    done: list[Json] = field(default_factory=list)
    _number: int = -1
    _in_progress: bool = False
    # The item under way, and the next steps that it allows.
    _item: Json | None = None
    _may: tuple[str, ...] = ()
    _pieces: list[str] = field(default_factory=list)
    _logprobs: list[Json] = field(default_factory=list)

    def take(self, event: Json) -> None:
        """Raises AssertionError where the event may not come now."""
        try:
            self._take(event)
        except AssertionError as error:
            raise AssertionError(f"{error} at {event}") from error

    def _take(self, event: Json) -> None:
        _event_type.validate_json(json.dumps(event), strict=True)
        kind = event["type"]
        assert self.final is None, "nothing comes after the end"
        if kind == "error":  # for whoever reads along with another one's stream
            self.final = event
            return
        assert event["sequence_number"] == self._number + 1, "numbers go up one by one"
        self._number += 1
        if kind == "response.created":
            assert self.begun is None, "created comes once"
            self.begun = event["response"]
            self._fresh(event["response"])
        elif kind == "response.in_progress":
            assert self.begun == event["response"], "in_progress follows created and says the same"
            assert not self._in_progress, "in_progress comes once"
            self._in_progress = True
        else:
            assert self._in_progress, "created and in_progress come first"
            if kind in TERMINAL:
                self._end(event)
            elif kind == "response.output_item.added":
                self._add(event)
            else:
                self._go_on(event)

    def _fresh(self, response: Json) -> None:
        check_response(response)
        assert (response["status"], response["output"]) == ("in_progress", [])

    def _end(self, event: Json) -> None:
        response = event["response"]
        assert self.begun is not None
        check_response(response)
        assert response["status"] == TERMINAL[event["type"]]
        assert self._item is None or response["status"] == "failed", "an item is not finished"
        assert response["output"] == self.done, "the output is not what was streamed"
        changed = {name for name in response if response[name] != self.begun.get(name)}
        assert changed <= CHANGES, f"{changed - CHANGES} changed"
        if response["status"] == "completed":
            assert {item["status"] for item in self.done} <= {"completed"}
        self.final = response

    def _add(self, event: Json) -> None:
        item = event["item"]
        assert self._item is None, "an item begins inside of another one"
        assert event["output_index"] == len(self.done), "output_index is dense"
        assert item["id"].startswith(KINDS[item["type"]][0])
        assert item["id"] not in {other["id"] for other in self.done}
        assert item["status"] == "in_progress"
        assert item.get("content", []) == []
        assert item.get("arguments", "") == ""
        if item["type"] == "function_call":
            assert item["call_id"] not in {other.get("call_id") for other in self.done}
        self._item, self._pieces, self._logprobs = item, [], []
        self._may = ("delta", "done") if item["type"] == "function_call" else ("part.added",)

    def _go_on(self, event: Json) -> None:
        assert self._item is not None, "no item is under way"
        kind, item = event["type"], self._item
        _, prefix, whole = KINDS[item["type"]]
        steps = {
            f"{prefix}.delta": "delta",
            f"{prefix}.done": "done",
            "response.content_part.added": "part.added",
            "response.content_part.done": "part.done",
            "response.output_item.done": "item.done",
        }
        assert steps.get(kind) in self._may, f"only {self._may} may come in this item"
        assert event["output_index"] == len(self.done)
        if kind != "response.output_item.done":
            assert event["item_id"] == item["id"], "the item's id changed"
            assert ("content_index" in event) == (item["type"] != "function_call")
            assert event.get("content_index", 0) == 0
        match steps[kind]:
            case "part.added":
                assert event["part"] == PARTS[item["type"]]
                self._may = ("delta",)
            case "delta":
                assert event["delta"], "a delta is empty"
                assert ("logprobs" in event) == (item["type"] == "message")
                self._pieces.append(event["delta"])
                self._logprobs += event.get("logprobs", [])
                self._may = ("delta", "done")
            case "done":
                assert event[whole] == "".join(self._pieces), "the pieces do not join to the whole"
                if item["type"] == "message":
                    assert event["logprobs"] == self._logprobs
                if item["type"] == "function_call":
                    assert event["name"] == item["name"]
                self._may = ("item.done",) if item["type"] == "function_call" else ("part.done",)
            case "part.done":
                logprobs = {"logprobs": self._logprobs} if item["type"] == "message" else {}
                assert event["part"] == PARTS[item["type"]] | {"text": "".join(self._pieces)} | logprobs
                self._may = ("item.done",)
            case "item.done":
                self._finish(event["item"])

    def _finish(self, item: Json) -> None:
        assert self._item is not None
        check_item(item)
        for name in ("id", "type", "call_id", "name", "role", "summary"):
            assert item.get(name) == self._item.get(name), f"{name} changed"
        text = item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
        assert text == "".join(self._pieces)
        self.done.append(item)
        self._item, self._may = None, ()
