"""The events of a response's stream, in OpenAI's order: each item is announced, grows, and is told whole at its end."""

from typing import Any

import msgspec

from leadline.dialects.responses.output import Closed, Grown, Opened, Step

Json = dict[str, Any]
KEEP_ALIVE = b": keep-alive\n\n"
_json = msgspec.json.Encoder()
_DELTA = {
    "message": "response.output_text.delta",
    "reasoning": "response.reasoning_text.delta",
    "function_call": "response.function_call_arguments.delta",
}
_EMPTY_PART = {
    "message": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
    "reasoning": {"type": "reasoning_text", "text": ""},
}


class EventWriter:
    """Numbers the events of one stream from 0."""

    def __init__(self) -> None:
        self.sequence_number = 0
        self._delta_before = self._delta_after = b""

    def begin(self, response: Json) -> list[bytes]:
        """The two events that open a stream."""
        return [
            self.write("response.created", {"response": response}),
            self.write("response.in_progress", {"response": response}),
        ]

    def step(self, step: Step) -> list[bytes]:
        match step:
            case Grown(piece, logprobs):
                number, self.sequence_number = self.sequence_number, self.sequence_number + 1
                after = b',"logprobs":' + _json.encode(logprobs) if logprobs else self._delta_after
                return [b'%b%d,"delta":%b%b}\n\n' % (self._delta_before, number, _json.encode(piece), after)]
            case Opened(index, item):
                return self._open(index, item)
            case Closed(index, item):
                return self._close(index, item)

    def write(self, kind: str, fields: Json) -> bytes:
        number, self.sequence_number = self.sequence_number, self.sequence_number + 1
        encoded = _json.encode({"type": kind, "sequence_number": number} | fields)
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encoded)

    def _open(self, index: int, item: Json) -> list[bytes]:
        kind, place = item["type"], _place(index, item)
        before = _json.encode({"type": _DELTA[kind]} | place)[:-1]
        self._delta_before = b'event: %b\ndata: %b,"sequence_number":' % (_DELTA[kind].encode(), before)
        self._delta_after = b',"logprobs":[]' if kind == "message" else b""
        events = [self.write("response.output_item.added", {"output_index": index, "item": item})]
        if kind in _EMPTY_PART:
            events.append(self.write("response.content_part.added", place | {"part": _EMPTY_PART[kind]}))
        return events

    def _close(self, index: int, item: Json) -> list[bytes]:
        place = _place(index, item)
        if item["type"] == "function_call":
            whole = {"arguments": item["arguments"], "name": item["name"]}
            events = [self.write("response.function_call_arguments.done", place | whole)]
        else:
            [part] = item["content"]
            said = {name: part[name] for name in ("text", "logprobs") if name in part}
            kind = "response.output_text.done" if item["type"] == "message" else "response.reasoning_text.done"
            events = [
                self.write(kind, place | said),
                self.write("response.content_part.done", place | {"part": part}),
            ]
        return [*events, self.write("response.output_item.done", {"output_index": index, "item": item})]


def _place(index: int, item: Json) -> Json:
    """Where an event belongs. Texts lie in the one part that their item has."""
    place: Json = {"item_id": item["id"], "output_index": index}
    return place if item["type"] == "function_call" else place | {"content_index": 0}
