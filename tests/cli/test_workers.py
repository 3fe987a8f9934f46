"""`leadline workers`: servers come and go in the file and in a running server alike."""

import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadline.administration.metrics import metrics_text
from leadline.administration.models import engine_maker, members_of
from leadline.administration.served import Served
from leadline.engines.pool.engine import PoolEngine
from leadline.errors import InvalidRequest, LeadlineError, NotFound, PermissionDenied
from leadline.weights.store import Store
from tests.cli.in_process import CommandLine
from tests.scripted.server import ScriptedServer

FILE = """# Ours.
[[engines]]
name = "gpus"
kind = "vllm"
urls = [
  "http://127.0.0.1:1/v1",  # the old one
  "http://127.0.0.1:2/v1/",
]

[[engines]]
name = "named"
kind = "openai"
url = "http://workers.invalid:1/v1"
discover = "dns"

[[engines]]
name = "single"
kind = "openai"
url = "http://127.0.0.1:4/v1"

[[models]]
name = "large"
engine = "gpus"
"""
NEW = "http://127.0.0.1:3/v1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    """One whose engines are real pools, over workers of which none is there."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "leadline.toml").write_text(FILE)
    server = ScriptedServer(data)
    instance = server.instance
    make = engine_maker(instance.config, Store(data / "models"))
    served = Served(make, instance.prices, 0, catalog=server.pipeline.catalog)
    instance.served, instance.engines = served, served.engines
    server.run(served.follow(instance.config))
    yield server
    server.run(served.close())
    server.stop()


def in_file(server: ScriptedServer) -> list[str]:
    return tomllib.loads((server.data / "leadline.toml").read_text())["engines"][0]["urls"]


def at(server: ScriptedServer) -> list[str]:
    return [one["at"] for one in server.command("workers list")["workers"] if one["engine"] == "gpus"]


def test_a_worker_is_added_to_the_file_and_to_the_running_engine(server: ScriptedServer) -> None:
    result = server.command("workers add", engine="gpus", url=f" {NEW}/ ")
    assert result["holds_now"]
    assert in_file(server) == ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1/", NEW]
    assert "# the old one" in (server.data / "leadline.toml").read_text()
    assert at(server) == ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", NEW]


def test_a_worker_is_removed_however_it_is_spelled(server: ScriptedServer) -> None:
    server.command("workers remove", engine="gpus", url="http://127.0.0.1:2/v1")
    assert in_file(server) == ["http://127.0.0.1:1/v1"]
    assert at(server) == ["http://127.0.0.1:1/v1"]


@pytest.mark.parametrize(
    ("command", "engine", "url", "error"),
    [
        ("workers add", "gpus", "http://127.0.0.1:2/v1", InvalidRequest),
        ("workers add", "gpus", "127.0.0.1:2", InvalidRequest),
        ("workers add", "gpus", "http://127.0.0.1:99999/v1", InvalidRequest),
        ("workers add", "gpus", "http://user:word@127.0.0.1/v1", InvalidRequest),
        ("workers add", "nobody", NEW, NotFound),
        ("workers add", "named", NEW, PermissionDenied),
        ("workers add", "single", NEW, PermissionDenied),
        ("workers remove", "gpus", NEW, NotFound),
    ],
)
def test_what_cannot_be_changes_nothing(
    server: ScriptedServer, command: str, engine: str, url: str, error: type[LeadlineError]
) -> None:
    before = (server.data / "leadline.toml").read_text()
    with pytest.raises(error):
        server.command(command, engine=engine, url=url)
    assert (server.data / "leadline.toml").read_text() == before
    assert at(server) == ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]


def test_the_last_worker_stays(server: ScriptedServer) -> None:
    server.command("workers remove", engine="gpus", url="http://127.0.0.1:1/v1")
    with pytest.raises(PermissionDenied):
        server.command("workers remove", engine="gpus", url="http://127.0.0.1:2/v1")


def test_engines_of_one_server_and_of_several(server: ScriptedServer) -> None:
    engines = server.instance.engines
    assert {name: isinstance(engine, PoolEngine) for name, engine in engines.items()} == {
        "gpus": True,
        "named": True,
        "single": False,
    }
    by_name = {section.name: members_of(section) for section in server.instance.config.engines}
    assert by_name["named"].by_name
    assert not by_name["gpus"].by_name


def test_the_doctor_the_status_and_the_metrics_name_workers_that_are_away(server: ScriptedServer) -> None:
    async def looked() -> None:
        async with asyncio.timeout(30):
            while "cannot be reached" not in str(server.instance.engines["gpus"].status.workers[0].detail):
                await asyncio.sleep(0.001)

    server.run(looked())
    [gpus, *_] = server.command("status")["engines"]
    assert [(one["at"], one["state"]) for one in gpus["workers"]] == [
        ("http://127.0.0.1:1/v1", "away"),
        ("http://127.0.0.1:2/v1", "away"),
    ]
    metrics = server.run(metrics_text(server.instance))
    assert 'leadline_worker_ready{engine="gpus",worker="http://127.0.0.1:2/v1"} 0' in metrics.splitlines()
    findings: list[dict[str, Any]] = server.command("doctor")["findings"]
    assert any(one["text"].startswith("Worker http://127.0.0.1:1/v1 of gpus:") for one in findings)


def test_the_commands_tell_people_what_they_did(tmp_path: Path) -> None:
    line = CommandLine(tmp_path / "data")
    line.data.mkdir()
    (line.data / "leadline.toml").write_text(FILE)
    assert line("workers", "add", "gpus", NEW).out == "gpus has 3 workers.\n"
    assert line("workers", "remove", "gpus", NEW).out == "gpus has 2 workers.\n"
    assert line("workers", "list").out == "No engine has workers.\n"
