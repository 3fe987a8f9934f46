"""`leadline keys` as its users see it: in this process, on a folder that no server has open."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leadline.accounts.api_key import ENDPOINTS
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.cli.root import cli
from leadline.clock import MICROSECONDS_PER_DAY
from tests.cli.in_process import CommandLine
from tests.cli.process import EMAIL, PASSWORD
from tests.raw import post
from tests.scripted.server import ScriptedServer

KEY = re.compile(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}\n")
NO_LIMITS = {"requests_per_second": 0, "requests_per_minute": 0, "tokens_per_minute": 0, "concurrent_requests": 0}
NOON = 1_800_014_400_000_000  # 15 January 2027, 12:00 UTC


class Keys(CommandLine):
    """Its `json` is of `leadline keys`."""

    def json(self, *args: str) -> Any:
        return super().json("keys", *args)


@pytest.fixture
def leadline(tmp_path: Path) -> Keys:
    """Alice's instance, with the key `first-key`."""
    return Keys.with_alice(tmp_path / "data")


def test_a_key_is_shown_with_all_that_it_may_do(leadline: Keys) -> None:
    scopes = ("--endpoint", "models", "--endpoint", "chat", "--model", "tiny", "--model", "grok-*")
    limits = ("--rps", "2", "--rpm", "60", "--tpm", "100000", "--concurrency", "4")
    made = leadline.json("create", "--name", "ci", *scopes, *limits, "--cap", "20/month", "--expires", "2999-03-31")
    text = made.pop("api_key")

    assert KEY.fullmatch(f"{text}\n")
    assert made == {
        "id": text[3:11],
        "name": "ci",
        "redacted": f"{text[:11]}…{text[-4:]}",
        "state": "active",
        "created_at": made["created_at"],
        "created_by": None,
        "expires_at": "2999-03-31T23:59:59.999Z",
        "endpoints": ["chat", "models"],
        "models": ["grok-*", "tiny"],
        "cap": {"usd": "20.0000", "ticks": 20 * 10**10, "period": "month"},
        "limits": {
            "requests_per_second": 2,
            "requests_per_minute": 60,
            "tokens_per_minute": 100_000,
            "concurrent_requests": 4,
        },
        "last_used_at": None,
        "last_used_from": "",
        "previous_expires_at": None,
    }
    assert leadline.json("show", "ci") == leadline.json("show", text[3:11]) == made
    assert leadline.json("list")["keys"][1] == made


def test_a_key_without_options_may_do_everything_without_end(leadline: Keys) -> None:
    shown = leadline.json("show", "first-key")

    assert (shown["endpoints"], shown["models"], shown["cap"], shown["expires_at"]) == ([], [], None, None)
    assert shown["limits"] == NO_LIMITS


def test_people_see_what_a_key_may_do_in_words(leadline: Keys) -> None:
    leadline("keys", "create", "--name", "ci", "--endpoint", "chat", "--cap", "0.5/day", "--rpm", "60")

    lines = dict(re.split(r"  +", line, maxsplit=1) for line in leadline("keys", "show", "ci").out.splitlines())
    listed = leadline("keys", "list").out.splitlines()

    assert (lines["ENDPOINTS"], lines["MODELS"]) == ("chat", "all")
    assert (lines["CAP"], lines["LIMITS"]) == ("0.5000 USD a day", "60 requests a minute")
    assert (lines["EXPIRES"], lines["LAST USED"]) == ("never", "never")
    assert [re.split(r"  +", line)[0] for line in listed] == ["NAME", "first-key", "ci"]


@pytest.mark.parametrize("command", [("create", "--name", "shell"), ("rotate", "first-key")])
def test_a_new_secret_is_alone_on_standard_output(leadline: Keys, command: tuple[str, ...]) -> None:
    done = leadline("keys", *command)

    assert KEY.fullmatch(done.out)
    assert "shown once" in done.err
    assert done.out.strip() not in done.err


def test_a_new_key_says_how_it_is_tried_if_it_may_chat(leadline: Keys) -> None:
    told = [leadline("keys", "create", "--name", "a", *scope).err for scope in ((), ("--endpoint", "embed"))]

    assert ["export XAI_API_KEY=… && leadline chat" in one for one in told] == [True, False]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--endpoint", "chats"), "no endpoint 'chats'"),
        (("--endpoint", ""), "no endpoint ''"),
        (("--model", ""), "1 to 200 printable"),
        (("--model", "a\nb"), "1 to 200 printable"),
        (("--cap", "20"), "20/month or 0.50/day"),
        (("--cap", "20/year"), "20/month"),
        (("--cap", "0/day"), "above zero"),
        (("--cap", "-1/day"), "above zero"),
        (("--cap", "1.00001/day"), "four decimals"),
        (("--cap", "1e3/day"), "20/month"),
        (("--cap", "٣/day"), "20/month"),
        (("--cap", f"{10**12}/day"), "more than an account can hold"),
        (("--rpm", "-1"), "'-1' is not a number of requests per minute"),
        (("--tpm", "many"), "0 for no limit"),
        (("--rps", str(10**30)), "not a number of requests per second"),
        (("--concurrency", "1.5"), "not a number of concurrent requests"),
        (("--expires", "soon"), "90d, or a date such as 2027-03-31"),
        (("--expires", "2027-02-30"), "90d, or a date"),
        (("--expires", "2001-01-01"), "over already"),
        (("--expires", "0s"), "over already"),
        (("--name", ""), "1 to 100 printable"),
        (("--name", "x" * 101), "1 to 100 printable"),
        (("--name", "a\x07b"), "1 to 100 printable"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_and_changes_nothing(
    leadline: Keys, option: tuple[str, str], words: str
) -> None:
    before = leadline.json("list")
    attempts = [leadline("keys", "create", "--name", "ci", *option), leadline("keys", "change", "first-key", *option)]

    assert [(done.code, done.out) for done in attempts] == [(2, ""), (2, "")]
    assert all(words in done.err for done in attempts), attempts
    assert leadline.json("list") == before


def test_only_what_is_named_changes(leadline: Keys) -> None:
    everything = ("--endpoint", "chat", "--model", "tiny", "--cap", "5/week", "--rps", "2", "--rpm", "9")
    leadline("keys", "create", "--name", "ci", *everything, "--expires", "2999-01-01")
    before = leadline.json("show", "ci")

    limited = leadline.json("change", "ci", "--rpm", "60")
    capped = leadline.json("change", "ci", "--name", "cd", "--cap", "0.0001/day", "--endpoint", "embed", "--rps", "0")
    lifted = leadline.json("change", "cd", "--no-cap", "--no-expiry", "--all-endpoints", "--all-models", "--rpm", "0")

    assert limited == before | {"limits": NO_LIMITS | {"requests_per_second": 2, "requests_per_minute": 60}}
    assert capped == before | {
        "name": "cd",
        "endpoints": ["embed"],
        "cap": {"usd": "0.0001", "ticks": 10**6, "period": "day"},
        "limits": NO_LIMITS | {"requests_per_minute": 60},
    }
    everything_again = {"endpoints": [], "models": [], "cap": None, "expires_at": None, "limits": NO_LIMITS}
    assert lifted == before | {"name": "cd"} | everything_again
    assert leadline.json("show", "cd") == lifted


@pytest.mark.parametrize(
    ("options", "words"),
    [((), "Say what to change"), (("--cap", "5/day", "--no-cap"), "two things about cap")],
)
def test_a_change_that_says_nothing_or_two_things_is_wrong_usage(
    leadline: Keys, options: tuple[str, ...], words: str
) -> None:
    done = leadline("keys", "change", "first-key", *options)

    assert (done.code, words in done.err) == (2, True)


def test_a_key_is_stopped_started_and_ended_by_its_name_or_id(leadline: Keys) -> None:
    key_id = leadline.json("show", "first-key")["id"]
    states = [leadline.json(verb, key)["state"] for verb in ("disable", "enable") for key in ("first-key", key_id)]
    sentence = leadline("keys", "revoke", key_id).out

    assert states == ["disabled", "disabled", "active", "active"]
    assert re.fullmatch(r"first-key \(ll_\w+…\w+\) is revoked\.\n", sentence)
    for final in (("enable",), ("rotate",), ("change", "--rpm", "1")):
        done = leadline("keys", *final, key_id)
        assert (done.code, "revoked, for good" in done.err) == (4, True), final


def test_a_rotation_says_until_when_the_old_secret_works(leadline: Keys) -> None:
    before = leadline.json("show", "first-key")
    rotated = leadline.json("rotate", "first-key", "--overlap", "7d")

    assert (rotated["id"], rotated["api_key"][:11]) == (before["id"], f"ll_{before['id']}")
    assert rotated["redacted"] == f"ll_{before['id']}…{rotated['api_key'][-4:]}" != before["redacted"]
    assert rotated["previous_expires_at"] > rotated["created_at"]
    for overlap, words in (("8d", "7d at most"), ("long", "24h or 90d")):
        done = leadline("keys", "rotate", "first-key", "--overlap", overlap)
        assert (done.code, words in done.err) == (2, True)


async def test_durations_count_from_now_dates_to_their_end_and_states_follow_the_clock(tmp_path: Path) -> None:
    instance = await Instance.open(tmp_path / "data")
    now = NOON
    instance.keys.clock = lambda: now
    first = {"credit": "0", "key": None}
    await run(instance, "init", {"email": EMAIL, "org": "Northwind", "password": PASSWORD, "first": first})

    async def create(expires: str) -> Any:
        return await run(instance, "keys create", {"name": expires, "email": None, "options": {"expires": expires}})

    ends = [(await create(expires))["expires_at"] for expires in ("1d", "2h", "2027-01-15", "2028-02-29")]
    rotated = await run(instance, "keys rotate", {"key": "1d", "email": None, "overlap": "24h"})
    now += MICROSECONDS_PER_DAY
    listed = await run(instance, "keys list", {"email": None})
    renewed = await run(instance, "keys change", {"key": "1d", "email": None, "options": {"expires": "1d"}})
    await instance.close()

    assert ends == [
        "2027-01-16T12:00:00.000Z",
        "2027-01-15T14:00:00.000Z",
        "2027-01-15T23:59:59.999Z",
        "2028-02-29T23:59:59.999Z",
    ]
    assert rotated["previous_expires_at"] == "2027-01-16T12:00:00.000Z"
    states = {key["name"]: key["state"] for key in listed["keys"]}
    assert states == {
        "first-key": "active",
        "1d": "expired",
        "2h": "expired",
        "2027-01-15": "expired",
        "2028-02-29": "active",
    }
    assert (renewed["state"], renewed["expires_at"]) == ("active", "2027-01-17T12:00:00.000Z")


async def test_the_last_use_is_shown(tmp_path: Path) -> None:
    instance = await Instance.open(tmp_path / "data")
    first = {"credit": "0", "key": None}
    await run(instance, "init", {"email": EMAIL, "org": "Northwind", "password": PASSWORD, "first": first})
    shown = await run(instance, "keys show", {"key": "first-key", "email": None})
    instance.keys.touch(shown["id"], NOON)
    used = await run(instance, "keys show", {"key": "first-key", "email": None})
    await instance.close()

    assert used == shown | {"last_used_at": "2027-01-15T12:00:00.000Z"}


def test_rotating_beside_a_running_server_holds_from_its_next_request_on(server: ScriptedServer) -> None:
    def status(key: str) -> int:
        body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hi"}]}).encode()
        return post(server.port, "/v1/chat/completions", key, body).status

    kept = server.command("keys rotate", key="first-key", email=None, overlap="1h")["api_key"]
    both = [status(server.api_key), status(kept)]
    new = server.command("keys rotate", key="first-key", email=None, overlap="0s")["api_key"]

    assert both == [200, 200]
    assert [status(server.api_key), status(kept), status(new)] == [401, 401, 200]


def test_help_names_every_endpoint() -> None:
    for command in ("create", "change"):
        words = CliRunner().invoke(cli, ["keys", command, "--help"]).stdout
        assert set(re.findall(r"[a-z]+", words)) >= ENDPOINTS
