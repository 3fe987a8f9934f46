"""docs/grpc.md: its programs run, and it names every field of a completion's request."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leadline.dialects.xai.protos import chat
from tests.conformance.xai.test_fields import FIELDS, Refused

DOCUMENT = (Path(__file__).parents[3] / "docs" / "grpc.md").read_text("utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
DEADLINE_SECONDS = 120


def _fields(row: str) -> set[str]:
    [told] = re.findall(rf"(?m)^\| {row} \| (.*) \|$", DOCUMENT)
    return set(re.findall(r"`(\w+)`", told))


def test_every_field_is_in_the_document_once() -> None:
    honoured, harmless, refused = map(_fields, ("honoured", "harmless", "refused by name"))
    assert honoured | harmless | refused == set(chat.GetCompletionsRequest.DESCRIPTOR.fields_by_name)
    assert not honoured & harmless
    assert not (honoured | harmless) & refused
    assert refused == {
        name
        for name, tries in FIELDS.items()
        if any(isinstance(one, Refused) for one in tries) and name not in honoured
    }


@pytest.mark.model
@pytest.mark.parametrize("program", PROGRAMS)
def test_its_programs_run(live, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program.replace("localhost:8081", live.grpc_address)],
        env=os.environ | {"XAI_API_KEY": live.api_key},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Paris", done.stdout)
