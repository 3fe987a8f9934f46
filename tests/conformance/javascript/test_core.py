"""The JavaScript SDKs' newest major and the one before it find the same on the scripted engine."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.older.test_older import capital
from tests.scripted.engine import SCRIPTS
from tests.scripted.server import ScriptedServer

pytestmark = [pytest.mark.node, pytest.mark.slow]
DEADLINE_SECONDS = 120


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    server = ScriptedServer(tmp_path / "data", scripts=SCRIPTS | {"json": capital})
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("openai", "anthropic"), [("openai", "@anthropic-ai/sdk"), ("openai-before", "anthropic-before")]
)
def test_both_majors_find_what_they_expect(server, node, openai, anthropic):
    places = {"PATH": os.environ["PATH"], "BASE_URL": server.base_url, "API_KEY": server.api_key}
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", "core.mjs"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        env=places | {"OPENAI": openai, "ANTHROPIC": anthropic},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
