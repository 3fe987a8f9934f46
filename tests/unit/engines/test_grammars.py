"""Grammars are built beside the event loop, once for the same schema, and no more of them than a bound wait."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from leadline.chat.request import ChatRequest, JsonFormat, Message, Text, Tool, ToolChoice
from leadline.engines.embedded import grammars
from leadline.engines.embedded.grammars import Grammars
from leadline.errors import InvalidRequest, Unavailable
from tests.unit.engines.format.corpus import template

PLAIN = ChatRequest("m", (Message("user", (Text("hi"),)),), 5)
ASK = replace(PLAIN, json_format=JsonFormat({"type": "integer"}))
SMOLLM = template("smollm2")


async def of(built: Grammars, request: ChatRequest = ASK) -> str | None:
    return await built.of(request, SMOLLM, in_thoughts=False)


async def test_the_loop_goes_on_while_a_grammar_is_built():
    others_were_answered = threading.Event()

    def build(*_: Any, **__: Any) -> str:
        assert others_were_answered.wait(30), "nobody had a turn"
        return "root ::= x"

    building = asyncio.create_task(of(Grammars(build)))
    await asyncio.sleep(0)
    assert await of(Grammars(), PLAIN) is None
    others_were_answered.set()
    assert await building == "root ::= x"


async def test_the_same_schema_is_built_once_and_another_anew():
    schemas: list[Any] = []

    def build(request: ChatRequest, *_: Any, **__: Any) -> str:
        assert request.json_format is not None
        schemas.append(request.json_format.schema)
        return f"root ::= {len(schemas)}"

    built = Grammars(build)
    first = await of(built)
    assert await of(built, replace(ASK, messages=())) == first
    for number in range(grammars._MOST_KEPT):
        await of(built, replace(ASK, json_format=JsonFormat({"maximum": number})))
    assert await of(built) != first, "the oldest is kept no longer"
    assert schemas.count({"type": "integer"}) == 2


async def test_what_changes_the_grammar_is_built_anew():
    tool = Tool("f", "", {"type": "object", "properties": {"a": {"type": "integer"}}})
    must = replace(PLAIN, tools=(tool,), tool_choice=ToolChoice("required"))
    built = Grammars()
    others = [
        *(must, replace(must, parallel_tool_calls=False), replace(must, tools=(replace(tool, name="g"),))),
        *(replace(must, tools=(replace(tool, parameters={}),)), ASK, replace(ASK, json_format=JsonFormat())),
    ]
    assert len({await of(built, request) for request in others}) == len(others)


async def test_what_is_refused_names_its_place_and_is_not_kept():
    built = Grammars()
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="not") as refused:
            await of(built, replace(ASK, json_format=JsonFormat({"not": {}})))
        assert refused.value.param == "response_format"


async def test_no_more_than_a_bound_wait(monkeypatch):
    monkeypatch.setattr(grammars, "_MOST_WAITING", 2)
    may_end = threading.Event()

    def build(*_: Any, **__: Any) -> str:
        may_end.wait(30)
        return "root ::= x"

    built = Grammars(build)
    waiting = [asyncio.create_task(of(built)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await of(built)
    may_end.set()
    assert await asyncio.gather(*waiting) == ["root ::= x"] * 2
