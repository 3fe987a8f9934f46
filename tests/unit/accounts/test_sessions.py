import pytest

from leadline.accounts.sessions import IDLE, LONGEST, MOST_SESSIONS, Session, SessionRefused, Sessions
from tests.unit.accounts.people import NOON, SECOND, People

ADDRESS, AGENT = "192.0.2.1", "a browser"


async def of_alice(people: People) -> str:
    await people.create()
    return (await people.user()).id


async def open_one(people: People, user_id: str) -> str:
    return await people.sessions.open(user_id, ADDRESS, AGENT)


async def again(people: People) -> Sessions:
    """As the server finds them at its next start."""
    loaded = Sessions(people.database, people.watch)
    await loaded.load()
    return loaded


async def test_a_session_is_found_by_its_token_alone_also_after_a_start(people: People) -> None:
    alice = await of_alice(people)
    token = await open_one(people, alice)

    for sessions in (people.sessions, await again(people)):
        found = sessions.find(token)
        assert found == Session(found.id if found else "", alice, "", NOON, NOON, ADDRESS, AGENT)
        assert sessions.find(token[:-1]) is None
        assert sessions.find("") is None
        assert sessions.find("é\ud800" * 1000) is None


async def test_the_database_holds_no_token(people: People) -> None:
    token = await open_one(people, await of_alice(people))

    rows = await people.database.rows("SELECT * FROM sessions")
    assert len(token) == 43
    assert token not in str(rows)


async def test_a_session_ends_when_it_was_not_seen_for_long(people: People) -> None:
    token = await open_one(people, await of_alice(people))

    people.watch.now += IDLE - 1
    assert people.sessions.find(token) is not None
    people.watch.now += IDLE - 1
    assert people.sessions.find(token) is not None
    people.watch.now += IDLE
    assert people.sessions.find(token) is None


async def test_a_session_ends_at_its_longest_however_often_it_is_seen(people: People) -> None:
    token = await open_one(people, await of_alice(people))

    while people.watch.now < NOON + LONGEST - IDLE:
        people.watch.now += IDLE // 2
        assert people.sessions.find(token) is not None
    people.watch.now = NOON + LONGEST - 1
    assert people.sessions.find(token) is not None
    people.watch.now = NOON + LONGEST
    assert people.sessions.find(token) is None


async def test_when_a_session_was_seen_is_written_once_a_minute_at_most(people: People) -> None:
    alice = await of_alice(people)
    token = await open_one(people, alice)
    seen = []
    for _ in range(3):
        people.watch.now += 30 * SECOND
        people.sessions.find(token)
        seen.append(people.sessions.of_user(alice)[0].last_seen_at - NOON)
    await people.sessions.write_seen()

    assert seen == [0, 60 * SECOND, 60 * SECOND]
    assert [one.last_seen_at - NOON for one in (await again(people)).of_user(alice)] == [60 * SECOND]


async def test_a_session_is_closed_alone_by_its_token_or_id_and_only_by_its_user(people: People) -> None:
    alice = await of_alice(people)
    tokens = [await open_one(people, alice) for _ in range(3)]
    second = people.sessions.find(tokens[1])
    assert second is not None

    await people.sessions.close(tokens[0])
    await people.sessions.close(tokens[0])
    await people.sessions.close_one("usr_bob", second.id)
    still = people.sessions.find(tokens[1])
    await people.sessions.close_one(alice, second.id)

    assert still == second
    for sessions in (people.sessions, await again(people)):
        assert [sessions.find(token) is not None for token in tokens] == [False, False, True]


async def test_all_sessions_end_but_one(people: People) -> None:
    alice = await of_alice(people)
    await people.create("bob@example.com", "Bob")
    bobs = await open_one(people, (await people.user("bob@example.com")).id)
    tokens = [await open_one(people, alice) for _ in range(3)]

    await people.sessions.close_all(alice, but=tokens[2])

    for sessions in (people.sessions, await again(people)):
        assert [sessions.find(token) is not None for token in (*tokens, bobs)] == [False, False, True, True]
    await people.sessions.close_all(alice)
    assert people.sessions.find(tokens[2]) is None


async def test_the_session_that_was_not_seen_for_longest_makes_room(people: People) -> None:
    alice = await of_alice(people)
    tokens = []
    for _ in range(MOST_SESSIONS + 1):
        people.watch.now += SECOND
        tokens.append(await open_one(people, alice))

    assert people.sessions.find(tokens[0]) is None
    assert len(people.sessions.of_user(alice)) == len((await again(people)).of_user(alice)) == MOST_SESSIONS


async def test_a_session_looks_at_the_organisation_that_it_chose(people: People) -> None:
    token = await open_one(people, await of_alice(people))
    session = people.sessions.find(token)
    assert session is not None

    await people.sessions.choose(session, "org_alice")

    for sessions in (people.sessions, await again(people)):
        found = sessions.find(token)
        assert found is not None
        assert found.organisation_id == "org_alice"


async def test_sessions_that_ended_are_forgotten(people: People) -> None:
    await open_one(people, await of_alice(people))
    people.watch.now += IDLE
    await people.sessions.prune()

    assert await people.database.rows("SELECT * FROM sessions") == []
    assert people.sessions._sessions == {}


async def test_nobody_has_no_session(people: People) -> None:
    with pytest.raises(SessionRefused):
        await open_one(people, "usr_nobody")
