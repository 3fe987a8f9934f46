import re
from typing import Any

import pytest

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.audit_log import AuditLog
from leadline.accounts.key_texts import checksum
from leadline.accounts.keys import ApiKeys
from leadline.accounts.management_keys import EVERYTHING, ManagementKey, ManagementKeyOptions, ManagementKeys
from leadline.errors import InvalidRequest, LeadlineError, NotFound, PermissionDenied, Unauthenticated
from leadline.storage.database import Database, DatabaseUnusable
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import SteppedClock

PEPPER = b"a pepper of this instance's own!"
HOME = "192.0.2.7"
MARA = Actor("usr_mara", "mara@northwind.example", HOME)
ALL = ManagementKeyOptions("terraform", frozenset({EVERYTHING}))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def keys(database: Database, alice: str, clock: SteppedClock) -> ManagementKeys:
    return ManagementKeys(database, PEPPER, clock)


async def loaded_again(database: Database, clock: SteppedClock) -> ManagementKeys:
    again = ManagementKeys(database, PEPPER, clock)
    await again.load()
    return again


def outcome(keys: ManagementKeys, text: str | None, address: str = HOME) -> ManagementKey | str:
    """The key that the text opens, or the sentence that refuses it."""
    try:
        return keys.authenticate(text, address)
    except LeadlineError as refused:
        return str(refused)


async def test_a_key_is_shown_once_and_known_by_its_digest(keys: ManagementKeys, database: Database):
    key, text = await keys.create("org_alice", "usr_mara", ALL, MARA)
    assert re.fullmatch(r"llm_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", text)
    assert checksum(text[:-6]) == text[-6:]
    assert outcome(keys, text) == key
    assert key.redacted == f"{text[:12]}…{text[-4:]}"
    [row] = await database.rows("SELECT * FROM management_keys")
    assert not any(text[13:] in str(value) or text[13:45] in str(value) for value in row)


async def test_a_restart_changes_nothing(keys: ManagementKeys, database: Database, clock: SteppedClock):
    options = ManagementKeyOptions(
        "a, “quoted” 'name'", frozenset({"team-token:endpoint:ListApiKeys"}), (f"{HOME}/24", "2001:db8::/32"), 2**52
    )
    key, text = await keys.create("org_alice", "usr_mara", options, MARA)
    keys.touch(key)
    await keys.write_last_used()
    again = await loaded_again(database, clock)
    assert outcome(again, text) == key
    assert again.last_used_at(key.id) == clock()
    assert again.of("org_alice") == [key]


async def test_what_opens_the_inference_api_opens_nothing_here_and_the_other_way_round(
    keys: ManagementKeys, database: Database, clock: SteppedClock
):
    api_keys = ApiKeys(database, PEPPER, clock)
    _, of_api = await api_keys.create("org_alice", "app", COMMAND_LINE)
    _, of_management = await keys.create("org_alice", "usr_mara", ALL, MARA)
    assert "no management key" in str(outcome(keys, of_api))
    with pytest.raises(Unauthenticated):
        api_keys.authenticate(of_management)
    # Were the texts equal, the digests would still not be.
    assert keys._digest(of_api) != api_keys._digest(of_api)


@pytest.mark.parametrize("text", [None, "", "llm_", "llm_x", "x" * 300, "llm_\ud800", "llm_AAAAAAAA_" + "0" * 38])
async def test_what_is_no_key_is_refused_without_a_word_of_it(keys: ManagementKeys, text: str | None):
    with pytest.raises(Unauthenticated) as refused:
        keys.authenticate(text, HOME)
    assert not text or len(text) < 5 or text not in str(refused.value)


async def test_a_key_stops_and_goes_on_from_the_next_request_on(
    keys: ManagementKeys, database: Database, clock: SteppedClock
):
    key, text = await keys.create("org_alice", "usr_mara", ALL, MARA)
    await keys.disable(key, MARA)
    assert "is disabled" in str(outcome(keys, text))
    assert "is disabled" in str(outcome(await loaded_again(database, clock), text))
    await keys.enable(key, MARA)
    assert isinstance(outcome(keys, text), ManagementKey)
    await keys.revoke(key, MARA)
    assert "Incorrect" in str(outcome(keys, text))
    await keys.enable(key, MARA)
    assert "Incorrect" in str(outcome(await loaded_again(database, clock), text))


async def test_a_key_works_up_to_its_expiry(keys: ManagementKeys, clock: SteppedClock):
    options = ManagementKeyOptions("soon", frozenset({EVERYTHING}), expires_at=clock() + 10)
    _, text = await keys.create("org_alice", "usr_mara", options, MARA)
    clock.step(9)
    assert isinstance(outcome(keys, text), ManagementKey)
    clock.step(1)
    assert "has expired" in str(outcome(keys, text))


@pytest.mark.parametrize(
    ("address", "enters"),
    [
        (HOME, True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.9", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("unix", False),
    ],
)
async def test_a_key_comes_only_from_its_ranges(keys: ManagementKeys, address: str, enters: bool):
    options = ManagementKeyOptions("office", frozenset({EVERYTHING}), ("192.0.2.0/24", "2001:db8::/32"))
    key, text = await keys.create("org_alice", "usr_mara", options, MARA)
    if enters:
        assert keys.authenticate(text, address) == key
    else:
        with pytest.raises(PermissionDenied, match="may not be used from this address"):
            keys.authenticate(text, address)


async def test_a_key_without_acls_may_do_nothing(keys: ManagementKeys):
    nothing, _ = await keys.create("org_alice", "usr_mara", ManagementKeyOptions("idle"), MARA)
    one, _ = await keys.create(
        "org_alice", "usr_mara", ManagementKeyOptions("one", frozenset({"team-token:endpoint:ListModels"})), MARA
    )
    everything, _ = await keys.create("org_alice", "usr_mara", ALL, MARA)
    permitted = [(key.permits("ListModels"), key.permits("CreateApiKey")) for key in (nothing, one, everything)]
    assert permitted == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"acls": frozenset({"team-token:endpoint:Everything"})}, "acls"),
        ({"acls": frozenset({"ListApiKeys"})}, "acls"),
        ({"acls": frozenset({"api-key:endpoint:*"})}, "acls"),
        ({"ip_ranges": ("office",)}, "ip_ranges"),
        ({"ip_ranges": ("10.0.0.0/33",)}, "ip_ranges"),
        ({"ip_ranges": ("10.0.0.0/8",) * 101}, "ip_ranges"),
    ],
)
def test_what_is_no_acl_or_range_is_named(options: dict[str, Any], field: str):
    with pytest.raises(InvalidRequest) as refused:
        ManagementKeyOptions("x", **options)
    assert refused.value.param == field


async def test_another_organisations_key_is_not_there(keys: ManagementKeys):
    key, _ = await keys.create("org_alice", "usr_mara", ALL, MARA)
    for name in (key.id, key.name):
        assert keys.find("org_alice", name) == key
        with pytest.raises(NotFound):
            keys.find("org_other", name)
    assert keys.of("org_other") == []


async def test_whatever_happens_to_a_key_is_in_the_audit_log_once(keys: ManagementKeys, database: Database):
    key, text = await keys.create("org_alice", "usr_mara", ALL, MARA)
    for change in (keys.disable, keys.disable, keys.enable, keys.enable, keys.revoke, keys.revoke):
        await change(key, MARA)
    rows = (await AuditLog(database).rows("org_alice"))[::-1]
    verbs = ["create", "disable", "enable", "revoke"]
    assert [row.action for row in rows] == [f"management-keys {verb}" for verb in verbs]
    assert {(row.actor, row.actor_name, row.address, row.subject) for row in rows} == {
        ("usr_mara", "mara@northwind.example", HOME, key.id)
    }
    assert text[13:45] not in str(rows)


async def test_a_key_that_the_disk_did_not_take_opens_nothing(
    keys: ManagementKeys, database: Database, commits: Commits
):
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await keys.create("org_alice", "usr_mara", ALL, MARA)
    assert keys.of("org_alice") == []
    assert await database.rows("SELECT 1 FROM management_keys") == []
