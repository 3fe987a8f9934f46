"""The body of `POST /v1/chat/completions` -> ChatRequest. Unknown fields are ignored, as both vendors do."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from leadline.chat.request import ChatRequest, Effort, JsonFormat, Tool, ToolChoice
from leadline.dialects.bounds import MOST_TOOLS
from leadline.dialects.openai.messages import WireMessage, to_messages
from leadline.dialects.openai.sampling import DrawnBody, sampling_of, stops_of
from leadline.errors import InvalidRequest


class Function(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class WireTool(msgspec.Struct):
    function: Function
    type: Literal["function"] = "function"


class NamedFunction(msgspec.Struct):
    name: str


class NamedTool(msgspec.Struct, tag_field="type", tag="function"):
    function: NamedFunction


class AllowedToolsOf(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=MOST_TOOLS)]


class AllowedTools(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedToolsOf


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchema(msgspec.Struct):
    schema: dict[str, Any]


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


class Body(DrawnBody, kw_only=True):
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[WireTool], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Meta(max_length=MOST_TOOLS)] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    reasoning_effort: Effort | None = None
    deferred: bool | None = None
    # What would change the answer and is not done, so it is refused by name.
    modalities: list[str] | None = None
    audio: Any = None
    search_parameters: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    chat_template: Any = None
    chat_template_kwargs: Any = None

    @property
    def speaks_of_functions(self) -> bool:
        """Whether it calls tools by the words before `tools`; the answer then does so too."""
        return bool(self.functions)


def to_request(body: Body) -> ChatRequest:
    """The request in our own words, or InvalidRequest."""
    _refuse_what_is_not_done(body)
    if body.deferred and body.stream:
        raise InvalidRequest("deferred excludes stream: a deferred answer is fetched whole, later.", "deferred")
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", "top_logprobs")
    tools = _tools(body)
    return ChatRequest(
        model=body.model,
        messages=to_messages(body.messages),
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        sampling=sampling_of(body),
        stop=stops_of(body),
        choices=body.n or 1,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        tools=tuple(_tool(function) for function in tools),
        tool_choice=_tool_choice(body, tools),
        parallel_tool_calls=body.parallel_tool_calls is not False and not body.functions,
        json_format=_json_format(body),
        effort=body.reasoning_effort,
    )


def _refuse_what_is_not_done(body: Body) -> None:
    refused = {
        "modalities": bool(body.modalities) and body.modalities != ["text"],
        "search_parameters": (body.search_parameters or {"mode": "off"}).get("mode") != "off",
        "web_search_options": body.web_search_options is not None,
        "audio": body.audio is not None,
        "chat_template": body.chat_template is not None,
        "chat_template_kwargs": bool(body.chat_template_kwargs),
    }
    for param, wanted in refused.items():
        if wanted:
            raise InvalidRequest(f"{param} is not supported by this model. Leave it out.", param)


def _tools(body: Body) -> list[Function]:
    if body.functions and body.tools:
        raise InvalidRequest("functions are what tools were called before: send tools only.", "functions")
    functions = body.functions or [tool.function for tool in body.tools or ()]
    if isinstance(body.tool_choice, AllowedTools):
        allowed = {tool.function.name for tool in body.tool_choice.allowed_tools.tools}
        if unknown := allowed - {function.name for function in functions}:
            param = "tool_choice.allowed_tools.tools"
            raise InvalidRequest(f"{param}: {min(unknown)[:200]!r} is not among the tools.", param)
        return [function for function in functions if function.name in allowed]
    return functions


def _tool(function: Function) -> Tool:
    return Tool(function.name, function.description or "", function.parameters or {}, bool(function.strict))


def _tool_choice(body: Body, tools: list[Function]) -> ToolChoice:
    choice = body.tool_choice
    if body.function_call is not None:
        return _function_choice(body, tools)
    if isinstance(choice, AllowedTools):
        return ToolChoice(choice.allowed_tools.mode)
    if choice in ("required",) and not tools:
        raise InvalidRequest("tool_choice asks for a tool, but there are no tools.", "tool_choice")
    if isinstance(choice, NamedTool):
        if choice.function.name not in {tool.name for tool in tools}:
            raise InvalidRequest("tool_choice names a tool that is not among the tools.", "tool_choice.function.name")
        return ToolChoice("named", choice.function.name)
    return ToolChoice(choice or "auto")


def _function_choice(body: Body, functions: list[Function]) -> ToolChoice:
    choice = body.function_call
    if body.tools or body.tool_choice is not None:
        raise InvalidRequest(
            "function_call is what tool_choice was called before: send tool_choice only.", "function_call"
        )
    if isinstance(choice, NamedFunction):
        if choice.name not in {function.name for function in functions}:
            raise InvalidRequest(
                "function_call names a function that is not among the functions.", "function_call.name"
            )
        return ToolChoice("named", choice.name)
    return ToolChoice("none" if choice == "none" else "auto")


def _json_format(body: Body) -> JsonFormat | None:
    match body.response_format:
        case JsonObjectFormat():
            return JsonFormat()
        case JsonSchemaFormat(json_schema):
            return JsonFormat(json_schema.schema)
        case _:
            return None
