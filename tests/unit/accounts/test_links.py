import asyncio

import pytest

from leadline.accounts.links import LIVES, Kind, LinkGone
from leadline.storage.database import Conflict
from tests.unit.accounts.people import People

KINDS: tuple[Kind, ...] = ("setup", "verify", "reset", "invite")
HOUR = 3600 * 1_000_000


async def test_a_link_says_what_it_was_made_for_and_works_once(people: People) -> None:
    token = await people.links.make("invite", "bob@example.com", {"role": "viewer"}, "org_alice")

    for _ in range(2):
        link = await people.links.peek("invite", token)
        assert (link.subject, link.organisation_id, link.facts) == ("bob@example.com", "org_alice", {"role": "viewer"})
    assert await people.links.take("invite", token) == link
    for again in (people.links.peek, people.links.take):
        with pytest.raises(LinkGone):
            await again("invite", token)


async def test_of_many_who_take_a_link_at_once_one_gets_it(people: People) -> None:
    token = await people.links.make("reset", "usr_alice")

    outcomes = await asyncio.gather(*(people.links.take("reset", token) for _ in range(50)), return_exceptions=True)

    assert sum(isinstance(one, LinkGone) for one in outcomes) == 49


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_works_until_its_term_and_for_its_kind_alone(people: People, kind: Kind) -> None:
    token = await people.links.make(kind, "someone")

    for other in set(KINDS) - {kind}:
        with pytest.raises(LinkGone):
            await people.links.take(other, token)
        with pytest.raises(Conflict):
            await people.database.commit(people.links.taking(other, token))
    people.watch.now += LIVES[kind] - 1
    await people.links.peek(kind, token)
    people.watch.now += 1
    with pytest.raises(LinkGone):
        await people.links.peek(kind, token)
    with pytest.raises(Conflict):
        await people.database.commit(people.links.taking(kind, token))


def test_links_live_as_long_as_they_say() -> None:
    assert LIVES == {"setup": HOUR // 2, "verify": 24 * HOUR, "reset": HOUR, "invite": 7 * 24 * HOUR}


async def test_the_database_holds_no_token(people: People) -> None:
    token = await people.links.make("reset", "usr_alice")

    assert len(token) == 43
    assert token not in str(await people.database.rows("SELECT * FROM links"))


async def test_a_new_invitation_or_set_up_link_ends_the_one_before_and_no_other(people: People) -> None:
    for kind in ("invite", "setup"):
        first = await people.links.make(kind, "bob@example.com", {}, "org_alice")
        elsewhere = await people.links.make(kind, "bob@example.com", {}, "org_charlie")
        second = await people.links.make(kind, "bob@example.com", {}, "org_alice")

        with pytest.raises(LinkGone):
            await people.links.peek(kind, first)
        for token in (second, elsewhere):
            await people.links.peek(kind, token)


async def test_a_link_that_anybody_can_ask_for_ends_none_of_others(people: People) -> None:
    tokens = [await people.links.make("reset", "usr_alice") for _ in range(2)]

    for token in tokens:
        await people.links.take("reset", token)


async def test_an_organisation_sees_and_withdraws_its_own_invitations_alone(people: People) -> None:
    token = await people.links.make("invite", "bob@example.com", {"role": "viewer"}, "org_alice")
    await people.links.make("invite", "eve@example.com", {"role": "viewer"}, "org_charlie")
    [invitation] = await people.links.open("invite", "org_alice")

    with pytest.raises(Conflict):
        await people.database.commit(people.links.withdrawing(invitation.id, "org_charlie"))
    await people.links.peek("invite", token)
    await people.database.commit(people.links.withdrawing(invitation.id, "org_alice"))

    assert invitation.subject == "bob@example.com"
    assert await people.links.open("invite", "org_alice") == []
    with pytest.raises(LinkGone):
        await people.links.take("invite", token)


async def test_what_is_no_token_is_a_link_that_is_gone(people: People) -> None:
    for text in ("", "x", "é" * 10_000, "\ud800", "' OR 1=1 --"):
        with pytest.raises(LinkGone):
            await people.links.peek("reset", text)


async def test_links_are_forgotten_a_week_after_their_term(people: People) -> None:
    await people.links.make("reset", "usr_alice")
    people.watch.now += HOUR + 7 * 24 * HOUR
    await people.links.prune()
    kept = await people.database.rows("SELECT * FROM links")
    people.watch.now += 1
    await people.links.prune()

    assert len(kept) == 1
    assert await people.database.rows("SELECT * FROM links") == []
