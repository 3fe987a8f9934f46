"""The Python SDKs' newest major and the one before it find the same, and so do xAI's newest SDK and older releases of
it. Two of one cannot live in one environment: the older ones lie in folders of their own, which `make dev` fills from
the lock files beside this."""

import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadline.chat.events import ChoiceFinished, Finished, Started, TextDelta, Usage
from tests.scripted.engine import SCRIPTS, prompt_tokens
from tests.scripted.server import ScriptedServer

pytestmark = pytest.mark.slow

MATRIX = Path(__file__).with_name("matrix.py")
OLDER = Path(sys.prefix) / "older"
CHECKS = 15
XAI_MATRIX = Path(__file__).with_name("xai_matrix.py")
XAI_CHECKS = 7


def capital(request):
    """An answer in JSON."""
    prompt = prompt_tokens(request)
    yield (Started(prompt),)
    yield (TextDelta('{"capital":'), TextDelta('"Paris"}'))
    yield (ChoiceFinished("stop"), Finished(Usage(prompt, output_tokens=2)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    server = ScriptedServer(tmp_path / "data", scripts=SCRIPTS | {"json": capital})
    yield server
    server.stop()


def test_the_newest_sdks_find_what_they_expect(server, monkeypatch, capsys):
    monkeypatch.setenv("BASE_URL", server.base_url)
    monkeypatch.setenv("API_KEY", server.api_key)
    runpy.run_path(str(MATRIX), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == CHECKS


def test_the_majors_before_them_find_the_same(server):
    if not (OLDER / "openai").is_dir():
        pytest.skip(f"The older SDKs are not in {OLDER.name}. Run `make dev`.")
    places = {"BASE_URL": server.base_url, "API_KEY": server.api_key, "PYTHONPATH": str(OLDER)}
    done = subprocess.run(
        [sys.executable, "-S", MATRIX],
        capture_output=True,
        text=True,
        timeout=300,
        env=places | {"PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == CHECKS
    assert "openai 1.109.1 chat_completions" in lines
    assert "anthropic 0.125.0 messages" in lines


def test_the_newest_sdk_of_xai_finds_what_it_expects(server, monkeypatch, capsys):
    monkeypatch.setenv("API_HOST", server.grpc_address)
    monkeypatch.setenv("API_KEY", server.api_key)
    with warnings.catch_warnings():  # the script says which it does not look at
        runpy.run_path(str(XAI_MATRIX), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == XAI_CHECKS


@pytest.mark.slow
@pytest.mark.parametrize("release", ["1.0", "1.6"])
def test_older_sdks_of_xai_find_the_same(server, release):
    folder = Path(sys.prefix) / f"xai-{release}"
    if not (folder / "xai_sdk").is_dir():
        pytest.skip(f"xAI's older SDK is not in {folder.name}. Run `make dev`.")
    places = {"API_HOST": server.grpc_address, "API_KEY": server.api_key, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-S", XAI_MATRIX],
        capture_output=True,
        text=True,
        timeout=300,
        env=places | {"PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == XAI_CHECKS
    assert f"xai-sdk {release}.0 tools" in lines
