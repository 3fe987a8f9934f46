"""`leadline logs`: the server's log for people, over every change of its file."""

import json
import logging.handlers
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leadline.operations.log_lines import Follower, last_lines
from leadline.operations.logs import JsonLines
from tests.cli.in_process import leadline
from tests.cli.process import DEADLINE_SECONDS, environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def write(folder: Path, *lines: str, file: str = "leadline.log") -> None:
    with (folder / file).open("a") as log:
        log.writelines(f"{line}\n" for line in lines)


def entry(**fields: object) -> str:
    return json.dumps({"at": 1.0, "level": "info", "logger": "leadline.access", "message": "request"} | fields)


def test_a_request_is_a_short_line_and_a_failure_is_named_with_what_is_known_of_it(folder: Path):
    asked = {"request_id": "r1", "method": "POST", "path": "/v1/messages", "status": 200, "seconds": 0.1234}
    write(folder, entry(**asked), entry(level="warning", message="engine failed to load", engine="gpu-1", why="gone"))
    first, second = leadline("logs", "--data", str(folder.parent)).out.splitlines()

    assert first.endswith(" 200 POST /v1/messages 123 ms r1")
    assert second.endswith(" warning engine failed to load engine=gpu-1 why=gone")


def test_as_json_lines_are_as_they_stand_in_the_log(folder: Path):
    lines = [entry(path="/\u001b[2J"), "no JSON at all"]
    write(folder, *lines)

    assert leadline("logs", "--json", "--data", str(folder.parent)).out.splitlines() == lines


def test_nothing_in_a_log_commands_the_terminal(folder: Path):
    write(folder, entry(message="\x1b[2J\u202eab\x9b1m\nline"), entry(status=200, path="/\x1b]0;x\x07"), "\x1b[31mraw")
    out = leadline("logs", "--data", str(folder.parent)).out

    assert len(out.splitlines()) == 3
    assert not any(one in out for one in "\x1b\x07\x9b\u202e")


def test_the_last_lines_come_from_older_files_too(folder: Path):
    write(folder, "1", "2", file="leadline.log.2")
    write(folder, "3", file="leadline.log.1")
    write(folder, "4", "5")
    with (folder / "leadline.log").open("a") as log:
        log.write("half of a li")

    assert last_lines(folder, 4) == [b"2", b"3", b"4", b"5"]
    assert last_lines(folder, 1) == [b"5"]
    assert last_lines(folder, 100) == [b"1", b"2", b"3", b"4", b"5"]
    assert leadline("logs", "--lines", "3", "--data", str(folder.parent)).out == "3\n4\n5\n"


def test_long_files_are_read_from_their_end(folder: Path):
    write(folder, *(f"{number} {'x' * 100}" for number in range(5000)))

    assert [line.split()[0] for line in last_lines(folder, 1500)] == [b"%d" % number for number in range(3500, 5000)]


def test_a_follower_loses_nothing_and_repeats_nothing_while_files_take_each_others_place(folder: Path):
    handler = logging.handlers.RotatingFileHandler(folder / "leadline.log", maxBytes=500, backupCount=3)
    handler.setFormatter(JsonLines())
    follower, seen = Follower(folder), []

    for number in range(200):
        handler.emit(logging.LogRecord("a", logging.INFO, "", 0, "%d", (number,), None))
        if number % 13 == 0:
            seen += [json.loads(line)["message"] for line in follower.new()]
    seen += [json.loads(line)["message"] for line in follower.new()]
    handler.close()
    follower.close()

    assert seen == [str(number) for number in range(200)]


def test_a_follower_waits_for_the_first_file_and_for_the_end_of_a_line(folder: Path):
    follower = Follower(folder)
    assert list(follower.new()) == []
    with (folder / "leadline.log").open("a") as log:
        log.write("first\nsec")
        log.flush()
        assert list(follower.new()) == [b"first"]
        log.write("ond\n")
    assert list(follower.new()) == [b"second"]
    follower.close()


def test_without_a_log_it_is_said_what_writes_one(tmp_path: Path):
    done = leadline("logs", "--data", str(tmp_path))

    assert (done.code, done.out) == (1, "")
    assert "leadline serve" in done.err


@pytest.mark.slow
def test_following_ends_with_ctrl_c(folder: Path):
    write(folder, "before")
    command = [sys.executable, "-m", "leadline", "logs", "-f", "--data", str(folder.parent)]
    follows = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
    )
    try:
        assert follows.stdout is not None
        assert follows.stdout.readline() == "before\n"
        write(folder, "after")
        assert follows.stdout.readline() == "after\n"
        os.kill(follows.pid, signal.SIGINT)
        assert follows.wait(DEADLINE_SECONDS) == 130
    finally:
        follows.kill()
        follows.communicate()
