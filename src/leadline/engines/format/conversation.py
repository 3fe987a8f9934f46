"""A ChatRequest as what a chat template takes: dictionaries for messages and tools, in roles and an order that this
template accepts."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from leadline.chat.request import Block, ChatRequest, Image, Message, Reasoning, Role, Text, Tool, ToolCall, ToolResult
from leadline.engines.format.family import Thinking, known_call_id

Body = dict[str, Any]
# What is put in place of a string that came from a user.
Put = Callable[[str], str]
AS_IT_IS: Put = str

# Follows the text of an assistant message that is to be continued: the prompt ends there. Nobody can know it.
CONTINUED = secrets.token_hex(16)
# Before a system message that a template takes only at the beginning.
LATE_SYSTEM = "System message:\n"
_TOOLS_BEFORE = "You can call these functions:\n"
_TOOLS_AFTER = (
    "\nTo call one, answer with nothing but this, and its result comes back to you:\n"
    '<tool_call>\n{"name": "NAME", "arguments": {"KEY": "VALUE"}}\n</tool_call>'
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a template takes; `template.py` finds it out by trying.

    `system`: a system message at the beginning, `late_system`: elsewhere too. `repeats`: two neighbours of one role.
    `assistant_first`: a conversation that the assistant begins. `tools`: it shows tools, calls and results itself, in a
    form that we can read back; then `many_calls`: several in one message, `text_beside_calls`: in one message too,
    `user_after_result`: no answer in between, `arguments_as_text`: as JSON text instead of an object, `short_ids`: of
    nine characters, `absent_content`: None instead of an empty string beside calls. `typed`: content as a list of
    parts.
    """

    system: bool = True
    late_system: bool = True
    repeats: bool = True
    assistant_first: bool = True
    tools: bool = True
    many_calls: bool = True
    text_beside_calls: bool = True
    user_after_result: bool = True
    arguments_as_text: bool = False
    short_ids: bool = False
    absent_content: bool = True
    typed: bool = False


# What every template takes.
STRICTEST = Shape(system=False, late_system=False, repeats=False, assistant_first=False, tools=False)


@dataclass(slots=True)
class _Turn:
    role: Role
    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    call_id: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is rendered. `tools` None: none are shown. `continues`: the last message is an assistant's, which the answer
    goes on with."""

    messages: list[Body]
    tools: list[Body] | None
    continues: bool


def conversation(request: ChatRequest, shape: Shape, thinking: Thinking | None, put: Put) -> Conversation:
    """The request, whose images have places as their URLs, in the roles and the order of `shape`."""
    tools = request.tools if request.tool_choice.mode != "none" else ()
    turns = _turns(request.messages, shape, thinking, put)
    last = request.messages[-1]
    continues = False
    if last.role == "assistant" and not any(isinstance(block, ToolCall) for block in last.content):
        continues = bool(turns[-1].text.strip())
        if not continues and len(turns) > 1:
            del turns[-1]
    if tools and not shape.tools:
        _tell_tools(turns, tools, put)
    turns = _fitted(turns, shape)
    if continues:
        turns[-1].text += CONTINUED
    bodies = [_tool(tool, put) for tool in tools] if tools and shape.tools else None
    return Conversation([_message(turn, shape, put) for turn in turns], bodies, continues)


def _turns(messages: Iterable[Message], shape: Shape, thinking: Thinking | None, put: Put) -> list[_Turn]:
    turns: list[_Turn] = []
    names: dict[str, str] = {}
    after_result = False
    for message in messages:
        match message.role:
            case "tool":
                turn = _result(message, shape, names, put)
                if turn.role == "user" and after_result:
                    turns[-1].text += f"\n{turn.text}"
                else:
                    turns.append(turn)
            case "assistant":
                turns.append(_answer(message, shape, thinking, put))
                names |= {block.call_id: block.name for block in message.content if isinstance(block, ToolCall)}
            case "system" if not shape.late_system and any(turn.role != "system" for turn in turns):
                turns.append(_Turn("user", LATE_SYSTEM + _joined(message.content, put)))
            case "system" if not shape.late_system and turns:
                turns[-1].text += "\n\n" + _joined(message.content, put)
            case _:
                turns.append(_Turn(message.role, _joined(message.content, put), name=message.name))
        after_result = message.role == "tool"
    return turns


def _joined(blocks: Iterable[Block], put: Put) -> str:
    """Texts in lines of their own. An image's URL is its place, and stands between texts with nothing around it."""
    joined, after_text = "", False
    for block in blocks:
        if isinstance(block, Text):
            joined += "\n" * after_text + put(block.text)
            after_text = True
        elif isinstance(block, Image):
            joined += block.url
            after_text = False
    return joined


def _result(message: Message, shape: Shape, names: dict[str, str], put: Put) -> _Turn:
    [result] = message.content
    assert isinstance(result, ToolResult)
    text = ("Error: " if result.is_error else "") + _joined(result.content, put)
    if not shape.tools:
        return _Turn("user", f"<tool_response>\n{text}\n</tool_response>")
    call_id = known_call_id(result.call_id, short=shape.short_ids)
    return _Turn("tool", text, call_id=call_id, name=names.get(result.call_id, message.name))


def _answer(message: Message, shape: Shape, thinking: Thinking | None, put: Put) -> _Turn:
    """Thoughts that a client left in the text are told apart here, as templates do it with the text itself."""
    texts = [block.text for block in message.content if isinstance(block, Text)]
    thoughts = "".join(block.text for block in message.content if isinstance(block, Reasoning))
    if thinking is not None and texts and not thoughts:
        thoughts, texts[0] = thinking.parted(texts[0])
    calls = [block for block in message.content if isinstance(block, ToolCall)]
    turn = _Turn("assistant", "\n".join(map(put, filter(None, texts))), put(thoughts), calls, name=message.name)
    if calls and not shape.tools:
        written = "\n".join(_written(call, put) for call in calls)
        turn.text, turn.calls = f"{turn.text}\n{written}" if turn.text else written, []
    return turn


def _written(call: ToolCall, put: Put) -> str:
    """As a model that was told of the tools in words writes it."""
    name = json.dumps(put(call.name), ensure_ascii=False)
    arguments = put(call.arguments.strip() or "{}")
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'


def _tell_tools(turns: list[_Turn], tools: Iterable[Tool], put: Put) -> None:
    """Tell of the tools in words, in the system message: short, since that is for small models."""
    described = "\n".join(put(json.dumps(_tool(tool, AS_IT_IS)["function"], ensure_ascii=False)) for tool in tools)
    words = f"{_TOOLS_BEFORE}{described}{_TOOLS_AFTER}"
    if turns and turns[0].role == "system":
        turns[0].text += f"\n\n{words}"
    else:
        turns.insert(0, _Turn("system", words))


def _fitted(turns: list[_Turn], shape: Shape) -> list[_Turn]:
    if not shape.text_beside_calls and shape.repeats:
        turns = [part for turn in turns for part in _text_and_calls(turn)]
    if not shape.many_calls:
        turns = _one_call_each(turns)
    if not shape.repeats:
        turns = _merged(turns)
    if not shape.user_after_result:
        turns = [
            placed
            for before, turn in zip([None, *turns], turns, strict=False)
            for placed in ((_Turn("assistant"), turn) if _follows_result(before, turn) else (turn,))
        ]
    system = turns.pop(0) if not shape.system and turns[0].role == "system" else None
    first = 1 if turns and turns[0].role == "system" else 0
    begun = first < len(turns) and turns[first].role == "user"
    if not begun and (system is not None or not shape.assistant_first):
        turns.insert(first, _Turn("user"))
    if system is not None:
        turns[0].text = f"{system.text}\n\n{turns[0].text}" if turns[0].text else system.text
    return turns


def _follows_result(before: _Turn | None, turn: _Turn) -> bool:
    return before is not None and before.role == "tool" and turn.role == "user"


def _merged(turns: list[_Turn]) -> list[_Turn]:
    """Neighbours of one role, but for results, become one."""
    merged: list[_Turn] = []
    for turn in turns:
        last = merged[-1] if merged else None
        if last is None or last.role != turn.role or turn.role == "tool":
            merged.append(turn)
            continue
        last.text = "\n\n".join(filter(None, (last.text, turn.text)))
        last.reasoning = "\n\n".join(filter(None, (last.reasoning, turn.reasoning)))
        last.calls += turn.calls
    return merged


def _text_and_calls(turn: _Turn) -> Iterator[_Turn]:
    if turn.text and turn.calls:
        yield _Turn(turn.role, turn.text, turn.reasoning)
        turn.text = turn.reasoning = ""
    yield turn


def _one_call_each(turns: list[_Turn]) -> list[_Turn]:
    """Several calls in one message become messages of one call, each followed by its result."""
    apart: list[_Turn] = []
    waiting = list(turns)
    while waiting:
        turn = waiting.pop(0)
        if len(turn.calls) < 2:
            apart.append(turn)
            continue
        results: list[_Turn] = []
        while waiting and waiting[0].role == "tool":
            results.append(waiting.pop(0))
        calls, turn.calls = turn.calls, turn.calls[:1]
        for number, call in enumerate(calls):
            apart.append(turn if number == 0 else _Turn("assistant", calls=[call]))
            own = results.pop(0) if number < len(calls) - 1 and results else None
            apart += [own] if own is not None else []
        apart += results
    return apart


def _message(turn: _Turn, shape: Shape, put: Put) -> Body:
    content: object = [{"type": "text", "text": turn.text}] if shape.typed else turn.text
    body: Body = {"role": turn.role, "content": content}
    if turn.name is not None:
        body["name"] = put(turn.name)
    if turn.reasoning:
        body["reasoning_content"] = turn.reasoning
    if turn.calls:
        body["tool_calls"] = [_call(call, shape, put) for call in turn.calls]
        if not turn.text and shape.absent_content:
            body["content"] = None
    if turn.role == "tool":
        body["tool_call_id"] = turn.call_id
    return body


def _call(call: ToolCall, shape: Shape, put: Put) -> Body:
    arguments: object = call.arguments.strip() or "{}"
    if not shape.arguments_as_text:
        try:
            arguments = msgspec.json.decode(call.arguments.strip() or "{}")
        except msgspec.DecodeError:
            arguments = call.arguments
    function = {"name": put(call.name), "arguments": _put_all(arguments, put)}
    return {"id": known_call_id(call.call_id, short=shape.short_ids), "type": "function", "function": function}


def _tool(tool: Tool, put: Put) -> Body:
    schema = dict(tool.parameters) or {"type": "object", "properties": {}}
    function = {"name": put(tool.name), "description": put(tool.description), "parameters": _put_all(schema, put)}
    return {"type": "function", "function": function}


def _put_all(value: Any, put: Put) -> Any:
    """A JSON value with all its strings and keys put."""
    if put is AS_IT_IS:
        return value
    match value:
        case str():
            return put(value)
        case dict():
            return {put(key): _put_all(item, put) for key, item in value.items()}
        case list() | tuple():
            return [_put_all(item, put) for item in value]
    return value
