"""ChatRequest -> the body of an OpenAI-compatible server's `POST /chat/completions` or `POST /completions`.

The fields are an allow-list: nothing that a client sent reaches an engine unless it is named here.
"""

import hashlib
from typing import Any

import msgspec

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
from leadline.engines.upstream.turns import settled

Body = dict[str, Any]
_json = msgspec.json.Encoder()


def encode_request(request: ChatRequest, *, stream: bool, vllm: bool = False) -> bytes:
    """The body as JSON, for vLLM with what only it knows."""
    body: Body = {"model": request.model, "stream": stream, "max_tokens": request.max_output_tokens}
    body |= encode_sampling(request.sampling)
    if stream:
        # vLLM counts as it streams.
        counts = {"continuous_usage_stats": True} if vllm else {}
        body["stream_options"] = {"include_usage": True} | counts
    if request.sampling.logit_bias:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in request.sampling.logit_bias}
    body |= _completion(request) if request.prompts else _chat(request)
    if request.effort is not None:
        body |= _vllm_effort(request.effort) if vllm else {"reasoning_effort": request.effort}
    if vllm and request.cache_scope:
        # What differs in it shares no cached prompts. The scope itself is nobody's business there.
        body["cache_salt"] = hashlib.blake2b(request.cache_scope.encode(), digest_size=16, person=b"vllm").hexdigest()
    if vllm and _is_begun(request):
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    return _json.encode(body)


def _is_begun(request: ChatRequest) -> bool:
    """Whether the conversation ends in an answer that is to go on."""
    last = request.messages[-1] if request.messages else None
    return last is not None and last.role == "assistant" and not any(isinstance(b, ToolCall) for b in last.content)


def _vllm_effort(effort: Effort) -> Body:
    """vLLM turns thinking on and off by the template's own variable, which has two names, and knows three degrees."""
    if effort == "none":
        return {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}
    degree = {"minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort)
    return {"reasoning_effort": degree, "chat_template_kwargs": {"enable_thinking": True, "thinking": True}}


def _completion(request: ChatRequest) -> Body:
    [prompt] = request.prompts
    return {"prompt": prompt} | ({} if request.top_logprobs is None else {"logprobs": request.top_logprobs})


def _chat(request: ChatRequest) -> Body:
    body: Body = {"messages": [_message(message) for message in settled(request.messages)]}
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request.tool_choice)
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.json_format is not None:
        body["response_format"] = _response_format(request.json_format)
    return body


def encode_sampling(sampling: Sampling) -> Body:
    """In the words that OpenAI's API and llama.cpp's own share."""
    body: Body = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.top_k is not None:
        body["top_k"] = sampling.top_k
    if sampling.min_p is not None:
        body["min_p"] = sampling.min_p
    return body


def _message(message: Message) -> Body:
    if message.role == "tool":
        [result] = message.content
        assert isinstance(result, ToolResult)
        prefix = "Error: " if result.is_error else ""
        return {"role": "tool", "tool_call_id": result.call_id, "content": prefix + _joined(result.content)}
    body: Body = {"role": message.role, "content": _content(message.content)}
    if message.name is not None:
        body["name"] = message.name
    calls = [_call(block) for block in message.content if isinstance(block, ToolCall)]
    if calls:
        body["tool_calls"] = calls
    reasoning = "".join(block.text for block in message.content if isinstance(block, Reasoning))
    if reasoning:
        body["reasoning_content"] = reasoning
    return body


def _content(blocks: tuple[Block, ...]) -> str | list[Body]:
    """Text alone goes as a string, which every chat template takes; with images, as parts."""
    if not any(isinstance(block, Image) for block in blocks):
        return _joined(blocks)
    parts: list[Body] = []
    for block in blocks:
        match block:
            case Text():
                parts.append({"type": "text", "text": block.text})
            case Image():
                parts.append({"type": "image_url", "image_url": {"url": block.url, "detail": block.detail}})
            case _:
                pass
    return parts


def _joined(blocks: tuple[Block, ...]) -> str:
    return "\n".join(block.text for block in blocks if isinstance(block, Text))


def _call(call: ToolCall) -> Body:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> Body:
    function: Body = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> str | Body:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _response_format(json_format: JsonFormat) -> Body:
    if json_format.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": json_format.schema},
    }
