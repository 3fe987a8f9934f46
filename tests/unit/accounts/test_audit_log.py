import pytest

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import AuditFilters, AuditLog, audited
from leadline.storage.database import Database

MARA, NOAH = Actor("usr_mara", "mara@northwind.example"), Actor("llm_1", "management key “terraform”")
CHANGES = [
    (MARA, "keys create", "AAAAAAAA", {"name": "ci 100%"}),
    (NOAH, "keys change", "AAAAAAAA", {"name": "ci_2"}),
    (MARA, "credits grant", "org_alice", {"granted_ticks": 5}),
]


@pytest.fixture
async def log(database: Database) -> AuditLog:
    """Three rows of Alice's and one of another organisation."""
    for at, (actor, action, subject, after) in enumerate(CHANGES, 1):
        await database.commit(audited(at, actor, action, subject, ({}, after), "org_alice"))
    await database.commit(audited(9, MARA, "keys create", "BBBBBBBB", ({}, {"name": "theirs"}), "org_other"))
    return AuditLog(database)


async def actions(log: AuditLog, filters: AuditFilters) -> list[str]:
    """By name: rows of one millisecond have no order."""
    return sorted(row.action for row in await log.rows("org_alice", filters))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["credits grant", "keys change", "keys create"]),
        ("keys CREATE aaaaaaaa", ["keys create"]),
        ("terraform", ["keys change"]),
        ("100%", ["keys create"]),
        ("%", ["keys create"]),
        ("ci_2", ["keys change"]),
        ("_", ["credits grant", "keys change"]),
        ("theirs", []),
        ("x" * 60_000, []),
    ],
    ids=lambda one: str(one)[:20],
)
async def test_text_is_found_in_what_a_row_tells(log: AuditLog, text: str, found: list[str]):
    assert await actions(log, AuditFilters(text=text)) == found


async def test_rows_are_found_by_actor_time_and_id(log: AuditLog):
    assert await actions(log, AuditFilters(actor="usr_mara")) == ["credits grant", "keys create"]
    assert await actions(log, AuditFilters(since=2, until=3)) == ["keys change"]
    [newest] = await log.rows("org_alice", AuditFilters(action="credits grant"))
    assert await actions(log, AuditFilters(event_id=newest.id)) == ["credits grant"]
    [theirs] = await log.rows("org_other")
    assert await actions(log, AuditFilters(event_id=theirs.id)) == []


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_pages_go_on_behind_the_last_row_in_either_order(log: AuditLog, oldest_first: bool):
    whole = await log.rows("org_alice", oldest_first=oldest_first)
    assert {row.at for row in whole} == {1, 2, 3}
    assert [row.id for row in whole] == sorted((row.id for row in whole), reverse=not oldest_first)
    pages, last = [], None
    while page := await log.rows("org_alice", before=last, limit=2, oldest_first=oldest_first):
        pages += page
        last = page[-1].id
    assert pages == whole


async def test_an_action_is_found_by_its_first_word_too_and_by_no_part_of_one(log: AuditLog):
    assert await actions(log, AuditFilters(action="keys")) == ["keys change", "keys create"]
    assert await actions(log, AuditFilters(action="keys change")) == ["keys change"]
    assert await actions(log, AuditFilters(action="key")) == []
    assert await actions(log, AuditFilters(action="keys c")) == []
    assert await actions(log, AuditFilters(action="%")) == []


async def test_a_log_says_who_and_what_is_in_it_and_nothing_of_others(log: AuditLog):
    assert await log.actions("org_other") == ["keys create"]
    assert await log.actors("org_other") == [(MARA.id, MARA.name)]
    assert await log.actors("org_alice") == [(NOAH.id, NOAH.name), (MARA.id, MARA.name)]
    assert await log.actions(None) == ["credits grant", "keys change", "keys create"]
