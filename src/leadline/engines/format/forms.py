"""Which form of answer a request asks for: the tools that may be called, whether one must, what reads the answer."""

from leadline.chat.request import ChatRequest, Tool
from leadline.engines.format.output import OutputParser
from leadline.engines.format.template import ChatTemplate


def offered_tools(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that may be called."""
    match request.tool_choice.mode:
        case "none":
            return ()
        case "named":
            return tuple(tool for tool in request.tools if tool.name == request.tool_choice.name)
        case _:
            return request.tools


def must_call(request: ChatRequest) -> bool:
    return bool(offered_tools(request)) and request.tool_choice.mode in ("required", "named")


def is_forced(request: ChatRequest) -> bool:
    """Whether a grammar forces the answer's form from its first character on, but for thoughts."""
    return must_call(request) or request.json_format is not None


def parser_of(request: ChatRequest, template: ChatTemplate, *, in_thoughts: bool) -> OutputParser:
    """What follows a plain prompt is plain text."""
    thinking = template.thinking if not request.prompts else None
    offered, parallel = offered_tools(request), request.parallel_tool_calls
    return OutputParser(template.calls, thinking, offered, in_thoughts=in_thoughts, parallel=parallel)
