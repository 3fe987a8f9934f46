"""KNOWN_BUGS, part C: what clients send in Messages, and what the engine gets of it."""

import threading

import pytest

from tests.conformance.remote import Remote
from tests.conformance.told import FORMS, ask, told
from tests.scripted.upstream import Reply, delta, sse

# As we write it, so that decoding changes nothing.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4AWNo+N8AAAQCAgC7yg/iAAAAAElFTkSuQmCC"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
SEEN = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}}
HELLO = {"role": "user", "content": "hi"}


def text(said):
    return {"type": "text", "text": said}


def use(call_id):
    return {"type": "tool_use", "id": call_id, "name": "f", "input": {}}


def result(call_id, content="sunny", **more):
    return {"type": "tool_result", "tool_use_id": call_id, "content": content} | more


def called(*call_ids):
    function = {"name": "f", "arguments": "{}"}
    return [{"id": call_id, "type": "function", "function": function} for call_id in call_ids]


def used(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def sent(remote: Remote, *turns, **more):
    """What the engine gets of Messages' turns after the first one."""
    remote.upstream.reply = Reply(pieces=(sse(delta(content="a")),))
    answer = ask(remote.server, "messages", False, "openai", messages=[HELLO, *turns], **more)
    assert answer.status == 200, answer.body
    return remote.upstream.bodies[-1]["messages"][1:]


def test_34_results_follow_their_calls_and_the_rest_of_the_turn_comes_after_them(remote: Remote):
    """ogx #6367"""
    turn = {"role": "user", "content": [text("look"), result("a"), IMAGE, result("b", "cold")]}
    assert sent(remote, used(use("a"), use("b")), turn) == [
        {"role": "assistant", "content": "", "tool_calls": called("a", "b")},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": "cold"},
        {"role": "user", "content": [text("look"), SEEN]},
    ]


def test_34_a_results_image_follows_the_results(remote: Remote):
    """apisix #13674"""
    turn = {
        "role": "user",
        "content": [result("a", [IMAGE]), result("b", [text("cold"), IMAGE], is_error=True), text("so")],
    }
    assert sent(remote, used(use("a"), use("b")), turn)[1:] == [
        {"role": "tool", "tool_call_id": "a", "content": "The image follows."},
        {"role": "tool", "tool_call_id": "b", "content": "Error: cold"},
        {"role": "user", "content": [SEEN, SEEN, text("so")]},
    ]


REFERENCE = {"type": "tool_reference", "tool_name": "g"}


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ([], ""),
        (None, ""),
        ("", ""),
        ([REFERENCE], '{"type":"tool_reference","tool_name":"g"}'),
        ([text("a"), {"type": "new"}], 'a\n{"type":"new"}'),
    ],
)
def test_35_every_result_is_a_message_whatever_is_in_it(remote: Remote, content, seen):
    """litellm #37462"""
    turn = {"role": "user", "content": [result("a", content)]}
    assert sent(remote, used(use("a")), turn)[1:] == [{"role": "tool", "tool_call_id": "a", "content": seen}]


def test_36_a_turn_of_calls_alone_stays_and_so_do_its_pairs(remote: Remote):
    """litellm #25669"""
    turns = used(use("a")), {"role": "user", "content": [result("a")]}
    assert (
        sent(remote, *turns, *turns)
        == [
            {"role": "assistant", "content": "", "tool_calls": called("a")},
            {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        ]
        * 2
    )


def test_37_a_text_after_a_call_is_taken(remote: Remote):
    """free-claude-code #206"""
    turns = used(use("a"), text("done")), {"role": "user", "content": [result("a")]}
    assert sent(remote, *turns)[0] == {"role": "assistant", "content": "done", "tool_calls": called("a")}


def test_38_a_system_message_in_the_middle_is_told_as_the_users(remote: Remote):
    """ollama #17774"""
    remote.upstream.reply = Reply(pieces=(sse(delta(content="a")),))
    turns = [HELLO, {"role": "system", "content": "Be brief."}]
    assert ask(remote.server, "messages", False, "openai", messages=turns, system="You are.").status == 200
    assert remote.upstream.bodies[-1]["messages"] == [
        {"role": "system", "content": "You are."},
        {"role": "user", "content": "hi\nSystem message:\nBe brief."},
    ]


def test_39_a_tool_without_a_type_is_the_clients_own(remote: Remote):
    """ai-gateway #1953"""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    sent(remote, tools=[{"name": "f", "input_schema": schema}, {"name": "g", "type": "custom", "input_schema": schema}])
    tools = remote.upstream.bodies[-1]["tools"]
    assert [tool["function"]["name"] for tool in tools] == ["f", "g"]
    assert [tool["function"]["parameters"] for tool in tools] == [schema] * 2


def test_40_texts_and_calls_in_turns_are_put_in_order(remote: Remote):
    """litellm #22946"""
    turns = used(text("one"), use("a"), text("two"), use("b")), {"role": "user", "content": [result("b"), result("a")]}
    assert sent(remote, *turns) == [
        {"role": "assistant", "content": "one\ntwo", "tool_calls": called("a", "b")},
        {"role": "tool", "tool_call_id": "b", "content": "sunny"},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
    ]


def test_41_an_image_reaches_the_engine_or_is_refused(remote: Remote):
    """mlx-vlm #1060"""
    look = {"role": "user", "content": [text("look"), IMAGE]}
    assert sent(remote, used(text("yes?")), look)[-1] == {"role": "user", "content": [text("look"), SEEN]}
    refused = ask(remote.server, "messages", False, "echo", messages=[look], thinking=None)
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(("dialect", "stream"), [form for form in FORMS if form[1]])
def test_42_streams_side_by_side_do_not_mix(remote: Remote, dialect, stream):
    """llama.cpp #18551"""
    found = {}

    def run(number):
        words = " ".join(f"w{number}" for _ in range(50))
        asked = {"input": words} if dialect == "responses" else {"messages": [{"role": "user", "content": words}]}
        more = {"thinking": None} if dialect == "messages" else {}
        answer = ask(remote.server, dialect, stream, "echo", **asked, **more)
        found[number] = told(dialect, stream, answer.body).text == words

    threads = [threading.Thread(target=run, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(range(32), True)


def test_56_all_results_reach_the_engine(remote: Remote):
    """adk-python #231"""
    ids = ["a", "b", "c"]
    results = [{"role": "tool", "tool_call_id": call_id, "content": call_id} for call_id in ids]
    asked = {"role": "assistant", "content": None, "tool_calls": called(*ids)}
    items = [{"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"} for call_id in ids]
    outputs = [{"type": "function_call_output", "call_id": call_id, "output": call_id} for call_id in ids]
    turn = {"role": "user", "content": [result(call_id, call_id) for call_id in ids]}
    for dialect, said in (
        ("chat", {"messages": [HELLO, asked, *results]}),
        ("messages", {"messages": [HELLO, used(*map(use, ids)), turn]}),
        ("responses", {"input": [HELLO, *items, *outputs]}),
    ):
        remote.upstream.reply = Reply(pieces=(sse(delta(content="a")),))
        assert ask(remote.server, dialect, False, "openai", **said).status == 200
        assert remote.upstream.bodies[-1]["messages"][2:] == results
