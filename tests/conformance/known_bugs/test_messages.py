"""KNOWN_BUGS, part B: what goes wrong between an engine's chat completions and Messages."""

import json

import anthropic
import pytest

from tests.conformance.grammar import messages
from tests.conformance.remote import KINDS, Remote
from tests.conformance.told import PATHS, ask
from tests.scripted.upstream import Reply, delta, finish, refusal, sse

USAGE = {"prompt_tokens": 9, "completion_tokens": 4}
STREAM = [("messages", True)]


def call(**fields):
    return delta(tool_calls=[fields])


def whole_call(name, index=0):
    return call(index=index, id=f"call_{name}", function={"name": name, "arguments": '{"x":1}'})


def blocks(remote: Remote, *chunks):
    """The kinds of the blocks of a stream, in their order."""
    remote.upstream.reply = Reply(pieces=(sse(*chunks),))
    message = messages.check(ask(remote.server, "messages", True, "openai").body).message
    return [block["type"] for block in message["content"]]


def test_20_empty_fields_are_nothing(remote: Remote):
    """litellm #29286"""
    nothing = delta(tool_calls=[], content=None), delta(content="", reasoning_content="", tool_calls=None)
    assert remote.says(*nothing, delta(content="a", tool_calls=[]), *nothing).said == ("", "a", (), "stop")


def test_21_two_calls_are_two_blocks(remote: Remote):
    """litellm #15307"""
    calls = whole_call("f"), whole_call("g", 1)
    assert remote.says(*calls).said[2] == (("f", {"x": 1}), ("g", {"x": 1}))
    assert blocks(remote, *calls) == ["tool_use", "tool_use"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_22_thoughts_are_a_block_before_the_text(remote: Remote, field):
    """litellm #29533"""
    chunks = delta(**{field: "hm"}), delta(**{field: ", two"}), delta(content="4")
    assert remote.says(*chunks).said == ("hm, two", "4", (), "stop")
    assert blocks(remote, *chunks) == ["thinking", "text"]


def test_23_calls_stop_with_tool_use_and_no_empty_text_goes_before_them(remote: Remote):
    """litellm #34692"""
    chunks = delta(role="assistant", content=""), whole_call("f"), finish("stop")
    assert remote.says(*chunks).reason == "tool_calls"
    assert blocks(remote, *chunks) == ["tool_use"]


def test_24_an_empty_text_is_never_told_and_is_taken_back(remote: Remote):
    """claude-code #88536"""
    assert remote.says(delta(content=""), finish("stop")).said == ("", "", (), "stop")
    assert blocks(remote, delta(content=""), finish("stop")) == []
    empty = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
    turns = [
        {"role": "user", "content": [empty, {"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": [empty]},
        {"role": "user", "content": [{"type": "text", "text": "go on"}, empty]},
    ]
    assert ask(remote.server, "messages", False, "openai", messages=turns).status == 200
    assert remote.upstream.bodies[-1]["messages"] == [{"role": "user", "content": "hi\ngo on"}]
    refused = ask(remote.server, "messages", False, "openai", messages=[{"role": "user", "content": [empty]}])
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("chunks", "done"),
    [((finish("stop"),), True), ((), False), ((finish("stop"),), False), ((), True)],
    ids=["no usage", "no finish and no done", "no done", "no finish"],
)
def test_25_a_stream_is_closed_whatever_the_engine_leaves_out(remote: Remote, chunks, done):
    """new-api #5345"""
    found = remote.says(delta(content="a"), delta(content="b"), *chunks, done=done)
    assert (found.said, found.output) == (("", "ab", (), "stop"), 2)


def test_26_indexes_are_dense_when_thoughts_and_texts_take_turns(remote: Remote):
    """new-api #2854"""
    chunks = *(delta(reasoning_content="a"), delta(content="b")) * 2, whole_call("f")
    assert remote.says(*chunks).said == ("aa", "bb", (("f", {"x": 1}),), "tool_calls")
    assert blocks(remote, *chunks) == ["thinking", "text", "thinking", "text", "tool_use"]


@pytest.mark.parametrize(("theirs", "ours"), [("length", "length"), ("content_filter", "content_filter")])
def test_27_an_answer_that_was_cut_says_why(remote: Remote, theirs, ours):
    """new-api #1761"""
    assert remote.says(delta(content="a"), finish(theirs)).reason == ours


def test_28_cached_tokens_are_no_input_tokens(remote: Remote):
    """litellm #31069"""
    usage = {"prompt_tokens": 9888, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6752}}
    found = remote.says(delta(content="a"), {"choices": [], "usage": usage})
    assert (found.prompt, found.cached) == (9888, 6752)
    message = messages.check(ask(remote.server, "messages", True, "openai").body).message
    assert (message["usage"]["input_tokens"], message["usage"]["cache_read_input_tokens"]) == (3136, 6752)


def test_29_a_later_usage_without_cached_tokens_takes_them_back(remote: Remote):
    """litellm #40736"""
    first, last = (USAGE | {"prompt_tokens_details": {"cached_tokens": cached}} for cached in (7, 0))
    found = remote.says(delta(content="a"), finish("stop", **first), {"choices": [], "usage": last})
    assert (found.prompt, found.cached) == (9, 0)


@pytest.mark.parametrize("arguments", ["", None, "{}", {}])
def test_30_a_call_without_arguments_has_an_empty_object_there_and_back(remote: Remote, arguments):
    """litellm #5063"""
    assert remote.says(call(index=0, id="a", function={"name": "f", "arguments": arguments})).calls == (("a", "f", {}),)
    given = {"name": "f"} if arguments is None else {"name": "f", "arguments": arguments or ""}
    chat = {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": given}]}
    item = {"type": "function_call", "call_id": "a", "name": "f", "arguments": ""}
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}
    hello = {"role": "user", "content": "hi"}
    for dialect, said in (
        ("chat", {"messages": [hello, chat]}),
        ("messages", {"messages": [hello, used]}),
        ("responses", {"input": [hello, item]}),
    ):
        assert ask(remote.server, dialect, False, "openai", **said).status == 200
        [sent] = remote.upstream.bodies[-1]["messages"][1]["tool_calls"]
        assert sent["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize("signature", [{}, {"signature": None}, {"signature": ""}, {"signature": "foreign"}])
def test_31_thoughts_are_signed_and_taken_back_with_any_signature(remote: Remote, signature):
    """req_llm #626"""
    assert blocks(remote, delta(reasoning_content="hm"), delta(content="a")) == ["thinking", "text"]
    thought = {"type": "thinking", "thinking": "hm"} | signature
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "a"}]},
        {"role": "user", "content": "go on"},
    ]
    assert ask(remote.server, "messages", False, "openai", messages=turns).status == 200
    assert remote.upstream.bodies[-1]["messages"][1] == {"role": "assistant", "content": "a", "reasoning_content": "hm"}


@pytest.mark.parametrize("stream", [False, True])
def test_32_without_a_field_for_it_nothing_is_thought(remote: Remote, stream):
    """ollama #15287"""
    remote.upstream.reply = Reply(pieces=(sse(delta(reasoning_content="hm"), delta(content="a")),))
    body = ask(remote.server, "messages", stream, "openai", thinking=None).body
    assert b"thinking" not in body
    assert remote.upstream.bodies[-1]["reasoning_effort"] == "none"


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [(400, 400, "invalid_request_error"), (401, 502, "api_error"), (500, 502, "api_error"), (503, 503, "overloaded")],
)
def test_33_what_an_engine_refuses_before_its_first_chunk_is_an_http_error(remote: Remote, dialect, status, told, kind):
    """langwatch #6184"""
    remote.upstream.reply = refusal(status, {"error": {"message": "their words"}})
    for stream in (False, True):
        answer = ask(remote.server, dialect, stream, "openai")
        if dialect == "messages" and told == 503:
            assert (answer.status, answer.json["error"]["type"]) == (529, "overloaded_error")
        else:
            assert (answer.status, answer.json["error"]["type"]) == (told, kind)
        assert b"their words" not in answer.body


@pytest.mark.parametrize("dialect", PATHS)
def test_33_an_engine_that_says_nothing_in_time_is_an_http_error(remote: Remote, dialect, monkeypatch):
    """langwatch #6184"""
    monkeypatch.setattr("leadline.engines.upstream.client.NEXT_BYTE_SECONDS", 0.01)
    remote.upstream.reply = Reply(ends="never")
    answer = ask(remote.server, dialect, True, "openai")
    assert answer.status == 504


def test_the_sdk_reads_every_piece_of_it(remote: Remote):
    chunks = (
        delta(reasoning_content="hm"),
        delta(content="a"),
        whole_call("f"),
        whole_call("g", 1),
        finish("stop", **USAGE),
    )
    remote.upstream.reply = Reply(pieces=(sse(*chunks),))
    with anthropic.Anthropic(base_url=remote.server.base_url, api_key=remote.server.api_key) as client:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        asked = {"max_tokens": 2048, "messages": [{"role": "user", "content": "hi"}], "thinking": thinking}
        for kind in KINDS:
            with client.messages.stream(model=kind, **asked) as stream:
                final = stream.get_final_message()
            whole = client.messages.create(model=kind, **asked)
            assert json.loads(final.to_json())["content"] == json.loads(whole.to_json())["content"]
