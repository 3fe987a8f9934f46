"""What all tests share: the scripted server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripted.server import ScriptedServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    """A fresh server on the scripted engine, with one dollar of credits."""
    server = ScriptedServer(tmp_path / "data")
    yield server
    server.stop()
