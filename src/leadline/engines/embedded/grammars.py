"""The grammar that forces an answer's form: built beside the event loop, and kept for who asks for the same again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from leadline.chat.request import ChatRequest
from leadline.engines.format.forms import is_forced, must_call, offered_tools
from leadline.engines.format.grammar import after_thoughts, call_grammar, json_grammar, schema_grammar
from leadline.engines.format.template import ChatTemplate
from leadline.errors import Unavailable

# So many of the newest are kept; one has up to 256 KiB.
_MOST_KEPT = 32
_MOST_WAITING = 256


def grammar_of(request: ChatRequest, template: ChatTemplate, *, in_thoughts: bool) -> str:
    """The form that is forced; thoughts that were asked for come before it. Takes up to a tenth of a second.
    InvalidRequest where a schema is not one that we take. `in_thoughts`: the prompt ends within thoughts."""
    form, thinking = _form(request, template), template.thinking
    if thinking is None or not request.thinks:
        return form
    return after_thoughts(form, "" if in_thoughts else thinking.opening, thinking.closing)


def _form(request: ChatRequest, template: ChatTemplate) -> str:
    """What forces the answer's form: calls where one must be made, JSON where it is asked for."""
    if must_call(request):
        parallel = request.parallel_tool_calls and template.calls.many
        return call_grammar(offered_tools(request), template.calls.syntax, parallel=parallel)
    schema = request.json_format.schema if request.json_format is not None else None
    return json_grammar() if schema is None else schema_grammar(schema)


@dataclass(slots=True)
class Grammars:
    """Those of one template. They are built one at a time, in a thread: meanwhile other requests are answered."""

    build: Callable[..., str] = grammar_of
    _kept: dict[bytes, str] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0

    async def of(self, request: ChatRequest, template: ChatTemplate, *, in_thoughts: bool) -> str | None:
        """None where nothing is forced. InvalidRequest or Unavailable."""
        if not is_forced(request):
            return None
        digest = _digest(request, in_thoughts=in_thoughts)
        if (kept := self._kept.pop(digest, None)) is None:
            kept = await self._built(request, template, in_thoughts=in_thoughts)
        self._kept[digest] = kept
        while len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return kept

    async def _built(self, request: ChatRequest, template: ChatTemplate, *, in_thoughts: bool) -> str:
        if self._waiting >= _MOST_WAITING:
            raise Unavailable("Too many requests wait for their JSON schemas to be read. Try again in a moment.")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(self.build, request, template, in_thoughts=in_thoughts)
        finally:
            self._waiting -= 1


def _digest(request: ChatRequest, *, in_thoughts: bool) -> bytes:
    """Of all that the grammar is made of. A schema's members have an order, which is theirs to keep."""
    tools = [(tool.name, tool.parameters) for tool in offered_tools(request)] if must_call(request) else None
    told = (tools, request.json_format, request.parallel_tool_calls, request.thinks, in_thoughts)
    return blake2b(msgspec.json.encode(told), digest_size=16).digest()
