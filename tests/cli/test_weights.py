"""`leadline models rm`: pulled weights go, but not from under an engine."""

from pathlib import Path

import pytest

from tests.cli.in_process import CommandLine
from tests.scripted.gguf import PROJECTOR, SMALL, gguf
from tests.scripted.server import ScriptedServer

CONTENT = gguf(SMALL, (64, 100))
USED = '[[engines]]\nname = "here"\nkind = "llamacpp"\nweights = "tiny"\n[[models]]\nname = "tiny"\nengine = "here"\n'


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    leadline = CommandLine.with_alice(tmp_path / "data")
    put(leadline.data, "tiny.gguf")
    return leadline


def put(data: Path, name: str, content: bytes = CONTENT) -> Path:
    (data / "models").mkdir(exist_ok=True)
    (data / "models" / name).write_bytes(content)
    return data / "models" / name


def test_weights_go_with_their_projector_and_it_is_said_how_much_is_free(leadline: CommandLine):
    put(leadline.data, "tiny.mmproj", gguf(PROJECTOR))
    other = put(leadline.data, "other.gguf")
    freed = leadline.json("models", "rm", "tiny")

    assert freed == {"name": "tiny", "freed_bytes": len(CONTENT) + len(gguf(PROJECTOR)), "withdrawn": []}
    assert [one for one in other.parent.iterdir() if one.name.startswith("tiny")] == []
    assert other.exists()
    again = leadline("models", "rm", "tiny")
    assert (again.code, again.out, "models list" in again.err) == (1, "", True)


def test_a_file_that_is_only_referred_to_stays(leadline: CommandLine, tmp_path: Path):
    elsewhere = tmp_path / "mine.gguf"
    elsewhere.write_bytes(CONTENT)
    assert leadline("models", "pull", str(elsewhere), "--link").code == 0

    assert leadline.json("models", "rm", "mine")["freed_bytes"] == 0
    assert elsewhere.read_bytes() == CONTENT


def test_weights_that_the_next_start_needs_go_only_with_force(leadline: CommandLine):
    (leadline.data / "leadline.toml").write_text(USED)
    refused = leadline("models", "rm", "tiny")

    assert (refused.code, "--force" in refused.err) == (4, True)
    assert (leadline.data / "models" / "tiny.gguf").exists()
    assert leadline("models", "rm", "tiny", "--force").code == 0


def test_no_force_takes_them_from_the_only_model_of_a_server(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "leadline.toml").write_text(USED)
    path = put(data, "tiny.gguf")
    server = ScriptedServer(data)
    server.instance.engines = {"here": server.engine}
    try:
        with pytest.raises(Exception, match="only model"):
            server.command("models rm", name="tiny", force=True)
    finally:
        server.stop()
    assert path.exists()
