"""Every field of a request for a completion, as its descriptor lists them: honoured, refused by name, or without
effect. A field that nobody thought of fails."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadline.chat.request import (
    ChatRequest,
    Image,
    JsonFormat,
    Message,
    Reasoning,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from leadline.dialects.xai.protos import chat, embed, sample, usage
from leadline.dialects.xai.protos import image as images
from tests.conformance.xai.questions import NOBODY, ask, said
from tests.conformance.xai.rpcs import Outcome, bearer, call, plain_channel
from tests.scripted.engine import SCRIPTS, ScriptedEngine, echo
from tests.scripted.server import ScriptedServer

SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}}}'
WEATHER = chat.Tool(function=chat.Function(name="weather", description="Of a city", parameters=SCHEMA, strict=True))
CLOCK = chat.Tool(function=chat.Function(name="clock"))


@dataclass(frozen=True)
class Honoured:
    """The fields that are set, and what of the engine's request they must make of what is there without them."""

    fields: dict[str, Any]
    seen: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """The value, and the word by which it is refused; at another value it is without effect."""

    value: Any
    harmless: Any = None


@dataclass(frozen=True)
class WithoutEffect:
    value: Any


FORMAT = chat.ResponseFormat(format_type=chat.FORMAT_TYPE_JSON_SCHEMA, schema=SCHEMA)
WITH_TOOLS = {"tools": [WEATHER, CLOCK]}
TOOLS = (
    Tool("weather", "Of a city", {"type": "object", "properties": {"city": {"type": "string"}}}, strict=True),
    Tool("clock"),
)
FIELDS: dict[str, list[Honoured | Refused | WithoutEffect]] = {
    "messages": [
        Honoured({"messages": [said("a b")]}, {"messages": (Message("user", (Text("a b"),)),)}),
    ],
    "model": [Honoured({"model": "echo-latest"}, {"model": "echo"})],
    "n": [Honoured({"n": 3}, {})],
    "max_tokens": [Honoured({"max_tokens": 4}, {"max_output_tokens": 4})],
    "seed": [Honoured({"seed": 7}, {"sampling": Sampling(seed=7)})],
    "stop": [Honoured({"stop": ["x", "ÿ"]}, {"stop": ("x", "ÿ")})],
    "temperature": [Honoured({"temperature": 0.7}, {"sampling": Sampling(temperature=0.7)})],
    "top_p": [Honoured({"top_p": 0.9}, {"sampling": Sampling(top_p=0.9)})],
    "logprobs": [Honoured({"logprobs": True}, {"top_logprobs": 0})],
    "top_logprobs": [Honoured({"logprobs": True, "top_logprobs": 3}, {"top_logprobs": 3})],
    "tools": [Honoured(WITH_TOOLS, {"tools": TOOLS})],
    "tool_choice": [
        Honoured(
            WITH_TOOLS | {"tool_choice": chat.ToolChoice(mode=mode)}, {"tools": TOOLS, "tool_choice": ToolChoice(word)}
        )
        for mode, word in (
            (chat.TOOL_MODE_NONE, "none"),
            (chat.TOOL_MODE_REQUIRED, "required"),
            (chat.TOOL_MODE_AUTO, "auto"),
        )
    ]
    + [
        Honoured(
            WITH_TOOLS | {"tool_choice": chat.ToolChoice(function_name="clock")},
            {"tools": TOOLS, "tool_choice": ToolChoice("named", "clock")},
        ),
    ],
    "parallel_tool_calls": [Honoured({"parallel_tool_calls": False}, {"parallel_tool_calls": False})],
    "response_format": [
        Honoured({"response_format": chat.ResponseFormat(format_type=chat.FORMAT_TYPE_TEXT)}, {}),
        Honoured(
            {"response_format": chat.ResponseFormat(format_type=chat.FORMAT_TYPE_JSON_OBJECT)},
            {"json_format": JsonFormat()},
        ),
        Honoured(
            {"response_format": FORMAT},
            {"json_format": JsonFormat({"type": "object", "properties": {"city": {"type": "string"}}})},
        ),
    ],
    "frequency_penalty": [Honoured({"frequency_penalty": 0.3}, {"sampling": Sampling(frequency_penalty=0.3)})],
    "presence_penalty": [Honoured({"presence_penalty": -1.1}, {"sampling": Sampling(presence_penalty=-1.1)})],
    "reasoning_effort": [
        Honoured({"reasoning_effort": effort}, {"effort": word})
        for effort, word in (
            (chat.EFFORT_NONE, "none"),
            (chat.EFFORT_LOW, "low"),
            (chat.EFFORT_MEDIUM, "medium"),
            (chat.EFFORT_HIGH, "high"),
            (chat.EFFORT_XHIGH, "xhigh"),
        )
    ],
    "search_parameters": [
        Refused(
            chat.SearchParameters(mode=mode), chat.SearchParameters(mode=chat.OFF_SEARCH_MODE, return_citations=True)
        )
        for mode in (chat.ON_SEARCH_MODE, chat.AUTO_SEARCH_MODE)
    ],
    "agent_count": [Refused(chat.AGENT_COUNT_4, chat.AGENT_COUNT_UNSPECIFIED)],
    "guidelines": [
        Refused([chat.Guideline(policy=chat.PolicyGuideline(category=1, behavior=chat.GUIDELINE_BEHAVIOR_DECLINE))])
    ],
    # Of stored answers and thoughts, tests of their own tell what they do.
    "previous_response_id": [Refused(NOBODY)],
    "store_messages": [WithoutEffect(True)],
    "use_encrypted_content": [WithoutEffect(True)],
    "user": [WithoutEffect("mara")],
    "max_turns": [WithoutEffect(3)],
    "include": [WithoutEffect([chat.INCLUDE_OPTION_VERBOSE_STREAMING, chat.INCLUDE_OPTION_MCP_CALL_OUTPUT])],
    "service_tier": [WithoutEffect(usage.SERVICE_TIER_PRIORITY)],
    "safety_identifier": [WithoutEffect("mara")],
}
CASES = [(name, case) for name, cases in FIELDS.items() for case in cases]


def get_completion(server: ScriptedServer, channel: Any, *messages: Any, **fields: Any) -> Outcome:
    path = "/xai_api.Chat/GetCompletion"
    asked = ask(**({"messages": list(messages)} if messages else {}) | fields)
    return call(channel, path, [asked], bearer(server.api_key))


def test_every_field_of_the_descriptor_is_among_them():
    assert FIELDS.keys() == set(chat.GetCompletionsRequest.DESCRIPTOR.fields_by_name)


def test_every_field_is_in_the_documentation():
    page = (Path(__file__).parents[3] / "docs" / "grpc.md").read_text("utf-8")
    assert [name for name in FIELDS if f"`{name}`" not in page] == []


def test_every_field_is_honoured_refused_by_name_or_without_effect(server, channel):
    plain = {"model": "echo", "messages": (Message("user", (Text("hi"),)),), "max_output_tokens": 9}
    for name, case in CASES:
        server.engine.requests.clear()
        match case:
            case Honoured(fields, seen):
                outcome = get_completion(server, channel, **fields)
                assert outcome.code == "OK", (name, outcome)
                asked = ChatRequest(**plain | seen)
                assert [one for one in server.engine.requests if one != asked] == [], name
                assert len(server.engine.requests) == fields.get("n", 1)
            case Refused(value, harmless):
                outcome = get_completion(server, channel, **{name: value})
                code = "NOT_FOUND" if name == "previous_response_id" else "INVALID_ARGUMENT"
                assert (outcome.code, name in outcome.details) == (code, True), outcome
                assert server.engine.requests == []
                if harmless is not None:
                    assert get_completion(server, channel, **{name: harmless}).code == "OK"
            case WithoutEffect(value):
                assert get_completion(server, channel, **{name: value}).code == "OK"
                assert server.engine.requests == [ChatRequest(**plain)], name


OUT_OF_RANGE: list[tuple[dict[str, Any], str]] = [
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": -(2**31)}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"top_p": float("inf")}, "top_p"),
    ({"frequency_penalty": float("-inf")}, "frequency_penalty"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stop": ["x"] * 9}, "stop"),
    ({"stop": ["x", ""]}, "stop[1]"),
    ({"stop": ["x" * 257]}, "stop[0]"),
    ({"model": ""}, "model"),
    ({"model": "m" * 300}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [chat.Message(content=[chat.Content(text="x")])]}, "messages[0].role"),
    ({"messages": [chat.Message(role=99, content=[chat.Content(text="x")])]}, "messages[0].role"),
    ({"messages": [chat.Message(role=chat.ROLE_USER)]}, "messages[0].content"),
    ({"messages": [chat.Message(role=chat.ROLE_USER, content=[chat.Content()])]}, "messages[0].content[0]"),
    ({"messages": [chat.Message(role=chat.ROLE_TOOL, content=[chat.Content(text="x")])]}, "messages[0]"),
    ({"tools": [chat.Tool()]}, "tools[0]"),
    ({"tools": [WEATHER, chat.Tool(web_search=chat.WebSearch())]}, "tools[1]"),
    ({"tools": [chat.Tool(mcp=chat.MCP(server_url="http://127.0.0.1"))]}, "tools[0]"),
    ({"tools": [WEATHER] * 351}, "tools"),
    ({"tools": [chat.Tool(function=chat.Function(name="f" * 201))]}, "tools[0].function.name"),
    ({"tools": [chat.Tool(function=chat.Function(name="f", parameters="{"))]}, "tools[0].function.parameters"),
    ({"tools": [chat.Tool(function=chat.Function(name="f", parameters="[1]"))]}, "tools[0].function.parameters"),
    (
        {"tools": [chat.Tool(function=chat.Function(name="f", parameters='{"a":' * 70 + "1" + "}" * 70))]},
        "tools[0].function.parameters",
    ),
    ({"tool_choice": chat.ToolChoice(mode=chat.TOOL_MODE_REQUIRED)}, "tool_choice"),
    ({"tool_choice": chat.ToolChoice(mode=99), "tools": [CLOCK]}, "tool_choice.mode"),
    ({"tool_choice": chat.ToolChoice(function_name="nothing"), "tools": [CLOCK]}, "tool_choice.function_name"),
    ({"response_format": chat.ResponseFormat(format_type=3)}, "response_format.schema"),
    ({"response_format": chat.ResponseFormat(format_type=3, schema="no JSON")}, "response_format.schema"),
    ({"response_format": chat.ResponseFormat(format_type=3, schema='{"a":1,"a":2}')}, "response_format.schema"),
    ({"response_format": chat.ResponseFormat(format_type=99)}, "response_format.format_type"),
    ({"reasoning_effort": 99}, "reasoning_effort"),
    ({"search_parameters": chat.SearchParameters(mode=99)}, "search_parameters"),
]


def test_what_is_out_of_its_range_is_refused_by_name_and_costs_nothing(server, channel):
    for fields, param in OUT_OF_RANGE:
        outcome = get_completion(server, channel, **fields)
        assert outcome.code == "INVALID_ARGUMENT", (param, outcome)
        assert param in outcome.details
        assert outcome.trailing["x-should-retry"] == "false"
    assert (server.engine.requests, server.charges(), server.balance().held_ticks) == ([], [], 0)


# Messages


def test_every_kind_of_message_reaches_the_engine_as_it_was_said(server, channel):
    called = chat.ToolCall(id="c1", function=chat.FunctionCall(name="weather", arguments='{"city":"Oslo"}'))
    other = chat.ToolCall(id="c2", function=chat.FunctionCall(name="clock", arguments=""))
    text = [chat.Content(text="hm")]
    outcome = get_completion(
        server,
        channel,
        chat.Message(role=chat.ROLE_SYSTEM, content=text),
        chat.Message(role=chat.ROLE_DEVELOPER, content=text),
        chat.Message(role=chat.ROLE_USER, content=[*text, chat.Content(text="so")], name="mara"),
        chat.Message(
            role=chat.ROLE_ASSISTANT,
            content=[chat.Content(text="")],
            reasoning_content="well",
            tool_calls=[called, other],
        ),
        chat.Message(role=chat.ROLE_TOOL, content=text, tool_call_id="c2"),
        chat.Message(role=chat.ROLE_FUNCTION, content=[chat.Content(text="rain")]),
        chat.Message(role=chat.ROLE_ASSISTANT, content=[chat.Content(text="Rain.")]),
        chat.Message(
            role=chat.ROLE_USER,
            content=[chat.Content(file=chat.FileContent(data="größe\n".encode(), filename="a.txt"))],
        ),
    )
    assert outcome.code == "OK", outcome
    [request] = server.engine.requests
    hm = Text("hm")
    assert request.messages == (
        Message("system", (hm,)),
        Message("system", (hm,)),
        Message("user", (hm, Text("so")), "mara"),
        Message(
            "assistant",
            (Reasoning("well"), ToolCall("c1", "weather", '{"city":"Oslo"}'), ToolCall("c2", "clock", "{}")),
        ),
        Message("tool", (ToolResult("c2", (hm,)),)),
        Message("tool", (ToolResult("c1", (Text("rain"),)),)),
        Message("assistant", (Text("Rain."),)),
        Message("user", (Text("File a.txt:\ngröße\n"),)),
    )


# As we write it, so that decoding changes nothing.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4AWNo+N8AAAQCAgC7yg/iAAAAAElFTkSuQmCC"
)


def picture(detail: int = images.DETAIL_HIGH, **source: str) -> Any:
    content = chat.Content(image_url=images.ImageUrlContent(detail=detail, **source or {"image_url": PIXEL}))
    return chat.Message(role=chat.ROLE_USER, content=[content])


def test_an_image_is_refused_by_a_model_that_cannot_see(server, channel):
    outcome = get_completion(server, channel, picture())
    assert (outcome.code, "cannot see images" in outcome.details) == ("INVALID_ARGUMENT", True)
    assert server.engine.requests == []


def test_an_image_reaches_the_engine_of_a_model_that_sees(tmp_path):
    eyes = ScriptedEngine({"eyes": echo})
    server = ScriptedServer(tmp_path / "data", scripts={"echo": SCRIPTS["echo"]}, engines={"eyes": eyes})
    with plain_channel(server.grpc_address) as channel:
        for detail, word in (
            (images.DETAIL_HIGH, "high"),
            (images.DETAIL_LOW, "low"),
            (images.DETAIL_AUTO, "auto"),
            (images.DETAIL_INVALID, "auto"),
        ):
            assert get_completion(server, channel, picture(detail), model="eyes").code == "OK"
            assert eyes.requests[-1].messages == (Message("user", (Image(PIXEL, word),)),)
        for wrong in (picture(99), picture(file_id="file_1"), picture(image_url="")):
            outcome = get_completion(server, channel, wrong, model="eyes")
            assert (outcome.code, "messages[0].content[0].image_url" in outcome.details) == ("INVALID_ARGUMENT", True)
    server.stop()


BAD_FILES: list[tuple[dict[str, Any], str]] = [
    ({}, "is empty"),
    ({"url": "http://127.0.0.1/x"}, "file.url"),
    ({"data": b"%PDF-1.7\x00\xff"}, "no text"),
    ({"data": b"a\x00b"}, "no text"),
    ({"data": b"x" * (1024 * 1024 + 1)}, "larger than the 1 MiB"),
]


def test_a_file_that_cannot_be_read_is_refused_by_name(server, channel):
    for file, words in BAD_FILES:
        message = chat.Message(role=chat.ROLE_USER, content=[chat.Content(file=chat.FileContent(**file))])
        outcome = get_completion(server, channel, message)
        assert outcome.code == "INVALID_ARGUMENT"
        assert "messages[0].content[0].file" in outcome.details
        assert words in outcome.details


def test_a_decimal_is_the_one_that_was_written(server, channel):
    """On the wire it has 32 bits."""
    for temperature in (0.1, 0.7, 1.1, 1e-6, 0.333333, 2.0):
        assert get_completion(server, channel, temperature=temperature).code == "OK"
        assert server.engine.requests[-1].sampling.temperature == temperature


BAD_PROMPTS: list[tuple[Any, str]] = [
    (sample.SampleTextRequest(model="echo"), "prompt"),
    (sample.SampleTextRequest(model="echo", prompt=["a", ""]), "prompt[1]"),
    (sample.SampleTextRequest(model="echo", prompt=["a"] * 129), "prompt"),
    (sample.SampleTextRequest(model="echo", prompt=["a"] * 3, n=64), "prompt"),
    (sample.SampleTextRequest(model="echo", prompt=["a"], logprobs=True), "logprobs"),
    (sample.SampleTextRequest(model="echo", prompt=["a"], temperature=float("nan")), "temperature"),
    (sample.SampleTextRequest(prompt=["a"]), "model"),
]
BAD_INPUTS: list[tuple[Any, str]] = [
    (embed.EmbedRequest(model="embed"), "input"),
    (embed.EmbedRequest(model="embed", input=[embed.EmbedInput(string="a"), embed.EmbedInput()]), "input[1]"),
    (
        embed.EmbedRequest(model="embed", input=[embed.EmbedInput(image_url=images.ImageUrlContent(image_url=PIXEL))]),
        "input[0].image_url",
    ),
    (
        embed.EmbedRequest(model="embed", input=[embed.EmbedInput(string="a")], encoding_format=99),
        "encoding_format",
    ),
]


def test_a_plain_prompt_that_makes_no_sense_is_refused_by_name(server, channel):
    methods = {
        "Sample/SampleText": BAD_PROMPTS,
        "Sample/SampleTextStreaming": BAD_PROMPTS,
        "Embedder/Embed": BAD_INPUTS,
    }
    for service, bad in methods.items():
        for asked, param in bad:
            outcome = call(channel, f"/xai_api.{service}", [asked], bearer(server.api_key))
            assert (outcome.code, param in outcome.details) == ("INVALID_ARGUMENT", True), outcome
    assert server.engine.requests == []
