"""docs/management.md: its programs run one after another, and it names every path and operation."""

import os
import re
import subprocess
import sys
from pathlib import Path

from leadline.management.api import ROUTES
from tests.conformance.management.conftest import Management, chat

DOCUMENT = (Path(__file__).parents[3] / "docs" / "management.md").read_text("utf-8")
PROGRAMS = re.findall(r"```(bash|python) \w+\n(.*?)```", DOCUMENT, re.DOTALL)
DEADLINE_SECONDS = 60


def test_its_programs_run(management: Management):
    server = management.server
    assert chat(server, server.api_key).status == 200
    environment = os.environ | {"XAI_MANAGEMENT_KEY": management.key}
    told = []
    for language, program in PROGRAMS:
        # What is refused is a failure, whatever curl thinks of it.
        script = program.replace("curl -sS", "curl -sS --fail-with-body")
        script = script.replace("http://localhost:8080", server.base_url)
        command = [sys.executable, "-W", "error", "-c"] if language == "python" else ["bash", "-euc"]
        done = subprocess.run(
            [*command, script], env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )
        assert done.returncode == 0, (program, done.stdout, done.stderr)
        told.append(done.stdout)
    text = "\n".join(told)
    assert len(told) == 6
    for wanted in (server.organisation_id, '"tpm":"100000"', "['first-key', 'ci']", "SPEND", "Chat grok-beta"):
        assert wanted in text
    assert "keys create" in told[-1]


def test_it_names_every_path_and_operation():
    for (method, path), (operation, _) in ROUTES.items():
        assert not operation or f"`{operation}`" in DOCUMENT
        short = path.replace("{team_id}", "{team}").replace("{api_key_id}", "{id}")
        short = short.replace("/v1/billing/teams/{team}/", "/").replace("/payment-method/default", "…/default")
        assert short in DOCUMENT, (method, path)
    assert re.findall(r"llm_\w{8}_", DOCUMENT) == []
