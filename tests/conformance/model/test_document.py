"""docs/api.md: it names every endpoint, and each of its examples answers as it says."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from leadline.dialects.api import openapi
from tests.conformance.seeds.blocks import Block
from tests.conformance.seeds.run import run_bash
from tests.conformance.seeds.test_blocks import assert_shaped

DOCUMENT = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
_EXAMPLE = re.compile(r"```bash\n(.*?)```\n\n```(json|text)\n(.*?)```", re.DOTALL)
_ID = re.compile(r'^\{"(?:request_|batch_)?id":"([^"]+)"')
DEADLINE_SECONDS = 60


def test_every_endpoint_is_in_the_document():
    paths = json.loads(openapi())["paths"]
    named = [f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods]
    assert [name for name in named if name not in DOCUMENT] == []


@pytest.mark.model
def test_every_example_answers_as_the_document_says(live, bill, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("There is no curl.")
    (tmp_path / ".curlrc").write_text(f'dump-header = "{tmp_path}/headers"\n')
    real_ids: dict[str, str] = {}

    def run(command: str) -> str:
        """What it prints, of this server and with the ids of its own answers. A deferred completion and a batch are
        waited for."""
        for told, real in real_ids.items():
            command = command.replace(told, real)
        block = Block("bash", command.replace("http://localhost:8080", live.base_url))
        until = time.monotonic() + DEADLINE_SECONDS
        while True:
            printed = run_bash(block, live=live, XAI_API_KEY=live.api_key, CURL_HOME=str(tmp_path))
            if printed and '"num_pending":1' not in printed:
                return printed
            assert time.monotonic() < until

    examples = _EXAMPLE.findall(DOCUMENT)
    assert len(examples) == DOCUMENT.count("```bash")
    for command, kind, told in examples:
        printed = run(command)
        if " -d " in command:
            [request_id] = re.findall(r"(?m)^x-request-id: (\S+)", (tmp_path / "headers").read_text())
            bill.note(request_id, printed.encode())
        elif "/deferred-completion/" in command:
            bill.note(json.loads(printed)["id"], printed.encode())
        elif "/results" in command:
            [result] = json.loads(printed)["results"]
            bill.note(result["batch_result"]["response"]["chat_get_completion"]["id"], printed.encode())
        if kind == "text":
            assert _events(printed) == _events(told)
            continue
        real, sample = json.loads(printed), json.loads(told)
        assert_shaped(real, sample)
        assert_shaped(sample, real)
        if identified := _ID.match(told):
            real_ids[identified[1]] = next(iter(real.values()))


def _events(stream: str) -> list[str]:
    """The names of its events; of OpenAI's chunks, which have none, their number and the end."""
    return re.findall(r"(?m)^(event: .+|data: (?:\{\"id\"|\[DONE\]))", stream)
