"""The child of OpenVINO GenAI around its pipeline: who may speak, whose prompts are used again, who waits or leaves."""

import selectors
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from leadline.engines.openvino import wire

pytest.importorskip("openvino_genai")

from leadline.engines.openvino import child as child_module
from leadline.engines.openvino.child import Connection, Server

KEY = "k" * 20


@dataclass
class Scripted:
    """A pipeline whose requests run until they are finished by hand."""

    settings: dict[str, Any]
    reuses: bool
    begun: list[str] = field(default_factory=list)
    told: dict[int, Callable[[wire.Message], None]] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        return bool(self.told)

    @property
    def running(self) -> int:
        return len(self.told)

    def warm(self) -> None: ...

    def add(self, asked: wire.Generate, tell: Callable[[wire.Message], None]) -> int:
        self.begun.append(asked.scope)
        self.told[asked.number] = tell
        return asked.number

    def cancel(self, number: int) -> None:
        del self.told[number]

    def finish(self, number: int) -> None:
        self.told.pop(number)(wire.Ended(number, "stop", 0))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(child_module, "Pipeline", Scripted)
    settings = {"key": KEY, "reuses": True}
    with socket.socket(socket.AF_UNIX) as listener:
        yield Server(settings, Scripted(settings, reuses=True), listener)  # type: ignore[arg-type]


@pytest.fixture
def parent(server: Server) -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, known=True)
    server._connections.add(connection)
    server._selector.register(ours, selectors.EVENT_READ, connection)
    with ours, theirs:
        yield connection


def ask(number: int, scope: str) -> wire.Generate:
    return wire.Generate(number, [1], 8, 0.0, 1.0, 0, 0.0, 0.0, 0.0, 0, None, [], logprobs=False, scope=scope)


def begin(server: Server, parent: Connection, number: int, scope: str) -> None:
    server._hear(parent, ask(number, scope))
    server._begin()


def test_one_organisation_uses_its_prompts_again(server, parent):
    begin(server, parent, 1, "a")
    begin(server, parent, 2, "a")
    assert server.pipeline.reuses
    assert server.pipeline.begun == ["a", "a"]


def test_another_organisation_waits_for_the_end_of_what_runs_and_finds_nothing_of_it(server, parent):
    first = server.pipeline
    begin(server, parent, 1, "a")
    begin(server, parent, 2, "b")
    begin(server, parent, 3, "a")
    assert first.begun == ["a"]
    first.finish(1)
    server._begin()
    assert server.pipeline is not first
    assert not server.pipeline.reuses
    assert server.pipeline.begun == ["b", "a"]


def test_who_waits_for_that_may_leave(server, parent):
    begin(server, parent, 1, "a")
    begin(server, parent, 2, "b")
    server._hear(parent, wire.Cancel(2))
    begin(server, parent, 3, "a")
    assert server.pipeline.reuses
    assert server.pipeline.begun == ["a", "a"]


def test_prompts_are_used_again_once_one_was_alone_for_long(server, parent, monkeypatch):
    monkeypatch.setattr(child_module.time, "monotonic", lambda: 100.0)
    for number, scope in enumerate("ab"):
        begin(server, parent, number, scope)
        server.pipeline.finish(number)
    assert not server._may_reuse()
    monkeypatch.setattr(child_module.time, "monotonic", lambda: 100.0 + child_module._ALONE_SECONDS)
    assert server._may_reuse()
    begin(server, parent, 3, "c")
    assert not server._may_reuse()


def test_never_where_the_setting_says_so(server, parent, monkeypatch):
    server.settings["reuses"] = False
    server.pipeline = Scripted(server.settings, reuses=False)  # type: ignore[assignment]
    begin(server, parent, 1, "a")
    monkeypatch.setattr(child_module.time, "monotonic", lambda: 1e9)
    assert not server._may_reuse()


def test_who_hangs_up_leaves_nothing_running(server, parent):
    begin(server, parent, 1, "a")
    server._drop(parent)
    assert not server.pipeline.works
    server._drop(parent)


@pytest.mark.parametrize("first", [wire.Hello("wrong"), wire.Hello(""), ask(1, "a"), wire.Ask(1)])
def test_who_does_not_know_the_key_is_not_heard(server, parent, first):
    parent.known = False
    with pytest.raises(wire.Broken):
        server._hear(parent, first)
    assert not server.pipeline.begun


def test_a_sign_of_life_tells_what_runs_and_waits(server, parent):
    parent.known = False
    server._hear(parent, wire.Hello(KEY))
    begin(server, parent, 1, "a")
    begin(server, parent, 2, "b")
    parent.unsent.clear()
    server._hear(parent, wire.Ask(9))
    [frame] = wire.Frames().feed(bytes(parent.unsent))
    assert wire.decode_from_child(frame) == wire.Alive(9, 2)
