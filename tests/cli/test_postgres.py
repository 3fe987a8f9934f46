"""An instance whose books are in PostgreSQL, as its users see it, and the way there."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from leadline.storage import moving
from leadline.storage.schema import newest_schema
from tests.cli.in_process import CommandLine
from tests.cli.process import EMAIL
from tests.postgres import ask, new_database
from tests.raw import post
from tests.scripted.server import ScriptedServer

pytestmark = pytest.mark.slow

CREDIT = 5 * 10**10
ROWS = "SELECT COUNT(*) FROM {}"


@pytest.fixture
def url() -> Iterator[str]:
    with new_database() as made:
        yield made


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    """Alice's instance, in its folder."""
    return CommandLine.with_alice(tmp_path / "data")


@pytest.fixture
def elsewhere(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Alice's instance, in PostgreSQL."""
    monkeypatch.setenv("LEADLINE_DATABASE__URL", url)
    assert "No server runs" in CommandLine(tmp_path / "data")("status").out
    return CommandLine.with_alice(tmp_path / "data")


def balance(leadline: CommandLine) -> int:
    ticks: int = leadline.json("credits", "balance", EMAIL)["balance_ticks"]
    return ticks


def counts(url: str) -> dict[str, int]:
    tables = [name for (name,) in ask(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return {table: ask(url, ROWS.format(table))[0][0] for table in tables if table not in ("facts", "migrations")}


def test_commands_work_on_it_as_on_a_file(elsewhere: CommandLine) -> None:
    key = elsewhere("keys", "create", "--name", "laptop")
    elsewhere("credits", "grant", EMAIL, "1.5", "--reason", "thanks")
    upgraded = elsewhere.json("db", "upgrade")
    verified = elsewhere.json("credits", "verify")
    doctor = elsewhere("doctor")

    assert key.out.startswith("ll_")
    assert balance(elsewhere) == CREDIT + 15 * 10**9
    assert (upgraded["from"], upgraded["to"], upgraded["copy"]) == (newest_schema(), newest_schema(), None)
    assert (verified["ok"], verified["checked"]) == (True, 2)
    assert "Database: PostgreSQL 1" in doctor.out
    assert "pg_dump" in doctor.out
    assert "leadline db backup" not in doctor.out
    assert elsewhere("usage").code == 0
    assert not list(elsewhere.data.glob("*.db"))


def test_a_backup_names_the_tool_that_makes_one_and_a_restore_is_refused(
    elsewhere: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "a.tar").write_bytes(b"")

    backup = elsewhere("db", "backup", str(tmp_path / "b.tar"))
    restore = elsewhere("db", "restore", str(tmp_path / "a.tar"), "--replace")

    assert (backup.code, restore.code) == (4, 4)
    assert "pg_dump" in backup.err
    assert "in PostgreSQL" in restore.err
    assert not (tmp_path / "b.tar").exists()


def test_books_move_whole_and_go_on(tmp_path: Path, url: str) -> None:
    data = tmp_path / "data"
    server = ScriptedServer(data)
    key = server.api_key
    assert chat(server, key) == 200
    server.stop()
    leadline = CommandLine(data)
    before = leadline.json("credits", "verify"), leadline.json("usage"), leadline.json("keys", "list")
    (data / "leadline.toml").write_text("# mine\n[limits.default]\nrequests_per_minute = 0\n", "utf-8")

    moved = leadline.json("db", "move-to-postgres", url)
    after = leadline.json("credits", "verify"), leadline.json("usage"), leadline.json("keys", "list")

    assert after == before
    assert moved["checked"] == before[0]["checked"]
    assert moved["rows"] == sum(counts(url).values()) + len(ask(url, "SELECT 1 FROM facts")) - 1
    assert "# mine" in (data / "leadline.toml").read_text("utf-8")
    again = ScriptedServer(data)
    assert chat(again, key) == 200
    again.stop()
    assert leadline.json("credits", "verify") == {"ok": True, "checked": before[0]["checked"] + 1, "broken": []}


def chat(server: ScriptedServer, key: str) -> int:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    return post(server.port, "/v1/chat/completions", key, json.dumps(body).encode()).status


@pytest.mark.parametrize("cut", ["_copy", "_compare"])
def test_a_move_that_is_cut_off_leaves_nothing_and_can_be_made_again(
    leadline: CommandLine, url: str, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(moving, cut)

    def once_less(source: Any, connection: Any, table: str, *more: Any) -> Any:
        if table == "entries":
            raise psycopg.OperationalError("the connection was lost")
        return whole(source, connection, table, *more)

    monkeypatch.setattr(moving, cut, once_less)
    refused = leadline("db", "move-to-postgres", url)
    left = sum(counts(url).values())
    monkeypatch.undo()
    stayed = balance(leadline)
    moved = leadline("db", "move-to-postgres", url)

    assert (refused.code, left, stayed) == (3, 0, CREDIT)
    assert "kept none of them" in refused.err
    assert moved.code == 0, moved.err
    assert balance(leadline) == CREDIT


def test_a_row_that_comes_back_otherwise_is_found_and_nothing_is_kept(
    leadline: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = moving._copy

    def altered(source: Any, connection: Any, table: str, tell: Any) -> int:
        number = whole(source, connection, table, tell)
        if table == "organisations":
            connection.execute("UPDATE organisations SET name = name || '!'")
        return number

    monkeypatch.setattr(moving, "_copy", altered)
    refused = leadline("db", "move-to-postgres", url)

    assert refused.code == 3
    assert "other rows of organisations" in refused.err
    assert sum(counts(url).values()) == 0


def test_books_move_only_where_nothing_is_and_only_if_they_add_up(
    leadline: CommandLine, tmp_path: Path, url: str
) -> None:
    shutil.copytree(leadline.data, tmp_path / "broken")
    connection = apsw.Connection(str(tmp_path / "broken" / "leadline.db"))
    connection.execute("UPDATE accounts SET balance_ticks = balance_ticks + 1")
    connection.close()

    broken = CommandLine(tmp_path / "broken")("db", "move-to-postgres", url)
    nothing = CommandLine(tmp_path / "nothing")("db", "move-to-postgres", url)
    first = leadline("db", "move-to-postgres", url)
    second = leadline("db", "move-to-postgres", url)
    (leadline.data / "leadline.toml").unlink()
    third = leadline("db", "move-to-postgres", url)

    assert (broken.code, nothing.code, first.code, second.code, third.code) == (1, 1, 0, 4, 4)
    assert "do not add up" in broken.err
    assert "already" in second.err
    assert "nothing is ever overwritten" in third.err
