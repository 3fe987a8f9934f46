"""Server-sent events as our streams write them: stricter than the standard, so that every client can read them."""

import json
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
DONE: Json = {"type": "[DONE]"}


def events(raw: bytes, *, named: bool, cut: bool = False) -> Iterator[Json]:
    """The events of a stream's bytes; comments are none. `named`: each has a line with its type. `cut`: the client hung
    up, so that the last event may be half a one."""
    text = raw.decode("utf-8", "ignore" if cut else "strict")
    whole, ended, rest = text.rpartition("\n\n")
    assert cut or not rest, f"the stream ends inside of an event: {rest[-100:]!r}"
    for frame in whole.split("\n\n") if ended else []:
        if frame.startswith(":"):
            assert "\n" not in frame, f"a comment shares its event: {frame!r}"
        elif named:
            lines = frame.split("\n")
            assert [line.partition(": ")[0] for line in lines] == ["event", "data"], f"no event: {frame!r}"
            event = json.loads(lines[1].removeprefix("data: "))
            assert lines[0] == f"event: {event['type']}", f"two types: {frame!r}"
            yield event
        else:
            assert frame.startswith("data: "), f"no event: {frame!r}"
            assert "\n" not in frame, f"more than one line: {frame!r}"
            yield DONE if frame == "data: [DONE]" else json.loads(frame.removeprefix("data: "))
