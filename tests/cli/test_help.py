"""`--help` of every command: examples that are commands, and the same options everywhere."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from leadline.cli.root import cli
from tests.cli.in_process import leadline

WIDEST_COLUMNS = 100


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Those that do something, each by the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    if command.invoke_without_command:
        yield path, command
    for name, below in command.commands.items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands())
EVERY = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


@EVERY
def test_every_command_prints_json_and_takes_a_folder(path: tuple[str, ...]):
    assert options(COMMANDS[path]) >= {"--json", "--data"}


@EVERY
def test_every_help_fits_and_has_two_examples_of_this_command(path: tuple[str, ...]):
    shown = leadline(*path, "--help", COLUMNS="200")
    lines = [line.strip() for line in shown.out.splitlines()]
    called = [words for line in lines if "leadline " in line for words in [_words(line)] if words[: len(path)] == path]

    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= WIDEST_COLUMNS
    assert len(called) >= 2, lines
    for words in called:
        asked = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert asked <= options(COMMANDS[path]), words


def _words(line: str) -> tuple[str, ...]:
    """What follows `leadline` in an example."""
    return tuple(shlex.split(line.partition("leadline ")[2].rstrip(")"), comments=True))


def test_the_first_help_names_every_command_once_and_in_order():
    shown = leadline("--help").out
    listed = [line.split()[0] for line in shown.partition("Start:")[2].splitlines() if line.startswith("  ")]

    assert sorted(listed) == sorted(cli.commands)
    assert shown.index("Start:") < shown.index("Use:") < shown.index("Operate:")


def test_who_wants_no_colour_gets_none(tmp_path: Path):
    coloured = CliRunner().invoke(cli, ["doctor", "--data", str(tmp_path)], color=True, env={"NO_COLOR": None})
    plain = CliRunner().invoke(cli, ["doctor", "--data", str(tmp_path)], color=True, env={"NO_COLOR": "1"})

    assert "\x1b[" in coloured.output
    assert "\x1b[" not in plain.output
