"""The lines of the access log that a test has captured."""

import json
from typing import Any

import pytest

from leadline.web import access


def forget_access_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Those that other tests left."""
    access.flush()
    caplog.clear()


def access_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was gathered is handed over first."""
    access.flush()
    records = [record for record in caplog.records if record.name == access.NAME]
    return [json.loads(line) for record in records for line in record.getMessage().splitlines()]
