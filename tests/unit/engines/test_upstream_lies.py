"""What a remote server sends is not believed: sizes, counts, encodings and forms have bounds."""

import gzip

import pytest

from leadline.chat.events import Finished
from leadline.chat.request import Text
from leadline.errors import EngineFailed
from tests.scripted.upstream import Reply, delta, finish, sse
from tests.unit.engines.test_upstream import ASK, answer, engine_with, text_of

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
HELLO = sse(delta(content="hello"), finish("stop", prompt_tokens=9, completion_tokens=1))
HUGE = 10**15


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5, "completion_tokens": -7},
        {"prompt_tokens": HUGE, "completion_tokens": HUGE},
        {"prompt_tokens": 10**40, "completion_tokens": 10**40},
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -4}},
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": HUGE}},
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"image_tokens": -4}},
        {"prompt_tokens": 9, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": HUGE}},
        {"prompt_tokens": 9, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": -1}},
    ],
)
async def test_counts_that_cannot_be_are_not_charged(usage):
    try:
        whole = await answer(Reply(pieces=(sse(delta(content="hello"), finish("stop", **usage)),)))
    except EngineFailed:
        return
    counted = whole.usage
    assert 0 <= counted.prompt_tokens <= 2**31
    assert 0 <= counted.cached_tokens <= counted.prompt_tokens
    assert 0 <= counted.image_tokens <= counted.prompt_tokens
    assert 0 <= counted.output_tokens + counted.reasoning_tokens <= 50
    assert min(counted.output_tokens, counted.reasoning_tokens) >= 0


@pytest.mark.parametrize(
    "reply",
    [
        # What a body is packed in is not asked for, and a small one may unpack to anything.
        Reply(head=OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\n", ends="broken"),
        Reply(
            head=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n",
            pieces=(gzip.compress(b" " * 50_000_000),),
            ends="broken",
        ),
        # Elsewhere is not gone to.
        Reply(head=b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        Reply(head=b"HTTP/1.1 307 Go\r\nLocation: /v1/chat/completions\r\nContent-Length: 0\r\n\r\n"),
        # Headers and chunks without an end.
        Reply(head=OK + b"X-More: y\r\n" * 20_000, ends="never"),
        Reply(head=OK + b"X-Long: " + b"y" * 200_000, ends="never"),
        Reply(head=b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, ends="never"),
        Reply(pieces=(b"data: " + b"x" * 100_000,) * 20, ends="never"),
        # Neither HTTP nor text.
        Reply(head=b"\x16\x03\x01\x02\x00\x01\x00", ends="broken"),
        Reply(head=b"HTTP/9.9 maybe\r\n\r\n", ends="broken"),
        Reply(head=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", ends="broken"),
        Reply(head=OK + b"Content-Length: 99999999999999999999\r\n\r\n", pieces=(HELLO[:20],), ends="broken"),
        Reply(pieces=(b"<html><body>their words</body></html>",), content_type="text/html"),
        Reply(pieces=(b"<html>their words",), content_type="application/json"),
        Reply(pieces=(b"data: \xff\xfe\x00\n\n",)),
        Reply(pieces=('data: {"choices": [{"delta": {"content": "日本"}}]}\n\n'.encode("utf-16"),)),
        Reply(pieces=('data: {"choices": [{"delta": {"content": "é"}}]}\n\n'.encode("latin-1"),)),
        Reply(pieces=(b'data: {"choices": [{"delta": {"content": "\\ud800"}}]}\n\n',)),
        Reply(pieces=(b"data: " + b"[" * 100_000 + b"\n\n",)),
    ],
)
async def test_what_is_no_answer_is_a_clean_error(reply):
    with pytest.raises(EngineFailed) as raised:
        await answer(reply)
    assert "their words" not in str(raised.value)


async def test_an_answer_after_interim_ones_counts():
    head = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"\r\n"
    assert text_of(await answer(Reply(head=head, pieces=(HELLO,), ends="broken"))) == "hello"


async def test_an_end_that_is_told_twice_is_one_end():
    whole = await answer(Reply(pieces=(HELLO + b"data: [DONE]\n\n" + HELLO,)))
    assert whole.choices[0].content == (Text("hello"),)
    assert whole.usage.output_tokens == 1


async def test_more_tokens_than_were_asked_for_are_never_counted():
    async with engine_with(Reply(pieces=(sse(*[delta(content="x")] * 500),))) as (engine, _):
        batches = [batch async for batch in engine.generate(ASK)]
    [last] = [event for batch in batches for event in batch if isinstance(event, Finished)]
    assert last.usage.output_tokens <= 50
