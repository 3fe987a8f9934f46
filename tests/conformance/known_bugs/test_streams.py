"""KNOWN_BUGS, part A: what engines do oddly in streams of chat completions. Each reaches no client of any dialect."""

import json

import pytest

from leadline.dialects import answers
from tests.conformance.grammar import chat
from tests.conformance.remote import KINDS, Remote
from tests.conformance.told import PATHS, ask, question, told
from tests.raw import open_post
from tests.scripted.upstream import Reply, delta, finish, sse

USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


def call(**fields):
    return delta(tool_calls=[fields])


def last(delta, reason="tool_calls"):
    """A chunk that says something and finishes."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def test_01_id_and_name_that_the_last_piece_repeats_come_once_and_the_finish_alone(remote: Remote):
    """vllm #44098"""
    again = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "1}"}}
    begun = call(index=0, id="a", type="function", function={"name": "f", "arguments": '{"x":'})
    assert remote.says(begun, last({"tool_calls": [again]})).calls == (("a", "f", {"x": 1}),)


def test_02_a_text_in_the_chunk_of_the_finish_has_a_chunk_of_its_own(remote: Remote):
    """vllm #35705"""
    assert remote.says(delta(content="a"), last({"content": "b"}, "length")).said == ("", "ab", (), "length")


def test_03_a_call_without_a_type_is_a_functions(remote: Remote):
    """vllm #16340"""
    assert remote.says(call(index=0, id="a", function={"name": "f", "arguments": "{}"})).calls == (("a", "f", {}),)


def test_04_a_call_without_an_id_gets_one_that_stays(remote: Remote):
    """vllm #18412"""
    pieces = call(index=0, function={"name": "f"}), call(index=0, function={"arguments": '{"x":1}'})
    [(call_id, name, arguments)] = remote.says(*pieces).calls
    assert call_id.startswith("call_")
    assert (name, arguments) == ("f", {"x": 1})


def test_05_a_name_in_every_piece_is_one_name(remote: Remote):
    """vllm #14951"""
    pieces = [call(index=0, function={"name": "f", "arguments": piece}) for piece in ("", '{"x":', '"y"', "}", "")]
    assert remote.says(*pieces).said == ("", "", (("f", {"x": "y"}),), "tool_calls")


def test_06_an_id_inside_of_the_function_is_the_calls(remote: Remote):
    """llama.cpp #13800"""
    pieces = [call(index=0, function={"id": "a", "name": "f", "arguments": piece}) for piece in ('{"x":', "1}")]
    assert remote.says(*pieces).calls == (("a", "f", {"x": 1}),)


@pytest.mark.parametrize("arguments", [None, "null", " "])
def test_07_no_arguments_are_an_empty_object(remote: Remote, arguments):
    """vllm #9693"""
    assert remote.says(call(index=0, id="a", function={"name": "f", "arguments": arguments})).calls == (("a", "f", {}),)


@pytest.mark.parametrize("dialect", PATHS)
def test_08_a_client_that_waits_for_a_lump_of_arguments_is_kept_alive(remote: Remote, dialect, monkeypatch):
    """vllm #43267"""
    lump = json.dumps({"x": "y" * 20_000})
    assert remote.says(call(index=0, id="a", function={"name": "f", "arguments": lump})).calls[0][2] == json.loads(lump)
    monkeypatch.setattr(answers, "KEEP_ALIVE_SECONDS", 0.0)
    begun = call(index=0, id="a", function={"name": "f", "arguments": '{"x":'})
    remote.upstream.reply = Reply(pieces=(sse(begun, done=False),), ends="never")
    raw = open_post(remote.server.port, PATHS[dialect], remote.server.api_key, question(dialect, "openai", True))
    raw.read_until(b"event: ping" if dialect == "messages" else b": keep-alive")
    raw.hang_up()


def test_09_calls_of_one_index_are_told_apart_by_their_ids(remote: Remote):
    """lmdeploy #3412"""
    calls = [call(index=0, id=name, function={"name": name, "arguments": '{"x":1}'}) for name in "fg"]
    assert remote.says(*calls).calls == (("f", "f", {"x": 1}), ("g", "g", {"x": 1}))


@pytest.mark.parametrize("names", ["fg", "ff"])
@pytest.mark.parametrize("index", [0, None])
def test_10_calls_without_ids_and_indexes_are_told_apart_by_their_names_and_ends(remote: Remote, index, names):
    """any-llm #970"""
    calls = [call(index=index, function={"name": name, "arguments": '{"x":1}'}) for name in names]
    assert remote.says(*calls).said[2] == tuple((name, {"x": 1}) for name in names)
    pieces = [
        piece
        for name in "fg"
        for piece in (
            call(index=index, id=name, function={"name": name, "arguments": ""}),
            call(index=index, function={"arguments": '{"x":'}),
            call(index=index, function={"arguments": "1}"}),
        )
    ]
    assert remote.says(*pieces).said[2] == (("f", {"x": 1}), ("g", {"x": 1}))


@pytest.mark.parametrize("reason", ["stop", "end_turn", "", None])
def test_11_calls_finish_with_tool_calls_whatever_the_engine_says(remote: Remote, reason):
    """ollama #9632"""
    finished = last({}, reason)
    assert (
        remote.says(call(index=0, id="a", function={"name": "f", "arguments": "{}"}), finished).reason == "tool_calls"
    )


def test_12_an_engine_that_says_tool_calls_and_makes_none_has_stopped(remote: Remote):
    """litellm #12481, the other way round"""
    assert remote.says(delta(content="a"), finish("tool_calls")).reason == "stop"


def test_13_a_chunk_without_choices_comes_only_to_those_who_asked_for_it(remote: Remote):
    """foundry-local #905"""
    remote.upstream.reply = Reply(pieces=(sse(delta(content="a"), {"choices": [], "usage": USAGE}),))
    for options in ({}, {"include_usage": False}):
        answer = ask(remote.server, "chat", True, "openai", stream_options=options)
        assert b'"choices":[]' not in answer.body
        assert chat.check(answer.body).usage["prompt_tokens"] == 9
    assert b'"choices":[]' in ask(remote.server, "chat", True, "openai").body


def test_14_of_two_usages_the_last_counts(remote: Remote):
    """new-api #7472"""
    first, second = finish("stop", prompt_tokens=1, completion_tokens=1), {"choices": [], "usage": USAGE}
    found = remote.says(delta(content="a"), first, second, {"choices": [], "usage": None})
    assert (found.prompt, found.output) == (9, 4)


def test_15_comments_of_an_engine_reach_nobody(remote: Remote):
    """openai-go #227"""
    comment = b": OPENROUTER PROCESSING\n\n"
    text = sse(delta(content="a"), done=False)
    assert remote.sends(comment + text + comment + b": glued\n" + text + comment + sse()).said == ("", "aa", (), "stop")


@pytest.mark.parametrize("dialect", ["chat", "responses"])
def test_16_our_comments_are_events_of_their_own_and_hold_no_data(remote: Remote, dialect, monkeypatch):
    """OmniRoute #7031"""
    monkeypatch.setattr(answers, "KEEP_ALIVE_SECONDS", 0.0)
    remote.upstream.reply = Reply(pieces=(sse(delta(content="a"), done=False),), ends="never")
    raw = open_post(remote.server.port, PATHS[dialect], remote.server.api_key, question(dialect, "openai", True))
    raw.read_until(b": keep-alive\n\n")
    remote.server.listener.check()
    raw.hang_up()


def test_17_characters_of_several_bytes_survive_a_dribble_of_single_ones(remote: Remote):
    """claude-code-router #1672"""
    chunks = delta(reasoning_content="思考🤔"), delta(content="日本語 😀"), delta(content="é👩‍👩‍👧")
    arguments = call(index=0, id="a", function={"name": "f", "arguments": '{"city":"東京🗼"}'})
    dribble = [bytes([byte]) for byte in sse(*chunks, arguments, finish("tool_calls", **USAGE))]
    found = remote.sends(*dribble, forms=[(dialect, True) for dialect in PATHS])
    assert found.said == ("思考🤔", "日本語 😀é👩‍👩‍👧", (("f", {"city": "東京🗼"}),), "tool_calls")


def test_18_a_stream_is_the_same_wherever_it_is_cut(remote: Remote):
    """routstr-core #543: every offset is in `test_cuts.py`, some go over the wire here"""
    stream = sse(delta(reasoning_content="hm"), delta(content="é\u2028"), finish("stop", **USAGE))
    whole = remote.sends(stream)
    for cut in range(1, len(stream), 37):
        assert remote.sends(stream[:cut], stream[cut:], forms=[("messages", True)]) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_19_a_client_that_sends_null_ids_is_answered(remote: Remote, kind):
    """aichat #1296"""
    remote.upstream.reply = Reply(pieces=(sse(delta(content="a")),))
    called = {"id": None, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    answer = ask(remote.server, "chat", False, kind, messages=messages)
    assert told("chat", False, answer.body).text == "a"
    [sent] = remote.upstream.bodies[-1]["messages"][1]["tool_calls"]
    assert sent["id"]
