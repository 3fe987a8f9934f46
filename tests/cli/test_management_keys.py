"""`leadline management-keys` as its users see it: in this process, on a folder that no server has open."""

import re
from pathlib import Path

import pytest

from tests.cli.in_process import CommandLine

KEY = re.compile(r"llm_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}\n")


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    return CommandLine.with_alice(tmp_path / "data")


def test_a_key_alone_is_printed_and_never_shown_again(leadline: CommandLine):
    made = leadline("management-keys", "create", "--name", "terraform")
    assert (made.code, bool(KEY.fullmatch(made.out))) == (0, True)
    assert "shown once" in made.err
    assert made.out.strip() not in made.err
    listed = leadline("management-keys", "list")
    assert "terraform" in listed.out
    assert made.out.strip()[13:45] not in listed.out


def test_a_key_does_what_options_say(leadline: CommandLine):
    acls = ("--acl", "ListApiKeys", "--acl", "team-token:endpoint:ListModels")
    limits = ("--ip-range", "10.0.0.0/8", "--expires", "2999-03-31")
    made = leadline.json("management-keys", "create", "--name", "ci", *acls, *limits)
    assert made["acls"] == ["team-token:endpoint:ListApiKeys", "team-token:endpoint:ListModels"]
    assert made["ip_ranges"] == ["10.0.0.0/8"]
    assert made["expires_at"] == "2999-03-31T23:59:59.999Z"
    assert made["owner_user_id"].startswith("usr_")
    [listed] = leadline.json("management-keys", "list")["management_keys"]
    assert listed == {name: value for name, value in made.items() if name != "management_key"}


def test_without_options_it_may_do_everything(leadline: CommandLine):
    assert leadline.json("management-keys", "create", "--name", "all")["acls"] == ["team-token:endpoint:*"]


def test_a_key_is_stopped_let_go_on_and_ended(leadline: CommandLine):
    leadline.json("management-keys", "create", "--name", "ci")
    states = [leadline.json("management-keys", verb, "ci")["state"] for verb in ("disable", "enable", "revoke")]
    assert states == ["disabled", "active", "revoked"]
    refused = leadline("management-keys", "enable", "ci")
    assert (refused.code, "was revoked" in refused.err) == (4, True)


@pytest.mark.parametrize(
    "wrong",
    [("--acl", "Everything"), ("--ip-range", "office"), ("--expires", "soon"), ("--name", " ")],
    ids=lambda wrong: wrong[0],
)
def test_what_makes_no_sense_is_refused(leadline: CommandLine, wrong: tuple[str, str]):
    done = leadline("management-keys", "create", "--name", "x", *wrong)
    assert (done.code, done.out) == (2, "")


def test_only_who_may_change_settings_can_have_one(leadline: CommandLine):
    done = leadline("management-keys", "create", "--name", "x", "--email", "nobody@northwind.example")
    assert done.code == 1
    assert leadline.json("management-keys", "list") == {"management_keys": []}
