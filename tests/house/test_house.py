"""House rules that a tool can check."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FUNCTION_LINES = 70
SOURCES = sorted((ROOT / "src").rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
HOSTS = re.compile(r"https?://[^\s\"']*(pypi|pythonhosted|npmjs|registry)", re.IGNORECASE)


def test_import_contracts_hold():
    done = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True, env=_environment(), check=False)
    assert done.returncode == 0, done.stdout


def test_a_bad_import_breaks_a_contract(tmp_path):
    """The contracts can fail: a dialect that reaches for the ledger is found."""
    copy = tmp_path / "src" / "leadline"
    shutil.copytree(ROOT / "src" / "leadline", copy)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    module = copy / "dialects" / "openai" / "keys.py"
    module.write_text(module.read_text() + "\nfrom leadline.ledger import ledger\n")
    environment = _environment() | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        ["lint-imports", "--no-cache"], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert "Dialects reach money and models only through serving BROKEN" in done.stdout


def _environment() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


def test_every_module_and_public_class_says_what_it_is_for():
    silent = []
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        if tree.body and not ast.get_docstring(tree):
            silent.append(str(path))
    assert silent == []


def test_no_function_is_longer_than_a_screen():
    long = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION_LINES
    ]
    assert long == []


def test_no_module_is_dead():
    """Every module is imported by another one, or is an entry."""
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)
    entries = {
        "leadline.__main__",
        "leadline.engines.llamacpp.child",
        "leadline.engines.openvino.child",
        "leadline.weights.fetch",
        "leadline.weights.requantiser",
        "leadline.images.child",
    }
    dead = []
    for path in SOURCES:
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        package, _, module = name.rpartition(".")
        imported = f"from {name} import" in text or re.search(rf"from {package} import (.*|\([^)]*)\b{module}\b", text)
        if path.name != "__init__.py" and name not in entries and not imported:
            dead.append(name)
    assert dead == []


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-dev.lock", "tests/conformance/older/requirements.lock"]
)
def test_locks_hold_hashes_and_no_hosts(lock):
    text = (ROOT / lock).read_text()
    pins = re.findall(r"^([a-z0-9._-]+)==\S+(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    assert len(pins) > 10
    assert [name for name, rest in pins if "--hash=sha256:" not in rest] == []
    assert not HOSTS.search(text)


def test_the_javascript_lock_holds_no_hosts():
    text = (ROOT / "tests/conformance/javascript/package-lock.json").read_text()
    assert '"resolved"' not in text
    assert not HOSTS.search(text.replace("https://opencollective", ""))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_documents_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_the_changelog_knows_the_version():
    from leadline import __version__

    assert __version__ in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_nothing_prints_but_the_command_line():
    printing = [
        path.name
        for path in SOURCES
        if "cli" not in path.parts and re.search(r"^\s*print\(", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert printing == []
