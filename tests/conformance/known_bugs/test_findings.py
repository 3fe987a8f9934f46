"""KNOWN_BUGS, part F: what the SDKs themselves cannot bear, found with the real ones."""

import anthropic
import openai
import pytest
from anthropic import beta_tool

from tests.conformance.grammar import messages
from tests.conformance.remote import Remote
from tests.conformance.told import PATHS, ask
from tests.raw import post, request
from tests.scripted.server import ScriptedServer
from tests.scripted.upstream import Reply, delta, sse


def call(**fields):
    return delta(tool_calls=[fields])


@pytest.mark.parametrize("header", ["authorization", "x_api_key"])
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21", None])
def test_57_either_header_holds_the_key_and_the_path_tells_the_dialect(remote: Remote, header, version):
    server = remote.server
    key = {header: f"Bearer {server.api_key}" if header == "authorization" else server.api_key}
    versions = {} if version is None else {"anthropic_version": version}
    body = b'{"model":"echo","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    for path, kind in ((PATHS["messages"], "message"), (PATHS["chat"], "chat.completion")):
        answer = post(server.port, path, None, body, **key, **versions)
        assert kind in (answer.json.get("type"), answer.json.get("object"))
    listed = request(server.port, "GET", "/v1/models", **key, **versions).json["data"][0]
    assert ("display_name" in listed) == (version is not None)


def test_58_the_tool_runner_sends_the_whole_conversation_once_it_hears_that_threads_are_not_kept(
    server: ScriptedServer,
):
    @beta_tool
    def weather(city: str) -> str:
        """The weather."""
        return f"sunny in {city}"

    @beta_tool
    def clock() -> str:
        """The time."""
        return "noon"

    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client:
        ask = {"role": "user", "content": "what is it like"}
        runner = client.beta.messages.tool_runner(
            model="weather", max_tokens=64, tools=[weather, clock], messages=[ask]
        )
        final = runner.until_done()
    assert final.content[0].text == "noon"
    assert [message.role for message in server.engine.requests[1].messages] == ["user", "assistant", "tool", "tool"]
    assert len(server.charges()) == 2


def test_58_a_thread_is_refused_by_its_own_code_and_costs_nothing(server: ScriptedServer):
    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client:
        with pytest.raises(anthropic.BadRequestError) as refused:
            client.messages.create(
                model="echo",
                max_tokens=9,
                messages=[{"role": "user", "content": "hi"}],
                extra_body={"thread": {"type": "create"}},
            )
    error = refused.value.body["error"]
    assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert server.charges() == []


def test_59_roles_and_nulls_that_an_engine_repeats_reach_nobody(remote: Remote):
    pieces = [
        delta(role="assistant", content="a"),
        delta(role="assistant", content="b", tool_calls=None),
        call(index=0, id="c", type="function", function={"name": "f", "arguments": '{"x"'}),
        delta(role="assistant", tool_calls=[{"index": 0, "id": None, "type": None, "function": {"arguments": ":1}"}}]),
    ]
    assert remote.says(*pieces).said == ("", "ab", (("f", {"x": 1}),), "tool_calls")
    body = ask(remote.server, "chat", True, "openai").body
    assert body.count(b'"role"') == 1
    assert b'"type":null' not in body


def test_60_thoughts_have_a_part_and_keep_alives_are_comments(remote: Remote):
    remote.upstream.reply = Reply(pieces=(sse(delta(reasoning_content="hm"), delta(content="a")),))
    body = ask(remote.server, "responses", True, "openai").body
    assert body.index(b"response.content_part.added") < body.index(b"response.reasoning_text.delta")
    assert b"event: ping" not in body


def test_61_messages_end_with_usage_and_stop_whatever_the_engine_leaves_out(remote: Remote):
    remote.upstream.reply = Reply(pieces=(sse(delta(content="a"), done=False),))
    grammar = messages.check(ask(remote.server, "messages", True, "openai").body)
    assert (grammar.done, grammar.message["usage"]["output_tokens"]) == (True, 1)


def test_62_empty_data_and_pings_of_an_engine_reach_nobody(remote: Remote):
    text = sse(delta(content="a"), done=False)
    assert remote.sends(b"data:\n\ndata: \n\n" + text + b'event: ping\ndata: {"type":"ping"}\n\n' + sse()).text == "a"


def test_63_a_message_in_place_of_a_delta_is_read_and_never_written(remote: Remote):
    said = [{"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]} for text in ("a", "b")]
    last = {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": ""}]}
    assert remote.says(*said, last).said == ("", "ab", (), "stop")
    with openai.OpenAI(base_url=f"{remote.server.base_url}/v1", api_key=remote.server.api_key) as client:
        asked = {"model": "openai", "messages": [{"role": "user", "content": "hi"}]}
        with client.chat.completions.stream(**asked) as stream:
            assert stream.get_final_completion().choices[0].message.content == "ab"
