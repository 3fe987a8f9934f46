import asyncio
import gc
import random
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.api_key import ENDPOINTS, NONE, ApiKey, KeyOptions, acls_of
from leadline.accounts.audit_log import AuditLog
from leadline.accounts.key_texts import checksum
from leadline.accounts.keys import ApiKeys
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.config import Limit
from leadline.errors import InvalidRequest, LeadlineError, NotFound, Unauthenticated
from leadline.money import SpendCap, Ticks
from leadline.storage.database import Database, Write

PEPPER = b"a pepper of this instance's own!"
BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NOON = 1_800_014_400_000_000  # 15 January 2027, 12:00 UTC
EVERYTHING = KeyOptions(
    "a, “quoted” 'name'",
    endpoints=frozenset({"chat", "models"}),
    models=frozenset({"grok-beta", "with, comma", 'with "quote"', "with\nline", "ünïcode"}),
    cap=SpendCap(Ticks(20 * 10**10), "month"),
    limit=Limit(1, 60, 100_000, 4),
    expires_at=NOON + 90 * MICROSECONDS_PER_DAY,
)


class SteppedClock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now

    def step(self, microseconds: int) -> None:
        self.now += microseconds


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def keys(database: Database, alice: str, clock: SteppedClock) -> ApiKeys:
    return ApiKeys(database, PEPPER, clock)


async def loaded_again(database: Database, clock: SteppedClock) -> ApiKeys:
    again = ApiKeys(database, PEPPER, clock)
    await again.load()
    return again


def outcome(keys: ApiKeys, text: str) -> ApiKey | str:
    """The key that the text opens, or the sentence that refuses it."""
    try:
        return keys.authenticate(text)
    except Unauthenticated as refused:
        return str(refused)


@given(st.text(BASE_62 + "_", max_size=60))
def test_the_checksum_is_crc_32_in_six_base_62_digits(body: str) -> None:
    digits = checksum(body)
    value = 0
    for digit in digits:
        value = value * 62 + BASE_62.index(digit)

    assert (len(digits), value) == (6, zlib.crc32(body.encode()))


async def test_a_key_has_the_form_that_scanners_for_leaked_keys_look_for(keys: ApiKeys) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)

    assert re.fullmatch(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", text)
    assert text == f"ll_{key.id}_{text[12:44]}{checksum(text[:-6])}"
    assert key.redacted == f"ll_{key.id}…{text[-4:]}"


async def test_a_key_still_works_after_a_restart(keys: ApiKeys, database: Database, clock: SteppedClock) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)

    again = await loaded_again(database, clock)

    assert again.authenticate(text) == keys.authenticate(text) == key


def all_bytes(path: Path) -> bytes:
    return path.read_bytes()


async def test_the_secret_of_a_key_is_stored_nowhere(keys: ApiKeys, database: Database, database_path: Path) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)
    secret = text.removeprefix(f"ll_{key.id}_")
    await database.close()

    stored = all_bytes(database_path)

    assert key.id.encode() in stored
    assert secret.encode() not in stored
    assert secret[:32].encode() not in stored


async def test_a_stolen_database_is_useless_without_the_secret_of_its_instance(
    keys: ApiKeys, database: Database
) -> None:
    _, text = await keys.create("org_alice", "laptop", COMMAND_LINE)
    elsewhere = ApiKeys(database, b"the pepper of another instance..")
    await elsewhere.load()

    with pytest.raises(Unauthenticated):
        elsewhere.authenticate(text)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda text: text[:-1],
        lambda text: text + "x" * 1000,
        lambda text: text.lower(),
        lambda _: "",
        lambda _: "é",
        lambda _: "\ud800",
    ],
)
async def test_a_key_that_is_not_quite_right_is_refused_without_repeating_it(
    keys: ApiKeys, wrong: Callable[[str], str]
) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)
    presented = wrong(text)

    with pytest.raises(Unauthenticated, match="Incorrect API key") as refused:
        keys.authenticate(presented)

    assert key.id not in str(refused.value)


async def test_a_request_without_a_key_is_told_how_to_send_one(keys: ApiKeys) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        keys.authenticate(None)


async def test_a_disabled_key_is_refused_by_name_until_it_is_enabled(keys: ApiKeys) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)

    disabled = await keys.disable(key, COMMAND_LINE)
    with pytest.raises(Unauthenticated, match="“laptop” is disabled"):
        keys.authenticate(text)
    enabled = await keys.enable(disabled, COMMAND_LINE)

    assert (disabled.state(NOON), enabled.state(NOON)) == ("disabled", "active")
    assert keys.authenticate(text) == enabled


async def test_a_revoked_key_stays_revoked_even_when_an_older_copy_of_it_is_changed(
    keys: ApiKeys, database: Database, clock: SteppedClock
) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)
    revoked = await keys.revoke(key, COMMAND_LINE)

    await keys.disable(key, COMMAND_LINE)
    await keys.enable(key, COMMAND_LINE)
    await keys.change(key, key.options, COMMAND_LINE)
    again = await loaded_again(database, clock)

    assert revoked.state(NOON) == "revoked"
    for known in (keys, again):
        with pytest.raises(Unauthenticated, match="Incorrect API key"):
            known.authenticate(text)


@pytest.mark.parametrize("end", [ApiKeys.disable, ApiKeys.revoke])
async def test_ending_a_key_twice_keeps_the_first_time(
    keys: ApiKeys, database: Database, clock: SteppedClock, end: Callable[..., Awaitable[ApiKey]]
) -> None:
    key, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    first = await end(keys, key, COMMAND_LINE)
    clock.step(1)

    assert await end(keys, key, COMMAND_LINE) == first
    assert (await loaded_again(database, clock)).of("org_alice") == [first]


async def test_a_name_means_the_newest_key_that_has_it_and_is_not_revoked(keys: ApiKeys, clock: SteppedClock) -> None:
    oldest, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    clock.step(1)
    middle, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    clock.step(1)
    newest, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)

    before = keys.find("org_alice", "laptop")
    await keys.revoke(newest, COMMAND_LINE)

    assert before == newest
    assert keys.find("org_alice", "laptop") == middle
    assert keys.find("org_alice", oldest.id) == oldest
    assert keys.find("org_alice", newest.id).state(NOON) == "revoked"


async def test_charlie_neither_sees_nor_finds_the_keys_of_alice(keys: ApiKeys, database: Database) -> None:
    await database.commit(Write("INSERT INTO organisations (id, name, created_at) VALUES ('org_charlie', 'C', 1)"))
    alices, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    charlies, _ = await keys.create("org_charlie", "laptop", COMMAND_LINE)

    assert keys.of("org_charlie") == [charlies]
    assert keys.find("org_charlie", "laptop") == charlies
    with pytest.raises(NotFound, match="There is no API key named"):
        keys.find("org_charlie", alices.id)


async def test_a_key_with_a_name_alone_may_do_everything_without_end(keys: ApiKeys) -> None:
    key, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)

    assert key.options == KeyOptions("laptop")
    assert (key.cap, key.limit, key.expires_at, key.state(2**62)) == (None, None, None, "active")


async def test_a_key_from_before_there_were_options_may_do_everything(keys: ApiKeys, database: Database) -> None:
    old = (
        "INSERT INTO api_keys (id, organisation_id, name, digest, last_four, created_at) VALUES ($1, $2, $3, $4, $5, 7)"
    )
    await database.commit(Write(old, ("ABCDEFGH", "org_alice", "laptop", "00" * 64, "wxyz")))

    await keys.load()

    assert keys.of("org_alice") == [ApiKey("ABCDEFGH", "org_alice", "laptop", "wxyz", 7, modified_at=7)]


async def test_what_a_key_may_do_is_the_same_after_a_restart(
    keys: ApiKeys, database: Database, clock: SteppedClock
) -> None:
    created, text = await keys.create("org_alice", EVERYTHING, COMMAND_LINE)
    plain, _ = await keys.create("org_alice", "plain", COMMAND_LINE)
    changed = await keys.change(plain, replace(EVERYTHING, name="changed"), COMMAND_LINE)
    again = await loaded_again(database, clock)

    assert created.options == EVERYTHING
    assert changed.options == replace(EVERYTHING, name="changed")
    assert again.of("org_alice") == keys.of("org_alice")
    assert again.authenticate(text) == keys.authenticate(text) == created


async def test_four_limits_of_0_are_no_limit(keys: ApiKeys, database: Database, clock: SteppedClock) -> None:
    created, _ = await keys.create("org_alice", KeyOptions("laptop", limit=Limit(0, 0, 0, 0)), COMMAND_LINE)
    changed = await keys.change(created, KeyOptions("laptop", limit=Limit(0, 0, 0, 0)), COMMAND_LINE)

    assert created.limit is changed.limit is None
    assert (await loaded_again(database, clock)).of("org_alice") == [changed]


async def test_a_change_holds_from_the_next_request_on_and_can_take_everything_back(keys: ApiKeys) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)

    narrowed = await keys.change(key, EVERYTHING, COMMAND_LINE)
    seen = keys.authenticate(text)
    widened = await keys.change(key, KeyOptions("laptop"), COMMAND_LINE)

    assert seen == narrowed == replace(widened, name=EVERYTHING.name, **limits_of(EVERYTHING))
    assert keys.authenticate(text) == widened == key


def limits_of(options: KeyOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("endpoints", "models", "cap", "limit", "expires_at")}


def test_an_endpoint_that_is_not_there_is_refused_by_name_with_those_that_are() -> None:
    assert KeyOptions("laptop", endpoints=ENDPOINTS).endpoints == ENDPOINTS

    with pytest.raises(InvalidRequest, match="no endpoint 'chats'") as refused:
        KeyOptions("laptop", endpoints=frozenset({"chat", "chats"}))

    assert refused.value.param == "endpoints"
    assert all(word in str(refused.value) for word in ENDPOINTS)


async def test_an_expired_key_is_refused_by_name_and_date_until_its_expiry_is_moved(
    keys: ApiKeys, clock: SteppedClock
) -> None:
    key, text = await keys.create(
        "org_alice", KeyOptions("laptop", expires_at=NOON + MICROSECONDS_PER_DAY), COMMAND_LINE
    )

    clock.step(MICROSECONDS_PER_DAY - 1)
    in_time = keys.authenticate(text)
    clock.step(1)
    with pytest.raises(Unauthenticated, match=r"“laptop” expired on 2027-01-16\. Create a new one") as refused:
        keys.authenticate(text)
    moved = await keys.change(key, KeyOptions("laptop", expires_at=clock.now + 1), COMMAND_LINE)

    assert key.id not in str(refused.value)
    assert (in_time, in_time.state(clock.now), moved.state(clock.now)) == (key, "expired", "active")
    assert keys.authenticate(text) == moved


async def test_a_disabled_key_that_also_expired_is_disabled_and_then_expired(
    keys: ApiKeys, clock: SteppedClock
) -> None:
    key, text = await keys.create("org_alice", KeyOptions("laptop", expires_at=NOON + 1), COMMAND_LINE)
    disabled = await keys.disable(key, COMMAND_LINE)
    clock.step(1)

    before = outcome(keys, text)
    enabled = await keys.enable(disabled, COMMAND_LINE)

    assert (disabled.state(clock.now), enabled.state(clock.now)) == ("disabled", "expired")
    assert ("is disabled" in str(before), "expired on" in str(outcome(keys, text))) == (True, True)


async def test_a_rotated_key_keeps_its_id_and_opens_to_both_secrets_until_the_overlap_ends(
    keys: ApiKeys, database: Database, clock: SteppedClock
) -> None:
    key, old = await keys.create("org_alice", EVERYTHING, COMMAND_LINE)

    rotated, new = await keys.rotate(key, MICROSECONDS_PER_HOUR, COMMAND_LINE)
    clock.step(MICROSECONDS_PER_HOUR - 1)
    within = [outcome(known, text) for known in (keys, await loaded_again(database, clock)) for text in (old, new)]
    clock.step(1)
    after = [outcome(known, old) for known in (keys, await loaded_again(database, clock))]

    assert re.fullmatch(rf"ll_{key.id}_[0-9A-Za-z]{{38}}", new)
    assert new == f"{new[:-6]}{checksum(new[:-6])}"
    assert (rotated.id, rotated.options, rotated.redacted) == (key.id, key.options, f"ll_{key.id}…{new[-4:]}")
    assert within == [rotated] * 4
    assert keys.authenticate(new) == (await loaded_again(database, clock)).authenticate(new) == rotated
    assert (
        after
        == [
            f"This secret of the API key “{key.name}” stopped working on 2027-01-15, after a rotation. Use the new one."
        ]
        * 2
    )


async def test_without_an_overlap_the_old_secret_stops_at_once(keys: ApiKeys) -> None:
    key, old = await keys.create("org_alice", "laptop", COMMAND_LINE)

    rotated, new = await keys.rotate(key, 0, COMMAND_LINE)

    assert "stopped working" in str(outcome(keys, old))
    assert keys.authenticate(new) == rotated


async def test_a_second_rotation_within_the_overlap_drops_the_oldest_secret(
    keys: ApiKeys, database: Database, clock: SteppedClock
) -> None:
    key, oldest = await keys.create("org_alice", "laptop", COMMAND_LINE)
    _, middle = await keys.rotate(key, MICROSECONDS_PER_HOUR, COMMAND_LINE)
    newest_key, newest = await keys.rotate(key, MICROSECONDS_PER_HOUR, COMMAND_LINE)

    for known in (keys, await loaded_again(database, clock)):
        assert "Incorrect API key" in str(outcome(known, oldest))
        assert known.authenticate(middle) == known.authenticate(newest) == newest_key


async def test_an_expiry_ends_the_old_secret_before_its_overlap_does(keys: ApiKeys, clock: SteppedClock) -> None:
    key, old = await keys.create("org_alice", KeyOptions("laptop", expires_at=NOON + 1), COMMAND_LINE)
    _, new = await keys.rotate(key, MICROSECONDS_PER_HOUR, COMMAND_LINE)

    clock.step(1)

    assert "expired on" in str(outcome(keys, old))
    assert "expired on" in str(outcome(keys, new))


async def test_disabling_and_revoking_hold_for_both_secrets(
    keys: ApiKeys, database: Database, clock: SteppedClock
) -> None:
    key, old = await keys.create("org_alice", "laptop", COMMAND_LINE)
    _, new = await keys.rotate(key, MICROSECONDS_PER_HOUR, COMMAND_LINE)

    await keys.disable(key, COMMAND_LINE)
    disabled = [outcome(keys, text) for text in (old, new)]
    enabled = await keys.enable(key, COMMAND_LINE)
    opened = [outcome(keys, text) for text in (old, new)]
    await keys.revoke(key, COMMAND_LINE)

    assert all("is disabled" in str(one) for one in disabled)
    assert opened == [enabled] * 2
    for known in (keys, await loaded_again(database, clock)):
        assert all("Incorrect API key" in str(outcome(known, text)) for text in (old, new))


CHANGES: dict[str, Callable[[ApiKeys, ApiKey], Awaitable[Any]]] = {
    "create": lambda keys, _: keys.create("org_alice", EVERYTHING, COMMAND_LINE),
    "change": lambda keys, key: keys.change(key, EVERYTHING, COMMAND_LINE),
    "rotate": lambda keys, key: keys.rotate(key, 0, COMMAND_LINE),
    "disable": lambda keys, key: keys.disable(key, COMMAND_LINE),
    "enable": lambda keys, key: keys.enable(key, COMMAND_LINE),
    "revoke": lambda keys, key: keys.revoke(key, COMMAND_LINE),
}


async def settled(database: Database) -> None:
    """Until every commit that was queued before has ended, and been remembered."""
    await database.commit(Write("DELETE FROM api_keys WHERE id = 'nobody'", rows=None))


@pytest.mark.parametrize("change", CHANGES)
async def test_a_command_that_is_cancelled_in_mid_commit_leaves_memory_and_disk_in_step(
    keys: ApiKeys, database: Database, clock: SteppedClock, commits: Any, change: str
) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)
    if change == "enable":
        await keys.disable(key, COMMAND_LINE)
    before = keys.of("org_alice")

    commits.let_wait()
    command = asyncio.ensure_future(CHANGES[change](keys, key))
    for _ in range(3):
        await asyncio.sleep(0)
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    unchanged = keys.of("org_alice")
    commits.let_go()
    await settled(database)
    again = await loaded_again(database, clock)

    assert unchanged == before
    assert keys.of("org_alice") == again.of("org_alice") != before
    assert outcome(keys, text) == outcome(again, text)


@pytest.mark.parametrize("change", CHANGES)
async def test_what_the_disk_refuses_is_not_remembered(
    keys: ApiKeys, database: Database, clock: SteppedClock, commits: Any, change: str
) -> None:
    key, text = await keys.create("org_alice", "laptop", COMMAND_LINE)
    if change == "enable":
        await keys.disable(key, COMMAND_LINE)
    before, opened = keys.of("org_alice"), outcome(keys, text)

    commits.refusals = 1
    with pytest.raises(LeadlineError):
        await CHANGES[change](keys, key)

    assert keys.of("org_alice") == (await loaded_again(database, clock)).of("org_alice") == before
    assert outcome(keys, text) == opened


async def test_a_refused_write_whose_command_has_gone_is_no_complaint(keys: ApiKeys, commits: Any) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    key, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    commits.let_wait()
    stays = asyncio.ensure_future(keys.disable(key, COMMAND_LINE))
    gone = asyncio.ensure_future(keys.revoke(replace(key, id="nobody"), COMMAND_LINE))
    for _ in range(3):
        await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    commits.let_go()
    await stays
    await keys.enable(key, COMMAND_LINE)
    gc.collect()

    assert complaints == []


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_happens_at_once_leaves_memory_and_disk_in_step(
    keys: ApiKeys, database: Database, clock: SteppedClock, commits: Any, seed: int
) -> None:
    chance = random.Random(seed)
    made = [await keys.create("org_alice", name, COMMAND_LINE) for name in ("laptop", "phone")]
    texts = [text for _, text in made]

    async def something() -> None:
        key, _ = chance.choice(made)
        done = await CHANGES[chance.choice([*CHANGES, "rotate"])](keys, key)
        if isinstance(done, tuple):
            texts.append(done[1])

    for _ in range(5):
        commits.let_wait()
        commands = [asyncio.ensure_future(something()) for _ in range(6)]
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        for command in chance.sample(commands, 2):
            command.cancel()
        clock.step(1)
        commits.let_go()
        await asyncio.gather(*commands, return_exceptions=True)
        await settled(database)
        again = await loaded_again(database, clock)

        assert keys.of("org_alice") == again.of("org_alice")
        assert [outcome(keys, text) for text in texts] == [outcome(again, text) for text in texts]


async def test_a_key_is_found_by_its_id_alone(keys: ApiKeys) -> None:
    key, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    disabled = await keys.disable(key, COMMAND_LINE)

    assert keys.find_by_id(key.id) == disabled
    assert keys.find_by_id("nobody") is None


async def test_the_last_use_is_known_at_once_and_after_a_restart_once_it_was_written(
    keys: ApiKeys, database: Database, clock: SteppedClock
) -> None:
    used, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    unused, _ = await keys.create("org_alice", "phone", COMMAND_LINE)

    keys.touch(used.id, NOON + 1)
    keys.touch(used.id, NOON + 2, "192.0.2.7")
    known = keys.last_used_at(used.id)
    await keys.write_last_used()
    await database.commit(Write("UPDATE api_keys SET last_used_at = last_used_at + 1 WHERE last_used_at IS NOT NULL"))
    await keys.write_last_used()
    again = await loaded_again(database, clock)

    assert known == keys.last_used_at(used.id) == NOON + 2
    # What was written once is not written again.
    assert again.last_used_at(used.id) == NOON + 3
    assert again.last_use(used.id) == (NOON + 3, "192.0.2.7")
    assert again.last_used_at(unused.id) is None


async def test_a_key_for_nothing_is_told_from_a_key_for_all(keys: ApiKeys, database: Database, clock: SteppedClock):
    closed, text = await keys.create("org_alice", KeyOptions("closed", NONE, NONE), COMMAND_LINE)
    half, _ = await keys.create("org_alice", KeyOptions("half", models=NONE), COMMAND_LINE)
    again = await loaded_again(database, clock)
    assert again.authenticate(text) == closed
    assert (closed.endpoints, closed.models, acls_of(closed)) == (NONE, NONE, [])
    assert acls_of(half) == ["api-key:endpoint:*"]


@pytest.mark.parametrize("names", [{"endpoints": NONE | {"chat"}}, {"models": NONE | {"grok-beta"}}])
def test_nothing_stands_alone(names: dict[str, Any]):
    with pytest.raises(InvalidRequest, match="stands alone"):
        KeyOptions("half-closed", **names)


async def logged(database: Database) -> list[tuple[Any, ...]]:
    rows = await AuditLog(database).rows("org_alice")
    return [(row.actor_name, row.action, dict(row.before), dict(row.after)) for row in reversed(rows)]


async def test_whoever_changes_a_key_is_in_the_audit_log_with_what_changed(
    keys: ApiKeys, database: Database, clock: SteppedClock
) -> None:
    bob = Actor("usr_bob", "bob@example.com", "192.0.2.7")
    key, _ = await keys.create("org_alice", KeyOptions("ci", endpoints=frozenset({"chat"})), bob)
    await keys.change(key, replace(key.options, name="build", cap=SpendCap(Ticks(20 * 10**10), "month")), bob)
    rotated, _ = await keys.rotate(key, 0, COMMAND_LINE)

    rows = {row.action: row for row in await AuditLog(database).rows("org_alice")}
    created, changed, turned = (rows[f"keys {verb}"] for verb in ("create", "change", "rotate"))
    [again] = (await loaded_again(database, clock)).of("org_alice")
    assert key.created_by == again.created_by == "usr_bob"
    assert (created.subject, created.actor, created.address) == (key.id, "usr_bob", "192.0.2.7")
    assert (created.after["name"], created.after["endpoints"], created.after["models"]) == ("ci", "chat", "all")
    assert changed.before == {"name": "ci", "cap_ticks": None, "cap_period": None}
    assert changed.after == {"name": "build", "cap_ticks": 20 * 10**10, "cap_period": "month"}
    assert (turned.actor_name, turned.after["last_four"]) == ("command line", rotated.last_four)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_and_its_row_of_the_audit_log_are_one_commit(
    keys: ApiKeys, database: Database, commits: Any, change: str
) -> None:
    key, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    if change == "enable":
        await keys.disable(key, COMMAND_LINE)
    before, count = await logged(database), commits.count

    commits.refusals = 1
    with pytest.raises(LeadlineError):
        await CHANGES[change](keys, key)
    assert (await logged(database), commits.count) == (before, count)
    await CHANGES[change](keys, key)

    assert len(await logged(database)) == len(before) + 1
    assert commits.count == count + 1


@pytest.mark.parametrize("change", ["disable", "enable", "revoke"])
async def test_what_changes_nothing_is_not_in_the_audit_log(keys: ApiKeys, database: Database, change: str) -> None:
    key, _ = await keys.create("org_alice", "laptop", COMMAND_LINE)
    if change != "enable":
        await CHANGES[change](keys, key)
    before = await logged(database)

    await CHANGES[change](keys, key)

    assert await logged(database) == before
