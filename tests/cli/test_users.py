"""`leadline users` and `leadline setup-link` as their users see them, and the link that a new server prints."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from leadline.accounts.links import LinkGone
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.errors import InvalidRequest, NotFound, PermissionDenied
from leadline.storage.database import Conflict
from tests.cli import process
from tests.cli.in_process import CommandLine
from tests.cli.process import EMAIL, NO_MODEL, PASSWORD, Serving

BOB = "bob@northwind.example"
LINK = r"http://localhost:8080/{}\?token=[\w-]{{43}}"


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    return CommandLine.with_alice(tmp_path / "data")


@pytest.fixture
def bobs(leadline: CommandLine) -> CommandLine:
    """With Bob and an organisation of his own."""
    person = ("--email", BOB, "--org", "South", "--password-stdin", "--yes")
    assert leadline("accounts", "create", *person, stdin=f"{PASSWORD}\n").code == 0
    return leadline


def roles(leadline: CommandLine) -> dict[str, list[tuple[str, str]]]:
    users: list[Any] = leadline.json("users", "list")["users"]
    return {user["email"]: [(one["organisation"], one["role"]) for one in user["organisations"]] for user in users}


def test_everybody_is_shown(bobs: CommandLine) -> None:
    shown = bobs("users", "list").out.splitlines()
    [mara, bob] = bobs.json("users", "list")["users"]

    assert [re.split(r"  +", line) for line in shown] == [
        ["EMAIL", "NAME", "ROLES", "2FA", "STATE"],
        [EMAIL, "owner of Northwind Labs", "off", "admin"],
        [BOB, "owner of South", "off", "active"],
    ]
    assert (mara["is_admin"], bob["is_admin"]) == (True, False)
    assert mara["verified_at"] == mara["created_at"]


def test_an_invitation_is_a_link_alone_on_standard_output(leadline: CommandLine) -> None:
    done = leadline("users", "invite", "Eve@Northwind.example", "--role", "billing")

    assert re.fullmatch(LINK.format("invite"), done.out.strip())
    assert done.err == "Invited eve@northwind.example into Northwind Labs as billing.\n"


def test_who_cannot_be_invited_is_told_why(leadline: CommandLine) -> None:
    outcomes = [
        leadline("users", "invite", *args)
        for args in (
            (EMAIL,),
            ("eve",),
            ("eve@x.example", "--role", "root"),
            ("eve@x.example", "--org", "nobody@x.example"),
        )
    ]

    assert [done.code for done in outcomes] == [2, 2, 2, 1]
    for done, words in zip(
        outcomes, ("a member already", "not an e-mail", "no role 'root'", "Nobody here"), strict=True
    ):
        assert words in done.err


def test_a_members_role_is_changed_and_the_last_owner_stays(bobs: CommandLine) -> None:
    last = bobs("users", "role", EMAIL, "viewer")
    gone = bobs("users", "role", BOB, "none", "--org", EMAIL)
    wrong = bobs("users", "role", BOB, "captain")

    assert (last.code, "last owner" in last.err) == (2, True)
    assert (gone.code, "no such member" in gone.err) == (1, True)
    assert wrong.code == 2
    assert roles(bobs) == {EMAIL: [("Northwind Labs", "owner")], BOB: [("South", "owner")]}


def test_a_user_is_suspended_and_resumed_and_the_last_admin_is_not(bobs: CommandLine) -> None:
    suspended = bobs("users", "suspend", BOB)
    state = bobs("users", "list").out.splitlines()[-1]
    resumed = bobs("users", "resume", BOB)
    last = bobs("users", "suspend", EMAIL)

    assert suspended.out == f"{BOB} is suspended: all sessions ended.\n"
    assert state.endswith("suspended")
    assert resumed.out == f"{BOB} may sign in.\n"
    assert (last.code, "last admin" in last.err) == (2, True)


def test_an_admin_is_made_and_unmade(bobs: CommandLine) -> None:
    assert bobs("users", "admin", BOB).out == f"{BOB} is an admin of this server.\n"
    assert bobs("users", "admin", EMAIL, "--off").out == f"{EMAIL} is no admin of this server.\n"
    assert bobs("users", "admin", BOB, "--off").code == 2


def test_links_for_a_new_password_and_for_setting_up(leadline: CommandLine, tmp_path: Path) -> None:
    fresh = CommandLine(tmp_path / "fresh")
    fresh.data.mkdir()
    (fresh.data / "leadline.toml").write_text(NO_MODEL)

    assert re.fullmatch(LINK.format("reset"), leadline("users", "reset-link", EMAIL).out.strip())
    assert leadline("users", "reset-link", BOB).code == 1
    assert re.fullmatch(LINK.format("setup"), fresh("setup-link").out.strip())
    refused = leadline("setup-link")
    assert (refused.code, "has a user already" in refused.err) == (2, True)


def test_an_email_is_changed_under_either_name(leadline: CommandLine) -> None:
    changed = leadline("users", "change-email", EMAIL, "mara@south.example")

    assert changed.out == f"{EMAIL} is mara@south.example from now on.\n"


async def opened(leadline: CommandLine) -> Instance:
    return await Instance.open(leadline.data)


async def test_an_invitation_is_mailed_logged_and_withdrawn(tmp_path: Path) -> None:
    instance = await with_organisation(tmp_path)
    invited = await run(instance, "users invite", {"email": BOB, "role": "viewer"})
    [mail] = await instance.outbox.newest()
    token = invited["link"].partition("token=")[2]
    link = await instance.links.peek("invite", token)

    assert invited["link"] in mail.text
    assert (mail.to, mail.subject, mail.because) == (BOB, "Join Northwind", "invite")
    assert (link.subject, link.facts["role"]) == (BOB, "viewer")

    await run(instance, "users withdraw", {"link_id": link.id})
    with pytest.raises(LinkGone):
        await instance.links.peek("invite", token)
    with pytest.raises(NotFound):
        await run(instance, "users withdraw", {"link_id": link.id})
    rows = await instance.audit_log.rows(invited["organisation_id"])
    assert {"members withdraw", "members invite"} < {row.action for row in rows}
    assert token not in str(await instance.database.rows("SELECT * FROM audit_log"))
    await instance.close()


async def test_only_owners_invite_owners(tmp_path: Path) -> None:
    instance = await with_organisation(tmp_path)

    with pytest.raises(PermissionDenied, match="Only an owner"):
        await run(instance, "users invite", {"email": BOB, "role": "owner", "acting": "admin"})
    await run(instance, "users invite", {"email": BOB, "role": "admin", "acting": "admin"})
    await instance.close()


async def test_two_factor_is_turned_off_for_who_lost_the_phone(tmp_path: Path) -> None:
    instance = await with_organisation(tmp_path)

    done = await run(instance, "users two-factor-off", {"email": EMAIL})
    assert done["two_factor"] is False
    await instance.close()


async def with_organisation(tmp_path: Path) -> Instance:
    instance = await Instance.open(tmp_path / "instance")
    first = {"credit": "0", "key": None}
    await run(instance, "init", {"email": EMAIL, "org": "Northwind", "password": PASSWORD, "first": first})
    return instance


async def test_a_new_set_up_link_ends_the_one_before_and_all_end_with_the_first_user(tmp_path: Path) -> None:
    instance = await Instance.open(tmp_path / "instance")
    first, second = [(await run(instance, "setup-link", {}))["link"].partition("token=")[2] for _ in range(2)]
    with pytest.raises(LinkGone):
        await instance.links.peek("setup", first)
    await instance.links.peek("setup", second)
    begins = {"email": EMAIL, "org": "Northwind", "password": PASSWORD, "first": {"credit": "0", "key": None}}
    await run(instance, "init", begins)

    with pytest.raises(InvalidRequest, match="has a user already"):
        await run(instance, "setup-link", {})
    with pytest.raises(Conflict):
        await instance.database.commit(instance.links.taking("setup", second))
    await instance.close()


@pytest.mark.slow
async def test_a_new_server_prints_a_set_up_link_until_there_is_a_user(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "leadline.toml").write_text(NO_MODEL)
    serving = await Serving.start(data)
    base_url = (await serving.event("serving"))["base_url"]
    link = (await serving.event("setup_link"))["url"]
    assert await serving.stop() == 0
    assert (await asyncio.to_thread(process.init, data)).code == 0
    serving = await Serving.start(data)
    await serving.event("serving")
    serving.process.terminate()
    with pytest.raises(AssertionError, match="ended before it said setup_link"):
        await serving.event("setup_link")
    assert await serving.stop() == 0

    assert re.fullmatch(rf"{base_url}/setup\?token=[\w-]{{43}}", link)
