"""The body of `POST /v1/responses` -> ChatRequest. Unknown fields are ignored; its items are in `items.py`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from leadline.chat.request import ChatRequest, Effort, JsonFormat, Message, Sampling, Text, Tool, ToolChoice
from leadline.dialects.bounds import LONGEST_MODEL, MOST_TOOLS
from leadline.errors import InvalidRequest
from leadline.web.strict_json import convert

Json = dict[str, Any]
_LOGPROBS = "message.output_text.logprobs"
_ENCRYPTED_REASONING = "reasoning.encrypted_content"


class WireTool(msgspec.Struct, tag_field="type", tag="function", omit_defaults=True):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class NamedTool(msgspec.Struct, tag_field="type", tag="function"):
    name: str


class AllowedTools(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=MOST_TOOLS)]


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", omit_defaults=True):
    schema: Json
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, omit_defaults=True):
    format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningConfig(msgspec.Struct):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class Body(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1, max_length=LONGEST_MODEL)]
    input: str | Annotated[list[Json], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logprobs: bool | None = None
    include: list[str] | None = None
    tools: Annotated[list[Json], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    reasoning_effort: Effort | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    # These change nothing, and come back as they came.
    user: str | None = None
    max_tool_calls: int | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    # What would change the answer and is not done, so it is refused by name.
    n: int | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    search_parameters: Json | None = None
    chat_template: Any = None
    chat_template_kwargs: Any = None


def wants_encrypted_reasoning(body: Body) -> bool:
    return _ENCRYPTED_REASONING in (body.include or ())


def to_request(body: Body) -> ChatRequest:
    """The request in our own words, or InvalidRequest. Its conversation's turns are still to follow."""
    _refuse_what_is_not_done(body)
    tools = _offered(body)
    instructions = (Message("system", (Text(body.instructions),)),) if body.instructions else ()
    wants_logprobs = bool(body.logprobs or body.top_logprobs or _LOGPROBS in (body.include or ()))
    return ChatRequest(
        model=body.model,
        messages=instructions,
        max_output_tokens=body.max_output_tokens,
        sampling=Sampling(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=body.top_k,
            min_p=body.min_p,
        ),
        top_logprobs=(body.top_logprobs or 0) if wants_logprobs else None,
        tools=tuple(
            Tool(tool.name, tool.description or "", tool.parameters or {}, bool(tool.strict)) for tool in tools
        ),
        tool_choice=_tool_choice(body, tools),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        json_format=_json_format(body),
        effort=_reasoning(body).effort,
    )


def echo(body: Body) -> Json:
    """What the answer repeats of its request, with what counts where it says nothing."""
    text, reasoning = body.text or TextConfig(), _reasoning(body)
    text_format = text.format or TextFormat()
    if isinstance(text_format, JsonSchemaFormat) and text_format.name is None:
        text_format = msgspec.structs.replace(text_format, name="schema")  # clients cannot read one without a name
    return {
        "background": False,
        "frequency_penalty": 0,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "presence_penalty": 0,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": msgspec.to_builtins(TextConfig(text_format, text.verbosity)),
        "tool_choice": msgspec.to_builtins(body.tool_choice or "auto"),
        "tools": [{"parameters": None, "strict": None} | msgspec.to_builtins(tool) for tool in _tools(body)],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }


def _refuse_what_is_not_done(body: Body) -> None:
    refused = {
        "n": body.n not in (None, 1),
        "background": bool(body.background),
        "conversation": body.conversation is not None,
        "prompt": body.prompt is not None,
        "search_parameters": (body.search_parameters or {"mode": "off"}).get("mode") != "off",
        "chat_template": body.chat_template is not None,
        "chat_template_kwargs": bool(body.chat_template_kwargs),
    }
    for param, wanted in refused.items():
        if wanted:
            raise InvalidRequest(f"{param} is not supported by this model. Leave it out.", param)


def _reasoning(body: Body) -> ReasoningConfig:
    return body.reasoning or ReasoningConfig(body.reasoning_effort)


def _offered(body: Body) -> list[WireTool]:
    """The tools that may be called."""
    tools = _tools(body)
    if not isinstance(body.tool_choice, AllowedTools):
        return tools
    allowed = {tool.name for tool in body.tool_choice.tools}
    if unknown := allowed - {tool.name for tool in tools}:
        param = "tool_choice.tools"
        raise InvalidRequest(f"{param}: {min(unknown)[:200]!r} is not among the tools.", param)
    return [tool for tool in tools if tool.name in allowed]


def _tools(body: Body) -> list[WireTool]:
    hosted = [
        (i, str(tool.get("type"))[:100]) for i, tool in enumerate(body.tools or ()) if tool.get("type") != "function"
    ]
    if hosted:
        names = ", ".join(name for _, name in hosted)
        raise InvalidRequest(f"No tools are hosted here: {names}. Send functions only.", f"tools[{hosted[0][0]}].type")
    tools: list[WireTool] = convert(body.tools or [], list[WireTool], "tools")
    return tools


def _tool_choice(body: Body, tools: list[WireTool]) -> ToolChoice:
    choice = body.tool_choice
    if choice == "required" and not tools:
        raise InvalidRequest("tool_choice asks for a tool, but there are no tools.", "tool_choice")
    if isinstance(choice, AllowedTools):
        return ToolChoice(choice.mode)
    if not isinstance(choice, NamedTool):
        return ToolChoice(choice or "auto")
    if choice.name not in {tool.name for tool in tools}:
        raise InvalidRequest("tool_choice names a tool that is not among the tools.", "tool_choice.name")
    return ToolChoice("named", choice.name)


def _json_format(body: Body) -> JsonFormat | None:
    match body.text.format if body.text is not None else None:
        case JsonObjectFormat():
            return JsonFormat()
        case JsonSchemaFormat(schema):
            return JsonFormat(schema)
        case _:
            return None
