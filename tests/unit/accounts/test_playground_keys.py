"""What members of an organisation ask for in the console runs under a key that nobody can show."""

import asyncio

import pytest

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.api_key import PLAYGROUND
from leadline.accounts.keys import ApiKeys
from leadline.accounts.roles import Role
from leadline.errors import NotFound
from tests.unit.accounts.people import People

PEPPER = b"a pepper of this instance's own!"


class Scene:
    """Alice's organisation, which Bob belongs to."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.keys = ApiKeys(people.database, PEPPER, people.watch)
        people.organisations.leaving = self.keys.leaving

    async def fill(self) -> "Scene":
        self.organisation = await self.people.create()
        alice, bob = await self.people.user(), await self.add("bob@example.com", "developer")
        self.alice, self.bob = Actor(alice.id, alice.email), Actor(bob.id, bob.email)
        return self

    async def add(self, email: str, role: Role):  # type: ignore[no-untyped-def]
        await self.people.organisations.join(await self.people.new(email), self.organisation.id, role, COMMAND_LINE)
        return await self.people.user(email)

    async def playground(self, actor: Actor):  # type: ignore[no-untyped-def]
        return await self.keys.playground(self.organisation.id, actor)


@pytest.fixture
async def scene(people: People) -> Scene:
    return await Scene(people).fill()


async def test_each_member_has_one_which_is_made_with_its_first_use(scene: Scene) -> None:
    first = await scene.playground(scene.alice)

    assert first.name == PLAYGROUND
    assert first.created_by == scene.alice.id
    assert await scene.playground(scene.alice) == first
    assert await scene.playground(scene.bob) != first


async def test_of_a_hundred_first_uses_at_once_one_makes_it(scene: Scene) -> None:
    made = await asyncio.gather(*(scene.playground(scene.alice) for _ in range(100)))

    assert len({key.id for key in made}) == 1
    assert await scene.people.database.rows("SELECT COUNT(*) FROM api_keys") == [(1,)]


async def test_it_is_in_no_list_and_nobody_finds_it_to_change_it(scene: Scene) -> None:
    key = await scene.playground(scene.alice)

    assert scene.keys.of(scene.organisation.id) == []
    assert scene.keys.find_by_id(key.id) is None
    assert scene.keys.find_caller(key.id) == key
    for name_or_id in (key.id, PLAYGROUND):
        with pytest.raises(NotFound):
            scene.keys.find(scene.organisation.id, name_or_id)


async def test_no_text_is_its_secret(scene: Scene) -> None:
    key = await scene.playground(scene.alice)

    [(digest,)] = await scene.people.database.rows("SELECT digest FROM api_keys")
    _, text = await scene.keys.create(scene.organisation.id, "an API key", scene.alice)
    [(other,)] = await scene.people.database.rows("SELECT digest FROM api_keys WHERE purpose = ''")
    assert len(digest) == len(other)
    assert key.last_four == ""
    assert scene.keys.authenticate(text).purpose == ""


async def test_it_is_the_same_after_a_restart(scene: Scene) -> None:
    key = await scene.playground(scene.alice)

    scene.keys = ApiKeys(scene.people.database, PEPPER, scene.people.watch)
    await scene.keys.load()

    assert await scene.playground(scene.alice) == key
    assert scene.keys.find_by_id(key.id) is None


@pytest.mark.parametrize("restarts", [False, True])
async def test_who_leaves_the_organisation_loses_it_and_has_another_when_he_comes_back(
    scene: Scene, restarts: bool
) -> None:
    key, others = await scene.playground(scene.bob), await scene.playground(scene.alice)

    await scene.people.organisations.remove_member(scene.organisation.id, scene.bob.id, scene.alice)
    if restarts:
        scene.keys = ApiKeys(scene.people.database, PEPPER, scene.people.watch)
        await scene.keys.load()

    gone = scene.keys.find_caller(key.id)
    assert gone is not None
    assert gone.revoked_at == scene.people.watch.now
    assert await scene.playground(scene.alice) == others
    user = await scene.people.user("bob@example.com")
    await scene.people.organisations.add_member(scene.organisation.id, user, "developer", scene.alice)
    assert (await scene.playground(scene.bob)).id != key.id


async def test_its_making_is_in_the_audit_log(scene: Scene) -> None:
    key = await scene.playground(scene.bob)

    [row] = [one for one in await scene.people.logged() if one[2] == "keys create"]
    assert (row[1], row[3]) == (scene.bob.id, key.id)
    assert row[-1] == {"name": PLAYGROUND, "purpose": "playground"}
