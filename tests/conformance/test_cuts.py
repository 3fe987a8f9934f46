"""However an engine's bytes are cut, what every dialect says is the same."""

import json
from collections.abc import Iterator

import pytest

from leadline.chat.collect import Collector
from leadline.chat.events import ChatEvent, ReasoningDelta, TextDelta, ToolCallDelta
from leadline.engines.upstream.decode import ChunkDecoder
from leadline.engines.upstream.sse import EventParser
from leadline.errors import EngineFailed
from tests.conformance.remote import Remote
from tests.conformance.told import PATHS, ask, everywhere
from tests.scripted.upstream import Reply, delta, finish, sse

pytestmark = pytest.mark.slow

USAGE = {"prompt_tokens": 9, "completion_tokens": 6, "completion_tokens_details": {"reasoning_tokens": 1}}


def call(**fields):
    return delta(tool_calls=[fields])


CHUNKS = (
    *(delta(role="assistant", content=""), delta(reasoning_content="思考 🤔"), delta(content="日本 ")),
    *(delta(content="\u2028😀 end"), call(index=0, id="a", function={"name": "f", "arguments": ""})),
    call(index=0, function={"arguments": '{"city":"東'}),
    call(index=1, id="b", function={"name": "g", "arguments": "{}"}),
    call(index=0, function={"arguments": '京"}'}),
    finish("tool_calls", **USAGE),
)
PLAIN = sse(*CHUNKS)
ESCAPED = b"".join(b"data:" + json.dumps(chunk).encode() + b"\n\n" for chunk in CHUNKS) + b"data: [DONE]\n\n"
STREAMS = {
    "plain": PLAIN,
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "escaped": ESCAPED,
    "comments": b": hello\n\n" + PLAIN.replace(b"\n\n", b"\n: again\n\n: and again\n\n"),
    "named": PLAIN.replace(b"data: ", b"event: message\nid: 1\nretry: 10\ndata: "),
    "no last empty line": PLAIN.removesuffix(b"\n\n"),
    "no done": PLAIN.removesuffix(b"data: [DONE]\n\n"),
    "neither": PLAIN.removesuffix(b"\n\ndata: [DONE]\n\n"),
}


def read(*pieces: bytes) -> Iterator[ChatEvent]:
    """The events of a stream that comes in these pieces."""
    parser, decoder = EventParser(), ChunkDecoder(100)
    for piece in pieces:
        for payload in parser.feed(piece):
            yield from decoder.decode(payload)
        if decoder.done:
            break
    for payload in [] if decoder.done else parser.end():
        yield from decoder.decode(payload)
    yield from decoder.end()


EXPECTED = Collector().add(tuple(read(PLAIN)))


@pytest.mark.parametrize("name", STREAMS)
def test_every_cut_in_two_gives_the_same_events(name):
    stream = STREAMS[name]
    events = list(read(stream))
    assert Collector().add(tuple(events)) == EXPECTED
    for cut in range(1, len(stream)):
        assert list(read(stream[:cut], stream[cut:])) == events
    assert list(read(*(bytes([byte]) for byte in stream))) == events


@pytest.mark.parametrize("name", STREAMS)
def test_every_dialect_says_the_same_of_bytes_that_come_one_by_one(remote: Remote, name):
    whole = remote.sends(PLAIN)
    assert whole.said == ("思考 🤔", "日本 \u2028😀 end", (("f", {"city": "東京"}), ("g", {})), "tool_calls")
    stream = STREAMS[name]
    remote.upstream.reply = Reply(pieces=tuple(bytes([byte]) for byte in stream))
    assert everywhere(remote.server, "openai") == whole
    remote.upstream.reply = Reply(pieces=tuple(stream[at : at + 7] for at in range(0, len(stream), 7)))
    assert everywhere(remote.server, "vllm").said == whole.said


def test_a_stream_that_ends_early_is_whole_as_far_as_it_came_or_an_error():
    """Cut off anywhere: either a prefix of the events and a proper end, or a clean error."""
    events = list(read(PLAIN))
    texts = [event for event in events if isinstance(event, TextDelta | ReasoningDelta)]
    for cut in range(len(PLAIN)):
        try:
            told = list(read(PLAIN[:cut]))
        except EngineFailed:
            continue
        found = [event for event in told if isinstance(event, TextDelta | ReasoningDelta)]
        assert found == texts[: len(found)]
        assert not any(isinstance(event, ToolCallDelta) and not event.arguments for event in told)


JUNK = {
    "half JSON": b'data: {"choices":[{"del\n\n',
    "no object": b"data: [1]\n\n",
    "a wrong type": b'data: {"choices":{}}\n\n',
    "no JSON": b"data: <html>\n\n",
    "no UTF-8": b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n',
    "an error": b'data: {"error":{"message":"their words"}}\n\n',
    "an error's text": b'data: {"error":"their words"}\n\n',
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("dialect", PATHS)
def test_junk_before_the_first_token_is_an_http_error_and_costs_nothing(remote: Remote, dialect, junk):
    charges = len(remote.server.charges())
    remote.upstream.reply = Reply(pieces=(JUNK[junk] + PLAIN,))
    for stream in (False, True):
        answer = ask(remote.server, dialect, stream, "openai")
        assert (answer.status, answer.json["error"]["type"]) == (502, "api_error")
        assert b"their words" not in answer.body
    assert len(remote.server.charges()) == charges


@pytest.mark.parametrize(
    "junk", [b"hello\n\n", b"\n\n\n", b"data\n\n", b"id: 7\n\n", b"event: ping\n\n", b"\xef\xbb\xbf\n"]
)
def test_lines_that_are_no_data_are_nothing(junk):
    assert list(read(junk + PLAIN.replace(b"\n\n", b"\n\n" + junk))) == list(read(PLAIN))
