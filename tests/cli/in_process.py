"""Runs the command `leadline` in this process, on a folder that no server has open."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from leadline.cli.root import cli
from tests.cli.process import EMAIL, NO_MODEL, PASSWORD, Done


@dataclass(frozen=True)
class CommandLine:
    """`leadline` on one folder."""

    data: Path

    @classmethod
    def with_alice(cls, data: Path) -> "CommandLine":
        """A new instance with an organisation that has five dollars and the key `first-key`."""
        data.mkdir()
        (data / "leadline.toml").write_text(NO_MODEL)
        leadline = cls(data)
        person = ("--email", EMAIL, "--org", "Northwind Labs", "--password-stdin", "--yes")
        assert leadline("init", *person, stdin=f"{PASSWORD}\n").code == 0
        return leadline

    def __call__(self, *args: str, stdin: str = "") -> Done:
        done = CliRunner().invoke(cli, ["--data", str(self.data), *args], input=stdin)
        return Done(done.exit_code, done.stdout, done.stderr)

    def json(self, *args: str) -> Any:
        done = self(*args, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)
