"""Runs the command `leadline` in this process, on a folder that no server has open."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner

from leadline.cli.root import cli
from tests.cli.process import NO_MODEL, PASSWORD, PERSON, Done


def leadline(*args: str, stdin: str = "", **more: str) -> Done:
    """`more` are variables of the environment."""
    done = CliRunner().invoke(cli, args, input=stdin, env=more)
    return Done(done.exit_code, done.stdout, done.stderr)


def init(data: Path, *args: str) -> Done:
    return leadline("init", "--data", str(data), *PERSON, *args, stdin=f"{PASSWORD}\n")


@dataclass(frozen=True)
class CommandLine:
    """`leadline` on one folder."""

    data: Path

    @classmethod
    def with_alice(cls, data: Path) -> Self:
        """A new instance with an organisation that has five dollars and the key `first-key`."""
        data.mkdir()
        (data / "leadline.toml").write_text(NO_MODEL)
        assert init(data).code == 0
        return cls(data)

    def __call__(self, *args: str, stdin: str = "") -> Done:
        return leadline("--data", str(self.data), *args, stdin=stdin)

    def json(self, *args: str) -> Any:
        done = self(*args, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)
