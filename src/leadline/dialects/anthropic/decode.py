"""The body of `POST /v1/messages` -> ChatRequest. Unknown fields, betas and cache hints are ignored."""

import base64
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
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from leadline.dialects.bounds import LONGEST_MODEL, LONGEST_STOP, MOST_STOPS, MOST_TOOLS
from leadline.errors import InvalidRequest, ThreadsUnsupported
from leadline.web.strict_json import convert

# From so many tokens on a budget for thinking means an effort.
_MEDIUM_BUDGET, _HIGH_BUDGET = 4096, 16384
Stop = Annotated[str, Meta(min_length=1, max_length=LONGEST_STOP)]


class TextBlock(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class Base64Source(msgspec.Struct, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(msgspec.Struct, tag_field="type", tag="url"):
    url: Annotated[str, Meta(min_length=1)]


class ImageBlock(msgspec.Struct, tag_field="type", tag="image"):
    source: Base64Source | UrlSource


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str = ""


WireBlock = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedThinkingBlock


class WireMessage(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[WireBlock]


class WireTool(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None


class WireToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=1024)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonSchemaFormat | None = None


class CountBody(msgspec.Struct):
    """What `count_tokens` takes: a message's body without its limits."""

    model: Annotated[str, Meta(min_length=1, max_length=LONGEST_MODEL)]
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[WireTool], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: WireToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    # What would change the answer and is not done, so it is refused by name.
    thread: Any = None
    mcp_servers: list[Any] | None = None
    container: Any = None


class Body(CountBody, kw_only=True):
    max_tokens: Annotated[int, Meta(ge=1, le=2**31)]
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=MOST_STOPS)] | None = None


def to_request(body: Body) -> ChatRequest:
    """The request in our own words, or InvalidRequest."""
    if body.thinking is not None and (body.thinking.budget_tokens or 0) >= body.max_tokens:
        param = "thinking.budget_tokens"
        raise InvalidRequest(f"{param} must be less than max_tokens, which is for thoughts and answer together.", param)
    return _request(
        body,
        max_output_tokens=body.max_tokens,
        sampling=Sampling(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=body.top_k,
        ),
        stop=tuple(body.stop_sequences or ()),
    )


def to_count_request(body: CountBody) -> ChatRequest:
    return _request(body)


def _request(body: CountBody, **limits: Any) -> ChatRequest:
    _refuse_what_is_not_done(body)
    messages = [message for i, wire in enumerate(body.messages) for message in _messages(wire, f"messages[{i}]")]
    if not messages:
        raise InvalidRequest("messages hold nothing but empty texts.", "messages")
    effort, is_wish = _effort(body, after_tools=messages[-1].role == "tool")
    json_format = body.output_config.format if body.output_config is not None else None
    return ChatRequest(
        model=body.model,
        messages=(*_system(body.system), *messages),
        tools=tuple(
            Tool(tool.name, tool.description or "", tool.input_schema, bool(tool.strict)) for tool in body.tools or ()
        ),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=not (body.tool_choice and body.tool_choice.disable_parallel_tool_use),
        json_format=JsonFormat(json_format.schema) if json_format is not None else None,
        effort=effort,
        effort_is_wish=is_wish,
        **limits,
    )


def _refuse_what_is_not_done(body: CountBody) -> None:
    if body.thread is not None:
        raise ThreadsUnsupported
    refused = {
        "mcp_servers": bool(body.mcp_servers),
        "container": body.container is not None,
    }
    for param, wanted in refused.items():
        if wanted:
            raise InvalidRequest(f"{param} is not supported by this model. Leave it out.", param)


def _effort(body: CountBody, *, after_tools: bool) -> tuple[Effort, bool]:
    """How hard to think, and whether that is no more than a wish. Who does not speak of thinking wants none."""
    thinking, wished = body.thinking, body.output_config.effort if body.output_config is not None else None
    match thinking.type if thinking is not None else "disabled":
        case "enabled":
            assert thinking is not None
            return wished or _effort_of_budget(body, thinking.budget_tokens), False
        case "adaptive":
            return wished or "high", True
        case "between_tools" if after_tools:
            return wished or "medium", True
        case _:
            return "none", False


def _effort_of_budget(body: CountBody, budget_tokens: int | None) -> Effort:
    """No engine here counts thoughts against a budget: it tells how hard to think."""
    if budget_tokens is None:
        raise InvalidRequest("thinking.budget_tokens is missing.", "thinking.budget_tokens")
    if body.tool_choice is not None and body.tool_choice.type in ("any", "tool"):
        raise InvalidRequest("thinking cannot be enabled where tool_choice forces a call.", "thinking")
    return "low" if budget_tokens < _MEDIUM_BUDGET else "medium" if budget_tokens < _HIGH_BUDGET else "high"


def _system(system: str | list[TextBlock] | None) -> tuple[Message, ...]:
    if isinstance(system, list):
        system = "\n\n".join(block.text for block in system if block.text)
    return (Message("system", (Text(system),)),) if system else ()


def _messages(wire: WireMessage, at: str) -> list[Message]:
    """A turn's tool results come first, one message each; the rest of it follows."""
    if isinstance(wire.content, str):
        return [Message(wire.role, (Text(wire.content),))]
    results: list[Message] = []
    rest: list[Block] = []
    for i, block in enumerate(wire.content):
        decoded = _block(block, wire.role, f"{at}.content[{i}]")
        if isinstance(decoded, ToolResult):
            results.append(Message("tool", (decoded,)))
        elif decoded is not None:
            rest.append(decoded)
    if not wire.content:
        raise InvalidRequest(f"{at}.content is empty: a message must have at least one block.", f"{at}.content")
    return [*results, Message(wire.role, tuple(rest))] if rest else results


def _block(block: WireBlock, role: Role, at: str) -> Block | None:
    """Empty texts are dropped: gateways put them into conversations, which then come back."""
    match block:
        case TextBlock():
            return Text(block.text) if block.text else None
        case ImageBlock() if role == "user":
            return _image(block, at)
        case ToolUseBlock() if role == "assistant":
            return ToolCall(block.id, block.name, msgspec.json.encode(block.input).decode())
        case ToolResultBlock() if role == "user":
            return ToolResult(block.tool_use_id, _result(block, at), bool(block.is_error))
        case ThinkingBlock() if role == "assistant":
            return Reasoning(block.thinking, block.signature or "")
        case RedactedThinkingBlock() if role == "assistant":
            return None
        case _:
            raise InvalidRequest(f"{at}.type cannot stand in a message of the role {role}.", f"{at}.type")


def _result(block: ToolResultBlock, at: str) -> tuple[Text | Image, ...]:
    """What is neither text nor image, such as a reference to a tool, is shown to the model as it is."""
    if isinstance(block.content, str):
        return (Text(block.content),)
    return tuple(_result_part(part, f"{at}.content[{i}]") for i, part in enumerate(block.content or ()))


def _result_part(part: dict[str, Any], at: str) -> Text | Image:
    match part.get("type"):
        case "text":
            return Text(convert(part, TextBlock, at).text)
        case "image":
            return _image(convert(part, ImageBlock, at), at)
        case _:
            return Text(msgspec.json.encode(part).decode())


def _image(block: ImageBlock, at: str) -> Image:
    if isinstance(block.source, UrlSource):
        return Image(block.source.url)
    try:
        base64.b64decode(block.source.data, validate=True)
    except ValueError:
        param = f"{at}.source.data"
        raise InvalidRequest(f"{param} is not valid base64.", param) from None
    return Image(f"data:{block.source.media_type};base64,{block.source.data}")


def _tool_choice(body: CountBody) -> ToolChoice:
    choice = body.tool_choice
    if choice is None or choice.type in ("auto", "none"):
        return ToolChoice("none" if choice is not None and choice.type == "none" else "auto")
    if not body.tools:
        raise InvalidRequest("tool_choice asks for a tool, but there are no tools.", "tool_choice")
    if choice.type == "any":
        return ToolChoice("required")
    if choice.name not in {tool.name for tool in body.tools}:
        raise InvalidRequest("tool_choice names a tool that is not among the tools.", "tool_choice.name")
    return ToolChoice("named", choice.name)
