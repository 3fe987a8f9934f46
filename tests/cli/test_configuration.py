"""`leadline config` and `leadline models alias`: what holds, and edits of leadline.toml that keep what people wrote."""

import stat
import tomllib
from pathlib import Path

import pytest

from tests.cli.in_process import CommandLine
from tests.cli.in_process import leadline as run
from tests.scripted.server import ScriptedServer

FILE = """# Our server.
[server]   # the first one
public_url = "http://old.example"  # soon another

[limits]
default = { requests_per_minute = 5 }   # few

[[engines]]
name = "remote"
kind = "openai"
url = "http://127.0.0.1:9/v1"
api_key = "a-key-of-theirs"

# The model that everybody uses.
[[models]]
name = "qwen2.5"
engine = "remote"
aliases = [
  "first",  # since spring
]
prices = { input = 0.10, output = 0.40 }

[[models]]
name = "qwen2.5-large"
engine = "remote"
"""


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    leadline = CommandLine.with_alice(tmp_path / "data")
    file(leadline).write_text(FILE)
    return leadline


def file(leadline: CommandLine) -> Path:
    return leadline.data / "leadline.toml"


def test_an_edit_changes_its_line_and_no_other(leadline: CommandLine):
    file(leadline).chmod(0o640)
    done = leadline("config", "set", "server.public_url", "https://new.example", "models.qwen2.5.prices.output", "0.80")

    assert done.code == 0, done.err
    assert file(leadline).read_text() == FILE.replace("http://old", "https://new").replace(
        "output = 0.40", "output = 0.80"
    )
    assert stat.S_IMODE(file(leadline).stat().st_mode) == 0o640
    assert "at its start" in done.err
    assert [one.name for one in leadline.data.glob(".leadline-*")] == []


def test_a_new_section_is_added_at_the_end(leadline: CommandLine):
    assert leadline("config", "set", "credits.starter_usd", "7.50", "files.per_organisation", "10").code == 0

    text = file(leadline).read_text()
    assert text.startswith(FILE)
    assert text.endswith("\n")
    assert "starter_usd = 7.50\n" in text
    assert tomllib.loads(text)["files"] == {"per_organisation": 10}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("server.public_ur", "x"), "there is no setting 'server.public_ur'"),
        (("limits.default.requests_per_minute", "many"), "expected int"),
        (("smtp.url", "smtp://mail.example"), "needs 'from'"),
        (("models.qwen2.5.engine", "nobody"), "which is not there"),
        (("images.allow_private_hosts", '["a host"]'), "no host name"),
        (("models.nobody.engine", "remote"), "qwen2.5, qwen2.5-large"),
        (("limits.default", "5"), "is a section"),
        (("server.public_url.x", "5"), "not a section"),
        (("server.public_url", "a", "server.public_url", "b"), "Give each KEY once"),
        (("server.public_url",), "has no value"),
    ],
)
def test_what_would_be_wrong_is_not_written(leadline: CommandLine, settings: tuple[str, ...], told: str):
    done = leadline("config", "set", *settings)

    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert file(leadline).read_text() == FILE


def test_what_belongs_together_is_set_together(leadline: CommandLine):
    done = leadline("config", "set", "smtp.url", "smtp://u:hunter22@mail.example", "smtp.from", "a@northwind.example")

    assert done.code == 0, done.err
    assert "hunter22" in file(leadline).read_text()
    assert "hunter22" not in done.out + done.err


def test_a_secret_is_read_from_standard_input_and_shown_nowhere(leadline: CommandLine):
    done = leadline("config", "set", "metrics.token", "-", stdin="a-token-for-prometheus\n")

    assert done.code == 0, done.err
    assert tomllib.loads(file(leadline).read_text())["metrics"] == {"token": "a-token-for-prometheus"}
    told = [leadline("config", *args).out for args in (("show",), ("show", "--json"), ("get", "metrics.token"))]
    told += [leadline("config", "get", "engines.remote", "--json").out, done.out]
    assert not any("a-token-for" in text or "a-key-of" in text for text in told)
    assert "set, not shown" in told[2]
    for path in leadline.data.glob("leadline.db*"):
        assert b"a-token-for" not in path.read_bytes()


def test_show_tells_of_each_setting_where_it_came_from(leadline: CommandLine):
    shown = run("config", "show", "--json", "--data", str(leadline.data), LEADLINE_CREDITS__STARTER_USD="9")
    sources = {one["name"]: (one["value"], one["source"]) for one in shown.json["settings"]}

    assert sources["server.public_url"] == ("http://old.example", "leadline.toml")
    assert sources["credits.starter_usd"] == ("9", "LEADLINE_CREDITS__STARTER_USD")
    assert sources["database.url"] == ("sqlite", "default")
    assert sources["models.qwen2.5"][1] == "leadline.toml"


def test_get_prints_the_value_alone(leadline: CommandLine):
    got = {
        key: leadline("config", "get", key).out
        for key in ("server.public_url", "models.qwen2.5.aliases", "grpc.reflection", "smtp.url")
    }

    assert list(got.values()) == ["http://old.example\n", "first\n", "false\n", "\n"]
    assert leadline.json("config", "get", "limits.default.requests_per_minute") == {
        "name": "limits.default.requests_per_minute",
        "value": 5,
        "source": "leadline.toml",
    }
    nothing = leadline("config", "get", "server.publicurl")
    assert (nothing.code, nothing.out, "no setting" in nothing.err) == (2, "", True)


def test_to_show_makes_no_instance(tmp_path: Path):
    (tmp_path / "leadline.toml").write_text('[server]\npublic_url = "http://a.example"\n')
    where = ("--data", str(tmp_path))

    assert "http://a.example" in run("config", "show", *where).out
    assert run("config", "get", "server.public_url", *where).out == "http://a.example\n"
    assert [one.name for one in tmp_path.iterdir()] == ["leadline.toml"]


def test_a_variable_that_holds_instead_is_named(leadline: CommandLine):
    where = ("--data", str(leadline.data))
    done = run("config", "set", "credits.starter_usd", "6", *where, LEADLINE_CREDITS__STARTER_USD="9")

    assert "LEADLINE_CREDITS__STARTER_USD holds instead" in done.err


def test_beside_a_server_what_holds_and_what_comes_are_told_apart(tmp_path: Path):
    (tmp_path / "data").mkdir()
    server = ScriptedServer(tmp_path / "data")
    try:
        done = server.command("config set", settings={"credits.starter_usd": "6.00"})
        [row] = [one for one in server.command("config show")["settings"] if one["name"] == "credits.starter_usd"]
        (server.data / "leadline.toml").write_text("[nonsense]\n")
        broken = server.command("config show")["broken"]
        actions = server.run(server.instance.database.rows("SELECT action, subject, before, after FROM audit_log"))
    finally:
        server.stop()

    assert done["running"] is True
    assert (row["value"], row["source"], row["next_value"]) == ("5.00", "default", "6.00")
    assert "nonsense" in broken
    assert (
        "config set",
        "credits.starter_usd",
        '{"credits.starter_usd": null}',
        '{"credits.starter_usd": "6.00"}',
    ) in [tuple(row) for row in actions]


def test_an_alias_comes_and_goes_and_comments_stay(leadline: CommandLine):
    done = leadline("models", "alias", "first", "claude-*")
    assert done.code == 0, done.err
    assert tomllib.loads(file(leadline).read_text())["models"][0]["aliases"] == ["first", "claude-*"]
    assert "# since spring" in file(leadline).read_text()
    assert leadline.json("models", "alias", "qwen2.5", "claude-*")["changed"] is False
    assert leadline("models", "alias", "qwen2.5", "claude-*", "--remove").code == 0
    assert tomllib.loads(file(leadline).read_text()) == tomllib.loads(FILE)
    gone = leadline("models", "alias", "qwen2.5", "claude-*", "--remove")
    assert (gone.code, "no alias" in gone.err) == (1, True)


@pytest.mark.parametrize("alias", ["qwen2.5-large", "first", "a b", "a*b", "", "x" * 101])
def test_an_alias_that_cannot_be_is_refused(leadline: CommandLine, alias: str):
    done = leadline("models", "alias", "qwen2.5-large", alias)

    assert done.code == 2
    assert file(leadline).read_text() == FILE


def test_the_default_model_is_written_out_when_it_gets_an_alias(leadline: CommandLine):
    file(leadline).write_text("# nothing yet")
    assert leadline("models", "alias", "grok-beta", "mine").code == 0

    assert leadline.json("config", "get", "models.smollm2-135m-instruct.aliases")["value"] == ["mine"]
    assert file(leadline).read_text().startswith("# nothing yet\n")
    [history] = [leadline.json("models", "show", "mine")["history"]]
    assert len(history) == 1
