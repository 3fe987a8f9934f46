"""Parameters of chats and responses that change the answer reach the engine, in the words of each dialect."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.raw import post
from tests.scripted.server import ScriptedServer

ASK = [{"role": "user", "content": "what is the answer"}]
FUNCTIONS = [{"name": name, "parameters": {"type": "object"}} for name in ("weather", "clock")]
TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS]
FLAT_TOOLS = [{"type": "function", "strict": False} | function for function in FUNCTIONS]


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_called_in_the_words_before_tools(server, client, stream):
    ask = {"model": "weather", "messages": ASK, "functions": FUNCTIONS, "function_call": "auto"}
    if stream:
        chunks = list(client.chat.completions.create(**ask, stream=True))
        deltas = [chunk.choices[0].delta for chunk in chunks]
        [call] = [delta.function_call for delta in deltas if delta.function_call]
        reason = chunks[-1].choices[0].finish_reason
        assert all(delta.tool_calls is None for delta in deltas)
    else:
        choice = client.chat.completions.create(**ask).choices[0]
        call, reason = choice.message.function_call, choice.finish_reason
        assert choice.message.tool_calls is None
    assert (call.name, call.arguments, reason) == ("weather", '{"city":"Paris"}', "function_call")
    [request] = server.engine.requests
    assert [tool.name for tool in request.tools] == ["weather", "clock"]
    assert (request.tool_choice.mode, request.parallel_tool_calls) == ("auto", False)


@pytest.mark.parametrize(("choice", "mode", "name"), [("none", "none", None), ({"name": "clock"}, "named", "clock")])
def test_function_call_is_a_tool_choice(server, client, choice, mode, name):
    client.chat.completions.create(model="echo", messages=ASK, functions=FUNCTIONS, function_call=choice)
    chosen = server.engine.requests[0].tool_choice
    assert (chosen.mode, chosen.name) == (mode, name)


def test_the_result_of_a_function_is_that_of_its_call(server, client):
    called = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    result = {"role": "function", "name": "weather", "content": "sunny"}
    messages = [*ASK, called, result, called, result | {"content": "still sunny"}]
    answer = client.chat.completions.create(model="weather", messages=messages, functions=FUNCTIONS)
    assert answer.choices[0].message.content == "still sunny"
    [request] = server.engine.requests
    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    calls, results = ([request.messages[i].content[0] for i in places] for places in ((1, 3), (2, 4)))
    assert [call.name for call in calls] == ["weather"] * 2
    assert [call.call_id for call in calls] == [result.call_id for result in results]
    assert len({call.call_id for call in calls}) == 2
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="weather", messages=[*ASK, called, result, result], functions=FUNCTIONS)
    assert refused.value.param == "messages[3].name"


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_allowed_tools_are_those_that_may_be_called(server, client, mode):
    named = [{"type": "function", "function": {"name": "clock"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}
    client.chat.completions.create(model="echo", messages=ASK, tools=TOOLS, tool_choice=choice)
    flat = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "clock"}]}
    response = client.responses.create(model="echo", input="hi", tools=FLAT_TOOLS, tool_choice=flat)
    for request in server.engine.requests:
        assert ([tool.name for tool in request.tools], request.tool_choice.mode) == (["clock"], mode)
    assert response.tool_choice.to_dict() == flat
    assert [tool.name for tool in response.tools] == ["weather", "clock"]


def test_sampling_reaches_the_engine(server, client):
    more = {"top_k": 3, "min_p": 0.125}
    client.chat.completions.create(model="echo", messages=ASK, logit_bias={"5": -100, "6": 1}, extra_body=more)
    client.responses.create(model="echo", input="hi", extra_body=more)
    chat, response = (request.sampling for request in server.engine.requests)
    assert (chat.top_k, chat.min_p, chat.logit_bias) == (3, 0.125, ((5, -100), (6, 1)))
    assert (response.top_k, response.min_p) == (3, 0.125)
    body = {"model": "echo", "max_tokens": 9, "messages": ASK, "top_k": 0}
    assert post(server.port, "/v1/messages", server.api_key, json.dumps(body).encode()).status == 200
    assert server.engine.requests[-1].sampling.top_k == 0


def test_max_completion_tokens_wins(server, client):
    client.chat.completions.create(model="echo", messages=ASK, max_tokens=3, max_completion_tokens=2)
    assert server.engine.requests[0].max_output_tokens == 2


@pytest.mark.parametrize("part", ["input_audio", "file"])
def test_parts_that_no_model_here_reads_are_refused_by_name(server, part):
    body = {"model": "echo", "messages": [{"role": "user", "content": [{"type": part, part: {}}]}]}
    answer = post(server.port, "/v1/chat/completions", server.api_key, json.dumps(body).encode())
    assert (answer.status, answer.json["error"]["param"]) == (400, "messages[0].content[0].type")


async def test_the_async_client_calls_functions_too(server):
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as client:
        answer = await client.chat.completions.create(model="weather", messages=ASK, functions=FUNCTIONS)
    assert answer.choices[0].message.function_call.name == "weather"


def test_json_is_asked_for_in_messages(server):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = {"model": "echo", "max_tokens": 9, "messages": ASK}
    body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    assert post(server.port, "/v1/messages", server.api_key, json.dumps(body).encode()).status == 200
    assert server.engine.requests[0].json_format.schema == schema
