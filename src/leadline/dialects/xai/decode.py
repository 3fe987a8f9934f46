"""GetCompletionsRequest -> ChatRequest. Unknown fields are ignored, as protobuf does."""

from typing import Any, Literal

from leadline.chat.request import ChatRequest, Effort, JsonFormat, Message, Tool, ToolChoice
from leadline.dialects.bounds import MOST_TOOLS
from leadline.dialects.xai.fields import (
    choices_of,
    model_of,
    optional,
    sampling_of,
    stops_of,
    top_logprobs_of,
    whole_number,
    word_of,
)
from leadline.dialects.xai.protos import chat
from leadline.errors import InvalidRequest
from leadline.web.strict_json import parse

_LONGEST_TOOL_NAME = 200
_MOST_LOGPROBS = 20
# The most that `max_tokens` can be on the wire.
_MOST_TOKENS = 2**31 - 1
_EFFORTS: dict[int, Effort | None] = {
    chat.INVALID_EFFORT: None,
    chat.EFFORT_NONE: "none",
    chat.EFFORT_LOW: "low",
    chat.EFFORT_MEDIUM: "medium",
    chat.EFFORT_HIGH: "high",
    chat.EFFORT_XHIGH: "xhigh",
}
_MODES: dict[int, Literal["auto", "none", "required"]] = {
    chat.TOOL_MODE_INVALID: "auto",
    chat.TOOL_MODE_AUTO: "auto",
    chat.TOOL_MODE_NONE: "none",
    chat.TOOL_MODE_REQUIRED: "required",
}
_FORMATS = {
    chat.FORMAT_TYPE_INVALID: "text",
    chat.FORMAT_TYPE_TEXT: "text",
    chat.FORMAT_TYPE_JSON_OBJECT: "json",
    chat.FORMAT_TYPE_JSON_SCHEMA: "schema",
}
# What the money path and the engines call a field -> what it is called here.
FIELDS = {"response_format.json_schema.schema": "response_format.schema"}


def to_request(wire: Any, messages: tuple[Message, ...]) -> ChatRequest:
    """The request in our own words, or InvalidRequest. Its `messages` were decoded before."""
    _refuse_what_is_not_done(wire)
    tools = tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(wire.tools))
    if len(tools) > MOST_TOOLS:
        raise InvalidRequest(f"tools has {len(tools)} entries, more than {MOST_TOOLS}.", "tools")
    return ChatRequest(
        model=model_of(wire),
        messages=messages,
        max_output_tokens=whole_number(wire, "max_tokens", 1, _MOST_TOKENS),
        sampling=sampling_of(wire),
        stop=stops_of(wire.stop),
        choices=choices_of(wire),
        top_logprobs=top_logprobs_of(wire, _MOST_LOGPROBS),
        tools=tools,
        tool_choice=_tool_choice(wire, tools),
        parallel_tool_calls=optional(wire, "parallel_tool_calls") is not False,
        json_format=_json_format(wire),
        effort=_effort(wire),
    )


def _refuse_what_is_not_done(wire: Any) -> None:
    """What would change the answer and is not done is refused by name."""
    mode = wire.search_parameters.mode if wire.HasField("search_parameters") else chat.OFF_SEARCH_MODE
    refused = {
        "search_parameters": mode not in (chat.OFF_SEARCH_MODE, chat.INVALID_SEARCH_MODE),
        "agent_count": bool(optional(wire, "agent_count")),
        "guidelines": bool(wire.guidelines),
    }
    for param, wanted in refused.items():
        if wanted:
            raise InvalidRequest(f"{param} is not supported by this model. Leave it out.", param)


def _tool(wire: Any, at: str) -> Tool:
    kind = wire.WhichOneof("tool")
    if kind != "function":
        what = "is empty" if kind is None else f"is a {kind} tool, which runs on no server here"
        raise InvalidRequest(f"{at} {what}. Send function tools, and run them yourself.", at)
    function = wire.function
    if not 0 < len(function.name) <= _LONGEST_TOOL_NAME:
        raise InvalidRequest(
            f"{at}.function.name must have 1 to {_LONGEST_TOOL_NAME} characters.", f"{at}.function.name"
        )
    parameters = _schema(function.parameters, f"{at}.function.parameters") if function.parameters else {}
    return Tool(function.name, function.description, parameters, function.strict)


def _schema(text: str, at: str) -> dict[str, Any]:
    try:
        schema = parse(text.encode())
    except InvalidRequest as error:
        raise InvalidRequest(str(error).replace("The body", at), at) from None
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{at} must be the JSON text of an object, a JSON Schema.", at)
    return schema


def _tool_choice(wire: Any, tools: tuple[Tool, ...]) -> ToolChoice:
    choice = wire.tool_choice
    if choice.WhichOneof("tool_choice") == "function_name":
        if choice.function_name not in {tool.name for tool in tools}:
            at = "tool_choice.function_name"
            raise InvalidRequest(f"{at} names a tool that is not among the tools.", at)
        return ToolChoice("named", choice.function_name)
    mode = word_of(choice.mode, _MODES, "tool_choice.mode")
    if mode == "required" and not tools:
        raise InvalidRequest("tool_choice asks for a tool, but there are no tools.", "tool_choice")
    return ToolChoice(mode)


def _json_format(wire: Any) -> JsonFormat | None:
    wanted = wire.response_format
    form = word_of(wanted.format_type, _FORMATS, "response_format.format_type")
    if form == "schema":
        if not wanted.schema:
            raise InvalidRequest("response_format.schema is missing.", "response_format.schema")
        return JsonFormat(_schema(wanted.schema, "response_format.schema"))
    return JsonFormat() if form == "json" else None


def _effort(wire: Any) -> Effort | None:
    return word_of(wire.reasoning_effort, _EFFORTS, "reasoning_effort")
