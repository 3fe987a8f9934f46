"""The body of `POST /v1/chat/completions` -> ChatRequest. Unknown fields are ignored, as both vendors do."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from leadline.chat.request import (
    Block,
    ChatRequest,
    Effort,
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
from leadline.dialects.tool_arguments import arguments_of
from leadline.errors import InvalidRequest
from leadline.ids import new_uuid

MOST_TOOLS = 350
MOST_STOPS = 8
MOST_CHOICES = 128
MOST_BIASES = 1024
Stop = Annotated[str, Meta(min_length=1, max_length=256)]
Tokens = Annotated[int, Meta(ge=1, le=2**31)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class ImageUrl(msgspec.Struct):
    url: Annotated[str, Meta(min_length=1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class FunctionCall(msgspec.Struct):
    name: str
    arguments: str = ""


class WireToolCall(msgspec.Struct):
    function: FunctionCall
    id: str | None = None


class SystemMessage(msgspec.Struct, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class FunctionMessage(msgspec.Struct, tag_field="role", tag="function"):
    """The result of a call in the words before `tools`: it has no id, only the function's name."""

    name: str
    content: str | None = None


class UserMessage(msgspec.Struct, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart]
    name: str | None = None


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[WireToolCall] | None = None
    function_call: FunctionCall | None = None
    name: str | None = None


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool"):
    content: str | list[TextPart | ImagePart]
    tool_call_id: str


WireMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


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


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchema(msgspec.Struct):
    schema: dict[str, Any]


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


class Body(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=MOST_STOPS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[WireTool], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Meta(max_length=MOST_TOOLS)] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    reasoning_effort: Effort | None = None
    logit_bias: dict[str, float] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    deferred: bool | None = None
    # What would change the answer and is not done, so it is refused by name.
    modalities: list[str] | None = None
    audio: Any = None
    search_parameters: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    chat_template: Any = None
    chat_template_kwargs: Any = None

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

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
    sampling = Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        top_k=body.top_k,
        min_p=body.min_p,
        logit_bias=logit_bias_of(body.logit_bias),
    )
    tools = _tools(body)
    return ChatRequest(
        model=body.model,
        messages=_messages(body.messages),
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        sampling=sampling,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
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


def logit_bias_of(bias: dict[str, float] | None) -> tuple[tuple[int, float], ...]:
    param = "logit_bias"
    if len(bias or ()) > MOST_BIASES:
        raise InvalidRequest(f"{param} has more than {MOST_BIASES} tokens.", param)
    for token_id, value in (bias or {}).items():
        if not (token_id.isascii() and token_id.isdigit() and len(token_id) < 10):
            raise InvalidRequest(f"{param}: {token_id[:100]!r} is not the id of a token.", param)
        if not -100 <= value <= 100:
            raise InvalidRequest(f"{param}: the bias of token {token_id} must be from -100 to 100.", param)
    return tuple((int(token_id), value) for token_id, value in (bias or {}).items())


def _messages(wire: list[WireMessage]) -> tuple[Message, ...]:
    """The result of a function is that of the latest call of this function that has none yet."""
    messages: list[Message] = []
    open_calls: dict[str, str] = {}
    for i, message in enumerate(wire):
        if isinstance(message, FunctionMessage):
            call_id = open_calls.pop(message.name, None)
            if call_id is None:
                raise InvalidRequest(
                    f"messages[{i}].name is not a function that was called before.", f"messages[{i}].name"
                )
            messages.append(Message("tool", (ToolResult(call_id, (Text(message.content or ""),)),)))
            continue
        messages.append(_message(message, f"messages[{i}]"))
        if isinstance(message, AssistantMessage) and message.function_call is not None:
            call = messages[-1].content[-1]
            assert isinstance(call, ToolCall)
            open_calls[call.name] = call.call_id
    return tuple(messages)


def _message(
    message: SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage, at: str
) -> Message:
    match message:
        case SystemMessage() | DeveloperMessage():
            return Message("system", _blocks(message.content, at), message.name)
        case UserMessage():
            return Message("user", _blocks(message.content, at), message.name)
        case ToolMessage():
            content = tuple(block for block in _blocks(message.content, at) if isinstance(block, Text | Image))
            return Message("tool", (ToolResult(message.tool_call_id, content),))
        case AssistantMessage():
            return Message("assistant", _said(message, at), message.name)


def _said(message: AssistantMessage, at: str) -> tuple[Block, ...]:
    reasoning = (Reasoning(message.reasoning_content),) if message.reasoning_content else ()
    calls = tuple(_call(call, f"{at}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ()))
    if message.function_call is not None:
        calls = (*calls, _legacy_call(message.function_call, at))
    if message.content is None and not calls:
        raise InvalidRequest(f"{at}.content is missing: an assistant's message has content or tool_calls.", at)
    return (*reasoning, *(_blocks(message.content, at) if message.content else ()), *calls)


def _blocks(content: str | list[Any], at: str) -> tuple[Block, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if not content:
        raise InvalidRequest(f"{at}.content is empty: a message must have at least one part.", f"{at}.content")
    return tuple(_block(part) for part in content)


def _block(part: TextPart | ImagePart | RefusalPart) -> Text | Image:
    match part:
        case TextPart():
            return Text(part.text)
        case ImagePart():
            detail = part.image_url.detail or "auto"
            return Image(part.image_url.url, "high" if detail == "original" else detail)
        case RefusalPart():
            return Text(part.refusal)


def _call(call: WireToolCall, at: str) -> ToolCall:
    """Some clients send no id back."""
    arguments = arguments_of(call.function.arguments, f"{at}.function.arguments")
    return ToolCall(call.id or f"call_{new_uuid().hex}", call.function.name, arguments)


def _legacy_call(call: FunctionCall, at: str) -> ToolCall:
    """Its id is its place, so that the same conversation is always the same prompt."""
    place = at.removeprefix("messages[").removesuffix("]")
    return ToolCall(f"call_of_{place}", call.name, arguments_of(call.arguments, f"{at}.function_call.arguments"))


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
