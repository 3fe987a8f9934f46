"""A store of files on a real database and disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from leadline.serving.file_contents import FileContents
from leadline.serving.files import Files
from leadline.storage.database import Database
from leadline.storage.sealed import Sealer
from tests.unit.ledger.scenes import SteppedClock
from tests.unit.serving.file_scenes import MOST


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
async def store(database: Database, clock: SteppedClock, folder: Path) -> AsyncIterator[Files]:
    opened = Files(database, FileContents(folder, Sealer(b"s" * 32)), MOST, clock)
    yield opened
    await opened.close(30)
