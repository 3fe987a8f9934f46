"""`leadline db` as its users see it, on a closed folder and beside a running server."""

import asyncio
import json
import os
import re
import shutil
import stat
from importlib import resources
from pathlib import Path

import apsw
import pytest

from leadline.storage.schema import newest_schema
from tests.cli.in_process import CommandLine
from tests.cli.process import EMAIL, Serving
from tests.cli.process import leadline as process
from tests.raw import post

pytestmark = pytest.mark.slow

CREDIT = 5 * 10**10


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    return CommandLine.with_alice(tmp_path / "data")


def balance(leadline: CommandLine) -> int:
    ticks: int = leadline.json("credits", "balance", EMAIL)["balance_ticks"]
    return ticks


def test_a_backup_says_what_is_in_it_and_warns_that_the_secret_is_not(leadline: CommandLine, tmp_path: Path) -> None:
    told = leadline("db", "backup", str(tmp_path / "a.tar"))
    made = leadline.json("db", "backup", str(tmp_path / "b.tar.gz"), "--with-secret")

    assert told.code == 0
    assert f"Wrote {tmp_path}/a.tar: leadline.db (0." in told.out
    assert "The secret is not in it" in told.err
    assert made["file"] == str(tmp_path / "b.tar.gz")
    assert list(made["members"]) == ["leadline.db", "leadline.toml", "secret"]
    assert made["schema"] == newest_schema()
    assert stat.S_IMODE(os.stat(tmp_path / "b.tar.gz").st_mode) == 0o600


def test_a_restore_to_a_new_folder_is_audited_and_told(leadline: CommandLine, tmp_path: Path) -> None:
    leadline("db", "backup", str(tmp_path / "a.tar"), "--with-secret")
    practice = CommandLine(tmp_path / "practice")

    done = practice("db", "restore", str(tmp_path / "a.tar"))

    assert done.code == 0, done.err
    assert "1 entries checked: every rule holds." in done.out
    assert balance(practice) == CREDIT


def test_what_is_refused_ends_with_4_and_a_way_out(leadline: CommandLine, tmp_path: Path) -> None:
    file = str(tmp_path / "a.tar")
    leadline("db", "backup", file)
    notes = tmp_path / "notes.tar"
    notes.write_text("notes")

    outcomes = {
        "never overwrites": leadline("db", "backup", file),
        "--replace": leadline("db", "restore", file),
        "LEADLINE_SECRET": CommandLine(tmp_path / "other")("db", "restore", file),
        "no backup of Leadline": leadline("db", "restore", str(notes), "--replace"),
    }

    for words, done in outcomes.items():
        assert (done.code, done.out) == (4, ""), done
        assert words in done.err
    assert leadline("db", "restore", str(tmp_path / "nothing.tar")).code == 2
    assert leadline("db", "backup", str(tmp_path / "no" / "folder.tar")).code == 2
    assert balance(leadline) == CREDIT


@pytest.mark.parametrize("command", [("backup", "a.tar"), ("upgrade",)])
def test_a_folder_without_a_database_is_not_given_one(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = CommandLine(tmp_path / "mistyped")("db", *command)

    assert (done.code, "There is no database in" in done.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_broken_books_are_brought_back_loudly_and_end_with_1(leadline: CommandLine, tmp_path: Path) -> None:
    connection = apsw.Connection(str(leadline.data / "leadline.db"))
    connection.execute("UPDATE accounts SET balance_ticks = balance_ticks + 1")
    connection.close()
    leadline("db", "backup", str(tmp_path / "a.tar"), "--with-secret")

    told = CommandLine(tmp_path / "other")("db", "restore", str(tmp_path / "a.tar"))
    listed = leadline("db", "restore", str(tmp_path / "a.tar"), "--replace", "--json")

    assert told.code == listed.code == 1
    assert "THE BOOKS ARE BROKEN" in told.err
    assert "I1: the entries of" in told.err
    assert json.loads(listed.out)["broken"][0].startswith("I1: the entries of")


def test_an_upgrade_says_from_which_schema_to_which_and_keeps_the_old_one(leadline: CommandLine) -> None:
    same = leadline("db", "upgrade").out
    schema = newest_schema()
    connection = apsw.Connection(str(leadline.data / "leadline.db"))
    # As it was before the newest migration, which made tables, columns and indexes; a table that took another's name
    # was there before, too.
    files = resources.files("leadline.storage").joinpath("migrations").iterdir()
    [newest] = [file for file in files if file.name.startswith(f"{schema:04}_")]
    text = newest.read_text("utf-8")
    for kind, name in re.findall(r"CREATE (?:UNIQUE )?(TABLE|INDEX) (\w+)", text):
        connection.execute(f"DROP {kind} IF EXISTS {name}")
    for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", text):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    connection.execute("DELETE FROM migrations WHERE number = ?", (schema,))
    before = connection.execute("SELECT MAX(number) FROM migrations").get
    connection.close()

    upgraded = leadline.json("db", "upgrade")

    assert same == f"The database has schema {schema}, the newest.\n"
    copy = leadline.data / f"leadline.db.before-upgrade-{before}"
    assert upgraded == {"from": before, "to": schema, "copy": str(copy)}
    assert balance(leadline) == CREDIT
    shutil.copy(copy, leadline.data / "leadline.db")
    assert f"from schema {before} to {schema}. The old one is kept as {copy}" in leadline("db", "upgrade").out


def test_a_command_that_takes_long_says_so_on_standard_error(
    leadline: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = leadline("credits", "verify", "--json")
    monkeypatch.setattr("leadline.cli.spinner.PATIENCE_SECONDS", 0)

    long = leadline("credits", "verify", "--json")

    assert quick.err == ""
    assert long.err == "  checking the books …\n"
    assert long.out == quick.out


@pytest.fixture
def key(leadline: CommandLine) -> str:
    made: str = leadline.json("keys", "create", "--name", "laptop")["api_key"]
    return made


async def test_a_backup_beside_a_running_server_is_one_that_brings_it_back(
    leadline: CommandLine, key: str, tmp_path: Path
) -> None:
    data = leadline.data
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}).encode()

    async def status(serving: Serving) -> int:
        port = int((await serving.event("serving"))["base_url"].rpartition(":")[2])
        return (await asyncio.to_thread(post, port, "/v1/chat/completions", key, body)).status

    serving = await Serving.start(data)
    before = await status(serving)
    file = os.path.relpath(tmp_path / "beside.tar")
    made = await asyncio.to_thread(leadline, "db", "backup", file, "--json")
    revoked = await asyncio.to_thread(leadline, "keys", "revoke", "laptop")
    beside = await asyncio.to_thread(leadline, "db", "restore", file, "--replace")
    upgraded = await asyncio.to_thread(leadline, "db", "upgrade", "--json")
    assert await serving.stop() == 0

    assert made.json["file"] == str(tmp_path / "beside.tar")
    assert (made.code, revoked.code) == (0, 0)
    assert (beside.code, "Stop it first" in beside.err) == (4, True)
    assert upgraded.json == {"from": newest_schema(), "to": newest_schema(), "copy": None}

    assert process("db", "restore", file, "--replace", "--data", str(data)).code == 0
    serving = await Serving.start(data)
    after = await status(serving)
    assert await serving.stop() == 0
    assert (before, after) == (503, 503), "the model is not there, but the key works: it is not 401"
