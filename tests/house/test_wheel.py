"""What `pip install` gives a user: the built wheel, alone, runs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.process import environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_built_wheel_holds_everything_and_runs(tmp_path):
    build = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation")
    subprocess.run([*build, "-q", "-w", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("leadline-*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    tracked = {path.relative_to(ROOT / "src") for path in (ROOT / "src" / "leadline").rglob("*") if path.is_file()}
    wanted = {path for path in tracked if path.suffix != ".pyc"}
    assert {path for path in wanted if not (unpacked / path).is_file()} == set()
    person = ("--email", "a@b.example", "--org", "Northwind", "--password-stdin", "--yes", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "leadline", "init", "--data", str(tmp_path / "data"), *person],
        input="correct horse\n",
        capture_output=True,
        text=True,
        env=environment(PYTHONPATH=str(unpacked)),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "api_key" in done.stdout
