"""What a stranger asks for by e-mail tells nobody who is there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.users import NewUser
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.administration.letters import mail_reset, mail_sign_up
from leadline.storage.sealed import Sealer
from tests.unit.conftest import Commits

ALICE, NOBODY, GONE = "alice@example.com", "nobody@example.com", "gone@example.com"
PASSWORD = "tulips and rain"


@pytest.fixture
async def instance(commits: Commits, tmp_path: Path) -> AsyncIterator[Instance]:
    """With Alice, who may sign in, and somebody who is suspended."""
    opened = await Instance.open(tmp_path / "data")
    for email in (ALICE, GONE):
        await run(opened, "accounts create", {"email": email, "org": email, "password": PASSWORD})
    await opened.users.suspend(await opened.users.named(GONE), COMMAND_LINE)
    yield opened
    await opened.close()


async def links(instance: Instance) -> list[tuple[Any, ...]]:
    return await instance.database.rows("SELECT kind, subject FROM links ORDER BY id")


async def test_a_new_password_is_the_same_work_for_whomever_and_mailed_to_who_is_there(
    instance: Instance, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed: list[int] = []
    real = Sealer.seal
    monkeypatch.setattr(Sealer, "seal", lambda self, content, place: sealed.append(1) or real(self, content, place))
    work = []
    for email in (f" {ALICE.upper()} ", NOBODY, GONE, "", "x" * 10_000):
        before = commits.count, len(sealed)
        await mail_reset(instance, email)
        work.append((commits.count - before[0], len(sealed) - before[1]))

    [mail] = await instance.outbox.newest()
    alice = await instance.users.named(ALICE)
    assert work == [(1, 1)] * 5
    assert (mail.to, mail.because) == (ALICE, "reset")
    assert await links(instance) == [("reset", alice.id)]
    link = await instance.links.peek("reset", mail.text.partition("token=")[2].split()[0])
    assert link.subject == alice.id


async def test_a_sign_up_is_the_same_work_for_whomever_and_says_where_an_account_is(
    instance: Instance, commits: Commits
) -> None:
    work = []
    for email in (NOBODY, ALICE):
        person = await NewUser.of(instance.passwords, email, PASSWORD)
        before = commits.count
        await mail_sign_up(instance, person, "Org")
        work.append(commits.count - before)

    mails = {mail.to: mail for mail in await instance.outbox.newest()}
    known, new = mails[ALICE], mails[NOBODY]
    assert work == [1, 1]
    assert (known.subject, "token=" in known.text) == ("You have an account already", False)
    assert (new.subject, new.because) == ("Finish your sign-up", known.because)
    assert await links(instance) == [("verify", NOBODY)]
    assert await instance.users.find(NOBODY) is None
