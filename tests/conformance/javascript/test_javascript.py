"""The JavaScript SDKs against the real server with the real model, and on the scripted engine. What they
find is in the `.mjs` files."""

import os
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
DEADLINE_SECONDS = 600
SCRIPTED = ("embeddings.test.mjs", "files.test.mjs", "parameters.test.mjs")
pytestmark = [pytest.mark.node, pytest.mark.slow]


@pytest.mark.model
@pytest.mark.parametrize("file", ["openai.test.mjs", "responses.test.mjs", "anthropic.test.mjs"])
def test_the_sdk_finds_what_it_expects(on_llamacpp, node, file):
    _run(node, file, on_llamacpp.base_url, on_llamacpp.api_key)


@pytest.mark.parametrize("file", SCRIPTED)
def test_the_sdk_finds_what_the_script_says(server, node, file):
    _run(node, file, server.base_url, server.api_key)


def test_every_file_is_run():
    run = {name for mark in test_the_sdk_finds_what_it_expects.pytestmark if mark.args for name in mark.args[1]}
    assert run.union(SCRIPTED) == {path.name for path in FOLDER.glob("*.test.mjs")}


def _run(node: str, file: str, base_url: str, api_key: str) -> None:
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", file],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        env={"PATH": os.environ["PATH"], "BASE_URL": base_url, "API_KEY": api_key, "MODEL": "grok-beta"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
