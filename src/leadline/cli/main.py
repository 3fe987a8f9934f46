"""The command `leadline`."""

import sys

from leadline.cli.commands import cli


def main() -> None:
    """Run the command line and end the process with its exit code."""
    cli(prog_name="leadline", args=sys.argv[1:])
