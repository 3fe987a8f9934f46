"""KNOWN_BUGS, part D: the Responses API over an engine's chat completions. What each row says of single events is in
the grammar that every stream is held against; `../python/test_responses.py` looks at them one by one."""

import openai
import pytest

from tests.conformance.grammar.responses import check, frames
from tests.conformance.remote import Remote
from tests.conformance.told import ask
from tests.scripted.upstream import Reply, delta, finish, sse


def call(**fields):
    return delta(tool_calls=[fields])


CHUNKS = (
    *(delta(reasoning_content="hm"), delta(content="a")),
    call(index=0, function={"name": "f", "arguments": '{"x":'}),
    call(index=0, function={"arguments": "1}"}),
    finish("stop", prompt_tokens=9, completion_tokens=4),
)


@pytest.fixture
def events(remote: Remote):
    """The events of a response that thinks, speaks and calls."""
    remote.upstream.reply = Reply(pieces=(sse(*CHUNKS),))
    return frames(ask(remote.server, "responses", True, "openai").body)


def kinds(events):
    return [event["type"].removeprefix("response.") for event in events]


def items(events, kind):
    return [event["item"] for event in events if event["type"] == f"response.output_item.{kind}"]


def test_43_call_ids_are_the_same_everywhere(events):
    """vllm #47916"""
    begun, done, final = items(events, "added"), items(events, "done"), events[-1]["response"]["output"]
    assert done == final
    for name in ("id", "call_id"):
        assert [item.get(name) for item in begun] == [item.get(name) for item in final]


def test_44_an_item_has_one_id_in_all_its_events(events):
    """litellm #30071"""
    ids = [item["id"] for item in items(events, "added")]
    told = [event["item_id"] for event in events if "item_id" in event]
    assert list(dict.fromkeys(told)) == ids


def test_45_the_order_is_that_of_the_specification(events):
    """ogx #5309"""
    part = ["content_part.added", "{}.delta", "{}.done", "content_part.done"]
    assert kinds(events) == [
        *("created", "in_progress"),
        *("output_item.added", *(kind.format("reasoning_text") for kind in part), "output_item.done"),
        *("output_item.added", *(kind.format("output_text") for kind in part), "output_item.done"),
        *("output_item.added", *["function_call_arguments.delta"] * 2, "function_call_arguments.done"),
        *("output_item.done", "completed"),
    ]


def test_46_indexes_are_in_all_events_of_items(events):
    """lemonade #3607"""
    inner = events[2:-1]
    assert [event["output_index"] for event in inner] == [0] * 6 + [1] * 6 + [2] * 5
    parts = [event for event in inner if "item" not in event and "arguments" not in event["type"]]
    assert {event["content_index"] for event in parts} == {0}


def test_47_the_first_events_hold_the_full_object_and_numbers_go_on(events):
    """llama.cpp #21174"""
    first, final = events[0]["response"], events[-1]["response"]
    assert first.keys() == final.keys() == events[1]["response"].keys()
    assert first["output"] == []
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    [called] = [item for item in final["output"] if item["type"] == "function_call"]
    assert (called["id"][:3], called["call_id"][:5]) == ("fc_", "call_")


def test_48_what_stands_between_a_calls_pieces_waits_for_the_last_of_them(remote: Remote):
    """vllm #52418"""
    begun = call(index=0, id="a", function={"name": "f", "arguments": '{"x":"}'})
    rest = call(index=0, function={"arguments": '{\\""}'})
    found = remote.says(begun, delta(reasoning_content="hm"), delta(content="So"), rest, delta(content=" be it"))
    assert found.said == ("hm", "So be it", (("f", {"x": '}{"'}),), "tool_calls")
    events = frames(ask(remote.server, "responses", True, "openai").body)
    assert [item["type"] for item in items(events, "done")] == ["function_call", "reasoning", "message"]


def test_48_calls_that_are_woven_into_each_other_come_one_after_another(remote: Remote):
    """vllm #55284"""
    begun = [call(index=index, id=name, function={"name": name, "arguments": ""}) for index, name in enumerate("fgh")]
    pieces = [call(index=index, function={"arguments": piece}) for piece in ('{"x":', "1}") for index in (1, 0)]
    found = remote.says(*begun, *pieces, finish("tool_calls"))
    assert found.calls == (("f", "f", {"x": 1}), ("g", "g", {"x": 1}), ("h", "h", {}))


def test_49_thoughts_are_items_with_a_part_each_time_they_come(remote: Remote):
    """litellm #12432"""
    chunks = (delta(reasoning_content="a"), delta(content="b")) * 2
    assert remote.says(*chunks).said == ("aa", "bb", (), "stop")
    response = check(ask(remote.server, "responses", True, "openai").body)
    told = [(item["type"], item["content"][0]["text"]) for item in response["output"]]
    assert told == [("reasoning", "a"), ("message", "b")] * 2


def test_50_the_sdk_sees_every_piece(remote: Remote):
    """gemini-web2api #57"""
    remote.upstream.reply = Reply(pieces=(sse(*CHUNKS),))
    with openai.OpenAI(base_url=f"{remote.server.base_url}/v1", api_key=remote.server.api_key) as client:
        with client.responses.stream(model="openai", input="hi") as stream:
            told = [event.type for event in stream]
            final = stream.get_final_response()
        assert {"response.output_text.delta", "response.function_call_arguments.delta"} <= set(told)
        whole = client.responses.create(model="openai", input="hi")
    assert final.output_text == whole.output_text == "a"
    assert [item.type for item in final.output] == [item.type for item in whole.output]
