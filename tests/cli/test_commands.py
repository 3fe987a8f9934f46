"""The commands as a script uses them: JSON out, exit codes, and the same effect with and without a running server."""

import asyncio
import json
import os
import re
import stat

import click
import pytest

from leadline.cli.main import main
from leadline.cli.root import cli
from tests.cli import process
from tests.cli.in_process import init, leadline
from tests.cli.process import EMAIL, NO_MODEL, Serving
from tests.raw import post, request

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "leadline.toml").write_text(NO_MODEL)
    return folder


def test_init_makes_an_organisation_with_credit_and_a_key_and_a_second_run_changes_nothing(data):
    first = process.init(data, "--credit", "20", "--key", "ci")
    assert first.code == 0, first.err
    assert set(first.json) == {"organisation_id", "user_id", "api_key", "base_url", "openai_base_url"}
    assert re.fullmatch(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", first.json["api_key"])
    assert first.json["openai_base_url"] == f"{first.json['base_url']}/v1"
    again = init(data, "--credit", "99")
    assert (again.code, "api_key" in again.json) == (0, False)
    assert again.json["organisation_id"] == first.json["organisation_id"]
    balance = leadline("credits", "balance", EMAIL, "--json", "--data", str(data)).json
    assert balance == {"balance_ticks": 20 * 10**10, "held_ticks": 0, "available_ticks": 20 * 10**10}


def test_without_credit_the_configured_starter_credit_is_given(data):
    assert init(data).code == 0
    assert leadline("--data", str(data), "credits", "balance", EMAIL, "--json").json["balance_ticks"] == 5 * 10**10


def test_the_secret_and_the_folder_belong_to_their_owner_alone(tmp_path):
    assert init(tmp_path / "new").code == 0
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "new" / "secret").st_mode) == 0o600


def test_no_key_is_stored_in_the_folder(data):
    secret = init(data).json["api_key"].split("_")[2]
    for path in data.iterdir():
        assert secret.encode() not in path.read_bytes()


def test_grants_are_entries_that_sum_to_the_balance(data):
    init(data, "--credit", "1")
    granted = leadline("credits", "grant", EMAIL, "0.5", "--reason", "pilot", "--json", "--data", str(data))
    assert granted.json["balance_ticks"] == 15 * 10**9
    entries = leadline("credits", "ledger", EMAIL, "--json", "--data", str(data)).json["entries"]
    assert [entry["kind"] for entry in entries] == ["grant", "grant"]
    assert sum(entry["amount_ticks"] for entry in entries) == 15 * 10**9
    assert set(entries[0]) == {"id", "at", "kind", "amount_ticks", "request_id", "key_id", "model", "reason"}
    assert len(leadline("credits", "ledger", EMAIL, "--limit", "1", "--json", "--data", str(data)).json["entries"]) == 1
    verified = leadline("credits", "verify", "--json", "--data", str(data))
    assert (verified.code, verified.json) == (0, {"ok": True, "checked": 2, "broken": []})


def test_a_broken_book_is_named_and_ends_with_1(data):
    import apsw

    init(data, "--credit", "1")
    connection = apsw.Connection(str(data / "leadline.db"))
    connection.execute("UPDATE accounts SET balance_ticks = balance_ticks + 1")
    connection.close()
    verified = leadline("credits", "verify", "--json", "--data", str(data))
    assert (verified.code, verified.json["ok"]) == (1, False)
    assert verified.json["broken"][0].startswith("I1")


def test_a_new_key_is_alone_on_standard_output(data):
    init(data)
    made = process.leadline("keys", "create", "--name", "shell", "--data", str(data))
    assert re.fullmatch(r"ll_\w+\n", made.out)
    assert "shown once" in made.err
    keys = leadline("keys", "list", "--json", "--data", str(data)).json["keys"]
    assert [(key["name"], key["state"]) for key in keys] == [("first-key", "active"), ("shell", "active")]
    assert keys[1]["redacted"] == f"{made.out[:11]}…{made.out.strip()[-4:]}"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("credits", "balance", "nobody@x.example"), 1, "Nobody here"),
        (("credits", "grant", EMAIL, "NaN", "--reason", "x"), 2, "amount"),
        (("credits", "grant", EMAIL, "-5", "--reason", "x"), 2, ""),
        (("credits", "grant", EMAIL, "0.00000000001", "--reason", "x"), 2, "amount"),
        (("credits", "grant", EMAIL, "1e400", "--reason", "x"), 2, ""),
        (("keys", "disable", "nothing"), 1, "no API key"),
        (("keys", "create"), 2, "--name"),
        (("nonsense",), 2, "No such command"),
        (("serve", "--host", "0.0.0.0", "--quickstart"), 4, "--quickstart"),
        (("models", "pull", "nonsense"), 2, "No known model"),
        (("models", "pull", "nothing.gguf"), 1, "nothing.gguf"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(data, args, code, words):
    init(data)
    done = leadline("--data", str(data), *args)
    assert done.code == code, done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_with_several_organisations_email_is_needed(data):
    init(data)
    person = ("--email", "bob@southwind.example", "--org", "Southwind", "--password-stdin", "--yes", "--json")
    made = leadline("accounts", "create", *person, "--data", str(data), stdin="battery staple\n")
    assert set(made.json) == {"organisation_id", "user_id"}
    assert leadline("keys", "create", "--name", "x", "--data", str(data)).code == 2
    done = leadline("keys", "create", "--name", "x", "--email", "BOB@southwind.example", "--data", str(data))
    assert done.code == 0


def test_an_unknown_setting_is_an_error_that_names_key_and_line(data):
    (data / "leadline.toml").write_text("[server]\npublic_url = 'http://x'\nporrt = 5\n")
    done = leadline("serve", "--check", "--data", str(data))
    assert done.code == 1
    assert "leadline.toml:3" in done.err
    assert "server.porrt" in done.err
    done = leadline("config", "path", "--data", str(data), "--json")
    assert done.json == {"path": str(data / "leadline.toml"), "exists": True}


def test_an_unknown_variable_is_an_error_too(data):
    done = leadline("serve", "--check", "--data", str(data), LEADLINE_SERVER__PORRT="5")
    assert (done.code, "LEADLINE_SERVER__PORRT" in done.err) == (1, True)
    done = leadline("serve", "--check", "--json", "--data", str(data), LEADLINE_CREDITS__STARTER_USD="7.5")
    assert (done.code, done.json) == (0, {"ok": True, "models": ["tiny"]})


async def test_commands_beside_a_running_server_hold_from_its_next_request_on(data):
    key = (await asyncio.to_thread(init, data)).json["api_key"]
    serving = await Serving.start(data)
    url = (await serving.event("serving"))["base_url"]
    port = int(url.rpartition(":")[2])
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}).encode()
    assert post(port, CHAT, key, body).status == 503
    assert process.leadline("keys", "disable", "first-key", "--data", str(data)).code == 0
    assert post(port, CHAT, key, body).status == 401
    other = process.leadline("keys", "create", "--name", "other", "--data", str(data)).out.strip()
    assert post(port, CHAT, other, body).status == 503
    assert process.leadline("credits", "verify", "--data", str(data)).code == 0
    assert request(port, "GET", "/health/live").status == 200
    assert request(port, "GET", "/health/ready").status == 503
    assert await serving.stop() == 0


@pytest.mark.parametrize("interruption", [click.Abort, KeyboardInterrupt])
def test_an_interrupted_command_ends_with_130(monkeypatch, capsys, interruption):
    def interrupted(**_: object) -> None:
        raise interruption

    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped.\n"


@pytest.mark.slow
async def test_two_servers_on_one_folder_are_refused(data):
    serving = await Serving.start(data)
    await serving.event("serving")
    done = process.leadline("serve", "--port", "0", "--data", str(data))
    assert (done.code, "Another Leadline is using" in done.err) == (1, True)
    assert await serving.stop() == 0


@pytest.mark.slow
async def test_a_port_that_is_taken_is_said_so_with_another_to_try(data, tmp_path):
    serving = await Serving.start(data)
    port = (await serving.event("serving"))["base_url"].rpartition(":")[2]
    done = process.leadline("serve", "--port", port, "--data", str(tmp_path / "other"))
    assert (done.code, f"--port {int(port) + 1}" in done.err) == (1, True)
    assert await serving.stop() == 0


async def test_both_loopback_addresses_answer(data):
    import socket

    serving = await Serving.start(data)
    port = int((await serving.event("serving"))["base_url"].rpartition(":")[2])
    for host in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((host, port), 30).close()
        except OSError as error:
            if host == "::1" and not socket.has_ipv6:
                pytest.skip(f"no IPv6 here: {error}")
            raise
    assert await serving.stop() == 0


@pytest.mark.slow
async def test_a_server_killed_at_once_leaves_a_folder_that_serves_again(data):
    await asyncio.to_thread(init, data)
    for _ in range(2):
        serving = await Serving.start(data)
        await serving.event("serving")
        serving.process.kill()
        await serving.process.communicate()
    assert process.leadline("credits", "verify", "--data", str(data)).code == 0
