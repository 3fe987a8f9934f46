"""`POST /v1/complete`, which the newest Anthropic SDK has no words for, over raw HTTP."""

import json
import re

import pytest

from tests.raw import post

PATH = "/v1/complete"
ASK = {"model": "echo-latest", "prompt": "\n\nHuman: what is the answer\n\nAssistant:", "max_tokens_to_sample": 9}


def ask(server, **more):
    return post(server.port, PATH, server.api_key, json.dumps(ASK | more).encode())


def events(body: bytes) -> list[tuple[str, dict]]:
    return [(name.decode(), json.loads(data)) for name, data in re.findall(rb"event: (\w+)\ndata: (.*)\n\n", body)]


def test_a_whole_completion_costs_what_its_usage_says(server):
    answer = ask(server, metadata={"user_id": "u"})
    assert answer.status == 200, answer.body
    told = answer.json
    [charge] = server.charges()
    assert (told["type"], told["completion"], told["model"]) == ("completion", "what is the answer", "echo")
    assert (told["stop_reason"], told["stop"]) == ("stop_sequence", None)
    assert told["id"] == told["log_id"] == charge.request_id == answer.headers["request-id"]
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (4, 4)
    assert -charge.amount_ticks == told["usage"]["cost_in_usd_ticks"] == 120_000


def test_a_stream_is_the_whole_completion_in_pieces(server):
    told = events(ask(server, stream=True).body)
    assert {name for name, _ in told} == {"completion", "ping"}
    pieces = [data for name, data in told if name == "completion"]
    assert "".join(piece["completion"] for piece in pieces) == "what is the answer"
    assert [piece["stop_reason"] for piece in pieces] == [None] * 4 + ["stop_sequence"]
    assert len({(piece["id"], piece["model"], piece["type"]) for piece in pieces}) == 1
    [charge] = server.charges()
    assert -charge.amount_ticks == pieces[-1]["usage"]["cost_in_usd_ticks"] == 120_000


def test_the_prompts_turns_are_messages_and_what_stands_before_them_the_system_prompt(server):
    prompt = "Be brief.\n\nHuman: One?\n\nAssistant: Two.\n\nHuman: Three:\n\nor four?\n\nAssistant: Well,"
    ask(server, prompt=prompt, temperature=0.5, top_p=0.25, top_k=3)
    [request] = server.engine.requests
    assert [(message.role, message.content[0].text) for message in request.messages] == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "Two."),
        ("user", "Three:\n\nor four?"),
        ("assistant", "Well,"),
    ]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, request.effort) == (0.5, 0.25, 3, "none")
    assert request.prompts == ()
    assert request.stop == ("\n\nHuman:",)


@pytest.mark.parametrize("stream", [False, True])
def test_why_it_ended_is_told(server, stream):
    def end(**more):
        answer = ask(server, stream=stream, **more)
        last = events(answer.body)[-1][1] if stream else answer.json
        return last["stop_reason"], last["stop"]

    assert end(max_tokens_to_sample=1) == ("max_tokens", None)
    assert end(stop_sequences=["answer", "the"]) == ("stop_sequence", "the")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"prompt": "what"}, "prompt"),
        ({"prompt": "\n\nHuman: what"}, "prompt"),
        ({"prompt": "\n\nAssistant: what"}, "prompt"),
        ({"prompt": "\n\nHuman:\n\nAssistant:"}, "prompt"),
        ({"max_tokens_to_sample": None}, "max_tokens_to_sample"),
        ({"max_tokens_to_sample": 0}, "max_tokens_to_sample"),
        ({"stop_sequences": ["a"] * 9}, "stop_sequences"),
        ({"top_k": -1}, "top_k"),
        ({"temperature": 3}, "temperature"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_refused_by_name_in_anthropics_shape(server, more, field, stream):
    answer = ask(server, stream=stream, **more)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert field in answer.json["error"]["message"]
    assert server.engine.requests == []


def test_a_stream_that_breaks_ends_in_an_error_event(server):
    *_, (name, error) = events(ask(server, model="broken-after", stream=True).body)
    assert (name, error["error"]["type"]) == ("error", "api_error")
