"""What is in `deploy/`: each file by its own tool where that is here, and all of them against what the server has."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.cli.process import DEADLINE_SECONDS, NO_MODEL, Done, Serving, environment, init, leadline
from tests.raw import post
from tests.scripted.server import ScriptedServer

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_TOKEN = "a-token-for-prometheus"
_METRIC = re.compile(r"\b(?:leadline|gen_ai|process)_[a-z_]+\b")
# Labels, which look like metrics.
_LABELS = {"gen_ai_request_model", "gen_ai_token_type"}


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "leadline.json").read_text("utf-8"))["panels"]
    return found


@pytest.mark.slow
def test_each_file_is_good_by_its_own_tool():
    """Those that come with the dev environment look in any case; others where they are."""
    tools = environment(LEADLINE_BIN=str(Path(sys.executable).parent))
    done = subprocess.run([DEPLOY / "lint.sh"], capture_output=True, text=True, check=False, env=tools)

    assert done.returncode == 0, done.stdout
    for what in ("Dockerfile", "all YAML", "kubernetes/"):
        assert f"good: {what}\n" in done.stdout or f"not looked at: {what}: hadolint" in done.stdout


def test_alerts_and_dashboard_ask_only_for_what_the_server_tells(tmp_path: Path) -> None:
    """And each of their metrics has the labels by which they narrow it."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "leadline.toml").write_text(f'[metrics]\ntoken = "{_TOKEN}"\n{NO_MODEL}')
    server = ScriptedServer(tmp_path / "data")
    try:
        question = b'{"model": "echo", "stream": true, "messages": [{"role": "user", "content": "Hello you there"}]}'
        post(server.port, "/v1/chat/completions", server.api_key, question)
        headers = {"authorization": f"Bearer {_TOKEN}"}
        text = httpx2.get(f"{server.base_url}/metrics", headers=headers, timeout=DEADLINE_SECONDS).text
    finally:
        server.stop()
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    told = {f"{name}{end}" for name, kind in kinds.items() for end in _ends(kind)}
    asked = [rule["expr"] for rule in alerts()]
    asked += [target["expr"] for panel in panels() for target in panel["targets"]]

    assert len(asked) > 30
    assert {name for expr in asked for name in _METRIC.findall(expr)} - told - _LABELS == set()


def _ends(kind: str) -> tuple[str, ...]:
    return ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)


def test_the_runbook_has_a_section_for_each_alert_and_for_nothing_else() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")

    assert re.findall(r"^## (Leadline\w+)$", runbook, re.MULTILINE) == [rule["alert"] for rule in alerts()]
    assert {rule["labels"]["severity"] for rule in alerts()} == {"page", "ticket"}


def test_the_configuration_of_compose_and_kubernetes_is_one_and_good(tmp_path: Path) -> None:
    told = (DEPLOY / "leadline.toml").read_text("utf-8")
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "leadline.yaml").read_text("utf-8")))
    [mounted] = [one["data"]["leadline.toml"] for one in documents if one["kind"] == "ConfigMap"]
    (tmp_path / "leadline.toml").write_text(told)
    checked = leadline("serve", "--check", "--data", str(tmp_path), VLLM_API_KEY="key")

    assert _settings(told) == _settings(mounted)
    assert checked.code == 0, checked.err


def _settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_image_and_unit_start_what_the_command_line_knows() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    unit = (DEPLOY / "leadline.service").read_text("utf-8")
    command = json.loads(re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)[-1])

    assert command == ["serve", "--host", "0.0.0.0"]
    assert re.search(r"^ExecStart=\S+/leadline serve$", unit, re.MULTILINE)
    assert set(re.findall(r"COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)) == {
        "requirements.lock",
        "pyproject.toml README.md LICENSE THIRD_PARTY.md",
        "docs",
        "src",
    }


def drill(*arguments: Path) -> Done:
    done = subprocess.run(
        [DEPLOY / "backup-drill.sh", *arguments],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_SECONDS,
        env=environment(LEADLINE=f"{sys.executable} -m leadline"),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
async def test_the_backup_drill_restores_what_a_running_server_has(tmp_path: Path) -> None:
    data, keep = tmp_path / "data", tmp_path / "keep"
    keep.mkdir()
    assert init(data).code == 0
    (data / "leadline.toml").write_text(NO_MODEL)
    server = await Serving.start(data)
    await server.event("serving")
    done = await asyncio.to_thread(drill, data, keep)
    code = await server.stop()

    assert done.code == 0, done.err
    assert [line.partition(".")[0] for line in done.out.splitlines() if line[:1].isdigit()][-1] == "3"
    assert "the drill is passed" in done.out
    assert len(os.listdir(keep)) == 1
    assert code == 0


@pytest.mark.slow
def test_the_backup_drill_fails_where_the_kept_secret_is_another(tmp_path: Path) -> None:
    data, keep, other = tmp_path / "data", tmp_path / "keep", tmp_path / "secret"
    keep.mkdir()
    assert init(data).code == 0
    other.write_text("another-secret-that-is-long-enough-for-it")
    done = drill(data, keep, other)

    assert done.code != 0
    assert "drill is passed" not in done.out
    assert "secret" in done.err
