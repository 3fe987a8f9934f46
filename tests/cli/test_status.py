"""`leadline status` and `leadline doctor` as their users see them."""

from pathlib import Path

import pytest

from tests.cli.in_process import CommandLine
from tests.cli.in_process import leadline as run


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    return CommandLine.with_alice(tmp_path / "data")


def findings(leadline: CommandLine) -> dict[str, list[str]]:
    """By how grave they are."""
    found: dict[str, list[str]] = {"ok": [], "warning": [], "problem": []}
    for one in leadline.json("doctor")["findings"]:
        found[one["level"]].append(one["text"])
    return found


@pytest.mark.parametrize(("command", "code"), [("status", 3), ("doctor", 1)])
def test_where_there_is_no_instance_none_is_made(tmp_path: Path, command: str, code: int):
    done = run(command, "--data", str(tmp_path / "none"))

    assert done.code == code
    assert "leadline serve" in done.out
    assert not (tmp_path / "none").exists()


def test_without_a_server_the_status_says_so_and_is_not_ready(leadline: CommandLine):
    told, as_json = leadline("status"), leadline("status", "--json")

    assert (told.code, as_json.code) == (3, 3)
    assert "No server runs" in told.out
    assert '"running": false' in as_json.out


def test_the_doctor_finds_a_new_instance_well_and_says_what_could_be_better(leadline: CommandLine):
    done, found = leadline("doctor"), findings(leadline)

    assert (done.code, found["problem"]) == (0, [])
    assert any("every rule holds" in text for text in found["ok"])
    assert {text.split()[0] for text in found["warning"]} >= {"There", "No", "Mail"}
    assert "leadline serve" in done.out


def test_the_doctor_finds_a_secret_that_others_can_read(leadline: CommandLine):
    (leadline.data / "secret").chmod(0o644)
    done = leadline("doctor")

    assert done.code == 1
    assert f"chmod 600 {leadline.data / 'secret'}" in done.out


def test_the_doctor_finds_models_that_cost_nothing(leadline: CommandLine):
    file = leadline.data / "leadline.toml"
    file.write_text(file.read_text().replace("prices", "# prices"))

    assert any("tiny has no prices" in text for text in findings(leadline)["warning"])


def test_the_doctor_finds_a_certificate_that_is_not_there(leadline: CommandLine):
    with (leadline.data / "leadline.toml").open("a") as file:
        file.write('[grpc]\ntls_certificate = "/none/cert.pem"\ntls_private_key = "/none/key.pem"\n')
    done = leadline("doctor", "--json")

    assert done.code == 1
    assert done.out.count("which is not there") == 2
