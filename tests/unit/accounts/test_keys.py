import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.accounts.keys import ApiKeys, checksum
from leadline.errors import NotFound, Unauthenticated
from leadline.storage.database import Database, Write

PEPPER = b"a pepper of this instance's own!"
BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.fixture
async def keys(database: Database, alice: str) -> ApiKeys:
    return ApiKeys(database, PEPPER)


@given(st.text(BASE_62 + "_", max_size=60))
def test_the_checksum_is_crc_32_in_six_base_62_digits(body: str) -> None:
    digits = checksum(body)
    value = 0
    for digit in digits:
        value = value * 62 + BASE_62.index(digit)

    assert (len(digits), value) == (6, zlib.crc32(body.encode()))


async def test_a_key_has_the_form_that_scanners_for_leaked_keys_look_for(keys: ApiKeys) -> None:
    key, text = await keys.create("org_alice", "laptop")

    assert re.fullmatch(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", text)
    assert text == f"ll_{key.id}_{text[12:44]}{checksum(text[:-6])}"
    assert key.redacted == f"ll_{key.id}…{text[-4:]}"


async def test_a_key_still_works_after_a_restart(keys: ApiKeys, database: Database) -> None:
    key, text = await keys.create("org_alice", "laptop")

    again = ApiKeys(database, PEPPER)
    await again.load()

    assert again.authenticate(text) == keys.authenticate(text) == key


def all_bytes(path: Path) -> bytes:
    return path.read_bytes()


async def test_the_secret_of_a_key_is_stored_nowhere(keys: ApiKeys, database: Database, database_path: Path) -> None:
    key, text = await keys.create("org_alice", "laptop")
    secret = text.removeprefix(f"ll_{key.id}_")
    await database.close()

    stored = all_bytes(database_path)

    assert key.id.encode() in stored
    assert secret.encode() not in stored
    assert secret[:32].encode() not in stored


async def test_a_stolen_database_is_useless_without_the_secret_of_its_instance(
    keys: ApiKeys, database: Database
) -> None:
    _, text = await keys.create("org_alice", "laptop")
    elsewhere = ApiKeys(database, b"the pepper of another instance..")
    await elsewhere.load()

    with pytest.raises(Unauthenticated):
        elsewhere.authenticate(text)


@pytest.mark.parametrize(
    "wrong",
    [lambda text: text[:-1], lambda text: text + "x" * 1000, lambda text: text.lower(), lambda _: "", lambda _: "é"],
)
async def test_a_key_that_is_not_quite_right_is_refused_without_repeating_it(
    keys: ApiKeys, wrong: Callable[[str], str]
) -> None:
    key, text = await keys.create("org_alice", "laptop")
    presented = wrong(text)

    with pytest.raises(Unauthenticated, match="Incorrect API key") as refused:
        keys.authenticate(presented)

    assert key.id not in str(refused.value)


async def test_a_request_without_a_key_is_told_how_to_send_one(keys: ApiKeys) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        keys.authenticate(None)


async def test_a_disabled_key_is_refused_by_name_until_it_is_enabled(keys: ApiKeys) -> None:
    key, text = await keys.create("org_alice", "laptop")

    disabled = await keys.disable(key)
    with pytest.raises(Unauthenticated, match="“laptop” is disabled"):
        keys.authenticate(text)
    enabled = await keys.enable(disabled)

    assert (disabled.state, enabled.state) == ("disabled", "active")
    assert keys.authenticate(text) == enabled


async def test_a_revoked_key_stays_revoked_even_when_an_older_copy_of_it_is_changed(
    keys: ApiKeys, database: Database
) -> None:
    key, text = await keys.create("org_alice", "laptop")
    revoked = await keys.revoke(key)

    await keys.disable(key)
    await keys.enable(key)
    again = ApiKeys(database, PEPPER)
    await again.load()

    assert revoked.state == "revoked"
    for known in (keys, again):
        with pytest.raises(Unauthenticated, match="Incorrect API key"):
            known.authenticate(text)


async def test_revoking_twice_keeps_the_first_time(keys: ApiKeys) -> None:
    key, _ = await keys.create("org_alice", "laptop")
    first = await keys.revoke(key)

    assert await keys.revoke(first) == first


async def test_a_name_means_the_newest_key_that_has_it_and_is_not_revoked(keys: ApiKeys) -> None:
    oldest, _ = await keys.create("org_alice", "laptop")
    middle, _ = await keys.create("org_alice", "laptop")
    newest, _ = await keys.create("org_alice", "laptop")

    before = keys.find("org_alice", "laptop")
    await keys.revoke(newest)

    assert before == newest
    assert keys.find("org_alice", "laptop") == middle
    assert keys.find("org_alice", oldest.id) == oldest
    assert keys.find("org_alice", newest.id).state == "revoked"


async def test_charlie_neither_sees_nor_finds_the_keys_of_alice(keys: ApiKeys, database: Database) -> None:
    await database.commit(Write("INSERT INTO organisations (id, name, created_at) VALUES ('org_charlie', 'C', 1)"))
    alices, _ = await keys.create("org_alice", "laptop")
    charlies, _ = await keys.create("org_charlie", "laptop")

    assert keys.of("org_charlie") == [charlies]
    assert keys.find("org_charlie", "laptop") == charlies
    with pytest.raises(NotFound, match="There is no API key named"):
        keys.find("org_charlie", alices.id)
