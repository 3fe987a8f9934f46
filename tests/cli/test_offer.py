"""`leadline models serve`, `withdraw` and `alias`: what is offered changes in the file and in a running server too."""

import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from leadline.administration.served import Served
from leadline.config import EngineSection
from leadline.errors import InvalidRequest, LeadlineError, NotFound, PermissionDenied, Unavailable
from tests.cli.in_process import CommandLine
from tests.raw import post
from tests.scripted.engine import SCRIPTS, ScriptedEngine
from tests.scripted.gguf import SMALL, gguf
from tests.scripted.server import ScriptedServer

FILE = """# Ours.
[[engines]]
name = "here"
kind = "llamacpp"
weights = "first"   # the one that everybody uses

[[models]]
name = "first"
engine = "here"
prices = { input = 1.00, output = 2.00 }
"""
BODY = b'{"model": "%s", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}'


@dataclass
class Embedded(ScriptedEngine):
    """Stands for an embedded engine: it notes when it starts and ends, and goes only if nobody needs it."""

    needed: bool = False
    steps: list[str] = field(default_factory=list)

    async def start(self) -> None:
        self.steps.append("start")

    async def close(self) -> None:
        self.steps.append("close")

    def load(self) -> None: ...

    def unload(self) -> None:
        if self.needed:
            raise Unavailable(f"The engine {self.name} stays loaded: one request needs it now.")


class Scene:
    """A server on the file above, whose engines are scripted; weights called first and second are here."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        (self.data / "models").mkdir(parents=True)
        (self.data / "leadline.toml").write_text(FILE)
        for name in ("first", "second"):
            (self.data / "models" / f"{name}.gguf").write_bytes(gguf(SMALL, (64, 100)))
        self.server = server = ScriptedServer(self.data)
        instance = server.instance
        served = Served(self._make, instance.prices, 0, catalog=server.pipeline.catalog)
        self.made: dict[str, Embedded] = {}
        instance.served, instance.engines = served, served.engines
        server.run(served.follow(instance.config))

    def _make(self, section: EngineSection, _: Any) -> Embedded:
        scripts = dict.fromkeys(("first", "second", "small"), SCRIPTS["echo"])
        engine = self.made[section.name] = Embedded(scripts, name=section.name)
        return engine

    def serve(self, **more: Any) -> dict[str, Any]:
        return self.server.command("models serve", weights="second", **more)

    def offers(self, model: str) -> bool:
        return any(one.name == model for one in self.server.pipeline.catalog.models)

    def status_of(self, model: str) -> int:
        body = BODY % model.encode()
        return post(self.server.port, "/v1/chat/completions", self.server.api_key, body).status

    @property
    def file(self) -> dict[str, Any]:
        return tomllib.loads((self.data / "leadline.toml").read_text())

    def audited(self) -> list[tuple[Any, ...]]:
        rows = self.server.run(self.server.instance.database.rows("SELECT action, subject FROM audit_log"))
        return [tuple(row) for row in rows if row[0].startswith("models ")]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.server.stop()


def test_weights_are_a_model_from_the_next_request_on_and_after_the_next_start(scene: Scene):
    before = scene.status_of("small")
    made = scene.serve(name="small", aliases=["gpt-*"], prices={"input": "3", "output": "0.40"})

    assert (before, made["holds_now"], made["engine"]) == (404, True, "second")
    assert [scene.status_of(name) for name in ("first", "small", "gpt-4o")] == [200, 200, 200]
    assert scene.made["second"].steps == ["start"]
    assert (scene.data / "leadline.toml").read_text().startswith(FILE)
    [_, engine], [_, model] = scene.file["engines"], scene.file["models"]
    assert engine == {"name": "second", "kind": "auto", "weights": "second", "load": "demand"}
    assert (model["engine"], model["aliases"], model["prices"]) == ("second", ["gpt-*"], {"input": 3, "output": 0.40})
    assert scene.audited() == [("models serve", "small")]


def test_settings_that_hold_tell_of_it(tmp_path: Path):
    data = tmp_path / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "second.gguf").write_bytes(gguf(SMALL, (64, 100)))
    server = ScriptedServer(data)
    before = server.command("config get", key="models.smollm2-135m-instruct.engine")
    server.command("models serve", weights="second")
    after = server.command("config get", key="models.second.engine")
    broken = server.command("config show")["broken"]
    server.stop()

    assert (before["source"], after["source"], after["value"], broken) == ("default", "leadline.toml", "second", None)


def test_its_first_request_costs_what_was_said(scene: Scene):
    scene.serve(prices={"input": "3", "output": "5"})
    scene.status_of("first")
    scene.status_of("second")
    first, second = (-entry.amount_ticks for entry in scene.server.charges())

    assert second > first > 0


def test_a_second_name_shares_the_engine(scene: Scene):
    made = scene.server.command("models serve", weights="first", name="small", prices={})

    assert (made["engine"], made["free"]) == ("here", True)
    assert list(scene.made) == ["here"]
    assert len(scene.file["engines"]) == 1
    scene.server.command("models withdraw", name="small")
    assert scene.made["here"].steps == ["start"]
    assert (scene.status_of("small"), scene.status_of("first")) == (404, 200)


def test_an_engine_that_names_the_file_itself_is_shared_too(scene: Scene):
    text = FILE.replace('"first"   #', f'"{scene.data / "models" / "first.gguf"}" #')
    (scene.data / "leadline.toml").write_text(text)
    scene.server.restart()
    made = scene.server.command("models serve", weights="first", name="small")
    with pytest.raises(PermissionDenied, match="first, small runs on"):
        scene.server.command("models rm", name="first")

    assert made["engine"] == "here"


def test_a_withdrawn_model_is_gone_with_its_engine_and_its_weights_stay(scene: Scene):
    scene.serve()
    told = scene.server.command("models withdraw", name="second")

    assert (told["holds_now"], told["engine_stopped"]) == (True, "second")
    assert (scene.status_of("second"), scene.status_of("first")) == (404, 200)
    assert scene.made["second"].steps == ["start", "close"]
    assert (scene.data / "leadline.toml").read_text().strip() == FILE.strip()
    assert (scene.data / "models" / "second.gguf").exists()
    assert scene.audited() == [("models serve", "second"), ("models withdraw", "second")]


def test_what_a_request_needs_is_not_withdrawn(scene: Scene):
    scene.serve()
    before = scene.file
    scene.made["second"].needed = True
    with pytest.raises(Unavailable, match="one request needs it now"):
        scene.server.command("models withdraw", name="second")

    assert (scene.file, scene.status_of("second")) == (before, 200)


def test_what_cannot_leave_the_file_stays_offered(scene: Scene):
    scene.serve()
    (scene.data / "leadline.toml").write_text("[nonsense]\n")
    with pytest.raises(LeadlineError, match="nonsense"):
        scene.server.command("models withdraw", name="second")

    assert scene.status_of("second") == 200


def test_the_last_model_stays(scene: Scene):
    with pytest.raises(PermissionDenied, match="only model"):
        scene.server.command("models withdraw", name="first")
    with pytest.raises(NotFound):
        scene.server.command("models withdraw", name="nobody")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": "first"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "all*"}, "name"),
        ({"aliases": ["first"]}, "alias"),
        ({"aliases": ["a*b"]}, "alias"),
        ({"prices": {"input": "cheap"}}, "input"),
        ({"prices": {"output": "0.00001"}}, "output"),
        ({"prices": {"tea": "1"}}, "tea"),
        ({"load": "never"}, "load"),
    ],
)
def test_what_cannot_be_served_so_changes_nothing(scene: Scene, more: dict[str, Any], field: str):
    with pytest.raises(InvalidRequest) as refused:
        scene.serve(**more)

    assert refused.value.param == field
    assert (scene.data / "leadline.toml").read_text() == FILE
    assert scene.status_of("second") == 404


def test_what_is_not_here_is_not_served(scene: Scene):
    with pytest.raises(LeadlineError, match="have been pulled"):
        scene.server.command("models serve", weights="../secret")


def test_weights_go_with_their_model_only_where_that_is_said(scene: Scene):
    scene.serve()
    with pytest.raises(PermissionDenied, match="--force"):
        scene.server.command("models rm", name="second")
    told = scene.server.command("models rm", name="second", force=True)

    assert told["withdrawn"] == ["second"]
    assert not (scene.data / "models" / "second.gguf").exists()
    assert scene.status_of("second") == 404


def test_an_alias_comes_and_goes_between_two_requests(scene: Scene):
    statuses = [scene.status_of("gpt-4o")]
    for remove in (False, True):
        assert scene.server.command("models alias", name="first", alias="gpt-4o", remove=remove)["holds_now"]
        statuses.append(scene.status_of("gpt-4o"))

    assert statuses == [404, 200, 404]


def test_requests_beside_changes_find_a_model_whole_or_not_at_all(scene: Scene):
    done = threading.Event()

    def ask(model: str) -> set[int]:
        statuses: set[int] = set()
        while not done.is_set():
            statuses.add(scene.status_of(model))
        return statuses

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, model) for model in ("first", "second", "first", "mine")]
        for _ in range(3):
            scene.serve(aliases=["mine"])
            while scene.offers("second"):
                with suppress(Unavailable):  # a request runs on it
                    scene.server.command("models withdraw", name="second")
        done.set()
        found = [one.result() for one in asking]

    assert found[0] == found[2] == {200}
    assert found[1] | found[3] <= {200, 404}
    assert (scene.data / "leadline.toml").read_text().strip() == FILE.strip()


def test_without_a_server_it_is_written_and_the_default_model_stays(tmp_path: Path):
    leadline = CommandLine.with_alice(tmp_path / "data")
    (leadline.data / "leadline.toml").write_text("# nothing yet\n")
    (leadline.data / "models").mkdir()
    (leadline.data / "models" / "second.gguf").write_bytes(gguf(SMALL, (64, 100)))
    done = leadline("models", "serve", "second", "--input", "0.10", "--alias", "mine", "--load", "start")

    assert (done.code, "at its start" in done.err) == (0, True), done.err
    text = (leadline.data / "leadline.toml").read_text()
    assert text.startswith("# nothing yet\n")
    assert [one["name"] for one in tomllib.loads(text)["engines"]] == ["default", "second"]
    listed = {one["name"]: one for one in leadline.json("models", "list")["models"]}
    assert list(listed) == ["smollm2-135m-instruct", "second"]
    assert "grok-beta" in listed["smollm2-135m-instruct"]["aliases"]
    assert (listed["second"]["aliases"], listed["second"]["input_ticks"]) == (["mine"], 1000)
    assert leadline("models", "withdraw", "second").code == 0
    assert [one["name"] for one in leadline.json("models", "list")["models"]] == ["smollm2-135m-instruct"]


def test_the_list_shows_size_context_and_prices(scene: Scene, tmp_path: Path):
    scene.serve(prices={"input": "3", "output": "0.40"})
    [first, second] = scene.server.command("models list")["models"]
    leadline = CommandLine.with_alice(tmp_path / "remote")
    [head, remote, *_] = leadline("models", "list").out.splitlines()

    assert (first["size_bytes"], first["context_tokens"]) == (len(gguf(SMALL, (64, 100))), 1000)
    assert (second["input_ticks"], second["output_ticks"]) == (30_000, 4_000)
    assert head.split() == ["MODEL", "STATE", "SIZE", "CONTEXT", "INPUT/1M", "OUTPUT/1M", "ENGINE", "ALIASES"]
    assert remote.split()[:9] == ["tiny", "no", "server", "runs", "-", "-", "$0.10", "$0.40", "remote"]


def test_what_the_environment_says_is_not_overruled_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    leadline = CommandLine.with_alice(tmp_path / "data")
    (leadline.data / "models").mkdir()
    (leadline.data / "models" / "second.gguf").write_bytes(gguf(SMALL, (64, 100)))
    monkeypatch.setenv("LEADLINE_MODELS", '[{name = "a", engine = "remote"}]')
    done = leadline("models", "serve", "second")

    assert (done.code, "LEADLINE_MODELS" in done.err) == (4, True)
