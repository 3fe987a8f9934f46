"""ChatRequest -> GetCompletionsRequest: a request that came over another protocol, as this one spells it."""

import json
from typing import Any

from leadline.chat.request import ChatRequest, Image, Message, Reasoning, Role, Text, Tool, ToolCall, ToolResult
from leadline.dialects.xai.protos import chat, image

_ROLES: dict[Role, int] = {
    "system": chat.ROLE_SYSTEM,
    "user": chat.ROLE_USER,
    "assistant": chat.ROLE_ASSISTANT,
    "tool": chat.ROLE_TOOL,
}
_DETAILS = {"auto": image.DETAIL_AUTO, "low": image.DETAIL_LOW, "high": image.DETAIL_HIGH}
_MODES = {"auto": chat.TOOL_MODE_AUTO, "none": chat.TOOL_MODE_NONE, "required": chat.TOOL_MODE_REQUIRED}
_EFFORTS = {
    "none": chat.EFFORT_NONE,
    "minimal": chat.EFFORT_LOW,
    "low": chat.EFFORT_LOW,
    "medium": chat.EFFORT_MEDIUM,
    "high": chat.EFFORT_HIGH,
    "xhigh": chat.EFFORT_XHIGH,
    "max": chat.EFFORT_XHIGH,
}


def encode_request(request: ChatRequest) -> Any:
    """What this protocol has no field for, such as `top_k`, is left out."""
    sampling = request.sampling
    return chat.GetCompletionsRequest(
        model=request.model,
        messages=[_message(message) for message in request.messages],
        n=request.choices,
        max_tokens=request.max_output_tokens,
        seed=sampling.seed,
        stop=request.stop,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        logprobs=request.top_logprobs is not None,
        top_logprobs=request.top_logprobs,
        tools=[_tool(tool) for tool in request.tools],
        tool_choice=_tool_choice(request) if request.tools else None,
        response_format=_response_format(request),
        reasoning_effort=None if request.effort is None else _EFFORTS[request.effort],
        parallel_tool_calls=request.parallel_tool_calls,
    )


def _message(message: Message) -> Any:
    encoded = chat.Message(role=_ROLES[message.role], name=message.name or "")
    for block in message.content:
        match block:
            case Text() | Image():
                encoded.content.append(_content(block))
            case Reasoning():
                encoded.reasoning_content = block.text
            case ToolCall():
                function = chat.FunctionCall(name=block.name, arguments=block.arguments)
                kind = chat.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL
                encoded.tool_calls.append(chat.ToolCall(id=block.call_id, type=kind, function=function))
            case ToolResult():
                encoded.tool_call_id = block.call_id
                encoded.content.extend(_content(part) for part in block.content)
    return encoded


def _content(block: Text | Image) -> Any:
    if isinstance(block, Text):
        return chat.Content(text=block.text)
    return chat.Content(image_url=image.ImageUrlContent(image_url=block.url, detail=_DETAILS[block.detail]))


def _tool(tool: Tool) -> Any:
    function = chat.Function(
        name=tool.name, description=tool.description, parameters=json.dumps(tool.parameters), strict=tool.strict
    )
    return chat.Tool(function=function)


def _tool_choice(request: ChatRequest) -> Any:
    choice = request.tool_choice
    return chat.ToolChoice(function_name=choice.name) if choice.name else chat.ToolChoice(mode=_MODES[choice.mode])


def _response_format(request: ChatRequest) -> Any:
    wanted = request.json_format
    if wanted is None:
        return None
    if wanted.schema is None:
        return chat.ResponseFormat(format_type=chat.FORMAT_TYPE_JSON_OBJECT)
    return chat.ResponseFormat(format_type=chat.FORMAT_TYPE_JSON_SCHEMA, schema=json.dumps(wanted.schema))
